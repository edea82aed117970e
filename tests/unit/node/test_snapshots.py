"""A follower behind the compacted log gets the shard's state: in chunks, all or nothing, whatever is lost."""

import msgspec
import pytest

from quoit.base import limits
from quoit.node import snapshots
from quoit.node.messages import SnapshotAck, SnapshotChunk
from quoit.node.snapshot_sending import RECORD_COST
from quoit.paxos.messages import TakeSnapshotReply
from quoit.quorum.agreement import SnapshotMeta
from quoit.quorum.members import Members
from quoit.raft.messages import InstallSnapshotReply
from tests.unit.node.harness import Client, Cluster

REFUSED, HELD, DURABLE = snapshots.REFUSED, snapshots.HELD, snapshots.INSTALLED
OK = b"+OK\r\n"
KEYS = 60

INSTALLED = (InstallSnapshotReply, TakeSnapshotReply)


@pytest.fixture
def behind(monkeypatch):
    """(cluster, node that is down and behind): a snapshot of about seven chunks will be needed."""
    monkeypatch.setattr(limits, "SNAPSHOT_CHUNK_BYTES", 1_200)
    cluster = Cluster(flush_log_bytes=2_000, log_tail_entries=5)
    node = cluster.followers()[1]
    client = Client(cluster, cluster.leader())
    # What the leader deletes later must not survive on the follower.
    for number in range(5):
        client.ask("SET", f"old{number}", "v", "PX", "100000")
    client.session.db = 9
    client.ask("SET", "pinned", "old")
    cluster.pass_ms(100)
    cluster.stop(node)
    client = Client(cluster, cluster.leader())
    for number in range(5):
        client.ask("DEL", f"old{number}")
    for number in range(KEYS):
        client.ask("SET", f"k{number}", "v" * 100, *(["PX", "90000"] if number < 3 else []))
    client.session.db = 9
    client.ask("SET", "pinned", "new")
    assert cluster.nodes[cluster.leader()].replicas[0].core.first_index > KEYS // 2
    return cluster, node


class Watch:
    """Sees the chunks and their acknowledgements; loses those that `lose` picks."""

    def __init__(self, cluster, lose=lambda source, one: False):
        self.chunks, self.acks, self.lost = [], [], []
        self.lose = lose
        cluster.edit = self

    def __call__(self, source, target, frame):
        kept = []
        for one in frame.other:
            if self.lose(source, one):
                self.lost.append(one)
                continue
            kept.append(one)
            if isinstance(one, SnapshotChunk):
                self.chunks.append((source, one))
            elif isinstance(one, SnapshotAck):
                self.acks.append(one)
        frame.other = kept
        return frame


def assert_same(cluster, expiring=(b"k0", b"k1", b"k2")):
    """All engines hold the same, except for the expiry index, which is derived and cleaned lazily."""
    cluster.pass_ms(200)
    images = [
        {key: raw for key, raw in cluster.engines[number].data.items() if key[:1] != b"x"}
        for number in cluster.nodes
    ]
    assert len(cluster.nodes) == 3
    assert images[0] == images[1] == images[2]
    assert sum(1 for key in images[0] if key[:1] == b"m") == KEYS + 1
    for number in cluster.nodes:
        index = [key[-2:] for key in cluster.engines[number].data if key[:1] == b"x"]
        assert [key for key in (b"k0", b"k1", b"k2") if key in index] == list(expiring)
    indexes = {node.replicas[0].state.applied_index for node in cluster.nodes.values()}
    assert len(indexes) == 1
    assert Client(cluster, 1).ask("DBSIZE") == b":%d\r\n" % KEYS


def installed(cluster, number):
    return cluster.nodes[number].counters["snapshots_installed"]


def test_the_follower_then_holds_what_the_leader_holds(behind):
    cluster, node = behind
    watch = Watch(cluster)
    cluster.start(node)
    cluster.pass_ms(1_500)
    assert installed(cluster, node) == 1
    numbers = [chunk.number for _, chunk in watch.chunks]
    # At the end it is asked once more whether all is durable.
    assert numbers == [*range(len(numbers) - 1), numbers[-2]]
    assert len(numbers) >= 7
    assert all(not chunk.state for _, chunk in watch.chunks[:-2])
    assert all(len(chunk.data) < 2_000 for _, chunk in watch.chunks)
    assert [ack.answer for ack in watch.acks] == [HELD] * (len(numbers) - 1) + [DURABLE]
    assert not cluster.nodes[cluster.leader()].snapshots.sending
    assert_same(cluster)
    assert Client(cluster, cluster.leader()).ask("SET", "k0", "again") == OK
    assert_same(cluster)


