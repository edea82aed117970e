"""Clients: each does one thing at a time, at its own pace, and writes down what it saw.

Values are unique per write, so a read names its write. Three kinds of keys: plain ones (GET, SET, SET
NX GET, DEL, and compare-and-set through WATCH and EXEC), counters (INCR, GET) and appended strings
(APPEND, GET); counters and appended strings show doubled effects, which plain values hide. A key is
replaced by a fresh one after some operations, so that every key's history stays short enough to be
judged.
"""

from collections.abc import Callable
from typing import Protocol

import msgspec

from quoit.data import commands
from quoit.data.table import COMMANDS, Spec
from quoit.node.node import Node
from quoit.node.session import Session
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
from quoit.sim.options import Options, stream

__all__ = ["Client", "Probe", "Unexpected", "Workload", "interpret"]

_ = commands  # importing the package fills the table
_UNKNOWN_PER_KEY_MAX = 6
_PROTO_NULLS = (b"$-1\r\n", b"_\r\n")


class Unexpected(Exception):
    """A reply that no living cluster may give: a bug."""


class Place(Protocol):
    """What clients ask of the world."""

    @property
    def now_us(self) -> int:
        """True virtual time."""
        ...

    history: History

    def after(self, delay_us: int, call: Callable[..., None], *args: object) -> None:
        """Call later."""
        ...

    def up_nodes(self) -> list[int]:
        """Nodes whose process runs."""
        ...

    def request(self, node: int, client: "Client") -> None:
        """Let `client.arrive` be called on that node when it next works."""
        ...

    def hit(self, kind: str) -> None:
        """A fault touched something."""
        ...


class Slot(msgspec.Struct):
    """A place in the set of keys, whose key changes over time."""

    number: int
    kind: str
    db: int
    generation: int = 0
    operations: int = 0
    unknown: int = 0

    @property
    def key(self) -> bytes:
        """The present key."""
        return b"%b%d.%d" % (self.kind.encode(), self.number, self.generation)


def interpret(operation: Operation, reply: bytes) -> tuple[str, Value]:
    """Outcome and result of a reply. Unexpected if it fits no result and no allowed error."""
    if reply[:1] == b"-":
        outcome = classify_error(reply)
        if outcome is None:
            raise Unexpected(f"{operation.line()} got {reply!r}")
        return outcome, None
    kind = operation.kind
    if kind in (GET, SETNX):
        if reply in _PROTO_NULLS:
            return OK, None
        if reply[:1] == b"$":
            head, _, rest = reply.partition(b"\r\n")
            if len(rest) == int(head[1:]) + 2:
                return OK, rest[:-2]
    elif kind in (INCR, DEL, APPEND):
        if reply[:1] == b":":
            return OK, int(reply[1:])
    elif kind == SET:
        if reply == b"+OK\r\n":
            return OK, None
    elif reply == b"*1\r\n+OK\r\n":
        return OK, None
    elif reply in (b"*-1\r\n", b"_\r\n"):
        return FAIL, None
    raise Unexpected(f"{operation.line()} got {reply!r}")


