"""The part of the load generator that knows no protocol: keys, values, seats and what is recorded.

A *seat* is one closed-loop client: it sends a batch of `depth` commands, waits for all the replies
and sends the next. The key space is dealt out to the seats (key k belongs to seat k % seats), so
that each key has one writer and the value that must be there at the end is known exactly. Keys are
picked at random from the seat's own part, hence at random from the whole key space over all seats.

A value is 128 bytes: its key (16), the seat (8 hex digits), the seat's batch number (16 hex
digits), and filler. So a reply shows whether it belongs to the key that was asked for, and a
read-back shows which of the writes survived.
"""

import asyncio
import random
from array import array
from time import perf_counter_ns
from typing import Any

__all__ = [
    "KEY_BYTES",
    "VALUE_BYTES",
    "Recorder",
    "Seat",
    "SeatProtocol",
    "key_name",
    "read_value",
    "stamp",
]

KEY_BYTES = 16
VALUE_BYTES = 128
FILLER = b"".join(b"%02x" % (n * 37 % 256) for n in range(64))[: VALUE_BYTES - KEY_BYTES - 24]


def key_name(number: int) -> bytes:
    """The 16 bytes of a key."""
    return b"k%015d" % number


def stamp(seat: int, batch: int) -> bytes:
    """What follows the key in a value; together 128 bytes."""
    return b"%08x%016x" % (seat, batch) + FILLER


def read_value(value: bytes) -> tuple[bytes, int, int]:
    """(key, seat, batch) of a value. Raises ValueError when it is not one of ours."""
    if len(value) != VALUE_BYTES or value[40:] != FILLER:
        raise ValueError(f"not a value of this load generator: {value[:60]!r}")
    return value[:16], int(value[16:24], 16), int(value[24:40], 16)


class Recorder:
    """What all seats of a run did. Only batches sent after `start_ns` and answered before `stop_ns`
    count as measured; the ones before are the warm-up."""

    def __init__(self) -> None:
        self.start_ns = 0
        self.stop_ns = 0
        self.operations = 0
        self.latencies_ns = array("q")
        self.errors = 0
        self.first_error = ""
        self.given_up = 0
        self.last_answer_ns = 0
        self.gap_ns = 0
        self.gap_at_ns = 0
        self.wrong = 0

    def begin(self, seconds: float, warm_up: float) -> None:
        now = perf_counter_ns()
        self.start_ns = now + int(warm_up * 1e9)
        self.stop_ns = self.start_ns + int(seconds * 1e9)

    def answered(self, sent_ns: int, now: int, count: int) -> None:
        """A batch of `count` commands was answered without an error."""
        if now < self.start_ns or now > self.stop_ns:
            return
        self.operations += count
        self.latencies_ns.append(now - sent_ns)
        last = self.last_answer_ns
        if last and now - last > self.gap_ns:
            self.gap_ns = now - last
            self.gap_at_ns = last
        self.last_answer_ns = now

    def failed(self, text: str) -> None:
        self.errors += 1
        if not self.first_error:
            self.first_error = text[:200]

    def report(self, seconds: float) -> dict[str, Any]:
        """Operations per second and latency percentiles in milliseconds (of a whole batch)."""
        ordered = sorted(self.latencies_ns)

        def percentile(share: float) -> float:
            if not ordered:
                return 0.0
            return round(ordered[min(len(ordered) - 1, int(share * len(ordered)))] / 1e6, 3)

        return {
            "operations": self.operations,
            "rate": round(self.operations / seconds, 1),
            "p50_ms": percentile(0.50),
            "p90_ms": percentile(0.90),
            "p99_ms": percentile(0.99),
            "p999_ms": percentile(0.999),
            "max_ms": percentile(1.0),
            "errors": self.errors,
            "first_error": self.first_error,
            "given_up": self.given_up,
            "wrong_replies": self.wrong,
            "gap_ms": round(self.gap_ns / 1e6, 1),
            "gap_after_s": round((self.gap_at_ns - self.start_ns) / 1e9, 2),
        }


