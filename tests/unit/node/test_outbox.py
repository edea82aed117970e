"""Frames of bounded size: what is urgent overtakes, everything else keeps its order."""

import pytest

from quoit.base import limits
from quoit.node.messages import Frame, Leading, decode_frame
from quoit.node.outbox import Outbox
from quoit.quorum.agreement import Entry
from quoit.quorum.members import Members
from quoit.raft.messages import AppendEntries, Heartbeat, HeartbeatReply
from tests.unit.node.harness import Client, Cluster


@pytest.fixture
def outbox(monkeypatch):
    monkeypatch.setattr(limits, "FRAME_BYTES_SOFT", 1_000)
    return Outbox()


def append(index, size):
    return AppendEntries(1, index - 1, 1, 0, 1, [Entry(index, 1, 0, b"e" * size)])


def forward(number, size=10):
    return (number, 0, 0, 0, [b"SET", b"k", b"v" * size])


def both(outbox, peers=(2,)):
    ordinary, urgent = outbox.drain(dict.fromkeys(peers, 0))
    return (
        [(peer, decode_frame(payload)) for peer, payload in ordinary],
        [(peer, decode_frame(payload)) for peer, payload in urgent],
    )


def test_what_is_small_is_one_frame_and_not_urgent(outbox):
    frame = outbox.outgoing(2)
    frame.core += [(0, Heartbeat(1, 2, 3)), (1, append(5, 100))]
    frame.forwards.append(forward(1))
    frame.replies.append((7, b"+OK\r\n"))
    ordinary, urgent = both(outbox)
    assert not urgent
    assert ordinary == [(2, frame)]
    assert both(outbox) == ([], []), "it is sent once"


def test_each_peer_has_its_own_frame(outbox):
    for peer in (3, 2):
        outbox.outgoing(peer).refused.append((peer, 1))
    ordinary, _ = both(outbox, (2, 3))
    assert [(peer, frame.refused) for peer, frame in ordinary] == [(3, [(3, 1)]), (2, [(2, 1)])]


def test_a_peer_that_is_not_connected_gets_nothing_later(outbox):
    outbox.outgoing(2).replies.append((1, b"+OK\r\n"))
    assert both(outbox, ()) == ([], [])
    assert both(outbox) == ([], [])


def test_what_a_broken_connection_was_to_carry_is_dropped(outbox):
    outbox.outgoing(2).replies.append((1, b"+OK\r\n"))
    outbox.drop(2)
    outbox.drop(3)
    assert both(outbox) == ([], [])


def test_small_raft_messages_overtake_when_there_is_much_to_send(outbox):
    frame = outbox.outgoing(2)
    small = [
        (0, Heartbeat(1, 2, 3)),
        (1, HeartbeatReply(1, 2, True)),
        (2, AppendEntries(1, 0, 0, 0, 1, [])),
    ]
    big = [(3, append(1, 600)), (3, append(2, 600))]
    frame.core += [small[0], big[0], small[1], big[1], small[2]]
    ordinary, urgent = both(outbox)
    assert urgent == [(2, Frame(small, [], [], [], [], []))]
    assert [pair for _, one in ordinary for pair in one.core] == big


def test_large_frames_are_cut_and_every_list_keeps_its_order(outbox):
    frame = outbox.outgoing(2)
    appends = [(0, append(index, 300)) for index in range(1, 8)]
    forwards = [forward(number, 150) for number in range(20)]
    replies = [(number, b"$300\r\n" + b"r" * 300 + b"\r\n") for number in range(9)]
    refused = [(number, 3) for number in range(5)]
    leading = [Leading(number, 1, 0, Members((1, 2))) for number in range(5)]
    frame.core, frame.forwards, frame.replies = list(appends), list(forwards), list(replies)
    frame.refused, frame.leading = list(refused), list(leading)
    ordinary, urgent = outbox.drain({2: 0})
    assert not urgent
    assert all(len(payload) <= 1_000 for _, payload in ordinary)
    assert len(ordinary) < 20
    frames = [decode_frame(payload) for _, payload in ordinary]
    assert [one for part in frames for one in part.core] == appends
    assert [one for part in frames for one in part.forwards] == forwards
    assert [one for part in frames for one in part.replies] == replies
    assert [one for part in frames for one in part.refused] == refused
    assert [one for part in frames for one in part.leading] == leading