class Workload:
    """All clients and keys of a run.

    db_of      key -> database, for every key that was ever used
    stopped    no client begins anything new
    rush       clients think so many times shorter; hot: a slot that most of them use then, or -1
    probes     probes made so far, plus one
    """

    def __init__(self, place: Place, options: Options) -> None:
        self.place = place
        self.options = options
        self.rng = stream(options.seed, "workload")
        kinds = ["r", "c", "a", "r", "r", "r", "r", "c", "r", "r"]
        self.slots = [
            Slot(number, kinds[number % len(kinds)], 1 if number % 7 == 6 else 0)
            for number in range(options.keys)
        ]
        self.db_of: dict[bytes, int] = {}
        self.stopped = False
        self.drop_replies = 0.0
        self.rush = 1
        self.hot = -1
        self.probes = 1
        self.clients = [Client(self, number) for number in range(options.clients)]

    def start(self) -> None:
        """Clients begin one after another."""
        for client in self.clients:
            self.place.after(self.rng.randrange(1, 200_000), client.act)

    def idle(self) -> bool:
        """No client waits for anything."""
        return all(client.operation is None and not client.steps for client in self.clients)

    def pause_us(self) -> int:
        """How long a client thinks."""
        if self.rush > 1:
            self.place.hit("rush")
        return 1 + int(self.rng.expovariate(1.0) * self.options.think_us / self.rush)

    def choose(self) -> tuple[Slot, str]:
        """A key and what to do with it: reads 50 %, SET 30 %, conditional writes 10 %, INCR 10 %;
        an appended string gets APPEND instead."""
        rng = self.rng
        slot = rng.choice(self.slots)
        if self.hot >= 0 and rng.random() < 0.7:
            slot = self.slots[self.hot]
        if (
            slot.operations >= self.options.operations_per_key_max
            or slot.unknown >= _UNKNOWN_PER_KEY_MAX
        ):
            slot.generation += 1
            slot.operations = slot.unknown = 0
        slot.operations += 1
        self.db_of[slot.key] = slot.db
        if slot.kind == "c":
            return slot, rng.choices((GET, INCR), (40, 60))[0]
        if slot.kind == "a":
            return slot, rng.choices((GET, APPEND), (50, 50))[0]
        return slot, rng.choices((GET, SET, SETNX, CAS, DEL), (46, 30, 6, 10, 8))[0]


class Client:
    """One client: a session on some node, and at most one operation under way.

    name       changes after an unknown outcome, as the old name's operation is still open
    node       where its connection goes
    session    None: not connected
    life       of the node when the session was made
    operation  under way, or None
    steps      what follows in a compare-and-set: "watch", "get", "exec"
    unlucky    the last operation got no result: perhaps another node knows better
    """

    def __init__(self, workload: Workload, number: int) -> None:
        self.workload = workload
        self.place = workload.place
        self.number = number
        self.names = 0
        self.counter = 0
        self.node = 0
        self.session: Session | None = None
        self.life = -1
        self.ticket = 0
        self.operation: Operation | None = None
        self.slot: Slot | None = None
        self.key = b""
        self.steps: list[str] = []
        self.seen: bytes | None = None
        self.unlucky = False

    @property
    def name(self) -> str:
        """The name under which operations are recorded."""
        return f"c{self.number}.{self.names}"

    # Doing

    def act(self) -> None:
        """Begin the next operation."""
        workload = self.workload
        if workload.stopped:
            return
        up = self.place.up_nodes()
        if self.node not in up or workload.rng.random() < (0.5 if self.unlucky else 0.02):
            self._leave()
            if not up:
                self.place.after(workload.pause_us(), self.act)
                return
            self.node = workload.rng.choice(up)
        slot, kind = workload.choose()
        self.slot = slot
        self.key = slot.key
        if kind == CAS:
            self.steps = ["watch", "get", "exec"]
        else:
            self._invoke(kind)
        self._send()

    def _invoke(self, kind: str) -> None:
        argument = b""
        if kind in (SET, SETNX, CAS, APPEND):
            self.counter += 1
            argument = b"%b/%d" % (self.name.encode(), self.counter)
            if kind == APPEND:
                argument += b";"
            else:
                argument = argument.ljust(self.workload.options.value_bytes, b".")
        self.operation = self.place.history.invoke(
            self.name, kind, self.key, argument, expected=self.seen if kind == CAS else None,
            node=self.node, now_us=self.place.now_us,
        )  # fmt: skip

    def _send(self) -> None:
        self.ticket += 1
        limit = 2 * (self.workload.options.leader_wait_us + self.workload.options.outcome_wait_us)
        self.place.after(limit, self._too_late, self.ticket, self.name)
        self.place.request(self.node, self)

    def arrive(self, node: Node, life: int) -> None:
        """The request reached its node, which works on it now."""
        if self.session is None or self.life != life:
            self.session = Session(self, self.number * 1000 + self.names)
            self.life = life
        session = self.session
        slot = self.slot
        session.db = slot.db if slot is not None else 0
        ticket = self.ticket
        step = self.steps[0] if self.steps else ""
        if step == "watch":
            reply = node.watch(session, ticket, [self.key])
        elif step == "exec" and self.operation is not None:
            spec, args = _arguments(SET, self.operation)
            reply = node.submit_transaction(session, ticket, [(session.db, spec, args)])
        elif self.operation is not None:
            spec, args = _arguments(self.operation.kind, self.operation)
            reply = node.submit(session, ticket, spec, args)
        else:
            return
        if reply is not None:
            self.fill(ticket, reply)
        elif self.workload.drop_replies and self.workload.rng.random() < self.workload.drop_replies:
            self.place.hit("drop_reply")
            node.close_session(session)
            self.lost()

    # Hearing

    def fill(self, ticket: int, reply: bytes) -> None:
        """The reply to the request with that ticket (see node.session.ReplySink)."""
        if ticket != self.ticket:
            return
        self.ticket += 1
        if self.steps and self.steps[0] == "watch":
            if reply != b"+OK\r\n":
                if reply[:1] == b"-" and classify_error(reply) is not None:
                    self._done()
                    return
                raise Unexpected(f"WATCH got {reply!r}")
            self.steps.pop(0)
            self._invoke(GET)
            self._send()
            return
        operation = self.operation
        if operation is None:
            return
        outcome, result = interpret(operation, reply)
        self._complete(operation, outcome, result)
        if self.steps and self.steps[0] == "get":
            self.steps.pop(0)
            if outcome == OK:
                self.seen = result if isinstance(result, bytes) else None
                self._invoke(CAS)
                self._send()
                return
        self._done()

    def flush(self) -> None:
        """Replies of this turn are complete."""

    def lost(self) -> None:
        """The connection broke: what was under way has an unknown outcome."""
        self.session = None
        self.ticket += 1
        if self.operation is not None:
            self._complete(self.operation, UNKNOWN, None)
        if self.slot is not None or self.steps:
            self._done()

    def _too_late(self, ticket: int, name: str) -> None:
        if ticket == self.ticket and name == self.name:
            self.lost()

    def _leave(self) -> None:
        if self.session is not None:
            self.session.closed = True
            self.session = None

    def _complete(self, operation: Operation, outcome: str, result: Value) -> None:
        self.operation = None
        self.unlucky = outcome != OK
        self.place.history.complete(operation, outcome, result, now_us=self.place.now_us)
        if outcome == UNKNOWN:
            self.names += 1
            if self.slot is not None and operation.writes:
                self.slot.unknown += 1

    def _done(self) -> None:
        if self.steps and self.session is not None:
            # A compare-and-set ended half way: forget what was watched with the session.
            self._leave()
        self.steps = []
        self.slot = None
        self.place.after(self.workload.pause_us(), self.act)


