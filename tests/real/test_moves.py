"""Three real nodes, three more that join, and a load that writes all the time while every replica of
every shard moves to the new ones; then the old ones are decommissioned. Nothing acknowledged may be
missing, and no client may be refused for longer than an election and its aftermath."""

import itertools
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from quoit.cli.cluster import LocalCluster
from quoit.cli.main import dispatch
from quoit.cli.shared import fetch_status

pytestmark = [pytest.mark.real, pytest.mark.slow]

REFUSAL_MAX_S = 2.0


@pytest.fixture(params=["raft", "paxos"])
def cluster(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[LocalCluster]:
    found = LocalCluster(tmp_path / "cluster")
    found.create(3, 0, 4, request.param)
    try:
        for node in found.nodes:
            found.launch(node)
        found.wait_ready()
        yield found
    finally:
        for node in found.nodes:
            if found.running(node):
                found.kill(node)


class Writers:
    """Threads that SET a new key each time, through the nodes in `ports`; a write whose outcome is unknown
    is not repeated.

    acknowledged  key -> value
    longest_s     the longest that a thread had no write acknowledged
    """

    def __init__(self, ports: list[int], count: int) -> None:
        self.ports = ports
        self.acknowledged: dict[str, str] = {}
        self.longest_s = 0.0
        self.failed = 0
        self._stopped = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(one,)) for one in range(count)]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._stopped.set()
        for thread in self._threads:
            thread.join(30)
            assert not thread.is_alive(), "a client hangs"

    def _run(self, number: int) -> None:
        last = time.monotonic()
        turn = itertools.count(number)
        client: redis.Redis | None = None
        for count in itertools.count():
            if self._stopped.is_set():
                return
            if client is None:
                port = self.ports[next(turn) % len(self.ports)]
                client = redis.Redis(port=port, socket_timeout=8, retry=None)
            key = f"w:{number}:{count}"
            try:
                client.set(key, str(count))
            except redis.RedisError:
                self.failed += 1
                client.close()
                client = None
            else:
                self.acknowledged[key] = str(count)
                now = time.monotonic()
                self.longest_s = max(self.longest_s, now - last)
                last = now
            time.sleep(0.002)


def _port(node: dict[str, str]) -> int:
    return int(node["resp"].rpartition(":")[2])


def _missing(written: dict[str, str], port: int) -> list[str]:
    client = redis.Redis(port=port, socket_timeout=20, decode_responses=True)
    pipe = client.pipeline(transaction=False)
    for key in written:
        pipe.get(key)
    return [
        key for key, found in zip(written, pipe.execute(), strict=True) if found != written[key]
    ]


def _until_gone(cluster: LocalCluster, nodes: list[dict[str, str]]) -> None:
    deadline = time.monotonic() + 20
    while any(cluster.running(node) for node in nodes):
        assert time.monotonic() < deadline, "a removed node still runs"
        time.sleep(0.1)


def test_every_replica_moves_to_nodes_that_joined_under_load(cluster: LocalCluster) -> None:
    admin = cluster.nodes[0]["admin"]
    assert dispatch(["settings", "rebalance", "off", "--admin", admin]) == 0
    for _ in range(3):
        cluster.launch(cluster.add())
    cluster.wait_ready()
    old, new = cluster.nodes[:3], cluster.nodes[3:]
    # Through the nodes that stay, so that what is measured is the moves and not the stop of a node.
    writers = Writers([_port(node) for node in new], 6)
    time.sleep(1.0)
    before = len(writers.acknowledged)
    assert before > 50
    admin = new[0]["admin"]
    for shard in range(4):
        for source, target in zip(old, new, strict=True):
            words = ["shard", "move", str(shard), source["name"], target["name"]]
            assert dispatch([*words, "--admin", admin]) == 0
    moved = len(writers.acknowledged)
    assert moved > before + 200
    status = fetch_status(admin)
    assert [sorted(shard["replicas"]) for shard in status["shards"]] == [[4, 5, 6]] * 4
    for node in old:
        left = cluster.status(node)
        assert left is not None
        assert {shard["role"] for shard in left["shards"]} == {"none"}
    # They keep the cluster's record only; without that they may go, and stop themselves.
    for node in old:
        assert dispatch(["node", "decommission", node["name"], "--admin", admin]) == 0
    _until_gone(cluster, old)
    time.sleep(1.0)
    writers.stop()
    assert len(writers.acknowledged) > moved
    assert not _missing(writers.acknowledged, _port(new[0]))
    assert writers.longest_s < REFUSAL_MAX_S
    # The new ones come back by themselves, and know each other without the old ones.
    for node in new:
        cluster.kill(node)
    for node in new:
        cluster.launch(node)
    cluster.wait_ready([node["name"] for node in new])
    assert not _missing(writers.acknowledged, _port(new[1]))
