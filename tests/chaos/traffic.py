"""Recording clients: they load the cluster and write down what they asked, when, and what they saw.

The record is the simulator's History. All clients live on one event loop, so the order in which
`invoke` and `complete` are called is the order of real time: an invocation is recorded before its
bytes are sent, a completion after its reply was read. Rules of faults.md section 4: values are unique;
`unknown` is never made `fail`; a client that met it goes on under a new name; keys are replaced
before their history becomes long or too uncertain to be searched.
"""

import asyncio
import itertools
import random
import time
from dataclasses import dataclass, field

import hiredis

from quoit.sim.history import (
    APPEND,
    CAS,
    DEL,
    FAIL,
    GET,
    INCR,
    OK,
    SET,
    SETNX,
    UNKNOWN,
    History,
    Operation,
    Value,
    classify_error,
)
from tests.chaos.wire import Broken, Connection, Reply

__all__ = ["Address", "Traffic"]

Address = tuple[int, str, int]
"""Node, host, RESP port."""

CLIENTS = 9
"""Per-key concurrency cannot exceed this; the search stays cheap up to 10."""
TIMEOUT_S = 7.0
"""Longer than any wait inside a node (5 s), so that its own answer is what is recorded."""
OBSERVE_EVERY_S = 0.02
OBSERVE_PATIENCE_S = 0.3
UNKNOWN_PER_KEY = 6
CHANGED_NOTHING = (b"-MOVED ", b"-LOADING ", b"-TRYAGAIN ", b"-EXECABORT ")
"""Errors that prove it, beyond those of quoit's own table in sim/history.py."""

KINDS = {
    "register": (8, 220, ((GET, 50), (SET, 50))),
    "cell": (4, 120, ((GET, 25), (CAS, 45), (SETNX, 20), (DEL, 10))),
    "counter": (3, 150, ((INCR, 70), (GET, 30))),
    "text": (2, 120, ((APPEND, 60), (GET, 40))),
}
"""Kind of key -> (how many at a time, operations until it is replaced, (operation, weight)...)."""


@dataclass
class Key:
    """A key in use."""

    name: bytes
    kind: str
    used: int = 0
    unknown: int = 0

    def spent(self) -> bool:
        """It has enough history."""
        return self.used >= KINDS[self.kind][1] or self.unknown >= UNKNOWN_PER_KEY