def test_writes_go_on_during_a_transfer_and_do_not_leak_into_it(behind):
    cluster, node = behind
    leader = cluster.leader()
    cluster.start(node)

    def hold_answers(source, target, frame):
        if any(isinstance(one, SnapshotChunk) for one in frame.other):
            cluster.slow = {(node, leader)}
        return frame

    cluster.edit = hold_answers
    cluster.pass_ms(200)
    cluster.edit = None
    assert cluster.nodes[leader].counters["snapshots_sent"] == 1
    assert installed(cluster, node) == 0
    client = Client(cluster, leader)
    client.ask("SET", "k5", "during")
    client.ask("DEL", "k6")
    client.ask("SET", "k6", "during")
    cluster.release()
    cluster.pass_ms(1_000)
    assert installed(cluster, node) == 1
    assert_same(cluster)


def test_one_chunk_is_under_way_at_a_time(behind):
    cluster, node = behind
    leader = cluster.leader()
    watch = Watch(cluster, lambda source, one: isinstance(one, SnapshotAck))
    cluster.start(node)
    cluster.pass_ms(1_000)
    assert [chunk.number for _, chunk in watch.chunks] == [0]
    assert cluster.nodes[leader].counters["snapshots_sent"] == 1


@pytest.mark.parametrize("kind", [SnapshotChunk, SnapshotAck])
@pytest.mark.parametrize("number", [0, 2])
def test_what_is_lost_is_sent_again_and_nothing_else(behind, kind, number):
    cluster, node = behind
    watch = Watch(cluster)
    watch.lose = lambda source, one: (
        isinstance(one, kind) and one.number == number and not watch.lost
    )
    cluster.start(node)
    cluster.pass_ms(2_800)
    assert installed(cluster, node) == 0
    cluster.pass_ms(1_500)
    assert len(watch.lost) == 1
    assert installed(cluster, node) == 1
    assert cluster.nodes[cluster.leader()].counters["snapshots_sent"] == 1
    again = [chunk.number for _, chunk in watch.chunks]
    first = list(range(max(again) + 1))
    assert sorted(again) == sorted([*first, max(again)] + [number] * (kind is SnapshotAck))
    assert_same(cluster)


def test_the_wait_before_a_chunk_is_sent_again_doubles(behind):
    cluster, node = behind
    watch = Watch(cluster, lambda source, one: isinstance(one, SnapshotChunk))
    cluster.start(node)
    cluster.pass_ms(2_500)
    seen = []
    for _ in range(30):
        seen.append(len(watch.lost))
        cluster.pass_ms(1_000)
    assert [seen.index(count) for count in (1, 2, 3, 4)] == [0, 1, 7, 19]


def test_the_last_chunk_may_be_lost_as_well(behind):
    cluster, node = behind
    watch = Watch(cluster)
    watch.lose = lambda source, one: (
        isinstance(one, SnapshotChunk) and bool(one.state) and not watch.lost
    )
    cluster.start(node)
    cluster.pass_ms(4_000)
    assert installed(cluster, node) == 1
    assert_same(cluster)


def test_a_follower_that_restarts_in_the_middle_gets_everything_again(behind):
    cluster, node = behind
    watch = Watch(cluster)
    watch.lose = lambda source, one: isinstance(one, SnapshotChunk) and one.number == 3
    cluster.start(node)
    cluster.pass_ms(500)
    assert watch.lost
    cluster.power_off(node)
    watch.lose = lambda source, one: False
    cluster.start(node)
    cluster.pass_ms(1_000)
    assert installed(cluster, node) == 1
    assert_same(cluster)


