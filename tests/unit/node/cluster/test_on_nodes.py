"""The rebalancer on real nodes with a real record: their shards' leaders do what it asks for, and report."""

import pytest

from quoit.node.cluster.changes import SetSettings, SetState
from quoit.node.cluster.jobs import job_view
from quoit.node.cluster.state import META_SHARD, Settings
from tests.unit.node import harness
from tests.unit.node.harness import Client, Cluster

OK = b"+OK\r\n"


class Record:
    """The cluster's record, as node 1 knows it."""

    def __init__(self, cluster, **settings):
        self.cluster = cluster
        self.until(lambda: self.state.nodes, 5_000)
        if settings:
            self.change(SetSettings(Settings(**settings)))

    @property
    def state(self):
        return self.cluster.nodes[1].cluster.state

    def change(self, change):
        """From node 1, wherever the meta shard is led."""
        outcomes = []
        self.cluster.nodes[1].cluster.propose(change, outcomes.append)
        for _ in range(100):
            if outcomes:
                break
            self.cluster.pass_ms(10)
        assert outcomes == [""]

    def until(self, true, ms=120_000):
        for _ in range(ms // 100):
            if true():
                return
            self.cluster.pass_ms(100)
        raise AssertionError([node.rebalancer.why for node in self.cluster.nodes.values()])

    def ended(self):
        return bool(self.state.jobs) and self.state.running() is None


@pytest.fixture(params=["raft", "paxos"])
def cluster(request, monkeypatch):
    """Nodes 1 to 3 keep four shards; node 4 has not been started."""
    monkeypatch.setattr(harness, "CONSENSUS", request.param)
    return Cluster(
        4, shards=4, absent=(4,), founders=(1, 2, 3), give_back_after_us=500_000, meta_shard=True
    )


def fill(cluster, count=200):
    client = Client(cluster, 1)
    for number in range(count):
        assert client.ask("SET", f"key{number}", "x" * 100) == OK
    return client


def join(record, number=4):
    record.cluster.start(number)
    record.until(lambda: record.state.node(number) is not None)


def move_record(cluster):
    """Another node leads the meta shard."""
    old = cluster.leader(META_SHARD)
    core = cluster.nodes[old].replicas[META_SHARD].core
    heir = next(one for one in core.members.voters if one != old)
    core.transfer(heir, cluster.clock.us)
    cluster.pass_ms(100)
    assert cluster.leader(META_SHARD) == heir


def voters(cluster, number=1):
    return {shard.id: cluster.nodes[number].members_of(shard.id).voters
            for shard in cluster.nodes[number].map.shards}  # fmt: skip


def test_a_node_that_joins_gets_replicas_and_no_command_is_lost(cluster):
    client = fill(cluster)
    record = Record(cluster)
    cluster.pass_ms(15_000)
    assert not record.state.jobs and record.state.placed_for
    join(record)
    for count in range(1, 401):
        if record.ended():
            break
        assert client.ask("INCR", "counter") == b":%d\r\n" % count
        cluster.pass_ms(100)
    (job,) = record.state.jobs
    assert (job.state, job.copies) == ("done", 3)
    assert sum(4 in held for held in voters(cluster).values()) == 3
    assert all(len(held) == 3 for held in voters(cluster).values())
    assert 0 < job.bytes_min <= job.bytes
    for number in range(200):
        assert Client(cluster, 4).ask("GET", f"key{number}") == b"$100\r\n" + b"x" * 100 + b"\r\n"
    view = job_view(record.state, job, cluster.clock.wall_ms())
    assert (view.done, view.steps, view.state) == (len(job.steps), len(job.steps), "done")
    # Leaders are where the record wants them.
    cluster.pass_ms(15_000)
    assert {one.id: cluster.leader(one.id) for one in record.state.shards} == {
        one.id: one.replicas[0] for one in record.state.shards
    }


def test_another_leader_of_the_record_goes_on(cluster):
    fill(cluster)
    record = Record(cluster)
    cluster.pass_ms(12_000)
    join(record)
    for _ in range(4):
        record.until(lambda: record.state.running() is not None or record.ended())
        cluster.pass_ms(370)
        move_record(cluster)
    record.until(record.ended)
    (job,) = record.state.jobs
    assert job.state == "done"
    assert sum(node.counters["snapshots_sent"] for node in cluster.nodes.values()) <= job.copies
    assert sum(4 in held for held in voters(cluster).values()) == 3


def test_a_dead_node_is_rebuilt_elsewhere(cluster):
    client = fill(cluster)
    record = Record(cluster, dead_after_s=30)
    join(record)
    record.until(record.ended)
    cluster.stop(3)
    cluster.pass_ms(20_000)
    assert record.state.node(3).state == "live"
    record.until(lambda: record.state.node(3).state == "dead")
    record.until(lambda: len(record.state.jobs) == 2 and record.ended())
    assert record.state.jobs[-1].kind == "rebuild"
    cluster.pass_ms(1_000)
    assert {tuple(sorted(held)) for held in voters(cluster).values()} == {(1, 2, 4)}
    assert client.ask("GET", "key7") is not None


def test_a_drained_node_keeps_its_replicas_and_leads_nothing(cluster):
    record = Record(cluster)
    cluster.pass_ms(12_000)
    before = voters(cluster)
    assert any(cluster.leader(shard) == 2 for shard in before)
    record.change(SetState(2, "draining"))
    cluster.pass_ms(3_000)
    assert voters(cluster) == before
    assert all(cluster.leader(shard) != 2 for shard in before)
    record.change(SetState(2, "live"))
    cluster.pass_ms(40_000)
    assert any(cluster.leader(shard) == 2 for shard in before)


def test_the_rate_of_the_settings_bounds_what_a_node_sends(cluster):
    record = Record(cluster, rebalance_bytes_per_s=1234)
    cluster.pass_ms(1_100)
    rates = {node.snapshots.budget.bytes_per_s for node in cluster.nodes.values()}
    assert rates == {1234}
    record.change(SetSettings(Settings(rebalance_bytes_per_s=99)))
    cluster.pass_ms(1_100)
    rates = {node.snapshots.budget.bytes_per_s for node in cluster.nodes.values()}
    assert rates == {99}


def test_a_slow_disk_and_a_late_loop_are_reported(cluster):
    Record(cluster)
    cluster.pass_ms(2_000)
    cluster.held = {2}
    Client(cluster, 1).send("SET", "a", "1")
    cluster.pass_ms(700)
    cluster.held = set()
    cluster.pass_ms(400)
    worst = 0
    for _ in range(10):
        seen = cluster.nodes[cluster.leader(META_SHARD)].rebalancer.observed(cluster.clock.us)
        worst = max(worst, seen.loads[2].sync_us)
        cluster.pass_ms(100)
    assert 300_000 < worst < 1_000_000
