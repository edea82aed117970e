"""MULTI and WATCH at a session's own node, and what must wait behind an EXEC.

An EXEC that was sent in one go with its WATCH has to wait for the versions of the watched keys. Until it
is on its way all that the session sends behind it waits here, too.
"""

from collections.abc import Callable
from functools import partial
from typing import Protocol

from quoit.node.batch import EXEC, VERSIONS, Transaction
from quoit.node.dispatcher import BUSY, Dispatcher
from quoit.node.router import CROSS_SHARD, Router
from quoit.node.session import Commands, Session, Watched
from quoit.node.watching import NEVER, WatchOrigin

__all__ = ["Transactions"]


class Network(Protocol):
    """What transactions ask of their node."""

    dispatcher: Dispatcher
    router: Router


class Transactions:
    """See the module's docstring."""

    __slots__ = ("network",)

    def __init__(self, network: Network) -> None:
        self.network = network

    def execute(self, session: Session, ticket: int, commands: Commands) -> bytes | None:
        """EXEC: run `commands` atomically if nothing watched changed. The reply at once, or None."""
        watched, session.watched = session.watched, {}
        return self._execute(session, ticket, commands, watched)

    def _execute(
        self, session: Session, ticket: int, commands: Commands, watched: Watched
    ) -> bytes | None:
        if session.watch_pending or session.deferred:
            return self.defer(
                session, ticket, partial(self._execute, session, ticket, commands, watched)
            )
        network = self.network
        shards = network.router.transaction(watched, commands)
        if len(shards) > 1:
            return CROSS_SHARD
        if not shards:
            if not commands:
                return b"*0\r\n"
            # Only commands that touch no key (OBJECT HELP): any shard can run them.
            shards = network.router.database(session.db)
        if network.dispatcher.full():
            return BUSY
        shard = shards[0]
        session.unanswered[shard] = session.unanswered.get(shard, 0) + 1
        versions = [(db, key, version) for (db, key), version in watched.items()]
        transaction = Transaction(versions, commands)
        item = (session, ticket, EXEC, transaction, session.db, session.proto)
        network.dispatcher.dispatch(shard, item, False)
        return None

    def watch(self, session: Session, ticket: int, keys: list[bytes]) -> bytes | None:
        """WATCH: remember the keys' versions for the next EXEC. The reply at once, or None."""
        return self._watch(session, ticket, keys, session.watched)

    def _watch(
        self, session: Session, ticket: int, keys: list[bytes], watched: Watched
    ) -> bytes | None:
        if session.deferred:
            return self.defer(session, ticket, partial(self._watch, session, ticket, keys, watched))
        router, dispatcher = self.network.router, self.network.dispatcher
        db = session.db
        shards = {router.shard(db, key): None for key in keys}
        for watched_db, key in watched:
            shards[router.shard(watched_db, key)] = None
        if len(shards) != 1:
            return CROSS_SHARD
        if dispatcher.full():
            # An EXEC may come behind it, and must not run as if nothing was watched.
            watched.update(((db, key), NEVER) for key in keys)
            return BUSY
        if not session.watch_pending:
            # One that failed is tried again. The answer to it has been given, so whoever still relies
            # on it has ignored an error.
            for key in keys:
                if watched.get((db, key)) == NEVER:
                    del watched[db, key]
        session.watch_pending += 1
        origin = WatchOrigin(self, session, watched, keys)
        item = (origin, ticket, VERSIONS, [b"WATCH", *keys], db, session.proto)
        shard = next(iter(shards))
        dispatcher.dispatch(shard, item, shard in session.unanswered)
        return None

    def defer(
        self, session: Session, ticket: int, start: Callable[[], bytes | None], size: int = 0
    ) -> bytes | None:
        """Call `start`, whose result is as that of `execute`, when its turn comes. `size`: bytes that
        it keeps alive."""
        dispatcher = self.network.dispatcher
        if dispatcher.full():
            return BUSY
        dispatcher.pending += 1
        dispatcher.pending_bytes += size
        session.deferred.append((ticket, start, session.db, session.proto, size))
        return None

    def reply(self, session: Session, ticket: int, reply: bytes) -> None:
        """Answer the client."""
        self.network.dispatcher.reply(session, ticket, reply)

    def resume(self, session: Session) -> None:
        """All versions are there: go on with what waits, up to an EXEC that waits for others."""
        deferred, session.deferred = session.deferred, []
        dispatcher = self.network.dispatcher
        db, proto = session.db, session.proto
        for ticket, start, session.db, session.proto, size in deferred:
            dispatcher.pending -= 1
            dispatcher.pending_bytes -= size
            answer = start()
            if answer is not None:
                dispatcher.reply(session, ticket, answer)
        session.db, session.proto = db, proto
