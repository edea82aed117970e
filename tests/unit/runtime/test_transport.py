"""Connections between nodes: who gets in, what is cut off, and what waits for a slow peer."""

import asyncio
import functools
import os
import socket

import msgspec
import pytest

from quoit.base import limits
from quoit.base.errors import PeerFault
from quoit.runtime import transport
from quoit.runtime.options import NodeOptions, PeerAddress
from quoit.runtime.transport import Acceptor, Dialer
from quoit.wire import handshake
from quoit.wire.frames import FrameReader, frame

SECRET = b"of the cluster"
encode = msgspec.msgpack.encode


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Events:
    """What a driver would be told."""

    def __init__(self, node_id=1, secret=SECRET, cluster_id="c"):
        self.options = NodeOptions(
            node_id=node_id, name=f"n{node_id}", cluster_id=cluster_id, secret=secret, data_dir=""
        )
        self.frames, self.rejected, self.links = [], [], []
        self.turns = 0
        self.standing = (77, node_id, 500)
        self.refusals, self.met, self.refused_by = {}, [], []
        self.complaint = None

    def peer_refusal(self, peer, standing):
        return self.refusals.get(peer, "")

    def peer_met(self, peer, standing):
        self.met.append((peer, tuple(standing)))

    def peer_refuses(self, peer, reason):
        self.refused_by.append((peer, reason))

    def peer_frame(self, peer, payload):
        if self.complaint:
            raise PeerFault(self.complaint)
        self.frames.append((peer, payload))

    def peer_turn(self):
        self.turns += 1

    def peer_connected(self, peer, connected):
        self.links.append((peer, connected))

    def peer_rejected(self, address, reason):
        self.rejected.append(reason)


class Pipe:
    """A transport that keeps what is written to it."""

    def __init__(self):
        self.written = bytearray()
        self.aborted = self.closed = False

    def write(self, data):
        self.written += data

    def abort(self):
        self.aborted = True

    def close(self):
        self.closed = True

    def set_write_buffer_limits(self, high):
        self.high = high

    def get_extra_info(self, name):
        return None if name == "socket" else ("127.0.0.1", 5)

    def taken(self):
        """The payloads written since the last call."""
        data, self.written = bytes(self.written), bytearray()
        return FrameReader().feed(data)


def address(number, port=1):
    return PeerAddress(number, f"n{number}", "127.0.0.1", port, 0, 0)


def in_loop(test):
    """Run a coroutine function as a test."""

    @functools.wraps(test)
    def run(*args, **kwargs):
        asyncio.run(test(*args, **kwargs))

    return run


def accepting(**options):
    """(events, acceptor, pipe) of node 1, which knows the nodes 2 and 3."""
    events, pipe = Events(1, **options), Pipe()
    acceptor = Acceptor(events)
    acceptor.connection_made(pipe)
    return events, acceptor, pipe


def hello(**changes):
    fields = {
        "protocol": handshake.PROTOCOL,
        "cluster_id": "c",
        "sender": 2,
        "receiver": 1,
        "nonce": os.urandom(16),
        "agreement": "raft",
        "first_map": NodeOptions(
            node_id=1, name="n1", cluster_id="c", secret=SECRET, data_dir=""
        ).first_map,
        "standing": (8, 9, 10),
    }
    return handshake.Hello(**{**fields, **changes})


def introduce(acceptor, pipe, secret=SECRET, **changes):
    """The dialer's side of the handshake; the proof it would send."""
    first = hello(**changes)
    acceptor.data_received(frame(encode(first)))
    welcome = handshake.decode(pipe.taken()[0])
    said = (first, welcome.nonce, welcome.standing, welcome.refusal)
    assert welcome.proof == handshake.proof_of(SECRET, "acceptor", *said)
    return encode(handshake.Proof(handshake.proof_of(secret, "dialer", *said)))


# Who gets in


