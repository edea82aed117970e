"""The load generator's RESP clients: quoit and Redis.

`RespClient` is one connection. `MappedClient` is one closed-loop client that knows the cluster's
map (`CLUSTER SLOTS`): it has a connection to each node and sends each key to its leader's node.
Replies are counted by their bytes where they can only be one thing (`+OK`, a value of our length);
anything else goes through hiredis.
"""

import asyncio
import socket
from binascii import crc_hqx
from typing import Any

import hiredis

from seats import KEY_BYTES, VALUE_BYTES, Seat, SeatProtocol, key_name, stamp

__all__ = ["MappedClient", "RespClient", "SlotMap", "ask", "encode", "fetch", "slot_of"]

OK = b"+OK\r\n"
VALUE_HEAD = b"$%d\r\n" % VALUE_BYTES
VALUE_REPLY_BYTES = len(VALUE_HEAD) + VALUE_BYTES + 2
SET_HEAD = b"*3\r\n$3\r\nSET\r\n$%d\r\n" % KEY_BYTES
GET_HEAD = b"*2\r\n$3\r\nGET\r\n$%d\r\n" % KEY_BYTES
WAIT_ONE = b"*3\r\n$4\r\nWAIT\r\n$1\r\n1\r\n$4\r\n1000\r\n"


def slot_of(key: bytes) -> int:
    """The slot of a key without a hash tag."""
    return crc_hqx(key, 0) & 16383


def encode(*words: bytes | str | int) -> bytes:
    """A command as RESP."""
    raw = [word if isinstance(word, bytes) else str(word).encode() for word in words]
    return b"*%d\r\n" % len(raw) + b"".join(b"$%d\r\n%b\r\n" % (len(w), w) for w in raw)


def ask(address: tuple[str, int], *commands: bytes, timeout: float = 5.0) -> list[Any]:
    """Send encoded commands over a blocking connection of its own; all replies. For set-up and
    checks, not for load. Raises OSError; error replies come back as values."""
    reader = hiredis.Reader()
    replies: list[Any] = []
    with socket.create_connection(address, timeout=timeout) as connection:
        connection.sendall(b"".join(commands))
        while len(replies) < len(commands):
            data = connection.recv(1 << 20)
            if not data:
                raise ConnectionError(f"{address} closed the connection")
            reader.feed(data)
            while (reply := reader.gets()) is not False:
                replies.append(reply)
    return replies


def fetch(address: tuple[str, int], db: int, keys: list[bytes]) -> list[bytes | None]:
    """The values of `keys`, for the check after a run."""
    select = [encode("SELECT", db)] if db else []
    replies = ask(address, *select, *(encode("GET", key) for key in keys), timeout=30.0)
    return replies[len(select) :]


class Commands:
    """Ready-made bytes for every key of a run, shared by all seats."""

    def __init__(self, keys: int, writes: bool) -> None:
        names = [key_name(number) for number in range(keys)]
        if writes:
            head = SET_HEAD
            self.parts = [head + name + b"\r\n" + VALUE_HEAD + name for name in names]
        else:
            self.parts = [GET_HEAD + name + b"\r\n" for name in names]
        self.slots = [slot_of(name) for name in names]


class RespClient(SeatProtocol):
    """A seat on one connection. `wait_one` adds `WAIT 1` after each batch of SETs: it covers every
    write of the connection before it, so this is what a client that pipelines would do."""

    def __init__(self, seat: Seat, commands: Commands, db: int = 0, wait_one: bool = False) -> None:
        super().__init__(seat)
        self.parts = commands.parts
        self.wait_one = wait_one and seat.writes
        self.greeting = encode("SELECT", db) if db else b""
        self.reader = hiredis.Reader()
        self.expected = 0
        self.greeted = not db
        self.partial = False

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        if self.greeting:
            transport.write(self.greeting)
        else:
            self.send()

    def send(self) -> None:
        seat = self.seat
        picked = seat.next_batch()
        if not picked:
            return
        parts = self.parts
        chosen = [parts[number] for number in picked]
        self.expected = len(picked)
        if not seat.writes:
            self.transport.write(b"".join(chosen))
            return
        rest = stamp(seat.index, seat.batch) + b"\r\n"
        data = rest.join(chosen) + rest
        if self.wait_one:
            self.expected += 1
            data += WAIT_ONE
        self.transport.write(data)

    def data_received(self, data: bytes) -> None:
        if self.partial or not self.greeted or not self.count_plain(data):
            self.read_replies(data)
        if self.expected:
            return
        if not self.greeted:
            self.greeted = True
            self.send()
        else:
            self.finish()

    def count_plain(self, data: bytes) -> bool:
        """Count replies that are all as they should be and whole; False: parse them instead."""
        seat = self.seat
        if seat.writes:
            count = len(data) // 5
            if self.wait_one or data != OK * count:
                return False
        else:
            count, rest = divmod(len(data), VALUE_REPLY_BYTES)
            if rest or data.count(VALUE_HEAD) != count:
                return False
            first = seat.waiting[len(seat.waiting) - self.expected]
            if data[6:22] != key_name(first):
                seat.recorder.wrong += 1
        self.expected -= count
        return True

    def read_replies(self, data: bytes) -> None:
        reader = self.reader
        reader.feed(data)
        while (reply := reader.gets()) is not False:
            if not self.greeted:
                if reply != b"OK":
                    self.error = repr(reply)
                continue
            self.expected -= 1
            if isinstance(reply, hiredis.ReplyError):
                self.error = str(reply)
            elif reply is None:
                self.error = "no such key"
            elif self.wait_one and reply == 0:
                self.error = "WAIT 1 timed out"
        self.partial = reader.has_data()