class Seat:
    """One closed-loop client's lasting state; its connection may change.

    acked    key number -> batch number of the last acknowledged write
    open     key number -> batch number of the last write whose outcome is unknown
    Invariant: the batch numbers of a seat only grow, also over reconnects.
    """

    __slots__ = ("acked", "batch", "closed", "depth", "index", "keys", "open", "picks", "position",
                 "recorder", "sent_ns", "sequential", "waiting", "writes")  # fmt: skip

    def __init__(
        self, index: int, seats: int, keys: int, depth: int, writes: bool, recorder: Recorder
    ) -> None:
        self.index = index
        self.depth = depth
        self.writes = writes
        self.recorder = recorder
        self.keys = range(index, keys, seats)
        rng = random.Random(index * 7919 + seats)
        self.picks = rng.choices(self.keys, k=max(8192, 262144 // seats))
        self.position = 0
        self.sequential = False
        self.batch = perf_counter_ns() // 1000  # larger than any earlier run's on this machine
        self.acked: dict[int, int] = {}
        self.open: dict[int, int] = {}
        self.sent_ns = 0
        self.waiting: list[int] = []
        self.closed = False

    def every_key_once(self) -> None:
        """Go through the own keys in order, once, instead of picking at random (the prefill)."""
        self.picks = list(self.keys)
        self.sequential = True

    def next_batch(self) -> list[int]:
        """The key numbers of the next batch; [] when the seat is done."""
        now = perf_counter_ns()
        if self.closed or now >= self.recorder.stop_ns:
            self.waiting = []
            return self.waiting
        position = self.position
        picked = self.picks[position : position + self.depth]
        if len(picked) < self.depth and not self.sequential:
            position = 0
            picked = self.picks[: self.depth]
        self.position = position + len(picked)
        self.waiting = picked
        self.batch += 1
        self.sent_ns = now
        return picked

    def done(self) -> None:
        """All of the batch was answered well."""
        if self.writes:
            self.acked.update(dict.fromkeys(self.waiting, self.batch))
        self.recorder.answered(self.sent_ns, perf_counter_ns(), len(self.waiting))
        self.waiting = []

    def lost(self, error: str) -> None:
        """Something of the batch failed or its outcome is unknown."""
        if self.waiting:
            if self.writes:
                self.open.update(dict.fromkeys(self.waiting, self.batch))
            if error:
                self.recorder.failed(error)
            if self.sequential:  # each key once: so again
                self.position -= len(self.waiting)
            self.waiting = []

    def verdict(self, number: int, value: bytes | None) -> str:
        """ "" when `value` is what this seat's writes left behind, else what is wrong with it."""
        acked = self.acked[number]
        if value is None:
            return f"{key_name(number).decode()}: acknowledged, but gone"
        try:
            key, seat, batch = read_value(value)
        except ValueError as error:
            return str(error)
        if key != key_name(number) or seat != self.index:
            return f"{key_name(number).decode()}: holds {key!r} of seat {seat}"
        if batch == acked or acked < batch <= self.open.get(number, 0):
            return ""
        return f"{key_name(number).decode()}: batch {batch} found, {acked} was acknowledged"


class SeatProtocol(asyncio.Protocol):
    """A seat on one connection. A subclass gives `send` (write the seat's next batch) and
    `data_received`, which ends with `self.finish()` once the batch is answered.

    error     what an answer of the current batch complained about
    detached  the seat has left this connection: nothing that still comes may touch it
    """

    RETRY_SECONDS = 0.005

    def __init__(self, seat: Seat) -> None:
        self.seat = seat
        self.error = ""
        self.detached = False
        self.gone = asyncio.Event()
        self.transport: Any = None

    async def open(self, address: tuple[str, int]) -> None:
        """Connect and begin. Raises OSError."""
        await asyncio.get_running_loop().create_connection(lambda: self, *address)

    def drop(self) -> None:
        """Leave the connection; the outcome of what is in flight stays unknown."""
        self.detached = True
        if self.transport is not None:
            self.transport.abort()
        self.seat.lost("")
        self.gone.set()

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.send()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.detached:
            self.detached = True
            self.seat.lost("" if self.seat.closed else f"connection lost: {exc}")
            self.gone.set()

    def send(self) -> None:
        raise NotImplementedError

    def finish(self) -> None:
        """The batch is answered: account for it and go on."""
        if self.detached:
            return
        if self.error:
            self.seat.lost(self.error)
            self.error = ""
            asyncio.get_running_loop().call_later(self.RETRY_SECONDS, self.resume)
        elif self.seat.waiting:
            self.seat.done()
            self.send()

    def resume(self) -> None:
        if not self.detached:
            self.send()
