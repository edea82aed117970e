"""Three real nodes under load: kill -9 and SIGSTOP, then the history must be linearizable and every
acknowledged write must be there, read through every node."""

import random
import signal
import time

import pytest
import redis

from quoit.cli.cluster import LocalCluster
from quoit.sim.checkers.linearizable import LEGAL, check
from quoit.sim.history import OK
from tests.real.load import Load, to_history

pytestmark = [pytest.mark.real, pytest.mark.slow]

ROUNDS = 10


def _ports(cluster: LocalCluster) -> list[int]:
    return [int(node["resp"].rpartition(":")[2]) for node in cluster.nodes]


def _check(load: Load, cluster: LocalCluster) -> None:
    history = to_history(load)
    verdict = check(history)
    assert verdict.result == LEGAL, verdict.report()
    assert history.count(OK) > 500, "too few operations for the test to mean anything"
    # Read everything once more through every node: the last words of each key must agree.
    keys = sorted({operation.key for operation in load.operations})
    seen = []
    for port in _ports(cluster):
        client = redis.Redis(port=port, socket_timeout=10)
        pipe = client.pipeline(transaction=False)
        for key in keys:
            pipe.get(key)
        seen.append(pipe.execute())
    assert seen[0] == seen[1] == seen[2]
    # And as part of the history, so that a lost write at the end is found too.
    now = time.monotonic_ns()
    for key, value in zip(keys, seen[0], strict=True):
        read = history.invoke("final", "get", key.encode(), now_us=now // 1000)
        history.complete(read, OK, value, now_us=now // 1000)
    verdict = check(history)
    assert verdict.result == LEGAL, verdict.report()


def test_kill_9_of_random_nodes_loses_nothing(cluster: LocalCluster) -> None:
    rng = random.Random(7)
    load = Load(_ports(cluster))
    load.start()
    leaders_killed = 0
    for number in range(ROUNDS):
        time.sleep(0.6)
        leading = {
            status["node_name"]: sum(shard["role"] == "leader" for shard in status["shards"])
            for status in cluster.statuses().values()
            if status
        }
        if number % 2 == 0:
            name = max(leading, key=lambda node: (leading[node], node))
        else:
            name = rng.choice(sorted(leading))
        leaders_killed += leading[name] > 0
        node = cluster.node(name)
        cluster.kill(node)
        time.sleep(0.8)
        cluster.launch(node)
        cluster.wait_ready([name])
        load.rotate_keys()
    load.stop()
    assert leaders_killed >= ROUNDS // 2
    _check(load, cluster)


def test_a_paused_leader_serves_nothing_old(cluster: LocalCluster) -> None:
    load = Load(_ports(cluster))
    load.start()
    for number in range(3):
        time.sleep(0.5)
        node = cluster.leader(number) or cluster.nodes[0]
        cluster.signal(node, signal.SIGSTOP)
        time.sleep(1.5)
        cluster.signal(node, signal.SIGCONT)
        time.sleep(0.3)
        load.rotate_keys()
    load.stop()
    cluster.wait_ready()
    _check(load, cluster)


def test_kill_9_of_all_nodes_at_once_loses_nothing(cluster: LocalCluster) -> None:
    load = Load(_ports(cluster))
    load.start()
    time.sleep(1.5)
    for node in cluster.nodes:
        cluster.signal(node, signal.SIGKILL)
    time.sleep(0.3)
    for node in cluster.nodes:
        while cluster.running(node):
            time.sleep(0.01)
        cluster.launch(node)
    cluster.wait_ready()
    time.sleep(1.0)
    load.stop()
    _check(load, cluster)