def _arguments(kind: str, operation: Operation) -> tuple[Spec, list[bytes]]:
    key = operation.key
    if kind == SET:
        return COMMANDS[b"SET"], [b"SET", key, operation.argument]
    if kind == SETNX:
        return COMMANDS[b"SET"], [b"SET", key, operation.argument, b"NX", b"GET"]
    if kind == APPEND:
        return COMMANDS[b"APPEND"], [b"APPEND", key, operation.argument]
    name = kind.upper().encode()
    return COMMANDS[name], [name, key]


class Probe(Client):
    """A client that does one operation on one node until it is answered with a result.

    done   it was
    """

    def __init__(
        self, workload: Workload, node: int, kind: str, key: bytes, name: str, *, db: int = 0
    ) -> None:
        super().__init__(workload, -workload.probes)
        workload.probes += 1
        self.base = name
        self.node = node
        self.kind = kind
        self.key = key
        self.db = db
        self.done = False

    @property
    def name(self) -> str:
        """The name under which operations are recorded."""
        return f"{self.base}.{self.names}"

    def act(self) -> None:
        """Ask."""
        if self.node not in self.place.up_nodes():
            self.place.after(50_000, self.act)
            return
        self.slot = Slot(-1, "c", self.db)
        self._invoke(self.kind)
        self._send()

    def _complete(self, operation: Operation, outcome: str, result: Value) -> None:
        super()._complete(operation, outcome, result)
        self.done = outcome == OK

    def _done(self) -> None:
        self.slot = None
        if not self.done:
            self.place.after(20_000, self.act)