def test_a_chunk_out_of_order_is_refused_and_the_transfer_begins_again(behind):
    cluster, node = behind
    leader = cluster.leader()
    watch = Watch(cluster)
    watch.lose = lambda source, one: isinstance(one, SnapshotChunk) and one.number == 2
    cluster.start(node)
    cluster.pass_ms(300)
    skipped = watch.lost[0]
    watch.lose = lambda source, one: False
    wrong = msgspec.structs.replace(skipped, number=3)
    cluster.nodes[leader].outgoing(node).other.append(wrong)
    cluster.pass_ms(100)
    assert watch.acks[-1] == SnapshotAck(0, skipped.transfer, 3, REFUSED)
    # The leader asked for no such acknowledgement; when it hears that its own chunk is refused...
    cluster.nodes[node].outgoing(leader).other.append(SnapshotAck(0, skipped.transfer, 2, REFUSED))
    cluster.pass_ms(300)
    assert cluster.nodes[leader].counters["snapshots_sent"] == 2
    cluster.pass_ms(1_000)
    assert installed(cluster, node) == 1
    assert_same(cluster)


def test_a_chunk_that_comes_twice_does_no_harm(behind):
    cluster, node = behind

    def twice(source, target, frame):
        chunks = [one for one in frame.other if isinstance(one, SnapshotChunk) and one.number == 1]
        frame.other += chunks
        return frame

    cluster.edit = twice
    cluster.start(node)
    cluster.pass_ms(500)
    cluster.edit = None
    cluster.pass_ms(4_000)
    assert installed(cluster, node) == 1
    assert_same(cluster)


def test_a_transfer_goes_on_after_a_lost_connection(behind):
    cluster, node = behind
    leader = cluster.leader()
    watch = Watch(cluster, lambda source, one: isinstance(one, SnapshotChunk) and one.number == 3)
    cluster.start(node)
    cluster.pass_ms(300)
    cluster.disconnect(node, leader)
    watch.lose = lambda source, one: False
    watch.chunks.clear()
    cluster.pass_ms(20_000)
    cluster.connect(node, leader)
    cluster.pass_ms(500)
    assert installed(cluster, node) == 1
    assert watch.chunks[0][1].number == 3
    assert sum(one.counters["snapshots_sent"] for one in cluster.nodes.values()) == 1
    assert_same(cluster)


def test_both_ends_forget_a_transfer_that_does_not_move_for_a_minute(behind):
    cluster, node = behind
    leader = cluster.leader()
    Watch(cluster, lambda source, one: isinstance(one, SnapshotChunk) and one.number == 3)
    cluster.start(node)
    cluster.pass_ms(300)
    assert cluster.nodes[node].snapshots.receiving
    cluster.disconnect(node, leader)
    cluster.pass_ms(61_000)
    cluster.edit = None
    assert not cluster.nodes[node].snapshots.receiving
    assert not cluster.nodes[leader].snapshots.sending
    cluster.connect(node, leader)
    cluster.pass_ms(2_000)
    assert installed(cluster, node) == 1
    assert_same(cluster)


def test_two_transfers_move_at_a_time_and_a_lost_peer_makes_place(monkeypatch):
    monkeypatch.setattr(limits, "SNAPSHOT_CHUNK_BYTES", 300)
    cluster = Cluster(shards=4, flush_log_bytes=2_000, log_tail_entries=2)
    node = cluster.followers(0)[0]
    cluster.stop(node)
    cluster.settle()
    one = next(iter(cluster.nodes))
    client = Client(cluster, one)
    for number in range(200):
        client.ask("SET", f"k{number}", "v" * 50)
    for shard in range(4):
        if cluster.leader(shard) != one:
            other = cluster.nodes[cluster.leader(shard)]
            other.replicas[shard].core.transfer(one, cluster.clock.us)
            cluster.pass_ms(50)
    cluster.pass_ms(200)
    assert len(cluster.nodes[one].serving) == 4
    Watch(cluster, lambda source, item: isinstance(item, SnapshotAck))
    cluster.start(node)
    cluster.pass_ms(1_000)
    begun = cluster.nodes[one].snapshots
    assert (len(begun.sending), len(begun.queue)) == (2, 2)
    cluster.edit = None
    cluster.pass_ms(9_000)
    assert installed(cluster, node) == 4
    assert not begun.sending and not begun.queue


