"""Replicas compare their data; who differs stops."""

import pytest

from quoit.base.errors import Diverged
from quoit.node.state import state_key
from tests.unit.node.harness import Client, Cluster

SECOND = 1_000


def a_cluster(size=3):
    cluster = Cluster(size, digest_interval_us=1_000_000)
    client = Client(cluster, cluster.leader())
    for number in range(1_000):
        client.ask("SET", f"k{number}", f"v{number}")
    return cluster


def counted(cluster, name):
    return sum(node.counters[name] for node in cluster.nodes.values())


def corrupt(cluster, number):
    """Change one value behind the node's back."""
    engine = cluster.engines[number]
    key, value = next(pair for pair in engine.scan(b"a", b"z") if b"k500" in pair[0])
    engine.write([([], {key: value[:-1] + b"?"})])


@pytest.mark.parametrize("size", [2, 3])
def test_equal_replicas_are_compared_and_go_on(size):
    cluster = a_cluster(size)
    cluster.pass_ms(3 * SECOND)
    assert counted(cluster, "digests_compared") >= size
    assert counted(cluster, "digests_differ") == 0


def test_writes_during_the_digest_make_no_difference():
    cluster = a_cluster()
    client = Client(cluster, cluster.follower())
    for number in range(300):
        client.ask("SET", f"k{number * 3}", "new")
        cluster.pass_ms(10)
    assert counted(cluster, "digests_compared") >= 6
    assert counted(cluster, "digests_differ") == 0


def test_a_follower_that_differs_stops_and_says_what_to_do():
    cluster = a_cluster()
    wrong = cluster.follower()
    corrupt(cluster, wrong)
    with pytest.raises(Diverged, match=f"remove-replica 0 {wrong}"):
        cluster.pass_ms(3 * SECOND)


def test_a_leader_that_differs_from_the_majority_stops():
    cluster = a_cluster()
    wrong = cluster.leader()
    corrupt(cluster, wrong)
    with pytest.raises(Diverged, match=f"remove-replica 0 {wrong}"):
        cluster.pass_ms(3 * SECOND)


def test_of_two_the_follower_stops():
    cluster = a_cluster(2)
    corrupt(cluster, cluster.leader())
    with pytest.raises(Diverged, match=f"remove-replica 0 {cluster.follower()}"):
        cluster.pass_ms(3 * SECOND)


def test_a_missing_answer_is_no_difference():
    cluster = a_cluster()
    cluster.stop(cluster.follower())
    cluster.pass_ms(5 * SECOND)
    assert counted(cluster, "digests_compared") >= 2
    assert counted(cluster, "digests_differ") == 0


def test_a_replica_that_applies_the_entry_again_after_a_crash_is_not_convicted():
    """Its engine may hold records that are newer than its applied index: they are no difference."""
    cluster = a_cluster()
    follower = cluster.follower()
    engine = cluster.engines[follower]
    before = engine.get(state_key(0))
    while not counted(cluster, "digests_compared"):
        cluster.pass_ms(10)
    Client(cluster, cluster.leader()).ask("SET", "k500", "newer")
    cluster.pass_ms(100)  # the follower applies it, too
    cluster.stop(follower)
    engine.write([([], {state_key(0): before})])
    cluster.start(follower)
    cluster.pass_ms(SECOND // 2)
    assert cluster.nodes[follower].replicas[0].state.applied_index > 1_002
    assert counted(cluster, "digests_differ") == 0
    compared = counted(cluster, "digests_compared")
    cluster.pass_ms(2 * SECOND)
    assert counted(cluster, "digests_compared") >= compared + 3
    assert counted(cluster, "digests_differ") == 0