class SlotMap:
    """Which node leads each slot, from `CLUSTER SLOTS`; asked anew a few times a second."""

    def __init__(self, nodes: list[tuple[str, int]]) -> None:
        self.nodes = nodes
        self.owner = [0] * 16384
        self.covered = False

    def load(self, rows: Any) -> None:
        """Take over a reply of CLUSTER SLOTS."""
        numbers = {port: number for number, (_, port) in enumerate(self.nodes)}
        covered = 0
        for low, high, leader, *_ in rows:
            number = numbers.get(int(leader[1]))
            if number is None:
                raise ValueError(f"CLUSTER SLOTS names a node that is not ours: {leader}")
            self.owner[low : high + 1] = [number] * (high + 1 - low)
            covered += high + 1 - low
        self.covered = covered == 16384

    def refresh(self) -> None:
        """Ask the first node that answers (blocking; before the run)."""
        for node in self.nodes:
            try:
                reply = ask(node, encode("CLUSTER", "SLOTS"))[0]
            except OSError:
                continue
            if isinstance(reply, list):
                self.load(reply)
                return
        raise ConnectionError("no node answered CLUSTER SLOTS")

    async def follow(self) -> None:
        """Keep the map fresh while the load runs, as a cluster client would."""
        while True:
            await asyncio.sleep(0.25)
            for host, port in self.nodes:
                try:
                    rows = await asyncio.wait_for(ask_async(host, port, "CLUSTER", "SLOTS"), 1.0)
                    self.load(rows)
                    break
                except (OSError, TimeoutError, ValueError, TypeError):
                    continue


async def ask_async(host: str, port: int, *words: str) -> Any:
    reader, writer = await asyncio.open_connection(host, port)
    try:
        writer.write(encode(*words))
        parser = hiredis.Reader()
        while True:
            data = await reader.read(1 << 16)
            if not data:
                raise ConnectionError("closed")
            parser.feed(data)
            if (reply := parser.gets()) is not False:
                return reply
    finally:
        writer.close()


class Lane(RespClient):
    """One connection of a MappedClient; sends when it is told to."""

    def __init__(self, owner: "MappedClient", seat: Seat, commands: Commands) -> None:
        super().__init__(seat, commands)
        self.owner = owner
        self.queue: list[int] = []

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        self.owner.lane_lost(f"connection lost: {exc}")

    def data_received(self, data: bytes) -> None:
        if self.partial or not self.count_plain(data):
            self.read_replies(data)
        if not self.expected:
            self.owner.lane_done()

    def count_plain(self, data: bytes) -> bool:
        """As the base class does, but the waiting keys are the lane's own."""
        if self.seat.writes:
            count = len(data) // 5
            if data != OK * count:
                return False
        else:
            count, rest = divmod(len(data), VALUE_REPLY_BYTES)
            if rest or data.count(VALUE_HEAD) != count:
                return False
            if data[6:22] != key_name(self.queue[len(self.queue) - self.expected]):
                self.seat.recorder.wrong += 1
        self.expected -= count
        return True


class MappedClient:
    """A seat whose commands go straight to their leaders' nodes. Has what load.py uses of a
    SeatProtocol: open, drop, gone."""

    def __init__(self, seat: Seat, commands: Commands, slots: SlotMap) -> None:
        self.seat = seat
        self.commands = commands
        self.slots = slots
        self.lanes: list[Lane] = []
        self.busy = 0
        self.detached = False
        self.gone = asyncio.Event()

    async def open(self, address: tuple[str, int]) -> None:
        """Connect to every node and begin. A dead node's keys go to one that lives, which forwards
        them; `address` is used only to say that none does. Raises OSError."""
        loop = asyncio.get_running_loop()
        lanes: list[Lane | None] = []
        for host, port in self.slots.nodes:
            lane = Lane(self, self.seat, self.commands)
            try:
                await loop.create_connection(lambda lane=lane: lane, host, port)  # type: ignore[misc]
            except OSError:
                lanes.append(None)
            else:
                lanes.append(lane)
        alive = [lane for lane in lanes if lane is not None]
        if not alive:
            raise ConnectionError(f"neither {address} nor any other node accepts a connection")
        self.lanes = [lane or alive[0] for lane in lanes]
        self.send()

    def drop(self) -> None:
        self.lane_lost("")

    def lane_lost(self, error: str) -> None:
        """One lane is gone: give all of them up, the seat opens anew."""
        if self.detached:
            return
        self.detached = True
        self.seat.lost("" if self.seat.closed else error)
        for lane in self.lanes:
            if lane.transport is not None:
                lane.transport.abort()
        self.gone.set()

    def send(self) -> None:
        if self.detached:
            return
        seat = self.seat
        picked = seat.next_batch()
        if not picked:
            return
        owner, slots, lanes = self.slots.owner, self.commands.slots, self.lanes
        touched: list[Lane] = []
        for number in picked:
            lane = lanes[owner[slots[number]]]
            if not lane.expected:
                touched.append(lane)
                lane.queue = []
            lane.expected += 1
            lane.queue.append(number)
        self.busy = len(touched)
        parts = self.commands.parts
        rest = stamp(seat.index, seat.batch) + b"\r\n" if seat.writes else b""
        for lane in touched:
            lane.transport.write(rest.join([parts[number] for number in lane.queue]) + rest)

    def lane_done(self) -> None:
        self.busy -= 1
        if self.busy:
            return
        errors = [lane.error for lane in self.lanes if lane.error]
        if errors:
            for lane in self.lanes:
                lane.error = ""
            self.seat.lost(errors[0])
            asyncio.get_running_loop().call_later(SeatProtocol.RETRY_SECONDS, self.send)
        elif self.seat.waiting:
            self.seat.done()
            self.send()