def test_one_thing_that_is_too_large_goes_alone(outbox):
    frame = outbox.outgoing(2)
    frame.forwards += [forward(1), forward(2, 5_000), forward(3)]
    ordinary, _ = both(outbox)
    assert [[one[0] for one in part.forwards] for _, part in ordinary] in (
        [[1], [2], [3]],
        [[1], [2, 3]],
    )
    assert (
        max(len(part.forwards) for _, part in ordinary if forward(2, 5_000) in part.forwards) == 1
    )


def test_a_cluster_works_with_frames_that_are_cut_everywhere(monkeypatch):
    monkeypatch.setattr(limits, "FRAME_BYTES_SOFT", 300)
    cluster = Cluster()
    client = Client(cluster, cluster.follower())
    tickets = []
    for number in range(50):
        tickets.append(client.send("APPEND", "log", f"{number:03}"))
        client.send("SET", f"k{number}", "v" * 200)
    cluster.run()
    assert [client.replies[ticket] for ticket in tickets] == [
        b":%d\r\n" % (3 * number) for number in range(1, 51)
    ]
    text = client.ask("GET", "log").split(b"\r\n")[1]
    assert text == b"".join(b"%03d" % number for number in range(50))
    assert cluster.idle()


@pytest.fixture
def small_frames(monkeypatch):
    monkeypatch.setattr(limits, "FRAME_BYTES_SOFT", 10_000)
    monkeypatch.setattr(limits, "FRAME_BYTES_MAX", 100_000)


@pytest.fixture
def reader(small_frames):
    """A client, not at the leader, of a database of 270 kB, and its keys."""
    cluster = Cluster()
    client = Client(cluster, cluster.follower())
    client.session.db = 1
    keys = [f"k{number:02}" for number in range(30)]
    for key in keys:
        client.ask("SET", key, key * 3_000)
    return client, keys


def test_no_frame_is_larger_than_what_a_peer_accepts(reader):
    """Else the peer cuts the connection, the read is asked again, and so on for ever."""
    client, keys = reader
    cluster = client.cluster
    sizes = []
    for words in (("MGET", *keys), ("KEYS", "*")):
        ticket = client.send(*words)
        for _ in range(10):
            for number in cluster.nodes:
                cluster.turn(number)
            sizes += [len(payload) for _, _, payload in cluster.frames]
            frames, cluster.frames = cluster.frames, []
            for frame in frames:
                cluster.deliver(*frame)
        assert ticket in client.replies
    assert max(sizes) <= 100_000
    assert client.replies[ticket - 1] == b"*30\r\n" + b"".join(
        b"$9000\r\n%b\r\n" % (key.encode() * 3_000) for key in keys
    )
    assert cluster.idle()


def test_large_and_small_replies_do_not_mix(reader):
    client, keys = reader
    tickets = [client.send(*words) for key in keys for words in (("MGET", key, key), ("GET", key))]
    client.cluster.run()
    for key, two, one in zip(keys, tickets[::2], tickets[1::2], strict=True):
        expected = b"$9000\r\n%b\r\n" % (key.encode() * 3_000)
        assert client.replies[two] == b"*2\r\n" + 2 * expected
        assert client.replies[one] == expected


def test_the_end_of_a_large_reply_may_never_come(reader):
    """Then nothing of its first parts is in what comes later."""
    client, keys = reader
    cluster = client.cluster

    def without_ends(source, target, frame):
        frame.replies = [pair for pair in frame.replies if pair[1]]
        return frame

    cluster.edit = without_ends
    ticket = client.send("MGET", *keys)
    cluster.pass_ms(100)
    assert ticket not in client.replies
    cluster.edit = None
    cluster.disconnect(client.number, cluster.leader())
    cluster.connect(client.number, cluster.leader())
    cluster.pass_ms(100)
    assert client.replies[ticket].count(b"$9000") == 30
    assert cluster.idle()


@pytest.mark.parametrize("write", [False, True])
def test_a_reply_beyond_all_bounds_is_an_error_that_says_what_became_of_the_command(
    reader, monkeypatch, write
):
    monkeypatch.setattr(limits, "FORWARDED_REPLY_BYTES_MAX", 200_000)
    client, keys = reader
    if write:
        reply = client.transact("SET mark 1", "MGET " + " ".join(keys))
        assert reply.startswith(b"-UNKNOWN this was applied")
        assert client.ask("GET", "mark") == b"$1\r\n1\r\n"
    else:
        assert client.ask("MGET", *keys).startswith(b"-ERR the reply is too large")
    assert client.cluster.idle()
