"""How commands become batches, batches entries, and entries of all shards one log write."""

import pytest

from quoit.base import limits
from quoit.base.slots import slot_of
from quoit.data.effects import decode_effects
from quoit.data.record import STRING
from quoit.data.table import Spec
from quoit.node.messages import decode_frame
from quoit.paxos import messages as p
from quoit.paxos.values import CARRIED, kind_of
from quoit.quorum.agreement import EFFECTS
from quoit.raft import messages as m
from tests.unit.node.harness import Client, Cluster

ACKNOWLEDGEMENTS = (m.AppendEntriesReply, p.Accepted)
ASKS = (m.RequestVote, p.Prepare)
VOTES = (m.RequestVoteReply, p.Promise)
PROPOSALS = (m.AppendEntries, p.Accept)
OK = b"+OK\r\n"
ALL = {1, 2, 3}


def key_of(cluster, shard):
    slots = next(iter(cluster.nodes.values())).slot_to_shard
    return next(
        key for key in map("k{}".format, range(1000)) if slots[slot_of(key.encode())] == shard
    )


def last_index(cluster, shard=0):
    return cluster.nodes[cluster.leader(shard)].replicas[shard].core.last_index


def sent_by(cluster, number):
    """The messages of the shards in the frames of one turn of the node: (peer, message)."""
    before = len(cluster.frames)
    cluster.turn(number)
    return [
        (peer, message)
        for _, peer, payload in cluster.frames[before:]
        for _, message in decode_frame(payload).core
    ]


def test_commands_of_one_turn_are_one_entry():
    cluster = Cluster()
    client = Client(cluster, cluster.leader())
    before = last_index(cluster)
    tickets = [client.send("INCR", "n") for _ in range(50)]
    cluster.run()
    assert [client.replies[ticket] for ticket in tickets] == [b":%d\r\n" % n for n in range(1, 51)]
    assert last_index(cluster) == before + 1
    counters = cluster.nodes[cluster.leader()].counters
    assert counters["batch_commands"] - counters["batches"] == 49


def test_what_arrives_while_a_batch_is_in_flight_is_the_next_batch():
    cluster = Cluster(inflight_batches_max=1)
    client = Client(cluster, cluster.leader())
    cluster.held = set(ALL)
    before = last_index(cluster)
    for _ in range(10):
        client.send("INCR", "n")
        cluster.run()
    replica = cluster.nodes[cluster.leader()].replicas[0]
    assert (len(replica.inflight), len(replica.queue), last_index(cluster)) == (1, 9, before + 1)
    assert cluster.nodes[cluster.leader()].pending == 10
    cluster.held = set()
    cluster.run()
    assert last_index(cluster) == before + 2
    assert sorted(client.replies.values()) == sorted(b":%d\r\n" % n for n in range(1, 11))
    assert cluster.idle()


def test_a_further_batch_is_made_only_of_enough_commands():
    cluster = Cluster(pipelined_commands_min=4)
    client = Client(cluster, cluster.leader())
    cluster.held = set(ALL)
    client.send("INCR", "n")
    cluster.run()
    replica = cluster.nodes[cluster.leader()].replicas[0]
    for waiting, inflight in ((1, 1), (2, 1), (3, 1), (0, 2)):
        client.send("INCR", "n")
        cluster.run()
        assert (len(replica.queue), len(replica.inflight)) == (waiting, inflight)
    # However few wait, they go when nothing is in flight.
    client.send("INCR", "n")
    cluster.held = set()
    cluster.run()
    assert client.ask("GET", "n") == b"$1\r\n6\r\n"
    assert cluster.idle()


@pytest.mark.parametrize(
    ("limit", "value"), [("BATCH_COMMANDS_MAX", 70), ("BATCH_BYTES_MAX", 70 * 100)]
)
def test_a_batch_is_bounded(monkeypatch, limit, value):
    monkeypatch.setattr(limits, limit, value)
    cluster = Cluster()
    client = Client(cluster, cluster.leader())
    before = last_index(cluster)
    for number in range(200):
        client.send("SET", f"k{number}", "v" * 100)
    cluster.run()
    assert last_index(cluster) - before == 3
    assert list(client.replies.values()) == [OK] * 200
    assert client.ask("DBSIZE") == b":200\r\n"


