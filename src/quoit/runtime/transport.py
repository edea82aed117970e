"""Connections between nodes: each node dials every other and sends on the connection it dialed, so
there is one ordered stream per direction. Nothing is read before the handshake proved the peer.

Back-pressure: what the kernel does not take waits here, ordinary frames bounded by
PEER_QUEUE_BYTES_MAX (more: the connection is cut, its outcomes become unknown); urgent frames
(elections, heartbeats) are sent first.
"""

import asyncio
import hmac
import os
import socket
from collections import deque
from typing import Protocol, cast

import msgspec

from quoit.base import limits
from quoit.base.errors import PeerFault
from quoit.runtime.options import NodeOptions, PeerAddress
from quoit.wire import handshake
from quoit.wire.frames import FrameReader, frame

__all__ = ["Acceptor", "Dialer", "PeerEvents"]

_BACKOFF_FIRST_S = 0.05
_BACKOFF_MAX_S = 1.0
_HANDSHAKE_S = 3.0
_encode = msgspec.msgpack.Encoder().encode


class PeerEvents(Protocol):
    """What the transport tells the driver."""

    options: NodeOptions

    @property
    def standing(self) -> tuple[int, int, int]:
        """What this node says of its log when it meets another."""
        ...

    def peer_refusal(self, peer: int, standing: tuple[int, int, int]) -> str:
        """Why there must be no connection with somebody who says to be `peer` in this standing; or ""."""
        ...

    def peer_met(self, peer: int, standing: tuple[int, int, int]) -> None:
        """`peer` proved who it is, and was not refused."""
        ...

    def peer_refuses(self, peer: int, reason: str) -> None:
        """`peer`, which proved who it is, refuses this node for good."""
        ...

    def peer_frame(self, peer: int, payload: bytes) -> None:
        """A frame arrived."""
        ...

    def peer_turn(self) -> None:
        """All frames of one read were handed over."""
        ...

    def peer_connected(self, peer: int, connected: bool) -> None:
        """The connection on which this node sends to `peer` was made or lost."""
        ...

    def peer_rejected(self, address: str, reason: str) -> None:
        """Somebody failed the handshake or broke the protocol."""
        ...


def _tune(transport: asyncio.BaseTransport) -> None:
    sock = transport.get_extra_info("socket")
    if sock is not None:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        # Unacknowledged data for this long means the path is gone: give up instead of minutes.
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 5_000)


def _source(host: str) -> tuple[str, int] | None:
    """Where to dial from: nodes that share a machine, each on a loopback address of its own
    (127.0.1.1...), must be told apart by firewalls. Elsewhere the kernel knows best."""
    own = host.startswith("127.") and host != "127.0.0.1"
    return (host, 0) if own else None