def test_what_is_sent_is_bounded_by_the_rate(behind):
    cluster, node = behind
    snapshots_of = cluster.nodes[cluster.leader()].snapshots
    snapshots_of.budget.bytes_per_s = 10_000
    snapshots_of.budget.bytes = 0
    watch = Watch(cluster)
    cluster.start(node)
    seconds = cost = 0
    while not installed(cluster, node):
        cluster.pass_ms(1_000)
        seconds += 1
        records = max((chunk.records for _, chunk in watch.chunks), default=0)
        cost = sum(len(chunk.data) for _, chunk in watch.chunks) + RECORD_COST * records
        # Beyond the rate by one chunk at most; there are ten records in one.
        assert cost <= seconds * 10_000 + 10 * (RECORD_COST + 400)
        assert seconds < 60
    assert cost > 30_000
    assert installed(cluster, node) == 1
    assert_same(cluster)


@pytest.mark.parametrize("part", ["data", "state", "records", "total", "check"])
def test_a_damaged_chunk_is_found_and_the_transfer_begins_again(behind, part):
    cluster, node = behind
    damaged = []

    def damage(source, target, frame):
        for place, one in enumerate(frame.other):
            if isinstance(one, SnapshotChunk) and not damaged and (one.state or part != "state"):
                value = getattr(one, part)
                flipped = value ^ 1 if isinstance(value, int) else bytes([value[0] ^ 1]) + value[1:]
                damaged.append(one)
                frame.other[place] = msgspec.structs.replace(one, **{part: flipped})
        return frame

    cluster.edit = damage
    cluster.start(node)
    cluster.pass_ms(3_000)
    assert damaged
    assert cluster.nodes[node].counters["snapshots_damaged"] == 1
    assert installed(cluster, node) == 1
    assert cluster.nodes[cluster.leader()].counters["snapshots_sent"] == 2
    assert_same(cluster)


def test_the_checksum_covers_whose_chunk_it_is_and_its_place():
    """A sound chunk of another shard, transfer, place or moment must not be taken for this one."""
    meta = SnapshotMeta(10, 2, Members((1, 2, 3)))
    chunk = SnapshotChunk(1, 2, 3, 4, meta, b"data", b"", 5, 6, 0)
    changed = [
        msgspec.structs.replace(chunk, **{name: getattr(chunk, name) + 1})
        for name in ("shard", "term", "transfer", "number", "records", "total")
    ]
    changed.append(msgspec.structs.replace(chunk, meta=SnapshotMeta(11, 2, meta.members)))
    changed.append(msgspec.structs.replace(chunk, meta=SnapshotMeta(10, 3, meta.members)))
    changed.append(msgspec.structs.replace(chunk, state=b"s"))
    found = {snapshots.checksum_of(one) for one in (chunk, *changed)}
    assert len(found) == len(changed) + 1


def test_a_chunk_that_is_missing_in_the_sum_is_found(behind):
    """Each chunk sound, and yet not what was read: the total tells."""
    cluster, node = behind
    numbers = []

    def swap(source, target, frame):
        for place, one in enumerate(frame.other):
            if isinstance(one, SnapshotChunk) and one.number == 2 and not numbers:
                numbers.append(2)
                other = msgspec.structs.replace(one, data=msgspec.msgpack.encode([]))
                check = snapshots.checksum_of(other)
                frame.other[place] = msgspec.structs.replace(other, check=check)
        return frame

    cluster.edit = swap
    cluster.start(node)
    cluster.pass_ms(3_000)
    assert cluster.nodes[node].counters["snapshots_damaged"] == 1
    assert_same(cluster)


def test_a_new_leader_sends_its_own_and_chunks_of_the_old_one_are_refused(behind):
    cluster, node = behind
    old = cluster.leader()
    watch = Watch(cluster)
    watch.lose = lambda source, one: isinstance(one, SnapshotChunk) and one.number == 3
    cluster.start(node)
    cluster.pass_ms(300)
    late = watch.lost[0]
    watch.lose = lambda source, one: False
    new = cluster.move_leader()
    assert new not in (old, node)
    cluster.nodes[old].outgoing(node).other.append(late)
    cluster.pass_ms(2_000)
    assert SnapshotAck(0, late.transfer, 3, REFUSED) in watch.acks
    assert installed(cluster, node) == 1
    assert {source for source, chunk in watch.chunks if chunk.transfer != late.transfer} == {new}
    assert not cluster.nodes[old].snapshots.sending
    assert_same(cluster)