def test_new_entries_of_all_shards_share_one_log_write():
    cluster = Cluster(size=1, shards=4)
    client = Client(cluster, 1)
    node = cluster.nodes[1]
    cluster.held = {1}
    for shard in range(4):
        client.send("SET", key_of(cluster, shard), "1")
    writes = node.counters["log_writes"]
    cluster.run()
    write = cluster.writes[1]
    assert sorted(update.shard for update in write.updates if update.entries) == [0, 1, 2, 3]
    # While it is under way the others gather, for one more write.
    for shard in range(4):
        client.send("INCR", key_of(cluster, shard))
        cluster.run()
    assert cluster.writes[1] is write
    assert node.end_turn().write is None
    assert not client.replies
    cluster.held = set()
    cluster.run()
    assert node.counters["log_writes"] == writes + 2
    assert list(client.replies.values()) == [OK] * 4 + [b":2\r\n"] * 4


def test_one_shards_slow_followers_do_not_hold_up_another_shard():
    cluster = Cluster(shards=4)
    one, other = (key_of(cluster, shard) for shard in (0, 1))
    leader = cluster.leader(0)

    def without_shard_0(source, target, frame):
        frame.core = [pair for pair in frame.core if pair[0] != 0]
        return frame

    cluster.edit = without_shard_0
    client = Client(cluster, leader)
    first = client.send("SET", one, "1")
    assert client.ask("SET", other, "1") == OK
    assert first not in client.replies


def test_a_batch_that_changes_nothing_writes_nothing():
    cluster = Cluster()
    client = Client(cluster, cluster.leader())
    client.ask("SET", "text", "x")
    before = last_index(cluster)
    cluster.held = set(ALL)
    assert client.ask("DEL", "absent") == b":0\r\n"
    assert client.ask("INCR", "text").startswith(b"-ERR value is not an integer")
    assert client.ask("SET", "text", "y", "NX") == b"$-1\r\n"
    assert last_index(cluster) == before
    assert cluster.idle()


def test_without_a_lease_even_a_refused_write_needs_a_proof():
    cluster = Cluster(lease_enabled=False)
    leader = cluster.leader()
    client = Client(cluster, leader)
    client.ask("SET", "text", "x")
    cluster.slow = {(other, leader) for other in cluster.followers()}
    ticket = client.send("INCR", "text")
    cluster.run()
    assert ticket not in client.replies
    cluster.release()
    cluster.run()
    assert client.replies[ticket].startswith(b"-ERR value is not an integer")
    assert cluster.idle()


def test_a_refused_write_keeps_its_place_before_what_took_its_reason_away():
    """It was refused when it was run; that was so, as the proof says."""
    cluster = Cluster(lease_enabled=False)
    leader = cluster.leader()
    client, other = Client(cluster, leader), Client(cluster, leader)
    other.ask("SET", "a", "text")
    cluster.slow = {(one, leader) for one in cluster.followers()}
    ticket = client.send("INCR", "a")
    cluster.turn(leader)
    other.send("SET", "a", "7")
    cluster.run()
    cluster.release()
    cluster.run()
    assert client.replies[ticket].startswith(b"-ERR value is not an integer")
    assert client.ask("GET", "a") == b"$1\r\n7\r\n"
    assert cluster.idle()


def test_a_command_that_fails_leaves_the_others_of_its_batch_alone():
    cluster = Cluster()
    client = Client(cluster, cluster.leader())
    tickets = [
        client.send("SET", "a", "x"),
        client.send("INCR", "a"),
        client.send("SET", "b", "1"),
        client.send("INCR", "b"),
    ]
    cluster.run()
    assert [client.replies[one][:4] for one in tickets] == [b"+OK\r", b"-ERR", b"+OK\r", b":2\r\n"]


@pytest.mark.parametrize("write", [True, False])
def test_a_bug_in_a_handler_is_an_error_and_leaves_nothing(write):
    def broken(view, args, context):
        if write:
            view.put(0, args[1], STRING, b"half")
        raise ZeroDivisionError

    spec = Spec(name="BROKEN", arity=2, write=write, handler=broken)
    cluster = Cluster(size=1)
    facts = []
    replica = cluster.nodes[1].replicas[0]
    replica.runner.trace = lambda event, **detail: facts.append((event, detail["command"]))
    client = Client(cluster, 1)
    client.ticket += 1
    reply = client.node.submit(client.session, client.ticket, spec, [b"BROKEN", b"a"])
    cluster.run()
    assert (reply or client.replies[1]).startswith(b"-ERR internal error, nothing was changed")
    assert facts == [("command_failed", "BROKEN")]
    assert client.ask("EXISTS", "a") == b":0\r\n"
    assert cluster.idle()


