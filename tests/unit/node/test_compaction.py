"""The log is cut behind what the engine holds durably, never before, and a tail stays."""

import pytest

from quoit.node.compaction import Compaction
from quoit.node.config import NodeConfig
from tests.unit.node.harness import Client, Cluster

OK = b"+OK\r\n"
ALL = {1, 2, 3}


def fill(cluster, count, first=0):
    client = Client(cluster, cluster.leader())
    for number in range(first, first + count):
        assert client.ask("SET", f"k{number}", "v" * 100) == OK


def raft(cluster, number, shard=0):
    return cluster.nodes[number].replicas[shard].core


def test_the_log_is_cut_and_keeps_its_tail():
    cluster = Cluster(flush_log_bytes=3_000, log_tail_entries=5)
    fill(cluster, 100)
    cluster.pass_ms(100)
    for number, node in cluster.nodes.items():
        log = raft(cluster, number)
        assert node.counters["flushes"] > 2
        assert 5 <= log.last_index - log.first_index <= 5 + 60
    assert Client(cluster, 1).ask("DBSIZE") == b":100\r\n"


def test_a_large_tail_keeps_everything():
    cluster = Cluster(flush_log_bytes=3_000, log_tail_entries=1_000)
    fill(cluster, 100)
    assert raft(cluster, 1).first_index == 1
    assert cluster.nodes[1].counters["flushes"] > 2


def test_the_tail_is_bounded_in_bytes_as_well():
    cluster = Cluster(flush_log_bytes=3_000, log_tail_entries=1_000, log_tail_bytes=2_000)
    fill(cluster, 100)
    assert raft(cluster, cluster.leader()).first_index > 50


def test_nothing_is_forgotten_before_the_flush_has_finished():
    cluster = Cluster(flush_log_bytes=2_000, log_tail_entries=2)
    cluster.still = set(ALL)
    fill(cluster, 40)
    leader = cluster.leader()
    assert set(cluster.flushes) == ALL
    assert [raft(cluster, number).first_index for number in ALL] == [1, 1, 1]
    # The flush under way covers what had been applied when it began, not what came since.
    began = raft(cluster, leader).last_index - 40
    cluster.still = set()
    cluster.run()
    assert raft(cluster, leader).first_index > began
    cluster.still = set(ALL)
    fill(cluster, 40, first=40)
    token, _ = cluster.flushes[leader]
    covered = cluster.nodes[leader].compaction.started[0]
    fill(cluster, 10, first=80)
    assert cluster.flushes[leader][0] == token, "one flush at a time"
    cluster.flush(leader)
    cluster.turn(leader)
    assert raft(cluster, leader).first_index <= covered - 2 + 1


def test_segments_go_and_the_cluster_still_restarts_after_a_power_cut():
    cluster = Cluster(flush_log_bytes=200_000, log_tail_entries=5)
    client = Client(cluster, cluster.leader())
    for number in range(60):
        client.ask("SET", f"k{number}", "v" * 60_000)
    leader = cluster.leader()
    assert cluster.nodes[leader].log.segments <= 3
    for number in ALL:
        cluster.power_off(number)
    for number in ALL:
        cluster.start(number)
    cluster.settle()
    for number in ALL:
        assert Client(cluster, number).ask("DBSIZE") == b":60\r\n"
    assert Client(cluster, 1).ask("STRLEN", "k3") == b":60000\r\n"


def test_an_idle_shard_does_not_keep_the_segments_of_a_busy_one():
    cluster = Cluster(size=1, shards=4, flush_log_bytes=200_000, log_tail_entries=5)
    client = Client(cluster, 1)
    for number in range(200):
        client.ask("SET", f"{{busy}}{number}", "v" * 60_000)
    client.ask("SET", "x", "1")
    # 12 segments were written; four are kept, one is being written, one may wait for the next flush.
    assert cluster.nodes[1].log.segments <= 6


# The rules of flushing, by themselves