def test_nothing_is_written_to_the_log_before_the_engine_holds_the_snapshot(behind):
    cluster, node = behind
    said = []

    def listen(source, target, frame):
        said.extend(one for _, one in frame.core if source == node and isinstance(one, INSTALLED))
        return frame

    cluster.edit = listen
    cluster.still = {node}
    cluster.start(node)
    cluster.pass_ms(1_000)
    assert installed(cluster, node) == 1
    assert not said
    writes = cluster.nodes[node].counters["log_writes"]
    cluster.pass_ms(500)
    assert cluster.nodes[node].counters["log_writes"] == writes
    cluster.still = set()
    cluster.pass_ms(200)
    assert said
    assert cluster.nodes[node].counters["log_writes"] > writes
    assert_same(cluster)


@pytest.mark.parametrize("flushed", [False, True])
def test_a_power_cut_between_snapshot_and_log(behind, flushed):
    cluster, node = behind
    cluster.still = {node}
    cluster.start(node)
    cluster.pass_ms(1_000)
    assert installed(cluster, node) == 1
    cluster.held = {node}
    if flushed:
        cluster.still = set()
        cluster.run()
    cluster.power_off(node)
    cluster.held = cluster.still = set()
    cluster.start(node)
    applied = cluster.nodes[node].replicas[0].state.applied_index
    assert (applied > KEYS) is flushed
    cluster.pass_ms(2_000)
    assert_same(cluster)


def test_a_snapshot_that_is_not_newer_is_refused():
    cluster = Cluster()
    leader, follower = cluster.leader(), cluster.follower()
    client = Client(cluster, leader)
    for number in range(5):
        client.ask("SET", f"k{number}", "v")
    cluster.pass_ms(100)
    watch = Watch(cluster)
    cluster.nodes[leader].snapshots.start(
        cluster.nodes[leader].replicas[0], follower, cluster.clock.us
    )
    cluster.run()
    assert [ack.answer for ack in watch.acks] == [REFUSED]
    assert installed(cluster, follower) == 0
    assert not cluster.nodes[leader].snapshots.sending


def test_watch_over_a_snapshot_fails_rather_than_misses_a_change():
    """The follower has not seen the deletion: with the snapshot it forgets what it knew of the past."""
    cluster = Cluster(flush_log_bytes=2_000, log_tail_entries=5)
    leader = cluster.leader()
    other, cut_off = cluster.followers()
    for one in (leader, other):
        cluster.disconnect(cut_off, one)
    client, writer = Client(cluster, other), Client(cluster, other)
    assert client.watch(b"absent") == OK
    writer.ask("SET", "absent", "1")
    writer.ask("DEL", "absent")
    for number in range(KEYS):
        writer.ask("SET", f"k{number}", "v" * 100)
    for one in (leader, other):
        cluster.connect(cut_off, one)
    cluster.pass_ms(3_000)
    assert installed(cluster, cut_off) == 1
    if cluster.leader() != cut_off:
        old = cluster.nodes[cluster.leader()]
        old.replicas[0].core.transfer(cut_off, cluster.clock.us)
        cluster.pass_ms(100)
    assert cluster.leader() == cut_off
    assert client.transact("SET absent mine") == b"*-1\r\n"


def test_a_follower_whose_flush_takes_long_is_not_sent_everything_again(behind):
    cluster, node = behind
    cluster.still = {node}
    cluster.start(node)
    cluster.pass_ms(1_000)
    Client(cluster, cluster.leader()).ask("SET", "k0", "meanwhile")
    cluster.pass_ms(9_000)
    cluster.still = set()
    cluster.pass_ms(500)
    assert installed(cluster, node) == 1
    assert sum(one.counters["snapshots_sent"] for one in cluster.nodes.values()) == 1
    cluster.pass_ms(2_000)
    assert not any(one.snapshots.sending for one in cluster.nodes.values())
