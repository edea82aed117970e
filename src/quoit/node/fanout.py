"""Commands over several shards, put together from one reply per part (`Spec.fanout`).

The parts are independent reads (or idempotent writes, FLUSHDB): each is linearizable, the whole is
not one moment in time. Cross-shard transactions (issue 4) will offer that.
"""

from typing import Protocol

from quoit.base.seams import Rng
from quoit.data.keys import cursor_slot
from quoit.data.table import Spec
from quoit.node.router import CROSS_SHARD, Router, keys_of
from quoit.node.session import Item, Origin, Session
from quoit.wire import resp

__all__ = ["Dispatcher", "fan_out"]


class Dispatcher(Protocol):
    """What a fan-out asks of its node."""

    router: Router
    rng: Rng

    def dispatch(self, shard: int, item: Item, after_write: bool) -> None:
        """Run the item on the shard, wherever it is led."""
        ...

    def reply(self, session: Session, ticket: int, reply: bytes) -> None:
        """Answer the client."""
        ...


class _Gather(Origin):
    """Waits for all parts of one command."""

    __slots__ = ("dispatcher", "kind", "missing", "parts", "session", "shards", "ticket", "write")

    def __init__(
        self, dispatcher: Dispatcher, session: Session, ticket: int, spec: Spec, shards: list[int]
    ) -> None:
        self.dispatcher = dispatcher
        self.session = session
        self.ticket = ticket
        self.kind = spec.fanout
        self.write = spec.write
        self.shards = shards
        self.parts: list[bytes] = [b""] * len(shards)
        self.missing = len(shards)

    def deliver(self, ticket: int, reply: bytes) -> None:
        if self.write:
            settle(self.session, self.shards[ticket])
        self.parts[ticket] = reply
        self.missing -= 1
        if self.missing == 0:
            self.dispatcher.reply(self.session, self.ticket, self._combined())

    def _combined(self) -> bytes:
        for part in self.parts:
            if part[:1] == b"-":
                return part
        if self.kind == "each":
            return resp.array([part[4:] for part in self.parts])
        if self.kind in ("sum", "all-sum"):
            return resp.integer(sum(int(part[1:-2]) for part in self.parts))
        if self.kind == "all-concat":
            bodies = []
            count = 0
            for part in self.parts:
                head, _, body = part.partition(b"\r\n")
                count += int(head[1:])
                bodies.append(body)
            return b"*%d\r\n%b" % (count, b"".join(bodies))
        return resp.OK


class _Any(Origin):
    """Asks shard after shard until one has something."""

    __slots__ = ("args", "db", "dispatcher", "rest", "session", "spec", "ticket")

    def __init__(
        self, dispatcher: Dispatcher, session: Session, ticket: int, spec: Spec, args: list[bytes]
    ) -> None:
        self.dispatcher = dispatcher
        self.session = session
        self.ticket = ticket
        self.spec = spec
        self.args = args
        self.db = session.db
        self.rest = list(dispatcher.router.database(session.db))
        for last in range(len(self.rest) - 1, 0, -1):
            other = dispatcher.rng.randrange(0, last + 1)
            self.rest[last], self.rest[other] = self.rest[other], self.rest[last]

    def ask(self) -> None:
        """Send the command to the next shard."""
        shard = self.rest.pop()
        item = (self, 0, self.spec, self.args, self.db, self.session.proto)
        self.dispatcher.dispatch(shard, item, shard in self.session.unanswered)

    def deliver(self, ticket: int, reply: bytes) -> None:
        if self.rest and reply in (resp.NULL2, resp.NULL3):
            self.ask()
        else:
            self.dispatcher.reply(self.session, self.ticket, reply)


def settle(session: Session, shard: int) -> None:
    """One of the session's writes on `shard` has its outcome."""
    left = session.unanswered.get(shard, 0) - 1
    if left > 0:
        session.unanswered[shard] = left
    else:
        session.unanswered.pop(shard, None)


def fan_out(
    dispatcher: Dispatcher, session: Session, ticket: int, spec: Spec, args: list[bytes]
) -> bytes | None:
    """Run a command that is keyless or whose keys lie on several shards. A reply at once is an
    error; otherwise the reply comes when all parts are there."""
    router = dispatcher.router
    db = session.db
    kind = spec.fanout
    if kind == "cursor":
        slot = cursor_slot(args[1]) if len(args) > 1 else 0
        shard = router.slot_to_shard[slot] if db == 0 else router.home[db]
        item = (session, ticket, spec, args, db, session.proto)
        dispatcher.dispatch(shard, item, shard in session.unanswered)
        return None
    if kind == "any":
        _Any(dispatcher, session, ticket, spec, args).ask()
        return None
    parts: list[tuple[int, list[bytes]]] = []
    if kind == "each":
        parts = [(router.shard(db, key), [args[0], key]) for key in keys_of(spec, args)]
    elif kind == "sum":
        by_shard: dict[int, list[bytes]] = {}
        for key in keys_of(spec, args):
            by_shard.setdefault(router.shard(db, key), [args[0]]).append(key)
        parts = list(by_shard.items())
    elif kind in ("all-sum", "all-concat", "all-ok"):
        # FLUSHALL means every database, and so every shard.
        shards = router.all_shards if spec.name == "FLUSHALL" else router.database(db)
        parts = [(shard, args) for shard in shards]
    else:
        return CROSS_SHARD
    gather = _Gather(dispatcher, session, ticket, spec, [shard for shard, _ in parts])
    for number, (shard, part_args) in enumerate(parts):
        after_write = shard in session.unanswered
        if spec.write:
            session.unanswered[shard] = session.unanswered.get(shard, 0) + 1
        dispatcher.dispatch(
            shard, (gather, number, spec, part_args, db, session.proto), after_write
        )
    return None
