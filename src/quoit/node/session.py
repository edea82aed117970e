"""What a node remembers of one client's connection, and where replies go.

A queued command is an Item, a plain tuple (origin, ticket, spec, arguments, db, proto). Its origin
is a Session (`direct`: the reply goes to that client under the ticket) or an Origin, whose
`deliver` knows what to do with the encoded reply.
"""

from collections.abc import Callable
from typing import Any, Protocol

from quoit.data.table import Spec

__all__ = ["Commands", "Item", "Origin", "ReplySink", "Session", "Watched", "owner_of"]

Item = tuple[Any, int, Spec, Any, int, int]
"""(origin, ticket, spec, arguments, db, proto)."""


Watched = dict[tuple[int, bytes], int]
"""(db, key) -> version seen at WATCH time (View.version), for one EXEC."""
Commands = list[tuple[int, Spec, list[bytes]]]
"""(db, spec, arguments)."""


class ReplySink(Protocol):
    """Where replies go: the gateway's connection, or a simulated client."""

    def fill(self, ticket: int, reply: bytes) -> None:
        """The encoded reply for the command that was submitted with `ticket`."""
        ...

    def flush(self) -> None:
        """All fills of this turn are done: send what is complete, in ticket order."""
        ...


class Origin:
    """A place inside the node that waits for a reply."""

    __slots__ = ()
    direct = False

    def deliver(self, ticket: int, reply: bytes) -> None:
        """The reply for `ticket`."""
        raise NotImplementedError

    def refuse(self, ticket: int, shard: int, leader: int) -> bool:
        """Proven not applied here, ask `leader`. False: the node should look for the leader."""
        return False


def owner_of(item: Item) -> Any:
    """The session that sent the item; its origin if that is of no session."""
    origin = item[0]
    return origin if origin.direct else getattr(origin, "session", origin)


class Session:
    """One client connection. The gateway owns one per connection.

    sink      gets the replies that `Node.submit` could not return at once
    id        unique on this node
    db        selected database, 0..15
    proto     RESP version, 2 or 3
    readonly  the client asked for follower reads (READONLY)
    unanswered  shard -> count of this session's writes that wait for their outcome; a read on such
              a shard joins the batch so that a pipeline reads its own writes
    watched   what the next EXEC watches: EXEC takes it and UNWATCH drops it, each leaving an empty
              one, so that a WATCH whose versions come late fills the one that was meant
    watch_pending  WATCHes whose versions are not known yet
    deferred  (ticket, start, db, proto, bytes): an EXEC that waits for those, and all that came
              behind it
    closed    the client is gone; replies are dropped
    """

    __slots__ = (
        "closed", "db", "deferred", "id", "proto", "readonly", "sink", "unanswered",
        "watch_pending", "watched",
    )  # fmt: skip
    direct = True

    def __init__(self, sink: ReplySink, session_id: int) -> None:
        self.sink = sink
        self.id = session_id
        self.db = 0
        self.proto = 2
        self.readonly = False
        self.unanswered: dict[int, int] = {}
        self.watched: Watched = {}
        self.watch_pending = 0
        self.deferred: list[tuple[int, Callable[[], bytes | None], int, int, int]] = []
        self.closed = False

    def unwatch(self) -> None:
        """Forget all watched keys, also those whose WATCH has no answer yet."""
        self.watched = {}