class Acceptor(asyncio.Protocol):
    """The receiving end: one per connection that a peer dialed."""

    def __init__(self, events: PeerEvents, accepted: "set[Acceptor] | None" = None) -> None:
        """It is in `accepted` as long as its connection lives."""
        self.events = events
        self.accepted: set[Acceptor] = set() if accepted is None else accepted
        self.peer = 0
        self.hello: handshake.Hello | None = None
        self.nonce = b""
        self.reader = FrameReader(handshake.HELLO_BYTES_MAX)
        self.transport: asyncio.Transport | None = None
        self.timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.accepted.add(self)
        _tune(transport)
        self.timer = asyncio.get_running_loop().call_later(_HANDSHAKE_S, self._too_slow)

    def _too_slow(self) -> None:
        if not self.peer:
            self.cut()

    def cut(self) -> None:
        """End the connection at once."""
        if self.transport is not None:
            self.transport.abort()

    def data_received(self, data: bytes) -> None:
        try:
            while not self.peer:
                # One by one: what follows the proof may be larger than a handshake's messages.
                first = self.reader.feed(data, 1)
                data = b""
                if not first:
                    return
                self._shake(first[0])
            for payload in self.reader.feed(data):
                self.events.peer_frame(self.peer, payload)
            self.events.peer_turn()
        except PeerFault as error:
            if self.transport is not None:
                address = str(self.transport.get_extra_info("peername"))
                self.events.peer_rejected(address, str(error))
                self.transport.abort()

    def _shake(self, payload: bytes) -> None:
        message = handshake.decode(payload)
        options = self.events.options
        transport = self.transport
        if transport is None:
            return
        if self.hello is None:
            if not isinstance(message, handshake.Hello):
                raise PeerFault("the first message must be a hello")
            if message.protocol != handshake.PROTOCOL:
                raise PeerFault(
                    f"protocol {message.protocol}, this node speaks {handshake.PROTOCOL}"
                )
            if message.cluster_id != options.cluster_id:
                raise PeerFault("a node of another cluster")
            if message.agreement != options.agreement:
                raise PeerFault(
                    f"node {message.sender} runs {message.agreement}, this one {options.agreement}: "
                    "give all nodes of a cluster the same --consensus and --quorum"
                )
            if message.first_map != options.first_map:
                raise PeerFault(
                    f"node {message.sender} was created with other founders, zones, shards or copies: "
                    "give all nodes the same --peers, --shards and --replication-factor"
                )
            # Any number that proves to know the secret may be a node: it may have joined just now.
            if message.sender == options.node_id or message.receiver != options.node_id:
                raise PeerFault(f"node {message.sender} looked for node {message.receiver}")
            if len(message.nonce) != 16:
                raise PeerFault("a nonce has 16 bytes")
            self.hello = message
            self.nonce = os.urandom(16)
            own = self.events.standing
            refusal = self.events.peer_refusal(message.sender, message.standing)
            proof = handshake.proof_of(
                options.secret, "acceptor", message, self.nonce, own, refusal
            )
            transport.write(frame(_encode(handshake.Welcome(self.nonce, proof, own, refusal))))
            if refusal:
                # Only who knows the secret may stop a node, so it is told before it proved itself.
                self.events.peer_rejected(f"node {message.sender}", refusal)
                transport.close()
            return
        expected = handshake.proof_of(
            options.secret, "dialer", self.hello, self.nonce, self.events.standing, ""
        )
        if not isinstance(message, handshake.Proof) or not hmac.compare_digest(
            message.proof, expected
        ):
            raise PeerFault("the peer does not know the cluster's secret")
        self.peer = self.hello.sender
        self.events.peer_met(self.peer, self.hello.standing)
        self.reader.bytes_max = limits.FRAME_BYTES_MAX
        if self.timer is not None:
            self.timer.cancel()

    def connection_lost(self, exc: Exception | None) -> None:
        if self.timer is not None:
            self.timer.cancel()
        self.transport = None
        self.accepted.discard(self)


class _Outgoing(asyncio.Protocol):
    """The sending end of one connection, from dialing to its loss."""

    def __init__(self, dialer: "Dialer") -> None:
        self.dialer = dialer
        self.reader = FrameReader(handshake.HELLO_BYTES_MAX)
        self.lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.transport: asyncio.Transport | None = None
        options = dialer.events.options
        self.hello = handshake.Hello(
            handshake.PROTOCOL, options.cluster_id, options.node_id, dialer.address.id,
            os.urandom(16), options.agreement, options.first_map, dialer.events.standing,
        )  # fmt: skip

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.transport.set_write_buffer_limits(high=1 << 20)
        _tune(transport)
        self.transport.write(frame(_encode(self.hello)))

    def data_received(self, data: bytes) -> None:
        secret = self.dialer.events.options.secret
        transport = self.transport
        if transport is None:
            return
        try:
            for payload in self.reader.feed(data):
                message = handshake.decode(payload)
                if not isinstance(message, handshake.Welcome):
                    raise PeerFault("the peer answers a hello with something else")
                said = (self.hello, message.nonce, message.standing, message.refusal)
                if not hmac.compare_digest(
                    message.proof, handshake.proof_of(secret, "acceptor", *said)
                ):
                    raise PeerFault("the peer does not know the cluster's secret")
                if self._is_refused(message):
                    transport.close()
                    return
                proof = handshake.proof_of(secret, "dialer", *said)
                transport.write(frame(_encode(handshake.Proof(proof))))
                self.dialer.ready(self)
        except PeerFault as error:
            self.dialer.events.peer_rejected(self.dialer.address.name, str(error))
            transport.abort()

    def _is_refused(self, welcome: handshake.Welcome) -> bool:
        """One of the two refuses the other."""
        events, peer = self.dialer.events, self.dialer.address.id
        if welcome.refusal:
            events.peer_refuses(peer, welcome.refusal)
            return True
        refusal = events.peer_refusal(peer, welcome.standing)
        if refusal:
            events.peer_rejected(self.dialer.address.name, refusal)
            return True
        events.peer_met(peer, welcome.standing)
        return False

    def pause_writing(self) -> None:
        self.dialer.paused = True

    def resume_writing(self) -> None:
        self.dialer.paused = False
        self.dialer.pump()

    def connection_lost(self, exc: Exception | None) -> None:
        self.transport = None
        if not self.lost.done():
            self.lost.set_result(None)