@in_loop
async def test_a_peer_that_proves_itself_is_heard():
    events, acceptor, pipe = accepting()
    acceptor.data_received(frame(introduce(acceptor, pipe)))
    acceptor.data_received(frame(b"one") + frame(b"two") + frame(b"three")[:5])
    assert (events.frames, events.turns) == ([(2, b"one"), (2, b"two")], 2)
    acceptor.data_received(frame(b"three")[5:])
    assert events.frames[2] == (2, b"three")
    assert not events.rejected
    assert acceptor.timer.cancelled()


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"protocol": 9}, "protocol 9"),
        ({"agreement": "paxos"}, "same --consensus"),
        ({"first_map": "00000000"}, "same --peers"),
        ({"protocol": 0}, "protocol 0"),
        ({"cluster_id": "other"}, "another cluster"),
        ({"sender": 1}, "node 1 looked for node 1"),
        ({"receiver": 3}, "looked for node 3"),
        ({"nonce": b""}, "16 bytes"),
        ({"nonce": b"n" * 17}, "16 bytes"),
    ],
)
@in_loop
async def test_a_stranger_is_cut_off_at_its_hello(changes, reason):
    events, acceptor, pipe = accepting()
    acceptor.data_received(frame(encode(hello(**changes))) + frame(b"frame"))
    assert pipe.aborted
    assert not pipe.written
    assert [reason in one for one in events.rejected] == [True]
    assert not events.frames


@in_loop
async def test_a_peer_without_the_secret_is_cut_off_at_its_proof():
    events, acceptor, pipe = accepting()
    acceptor.data_received(frame(introduce(acceptor, pipe, b"wrong")) + frame(b"frame"))
    assert pipe.aborted
    assert events.rejected == ["the peer does not know the cluster's secret"]
    assert not events.frames


@in_loop
async def test_a_proof_is_worth_nothing_on_another_connection():
    _, acceptor, pipe = accepting()
    first = hello()
    acceptor.data_received(frame(encode(first)))
    welcome = handshake.decode(pipe.taken()[0])
    proof = handshake.proof_of(SECRET, "dialer", first, welcome.nonce, welcome.standing, "")
    events, again, second_pipe = accepting()
    again.data_received(frame(encode(first)))
    again.data_received(frame(encode(handshake.Proof(proof))))
    assert second_pipe.aborted
    assert events.rejected


@in_loop
async def test_an_acceptors_own_proof_sent_back_to_it_is_not_a_dialers():
    events, acceptor, pipe = accepting()
    acceptor.data_received(frame(encode(hello())))
    welcome = handshake.decode(pipe.taken()[0])
    acceptor.data_received(frame(encode(handshake.Proof(welcome.proof))))
    assert pipe.aborted
    assert events.rejected


@pytest.mark.parametrize(
    "payload",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        frame(b"junk"),
        frame(encode(handshake.Proof(b"p"))),
        frame(encode(handshake.Welcome(b"n" * 16, b"p", (5, 6, 7)))),
        frame(b"x" * (handshake.HELLO_BYTES_MAX + 1)),
        (limits.FRAME_BYTES_MAX + 1).to_bytes(4, "little"),
        bytes(4),
    ],
)
@in_loop
async def test_whatever_is_not_a_hello_is_cut_off(payload):
    events, acceptor, pipe = accepting()
    acceptor.data_received(payload)
    assert pipe.aborted
    assert len(events.rejected) == 1
    assert not pipe.written


@pytest.mark.parametrize("size", [0, limits.FRAME_BYTES_MAX + 1, 0xFFFFFFFF])
@in_loop
async def test_an_oversized_frame_cuts_a_proven_peer_off(size):
    events, acceptor, pipe = accepting()
    acceptor.data_received(frame(introduce(acceptor, pipe)))
    acceptor.data_received(size.to_bytes(4, "little") + b"start")
    assert pipe.aborted
    assert f"a frame of {size} bytes" in events.rejected[0]


@in_loop
async def test_a_frame_that_the_node_cannot_read_cuts_the_peer_off():
    events, acceptor, pipe = accepting()
    acceptor.data_received(frame(introduce(acceptor, pipe)))
    events.complaint = "cannot be read"
    acceptor.data_received(frame(b"one") + frame(b"two"))
    assert pipe.aborted
    assert events.rejected == ["cannot be read"]


@in_loop
async def test_a_large_frame_may_follow_the_handshake():
    events, acceptor, pipe = accepting()
    acceptor.data_received(frame(introduce(acceptor, pipe)))
    acceptor.data_received(frame(b"x" * 100_000))
    assert [len(payload) for _, payload in events.frames] == [100_000]


@in_loop
async def test_a_large_frame_may_arrive_together_with_the_proof():
    events, acceptor, pipe = accepting()
    acceptor.data_received(frame(introduce(acceptor, pipe)) + frame(b"x" * 2_000))
    assert not events.rejected
    assert [len(payload) for _, payload in events.frames] == [2_000]


