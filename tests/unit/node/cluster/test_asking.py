"""A shard's leader and what it is asked for: once, and only if the members are still those meant."""

import pytest

from quoit.node.cluster.messages import Ask, OperationAsk
from tests.unit.node import harness
from tests.unit.node.harness import Client, Cluster


@pytest.fixture(params=["raft", "paxos"])
def cluster(request, monkeypatch):
    """Nodes 1 to 3 keep the shard; 4 and 5 hold nothing."""
    monkeypatch.setattr(harness, "CONSENSUS", request.param)
    return Cluster(5, founders=(1, 2, 3))


class Asker:
    """What the shard's leader tells; the asker is the leader's own node."""

    def __init__(self, cluster):
        self.cluster = cluster
        self.told = []
        self.number = cluster.leader(0)
        self.operations = cluster.nodes[self.number].rebalancer.operations
        self.operations.tell = lambda peer, told: self.told.append(told)

    def ask(self, number, kind, node, source=0):
        replica = self.cluster.nodes[self.number].replicas[0]
        ask = Ask(kind, 0, node, source, replica.state.config_index)
        self.operations.received(9, OperationAsk(number, ask))
        return ask

    def state(self):
        return self.told[-1].state


def others(cluster):
    return [one for one in (1, 2, 3) if one != cluster.leader(0)]


def test_an_ask_is_done_once_and_its_end_is_told(cluster):
    asker = Asker(cluster)
    source = others(cluster)[0]
    ask = asker.ask(1, "move", 4, source)
    assert asker.state() == "running"
    begun = len(asker.told)
    cluster.pass_ms(2_000)
    assert [told.state for told in asker.told[begun:]] == ["done"]
    members = cluster.nodes[asker.number].members_of(0)
    assert set(members.voters) == {1, 2, 3, 4} - {source} and not members.learners
    # Again under the same number, as after a lost answer: told, not done.
    asker.operations.received(9, OperationAsk(1, ask))
    assert asker.state() == "done"
    # By another one who has not heard of it.
    asker.operations.received(9, OperationAsk(2, ask))
    assert asker.state() == "changed"
    assert cluster.nodes[asker.number].members_of(0) == members


def test_an_old_ask_to_take_a_replica_away_takes_none_that_came_since(cluster):
    asker = Asker(cluster)
    node = others(cluster)[0]
    old = asker.ask(1, "remove-replica", node)
    cluster.pass_ms(1_000)
    asker.ask(2, "add-replica", node)
    cluster.pass_ms(2_000)
    assert node in cluster.nodes[asker.number].members_of(0).voters
    asker.operations.received(9, OperationAsk(3, old))
    assert asker.state() == "changed"
    cluster.pass_ms(1_000)
    assert node in cluster.nodes[asker.number].members_of(0).voters


def test_why_nothing_is_begun_is_told(cluster):
    asker = Asker(cluster)
    source, other = others(cluster)
    asker.ask(1, "add-replica", source)
    assert asker.state() == "refused" and "is a member already" in asker.told[-1].reason
    asker.ask(2, "move", 4, source)
    asker.ask(3, "move", 5, other)
    assert asker.state() == "busy"
    away = Asker(cluster)
    away.operations = cluster.nodes[other].rebalancer.operations
    away.operations.tell = lambda peer, told: away.told.append(told)
    away.ask(4, "move", 5, other)
    assert (away.state(), away.told[-1].next) == ("not-leader", asker.number)


def test_who_leaves_and_leads_hands_over_first(cluster):
    asker = Asker(cluster)
    asker.ask(1, "move", 4, asker.number)
    cluster.pass_ms(3_000)
    assert asker.state() == "handed-over" and asker.told[-1].next == 4 == cluster.leader(0)
    second = Asker(cluster)
    second.ask(2, "remove-replica", asker.number)
    cluster.pass_ms(1_000)
    assert second.state() == "done"


def test_shards_are_measured(cluster):
    client = Client(cluster, 1)
    for number in range(300):
        client.ask("SET", f"key{number}", "x" * 500)
    leader = cluster.nodes[cluster.leader(0)]
    cluster.pass_ms(2_000)
    (shard,) = leader.rebalancer.reports.report().shards
    assert shard.keys == 300 and 500 * 300 < shard.bytes < 600 * 300
    assert set(shard.members.voters) == {1, 2, 3} and shard.operation is None
    for _ in range(1_000):
        client.ask("GET", "key1")
    cluster.pass_ms(1_000)
    (shard,) = leader.rebalancer.reports.report().shards
    assert shard.ops > 100


def test_the_bytes_of_snapshots_are_told():
    cluster = Cluster(4, founders=(1, 2, 3), flush_log_bytes=2_000, log_tail_entries=5)
    client = Client(cluster, 1)
    for number in range(100):
        client.ask("SET", f"key{number}", "x" * 100)
    cluster.pass_ms(100)
    asker = Asker(cluster)
    asker.ask(1, "add-replica", 4)
    cluster.pass_ms(3_000)
    assert asker.state() == "done"
    assert 100 * 100 < asker.told[-1].bytes < 100 * 200
