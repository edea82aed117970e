"""WATCH: remember the versions that keys had, so that EXEC can tell whether they changed."""

from typing import Protocol

import msgspec

from quoit.node.fanout import settle
from quoit.node.session import Origin, Session, Watched
from quoit.wire import resp

__all__ = ["NEVER", "WatchOrigin"]

NEVER = (1 << 63) - 1
"""No key's version."""


class Answerer(Protocol):
    """What a watch asks of its node."""

    def reply(self, session: Session, ticket: int, reply: bytes) -> None:
        """Answer the client."""
        ...

    def resume(self, session: Session) -> None:
        """No version is missing any more."""
        ...


class WatchOrigin(Origin):
    """Receives the versions of a session's watched keys, for the EXEC that takes `watched`.

    Until it has them it counts among the session's unanswered writes: a read that the client sent
    behind the WATCH must not be answered from an older state, or EXEC would not notice a change
    between the two.
    """

    __slots__ = ("db", "keys", "node", "session", "shard", "watched")

    def __init__(
        self, node: Answerer, session: Session, watched: Watched, keys: list[bytes]
    ) -> None:
        self.node = node
        self.session = session
        self.watched = watched
        self.keys = keys
        self.db = session.db
        self.shard = -1

    def begin(self, shard: int) -> None:
        """The watch goes to `shard`; what follows in its session stays behind it."""
        self.shard = shard
        unanswered = self.session.unanswered
        unanswered[shard] = unanswered.get(shard, 0) + 1

    def deliver(self, ticket: int, reply: bytes) -> None:
        session = self.session
        settle(session, self.shard)
        session.watch_pending -= 1
        if reply[:1] == b"-":
            # An EXEC may be waiting behind it already, and must not run as if nothing was watched.
            for key in self.keys:
                self.watched[self.db, key] = NEVER
            self.node.reply(session, ticket, reply)
        else:
            for key, version in zip(self.keys, msgspec.msgpack.decode(reply), strict=True):
                # The first WATCH of a key counts: a later one must not hide a change between.
                self.watched.setdefault((self.db, key), version)
            self.node.reply(session, ticket, resp.OK)
        if session.watch_pending == 0 and session.deferred:
            self.node.resume(session)