@in_loop
async def test_who_says_nothing_is_cut_off_in_time(monkeypatch):
    monkeypatch.setattr(transport, "_HANDSHAKE_S", 0.01)
    _, silent, silent_pipe = accepting()
    _, proven, proven_pipe = accepting()
    proven.data_received(frame(introduce(proven, proven_pipe)))
    await asyncio.sleep(0.05)
    assert silent_pipe.aborted
    assert not proven_pipe.aborted
    silent.connection_lost(None)


# The dialing end


async def dialed(events, peer=2):
    """(dialer, its connection, pipe), before the handshake."""
    dialer = Dialer(events, address(peer))
    connection, pipe = transport._Outgoing(dialer), Pipe()
    connection.connection_made(pipe)
    return dialer, connection, pipe


STANDING = (5, 6, 7)


def welcome_for(pipe, secret=SECRET, role="acceptor", refusal=""):
    first = handshake.decode(pipe.taken()[0])
    nonce = os.urandom(16)
    proof = handshake.proof_of(secret, role, first, nonce, STANDING, refusal)
    return first, nonce, encode(handshake.Welcome(nonce, proof, STANDING, refusal))


@in_loop
async def test_a_dialer_introduces_itself_and_proves_that_it_knows_the_secret():
    events = Events(1)
    dialer, connection, pipe = await dialed(events)
    first, nonce, welcome = welcome_for(pipe)
    assert (first.protocol, first.cluster_id, first.sender, first.receiver) == (
        handshake.PROTOCOL,
        "c",
        1,
        2,
    )
    assert len(first.nonce) == 16
    dialer.send(b"too early")
    assert not pipe.written
    connection.data_received(frame(welcome))
    proof = handshake.decode(pipe.taken()[0])
    assert proof.proof == handshake.proof_of(SECRET, "dialer", first, nonce, STANDING, "")
    assert events.links == [(2, True)]
    dialer.send(b"payload")
    assert pipe.taken() == [b"payload"]


@pytest.mark.parametrize(
    ("secret", "role"), [(b"wrong", "acceptor"), (SECRET, "dialer"), (b"", "acceptor")]
)
@in_loop
async def test_a_dialer_tells_an_impostor_nothing(secret, role):
    events = Events(1)
    dialer, connection, pipe = await dialed(events)
    _, _, welcome = welcome_for(pipe, secret, role)
    connection.data_received(frame(welcome))
    assert pipe.aborted
    assert not pipe.written
    assert events.rejected == ["the peer does not know the cluster's secret"]
    assert (events.links, dialer.current) == ([], None)


@in_loop
async def test_nonces_are_fresh():
    events = Events(1)
    nonces = set()
    for _ in range(5):
        _, _, pipe = await dialed(events)
        nonces.add(handshake.decode(pipe.taken()[0]).nonce)
    assert len(nonces) == 5


async def connected():
    events = Events(1)
    dialer, connection, pipe = await dialed(events)
    connection.data_received(frame(welcome_for(pipe)[2]))
    pipe.taken()
    return events, dialer, connection, pipe


@in_loop
async def test_frames_wait_in_order_for_a_slow_peer_and_urgent_ones_go_first():
    _, dialer, connection, pipe = await connected()
    connection.pause_writing()
    for number in range(3):
        dialer.send(b"frame%d" % number)
        dialer.send(b"urgent%d" % number, urgent=True)
    assert not pipe.written
    assert dialer.waiting_bytes == 18
    connection.resume_writing()
    assert pipe.taken() == [b"urgent0", b"urgent1", b"urgent2", b"frame0", b"frame1", b"frame2"]
    assert dialer.waiting_bytes == 0


@in_loop
async def test_pumping_stops_when_the_peer_is_slow_again():
    _, dialer, connection, pipe = await connected()
    connection.pause_writing()
    for number in range(3):
        dialer.send(b"frame%d" % number)
    write = pipe.write

    def once(data):
        write(data)
        connection.pause_writing()

    pipe.write = once
    connection.resume_writing()
    assert pipe.taken() == [b"frame0"]
    connection.resume_writing()
    connection.resume_writing()
    assert pipe.taken() == [b"frame1", b"frame2"]


@in_loop
async def test_a_peer_that_is_too_slow_is_cut_off(monkeypatch):
    monkeypatch.setattr(limits, "PEER_QUEUE_BYTES_MAX", 1_000)
    events, dialer, connection, pipe = await connected()
    connection.pause_writing()
    dialer.send(b"x" * 1_000)
    assert not pipe.aborted
    dialer.send(b"x")
    assert pipe.aborted
    assert events.rejected == ["too slow: its queue is full"]