def test_replies_to_a_client_that_left_are_dropped_and_its_write_stays():
    cluster = Cluster()
    client = Client(cluster, cluster.leader())
    cluster.held = set(ALL)
    client.send("SET", "a", "1")
    cluster.run()
    client.node.close_session(client.session)
    cluster.held = set()
    cluster.run()
    assert not client.replies
    assert Client(cluster, cluster.follower()).ask("GET", "a") == b"$1\r\n1\r\n"
    assert cluster.idle()


def test_a_follower_acknowledges_nothing_before_its_own_sync():
    cluster = Cluster()
    leader, follower = cluster.leader(), cluster.follower()
    cluster.held = {follower}
    Client(cluster, leader).send("SET", "a", "1")
    cluster.turn(leader)
    for frame in cluster.frames:
        cluster.deliver(*frame)
    cluster.frames.clear()
    said = [message for _, message in sent_by(cluster, follower)]
    assert not [one for one in said if isinstance(one, ACKNOWLEDGEMENTS)]
    cluster.persist(follower)
    said = [message for _, message in sent_by(cluster, follower)]
    assert [one.ok for one in said if isinstance(one, ACKNOWLEDGEMENTS)] == [True]


def test_nobody_votes_or_asks_for_votes_before_its_promise_is_synced():
    cluster = Cluster()
    cluster.stop(cluster.leader())
    cluster.held = set(ALL)
    votes = []

    def watch(source, target, frame):
        votes.extend(
            (source, "vote" if isinstance(one, VOTES) else "ask")
            for _, one in frame.core
            if isinstance(one, ASKS + VOTES)
        )
        return frame

    cluster.edit = watch
    cluster.pass_ms(2_000)
    assert not votes
    candidate = next(iter(cluster.writes))
    cluster.held.discard(candidate)
    cluster.run()
    assert {kind for _, kind in votes} == {"ask"}
    cluster.held.clear()
    cluster.settle()
    assert "vote" in {kind for _, kind in votes}


def test_a_new_leader_serves_nothing_before_an_entry_of_its_own_term_is_agreed_on():
    cluster = Cluster()
    old = cluster.leader()
    Client(cluster, old).ask("SET", "a", "1")
    new = cluster.follower()

    def no_entries(source, target, frame):
        frame.core = [
            pair for pair in frame.core if not (isinstance(pair[1], PROPOSALS) and pair[1].entries)
        ]
        return frame

    cluster.edit = no_entries
    cluster.nodes[old].begin_stop()
    cluster.run()
    replica = cluster.nodes[new].replicas[0]
    assert replica.core.is_leader
    assert not replica.serving()
    client = Client(cluster, new)
    read = client.send("GET", "a")
    write = client.send("SET", "a", "2")
    cluster.pass_ms(50)
    assert not client.replies
    cluster.edit = None
    cluster.pass_ms(200)
    assert (client.replies[read], client.replies[write]) == (b"$1\r\n1\r\n", OK)


def test_the_stamped_time_never_runs_backwards():
    cluster = Cluster()
    Client(cluster, cluster.leader()).ask("SET", "a", "1", "PX", "1000")
    cluster.clock.wall_shift_ms = -3_600_000
    cluster.pass_ms(10)
    Client(cluster, cluster.leader()).ask("SET", "b", "1")
    # A new leader, whose clock is an hour behind, goes on from the stamp that it finds.
    client = Client(cluster, cluster.move_leader())
    client.ask("SET", "c", "1")
    cluster.clock.wall_shift_ms = 0
    cluster.pass_ms(10)
    client.ask("SET", "d", "1")
    log = cluster.nodes[cluster.leader()].replicas[0].core.log
    batches = [one for one in log.cache if kind_of(one) == EFFECTS]
    data = [one.data[8:] if one.kind & CARRIED else one.data for one in batches]
    stamps = [decode_effects(one).stamp_ms for one in data]
    assert len(stamps) == 4
    assert stamps == sorted(stamps)
    assert stamps[0] == stamps[2] < stamps[3]