class Engine:
    """Settles in so many steps."""

    def __init__(self, steps=0):
        self.steps = steps
        self.full = False
        self.asked = []

    def settle(self, records):
        self.asked.append(records)
        self.steps -= 1
        return self.steps < 0


@pytest.fixture
def compaction():
    config = NodeConfig(
        node_id=1, cluster_id="c", nodes=(), flush_log_bytes=1_000, settle_records=7
    )
    return Compaction(config, lambda replica: replica.core.last_index)


def test_a_flush_begins_when_enough_was_logged(compaction):
    engine = Engine()
    compaction.logged(999)
    assert compaction.next_flush({}, engine) == 0
    compaction.logged(1)
    assert compaction.next_flush({}, engine) == 1
    compaction.logged(5_000)
    assert compaction.next_flush({}, engine) == 0, "one at a time"
    assert compaction.flushed(1)
    assert compaction.next_flush({}, engine) == 2
    assert compaction.flushed(2)
    assert compaction.next_flush({}, engine) == 0


def test_a_flush_begins_when_the_engine_has_buffered_enough(compaction):
    engine = Engine()
    engine.full = True
    assert compaction.next_flush({}, engine) == 1


def test_what_is_buffered_is_settled_piece_by_piece_first(compaction):
    engine = Engine(steps=2)
    compaction.want_flush()
    assert [compaction.next_flush({}, engine) for _ in range(4)] == [0, 0, 1, 0]
    assert engine.asked == [7, 7, 7]


@pytest.mark.parametrize("state", ["settling", "flushing"])
def test_a_flush_that_began_before_the_wish_does_not_fulfil_it(compaction, state):
    engine = Engine(steps=1 if state == "settling" else 0)
    compaction.logged(1_000)
    assert compaction.next_flush({}, engine) == (0 if state == "settling" else 1)
    compaction.want_flush()
    if state == "settling":
        assert compaction.next_flush({}, engine) == 1
    assert not compaction.flushed(1)
    assert compaction.next_flush({}, engine) == 2
    assert compaction.flushed(2)


def catching_up(log_tail_bytes):
    """A cluster whose follower needs a snapshot and is slow to take it, while writes go on."""
    cluster = Cluster(
        flush_log_bytes=2_000, log_tail_entries=5, log_tail_bytes=log_tail_bytes, shards=1
    )
    node = cluster.followers()[1]
    client = Client(cluster, cluster.leader())
    for number in range(20):
        client.ask("SET", f"k{number}", "v" * 100)
    cluster.pass_ms(100)
    cluster.stop(node)
    leader = cluster.leader()
    client = Client(cluster, leader)
    for number in range(60):
        client.ask("SET", f"k{number}", "v" * 100)
    cluster.slow = {(node, leader)}
    cluster.start(node)
    cluster.pass_ms(100)
    core = cluster.nodes[leader].replicas[0].core
    begun = core.last_index
    for number in range(120):
        client.ask("SET", f"k{number % 60}", "w" * 100)
    cluster.pass_ms(100)
    return cluster, node, core, begun


def test_the_log_is_kept_for_a_follower_that_is_catching_up():
    cluster, node, core, begun = catching_up(1 << 20)
    assert core.first_index <= begun + 1
    cluster.release()
    cluster.pass_ms(8_000)
    assert cluster.nodes[node].replicas[0].state.applied_index == core.last_index
    assert sum(one.counters["snapshots_sent"] for one in cluster.nodes.values()) == 1
    fill(cluster, 40)
    assert core.last_index - core.first_index < 40


def test_no_more_of_it_is_kept_than_the_limit_allows():
    _, _, core, begun = catching_up(4_000)
    assert core.first_index > begun + 20


def test_for_a_follower_that_is_away_nothing_is_kept():
    cluster = Cluster(flush_log_bytes=2_000, log_tail_entries=5, shards=1)
    cluster.stop(cluster.followers()[1])
    client = Client(cluster, cluster.leader())
    for number in range(100):
        client.ask("SET", f"k{number}", "v" * 100)
    core = cluster.nodes[cluster.leader()].replicas[0].core
    assert core.last_index - core.first_index < 40