@in_loop
async def test_urgent_frames_for_a_slow_peer_are_bounded_and_may_be_lost():
    _, dialer, connection, pipe = await connected()
    connection.pause_writing()
    for number in range(2_000):
        dialer.send(b"%d" % number, urgent=True)
    assert not pipe.aborted
    connection.resume_writing()
    assert len(pipe.taken()) == 1_024


# Both ends, over a socket


async def until(condition, seconds=3.0):
    deadline = asyncio.get_running_loop().time() + seconds
    while not condition():
        assert asyncio.get_running_loop().time() < deadline, "it does not happen"
        await asyncio.sleep(0.005)


@in_loop
async def test_two_nodes_find_each_other_and_again_after_a_loss(monkeypatch):
    monkeypatch.setattr(transport, "_BACKOFF_FIRST_S", 0.01)
    port = free_port()
    sender, receiver = Events(2), Events(1)
    dialer = Dialer(sender, address(1, port))
    dialer.start()
    await asyncio.sleep(0.03)  # nobody listens yet: it dials again
    acceptors = []

    def accept():
        acceptors.append(Acceptor(receiver))
        return acceptors[-1]

    server = await asyncio.get_running_loop().create_server(accept, "127.0.0.1", port)
    await until(lambda: sender.links == [(1, True)])
    for number in range(50):
        dialer.send(b"%d" % number + b"x" * 10_000, urgent=number % 2 == 0)
    await until(lambda: len(receiver.frames) == 50)
    assert [payload for _, payload in receiver.frames] == [
        b"%d" % number + b"x" * 10_000 for number in range(50)
    ]
    acceptors[-1].transport.abort()
    await until(lambda: len(sender.links) == 3)
    assert sender.links == [(1, True), (1, False), (1, True)]
    dialer.send(b"again")
    await until(lambda: receiver.frames[-1] == (2, b"again"))
    await dialer.stop()
    server.close()
    assert not receiver.rejected


@in_loop
async def test_a_node_with_the_wrong_secret_never_connects(monkeypatch):
    monkeypatch.setattr(transport, "_BACKOFF_FIRST_S", 0.01)
    port = free_port()
    sender, receiver = Events(2, secret=b"wrong"), Events(1)
    server = await asyncio.get_running_loop().create_server(
        lambda: Acceptor(receiver), "127.0.0.1", port
    )
    dialer = Dialer(sender, address(1, port))
    dialer.start()
    await until(lambda: len(sender.rejected) >= 2)
    assert not sender.links
    assert not receiver.frames
    await dialer.stop()
    server.close()


# Who lost what it had


@in_loop
async def test_an_acceptor_refuses_who_lost_data_and_says_so_with_a_proof():
    events, acceptor, pipe = accepting()
    events.refusals[2] = "it was emptied"
    first = hello()
    acceptor.data_received(frame(encode(first)))
    welcome = handshake.decode(pipe.taken()[0])
    said = (first, welcome.nonce, (77, 1, 500), "it was emptied")
    assert welcome.refusal == "it was emptied"
    assert welcome.proof == handshake.proof_of(SECRET, "acceptor", *said)
    assert pipe.closed
    assert events.rejected == ["it was emptied"]
    assert not events.met


@in_loop
async def test_a_standing_is_believed_only_with_a_proof():
    events, acceptor, pipe = accepting()
    wrong = introduce(acceptor, pipe, secret=b"another")
    acceptor.data_received(frame(wrong))
    assert not events.met
    events, acceptor, pipe = accepting()
    acceptor.data_received(frame(introduce(acceptor, pipe)))
    assert events.met == [(2, (8, 9, 10))]


@in_loop
async def test_a_dialer_that_is_refused_learns_it_from_nobody_without_the_secret():
    for secret, heard in ((SECRET, [(2, "it was emptied")]), (b"another", [])):
        events = Events(1)
        _, connection, pipe = await dialed(events)
        _, _, welcome = welcome_for(pipe, secret=secret, refusal="it was emptied")
        connection.data_received(frame(welcome))
        assert events.refused_by == heard
        assert not events.links
        assert not events.met


@in_loop
async def test_a_dialer_does_not_connect_to_who_lost_data():
    events = Events(1)
    events.refusals[2] = "it was put back"
    _, connection, pipe = await dialed(events)
    _, _, welcome = welcome_for(pipe)
    connection.data_received(frame(welcome))
    assert events.rejected == ["it was put back"]
    assert not events.links
    assert not pipe.taken()