class Dialer:
    """Keeps a connection to one peer, and sends on it."""

    def __init__(self, events: PeerEvents, address: PeerAddress) -> None:
        self.events = events
        self.address = address
        self.paused = False
        self.current: _Outgoing | None = None
        self.waiting: deque[bytes] = deque()
        self.urgent: deque[bytes] = deque()
        self.waiting_bytes = 0
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin dialing."""
        self._task = asyncio.get_running_loop().create_task(self._keep())

    async def stop(self) -> None:
        """Close the connection and stop dialing."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        if self.current is not None and self.current.transport is not None:
            self.current.transport.close()

    async def _keep(self) -> None:
        loop = asyncio.get_running_loop()
        backoff = _BACKOFF_FIRST_S
        while True:
            try:
                # Not wait_for: that loses a cancellation which comes together with the connection
                # (CPython issue 86296), and stop() would wait for ever.
                async with asyncio.timeout(_HANDSHAKE_S):
                    _, protocol = await loop.create_connection(
                        lambda: _Outgoing(self),
                        self.address.host,
                        self.address.peer_port,
                        local_addr=_source(self.events.options.host),
                    )
            except (OSError, TimeoutError):
                await asyncio.sleep(backoff)
                backoff = min(backoff * 2, _BACKOFF_MAX_S)
                continue
            loop.call_later(_HANDSHAKE_S, self._check_ready, protocol)
            await protocol.lost
            if self.current is protocol:
                backoff = _BACKOFF_FIRST_S
                self._reset()
                self.events.peer_connected(self.address.id, False)
            await asyncio.sleep(backoff)
            backoff = min(backoff * 2, _BACKOFF_MAX_S)

    def _check_ready(self, protocol: _Outgoing) -> None:
        if self.current is not protocol and protocol.transport is not None:
            protocol.transport.abort()

    def _reset(self) -> None:
        self.current = None
        self.paused = False
        self.waiting.clear()
        self.urgent.clear()
        self.waiting_bytes = 0

    def ready(self, protocol: _Outgoing) -> None:
        """The handshake is done."""
        self._reset()
        self.current = protocol
        self.events.peer_connected(self.address.id, True)

    def send(self, payload: bytes, *, urgent: bool = False) -> None:
        """Send a frame, or queue it while the peer is slow."""
        current = self.current
        if current is None or current.transport is None:
            return
        if not self.paused:
            current.transport.write(frame(payload))
            return
        if urgent:
            if len(self.urgent) < 1024:
                self.urgent.append(payload)
            return
        self.waiting.append(payload)
        self.waiting_bytes += len(payload)
        if self.waiting_bytes > limits.PEER_QUEUE_BYTES_MAX:
            self.events.peer_rejected(self.address.name, "too slow: its queue is full")
            current.transport.abort()

    def pump(self) -> None:
        """Send what waited."""
        while not self.paused and self.current is not None and self.current.transport is not None:
            if self.urgent:
                self.current.transport.write(frame(self.urgent.popleft()))
            elif self.waiting:
                payload = self.waiting.popleft()
                self.waiting_bytes -= len(payload)
                self.current.transport.write(frame(payload))
            else:
                return