@dataclass
class Traffic:
    """The load of one scenario, from `start` to `stop`.

    oddities      replies that no living cluster may give
    """

    addresses: list[Address]
    seed: int = 1
    think_s: float = 0.003
    history: History = field(default_factory=History)
    oddities: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.rng = random.Random(self.seed)
        self._numbers = itertools.count()
        self._active = [
            self._fresh(kind) for kind, (count, _, _) in KINDS.items() for _ in range(count)
        ]
        self._stopping = False
        self._tasks: list[asyncio.Task[None]] = []

    # Life

    def start(self) -> None:
        """Let the clients loose."""
        self._tasks = [asyncio.create_task(self._client(number)) for number in range(CLIENTS)]
        self._tasks += [asyncio.create_task(self._observe(address)) for address in self.addresses]

    async def stop(self) -> None:
        """Let each client finish its operation."""
        self._stopping = True
        await asyncio.gather(*self._tasks)

    async def abandon(self) -> None:
        """End the clients at once; nothing is judged after this."""
        self._stopping = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def named(self) -> list[bytes]:
        """Every key that an operation named, sorted."""
        return sorted({operation.key for operation in self.history.operations})

    async def connect_late(self, address: Address) -> list[Connection]:
        """A connection for each key in use, for `read_late`."""
        _, host, port = address
        return [await Connection.open(host, port) for _ in self._active]

    async def read_late(self, node: int, connections: list[Connection]) -> int:
        """One recorded read of each key in use, all at once: a node that stands still gets them when
        it wakes up, long after their keys changed elsewhere. How many it answered."""
        keys = [key for key in self._active if key.used]
        reads = (
            self._read_late(node, connection, key)
            for connection, key in zip(connections, keys, strict=False)
        )
        return (await asyncio.gather(*reads)).count(OK)

    async def _read_late(self, node: int, connection: Connection, key: Key) -> str:
        operation = self._invoke(f"late{next(self._numbers)}", GET, key, b"", node)
        try:
            (reply,) = await connection.call((b"GET", key.name), timeout_s=TIMEOUT_S)
        except Broken:
            return self._complete(operation, key, UNKNOWN)
        finally:
            connection.close()
        if isinstance(reply, hiredis.ReplyError):
            return self._complete(operation, key, self._judge_error(reply, operation))
        return self._complete(operation, key, OK, reply)

    # Clients

    async def _client(self, number: int) -> None:
        names = (f"c{number}.{life}" for life in itertools.count())
        name = next(names)
        connection: Connection | None = None
        node, host, port = self.addresses[number % len(self.addresses)]
        while not self._stopping:
            if connection is None:
                try:
                    connection = await Connection.open(host, port)
                except Broken:
                    node, host, port = self.rng.choice(self.addresses)
                    await asyncio.sleep(0.05)
                    continue
            outcome = await self._one(connection, name, node)
            if outcome != OK:
                connection.close()
                connection = None
                node, host, port = self.rng.choice(self.addresses)
                if outcome == UNKNOWN:
                    name = next(names)
                # Why: refusals come at once; without a wait they would be most of the history.
                await asyncio.sleep(0.03)
            await asyncio.sleep(self.rng.uniform(0, 2 * self.think_s))
        if connection is not None:
            connection.close()

    async def _observe(self, address: Address) -> None:
        """Reads through one node all the time, with little patience: the clients above would soon
        all wait for something, and nobody would see what a node that is cut off still answers.
        A read without an answer says nothing and costs the search nothing."""
        node, host, port = address
        connection: Connection | None = None
        while not self._stopping:
            await asyncio.sleep(OBSERVE_EVERY_S)
            key = self.rng.choice(self._active)
            if not key.used:
                continue
            operation: Operation | None = None
            try:
                if connection is None:
                    connection = await Connection.open(host, port, OBSERVE_PATIENCE_S)
                operation = self._invoke(f"observer{next(self._numbers)}", GET, key, b"", node)
                (reply,) = await connection.call((b"GET", key.name), timeout_s=OBSERVE_PATIENCE_S)
                if isinstance(reply, hiredis.ReplyError):
                    self._complete(operation, key, self._judge_error(reply, operation))
                else:
                    self._complete(operation, key, OK, reply)
            except Broken:
                if operation is not None:
                    self._complete(operation, key, UNKNOWN)
                if connection is not None:
                    connection.close()
                connection = None
        if connection is not None:
            connection.close()

    def _fresh(self, kind: str) -> Key:
        return Key(b"%s:%d" % (kind.encode(), next(self._numbers)), kind)

    def _pick(self) -> Key:
        place = self.rng.randrange(len(self._active))
        if self._active[place].spent():
            self._active[place] = self._fresh(self._active[place].kind)
        key = self._active[place]
        key.used += 1
        return key

    def _value(self) -> bytes:
        value = b"v%d;" % next(self._numbers)
        # Some are larger than a packet: full frames must come through too.
        return (
            value.ljust(self.rng.randrange(1200, 6000), b".") if self.rng.random() < 0.1 else value
        )

    async def _one(self, connection: Connection, name: str, node: int) -> str:
        key = self._pick()
        _, _, kinds = KINDS[key.kind]
        (kind,) = self.rng.choices([one for one, _ in kinds], [weight for _, weight in kinds])
        if kind == CAS:
            return await self._compare_and_set(connection, name, node, key)
        value = self._value() if kind in (SET, SETNX) else b""
        if kind == APPEND:
            value = b"p%d;" % next(self._numbers)
        command = {
            GET: (b"GET", key.name),
            SET: (b"SET", key.name, value),
            SETNX: (b"SET", key.name, value, b"NX", b"GET"),
            DEL: (b"DEL", key.name),
            INCR: (b"INCR", key.name),
            APPEND: (b"APPEND", key.name, value),
        }[kind]
        operation = self._invoke(name, kind, key, value, node)
        try:
            (reply,) = await connection.call(command, timeout_s=TIMEOUT_S)
        except Broken:
            return self._complete(operation, key, UNKNOWN)
        if isinstance(reply, hiredis.ReplyError):
            return self._complete(operation, key, self._judge_error(reply, operation))
        return self._complete(operation, key, OK, None if kind == SET else reply)

    async def _compare_and_set(self, connection: Connection, name: str, node: int, key: Key) -> str:
        """WATCH, GET, then MULTI, SET, EXEC: two operations of the record."""
        read = self._invoke(name, GET, key, b"", node)
        try:
            watched, seen = await connection.call(
                (b"WATCH", key.name), (b"GET", key.name), timeout_s=TIMEOUT_S
            )
        except Broken:
            return self._complete(read, key, UNKNOWN)
        for reply in (watched, seen):
            if isinstance(reply, hiredis.ReplyError):
                return self._complete(read, key, self._judge_error(reply, read))
        self._complete(read, key, OK, seen)
        value = self._value()
        operation = self._invoke(name, CAS, key, value, node, seen)
        try:
            *queued, done = await connection.call(
                (b"MULTI",), (b"SET", key.name, value), (b"EXEC",), timeout_s=TIMEOUT_S
            )
        except Broken:
            return self._complete(operation, key, UNKNOWN)
        if isinstance(done, hiredis.ReplyError):
            return self._complete(operation, key, self._judge_error(done, operation))
        if done is None:
            # Refused: somebody was there between. The connection is as good as before.
            self._complete(operation, key, FAIL)
            return OK
        if [_text(reply) for reply in [*queued, *done]] != ["OK", "QUEUED", "OK"]:
            self.oddities.append(f"{operation.line()}: {queued!r} {done!r}")
        return self._complete(operation, key, OK)

    # The record

    def _invoke(
        self, name: str, kind: str, key: Key, value: bytes, node: int, expected: Reply = None
    ) -> Operation:
        return self.history.invoke(
            name, kind, key.name, value, expected=expected, node=node,
            now_us=time.monotonic_ns() // 1000,
        )  # fmt: skip

    def _complete(self, operation: Operation, key: Key, outcome: str, result: Value = None) -> str:
        self.history.complete(operation, outcome, result, now_us=time.monotonic_ns() // 1000)
        if outcome == UNKNOWN and operation.writes:
            key.unknown += 1
        return outcome

    def _judge_error(self, error: hiredis.ReplyError, operation: Operation) -> str:
        text = b"-" + str(error).encode() + b" "
        if text.startswith(CHANGED_NOTHING):
            return FAIL
        outcome = classify_error(text)
        if outcome is None:
            self.oddities.append(f"{operation.line()}: {error}")
            # Not proven to have done nothing.
            return UNKNOWN
        return outcome


def _text(reply: Reply) -> str:
    return reply.decode() if isinstance(reply, bytes) else str(reply)
