"""A TCP proxy between two nodes that knows where frames begin, and so can delay, hold, repeat and swap
them, or break a connection in the middle of one.

Frames carry no sequence number and no signature after the handshake: TCP's order is part of the
protocol. For forwarded commands that order is a promise (a frame sent twice would be a command sent
twice), so they are only delayed or lost with their connection. The messages of the agreement
protocols promise to survive anything: those alone are repeated, and overtake. The simulator's
network (src/quoit/sim/network.py) draws the same line.
"""

import asyncio
import contextlib
import random
from dataclasses import dataclass

from quoit.base.errors import PeerFault
from quoit.node.messages import (
    Frame,
    Other,
    SnapshotAck,
    SnapshotChunk,
    decode_frame,
    encode_frame,
)
from quoit.wire.frames import FrameReader, frame

__all__ = ["Faults", "Proxy"]

HANDSHAKE_FRAMES = 2
"""Hello and Proof come first on the dialed connection; they are passed on as they are."""


@dataclass
class Faults:
    """What every proxy does now. Times in seconds, chances per frame. `hits` counts what was done."""

    delay_s: float = 0.0
    """Mean of an exponential distribution, added to each frame; order is kept."""
    hold: bool = False
    """Nothing passes until this ends."""
    repeat: float = 0.0
    swap: float = 0.0
    reset: float = 0.0
    late_s: float = 0.3
    """Mean lateness of what is repeated or swapped."""
    hits: int = 0

    def heal(self) -> None:
        """Pass everything on at once."""
        self.delay_s = self.repeat = self.swap = self.reset = 0.0
        self.hold = False


class Proxy:
    """One direction: node `source` dials here and is connected to `target`, from its own address."""

    def __init__(self, source: str, target: tuple[str, int], faults: Faults, seed: int) -> None:
        self.source = source
        self.target = target
        self.faults = faults
        self.rng = random.Random(seed)
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> tuple[str, int]:
        """Listen; the address to dial."""
        self._server = await asyncio.start_server(self._accept, self.target[0], 0)
        host, port = self._server.sockets[0].getsockname()[:2]
        return str(host), int(port)

    async def stop(self) -> None:
        """Close everything."""
        if self._server is not None:
            self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(self._carry(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            far_reader, far_writer = await asyncio.open_connection(
                *self.target, local_addr=(self.source, 0)
            )
        except OSError:
            writer.transport.abort()
            return
        queue: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()
        parts = [
            asyncio.create_task(self._read(reader, queue, far_writer)),
            asyncio.create_task(self._write(queue, far_writer)),
            asyncio.create_task(_copy(far_reader, writer)),
        ]
        try:
            # The first part that ends (a side that closed) ends the connection.
            await asyncio.wait(parts, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for part in parts:
                part.cancel()
            await asyncio.gather(*parts, return_exceptions=True)
            writer.transport.abort()
            far_writer.transport.abort()

    async def _read(
        self,
        reader: asyncio.StreamReader,
        queue: "asyncio.Queue[tuple[float, bytes]]",
        far: asyncio.StreamWriter,
    ) -> None:
        loop = asyncio.get_running_loop()
        frames = FrameReader()
        seen = 0
        while data := await reader.read(262_144):
            for payload in frames.feed(data):
                seen += 1
                faults = self.faults
                due = loop.time()
                if seen > HANDSHAKE_FRAMES:
                    if faults.delay_s:
                        due += self.rng.expovariate(1 / faults.delay_s)
                        faults.hits += 1
                    payload = self._meddle(payload, far)
                if payload:
                    queue.put_nowait((due, payload))

    def _meddle(self, payload: bytes, far: asyncio.StreamWriter) -> bytes:
        """Repeat or set free the agreement's part; what is left to send in order."""
        faults = self.faults
        repeat = self.rng.random() < faults.repeat
        if not repeat and self.rng.random() >= faults.swap:
            return payload
        agreement, rest = _split(payload)
        if not agreement:
            return payload
        faults.hits += 1
        late = self.rng.expovariate(1 / faults.late_s)
        asyncio.get_running_loop().call_later(late, _send, far, agreement)
        return payload if repeat else rest

    async def _write(
        self, queue: "asyncio.Queue[tuple[float, bytes]]", far: asyncio.StreamWriter
    ) -> None:
        loop = asyncio.get_running_loop()
        faults = self.faults
        while True:
            due, payload = await queue.get()
            if due > loop.time():
                await asyncio.sleep(due - loop.time())
            if faults.hold:
                faults.hits += 1
                while faults.hold:
                    await asyncio.sleep(0.01)
            if faults.reset and self.rng.random() < faults.reset:
                faults.hits += 1
                far.write(frame(payload)[: 4 + len(payload) // 2])
                await far.drain()
                return
            far.write(frame(payload))
            await far.drain()


def _split(payload: bytes) -> tuple[bytes, bytes]:
    """The parts that may arrive at any time and any number of times, and the others; b"": none."""
    try:
        whole = decode_frame(payload)
    except PeerFault:
        return b"", payload
    free: list[Other] = [one for one in whole.other if isinstance(one, SnapshotChunk | SnapshotAck)]
    bound: list[Other] = [
        one for one in whole.other if not isinstance(one, SnapshotChunk | SnapshotAck)
    ]
    if not whole.core and not free:
        return b"", payload
    agreement = encode_frame(Frame(whole.core, [], [], [], [], free))
    rest = Frame([], whole.forwards, whole.replies, whole.refused, whole.leading, bound)
    return agreement, encode_frame(rest)


def _send(far: asyncio.StreamWriter, payload: bytes) -> None:
    if not far.transport.is_closing():
        far.write(frame(payload))


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(65_536):
            writer.write(data)
