"""Nodes that start with an empty engine beside the log that they had (runtime/quarantine.py)."""

import pytest

from tests.unit.node.harness import Client, Cluster
from tests.unit.node.test_membership import begin, finish, move

OK = b"+OK\r\n"
SHORT = {"flush_log_bytes": 1_000, "log_tail_entries": 2}


def lose_engine(cluster, node):
    cluster.stop(node)
    cluster.engines[node] = type(cluster.engines[node])(crashable=True)
    cluster.start(node)


def fill(cluster, count=40):
    client = Client(cluster, cluster.leader())
    for number in range(count):
        assert client.ask("SET", f"k{number}", "v" * 50) == OK


def is_whole(cluster, node):
    replica = cluster.nodes[node].replicas.get(0)
    return replica is not None and not replica.core.damaged and replica.state.applied_index > 0


def test_a_leader_that_lost_its_engine_leads_again_only_with_all_its_data():
    cluster = Cluster(**SHORT)
    fill(cluster)
    node = cluster.leader()
    lose_engine(cluster, node)
    assert cluster.nodes[node].replicas[0].core.damaged
    for _ in range(200):
        cluster.pass_ms(10)
        replica = cluster.nodes[node].replicas[0]
        assert not replica.core.is_leader or replica.state.counts == {0: 40}
        if not replica.core.damaged and cluster.leader() != node:
            core = cluster.nodes[cluster.leader()].replicas[0].core
            core.transfer(node, cluster.clock.us)
    assert cluster.leader() == node
    assert Client(cluster, node).ask("DBSIZE") == b":40\r\n"
    assert cluster.engines[node].data == cluster.engines[cluster.follower()].data


def test_a_log_that_goes_back_to_the_first_entry_is_replayed_and_the_replica_votes_at_once():
    cluster = Cluster()
    fill(cluster)
    node = cluster.follower()
    lose_engine(cluster, node)
    assert not cluster.nodes[node].replicas[0].core.damaged
    cluster.pass_ms(500)
    assert cluster.nodes[node].counters["snapshots_installed"] == 0
    assert cluster.engines[node].data == cluster.engines[cluster.leader()].data


@pytest.mark.parametrize("short", [True, False])
def test_a_replica_that_came_later_finds_its_group_again(short):
    """The engine knew the members; the first placement, which is all that is left, has others."""
    cluster = Cluster(6, founders=(1, 2, 3), **(SHORT if short else {}))
    fill(cluster)
    for source, node in ((1, 4), (2, 5)):
        move(cluster, source, node)
    fill(cluster)
    lose_engine(cluster, 4)
    assert cluster.nodes[4].replicas[0].core.damaged == short
    for _ in range(300):
        cluster.pass_ms(10)
        if is_whole(cluster, 4):
            break
    assert is_whole(cluster, 4)
    cluster.pass_ms(300)
    assert set(cluster.nodes[4].replicas[0].state.members.voters) == {3, 4, 5}
    # It counts: with it and without another one the shard goes on.
    cluster.stop(next(one for one in (3, 5) if one != cluster.leader()))
    assert Client(cluster, 6).ask("SET", "more", "1") == OK
    assert Client(cluster, 4).ask("DBSIZE") == b":41\r\n"


@pytest.mark.parametrize("short", [True, False])
def test_a_replica_that_was_removed_does_not_come_back_with_an_empty_engine(short):
    cluster = Cluster(5, founders=(1, 2, 3), **(SHORT if short else {}))
    fill(cluster)
    gone = cluster.follower()
    finish(cluster, begin(cluster, "remove-replica", gone))
    fill(cluster)
    lose_engine(cluster, gone)
    replica = cluster.nodes[gone].replicas.get(0)
    assert replica is None or replica.core.damaged
    for _ in range(300):
        cluster.pass_ms(10)
        assert not cluster.nodes[gone].serving
    assert 0 not in cluster.nodes[gone].replicas
    assert Client(cluster, gone).ask("DBSIZE") == b":40\r\n"


def test_two_shards_heal_each_from_its_leader():
    cluster = Cluster(shards=2, **SHORT)
    client = Client(cluster, 1)
    for number in range(80):
        assert client.ask("SET", f"k{number}", "v" * 50) == OK
    lose_engine(cluster, 1)
    cluster.pass_ms(3_000)
    assert not any(replica.core.damaged for replica in cluster.nodes[1].replicas.values())
    assert Client(cluster, 1).ask("DBSIZE") == b":80\r\n"
    assert cluster.engines[1].data == cluster.engines[2].data == cluster.engines[3].data


def test_a_majority_that_lost_its_engines_can_have_them_back():
    """The logs are as they were: nothing but a leader's entries or snapshot replaces what they hold."""
    cluster = Cluster(**SHORT)
    fill(cluster)
    lost = cluster.followers()
    for node in (1, 2, 3):
        cluster.stop(node)
    kept = {node: cluster.engines[node] for node in lost}
    for _ in range(2):
        for node in (1, 2, 3):
            if node in lost:
                cluster.engines[node] = type(kept[node])(crashable=True)
            cluster.start(node)
        cluster.pass_ms(2_000)
        assert all(cluster.nodes[node].replicas[0].core.damaged for node in lost)
        assert not any(node.serving for node in cluster.nodes.values())
        for node in (1, 2, 3):
            cluster.stop(node)
    for node in lost:
        cluster.engines[node] = kept[node]
    for node in (1, 2, 3):
        cluster.start(node)
    cluster.pass_ms(2_000)
    assert not any(cluster.nodes[node].replicas[0].core.damaged for node in lost)
    assert Client(cluster, lost[0]).ask("DBSIZE") == b":40\r\n"


def test_what_it_owes_outlives_a_restart_behind_the_snapshot():
    """It had made entries durable that its leader cannot commit without it: a snapshot does not heal it."""
    cluster = Cluster(**SHORT)
    fill(cluster)
    leader = cluster.leader()
    node, other = cluster.followers()
    cluster.stop(other)
    cluster.slow = {(node, leader)}
    client = Client(cluster, leader)
    client.send("SET", "more", "1")
    cluster.pass_ms(20)
    last = cluster.nodes[node].replicas[0].core.last_index
    assert last > cluster.nodes[leader].replicas[0].core.commit_index
    lose_engine(cluster, node)
    assert cluster.nodes[node].replicas[0].core.must_reach == last
    cluster.release()
    for _ in range(20):
        cluster.pass_ms(10)
        if cluster.nodes[node].replicas[0].state.applied_index:
            break
    assert 0 < cluster.nodes[node].replicas[0].state.applied_index < last
    for _ in range(2):
        cluster.pass_ms(10)
        core = cluster.nodes[node].replicas[0].core
        assert core.damaged and core.must_reach == last
        cluster.power_off(node, kept=1_000)
        cluster.start(node)
