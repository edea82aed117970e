"""Running commands against a shard's view: one at a time for reads, as a batch for writes.

The leader runs commands; what the log holds are the effects (design.md section 4). A command that
fails leaves nothing behind: the view undoes what it wrote.
"""

from collections.abc import Iterable
from typing import Any

import msgspec

from quoit.base.errors import InvariantViolated, WorldFault
from quoit.base.seams import Trace
from quoit.data.effects import Effects
from quoit.data.errors import CommandError
from quoit.data.table import COMMANDS, Context, Spec
from quoit.data.view import View
from quoit.node.cluster.command import CHANGE
from quoit.node.session import Item
from quoit.wire import resp

__all__ = ["EXEC", "VERSIONS", "Runner", "Transaction", "find"]

_UNDONE = b"-ERR internal error, nothing was changed; please report what you sent\r\n"


class Transaction(msgspec.Struct, frozen=True):
    """A queued MULTI: what was watched, and the commands with their databases."""

    watched: list[tuple[int, bytes, int]]
    commands: list[tuple[int, Spec, list[bytes]]]


EXEC = Spec(name="EXEC", arity=1, write=True, first_key=0)
"""Marks an Item whose arguments are a Transaction."""
VERSIONS = Spec(name="WATCH", arity=-2, write=False, first_key=1, last_key=-1)
"""Marks an Item whose reply is the msgpack list of the versions of its keys (View.version)."""


class Runner:
    """Runs commands on one shard's view.

    view     the shard's view over the engine
    context  reused for every command
    """

    __slots__ = ("context", "trace", "view")

    def __init__(self, view: View, trace: Trace) -> None:
        self.view = view
        self.context = Context()
        self.trace = trace

    def read(
        self, spec: Spec, args: Any, db: int, proto: int, now_ms: int, counts: dict[int, int]
    ) -> bytes | None:
        """The reply of a command that writes nothing; None: it met an expired key and must be run
        in a batch, so that the deletion is agreed on before anybody sees it."""
        view = self.view
        context = self.context
        context.now_ms = now_ms
        context.db = db
        context.proto = proto
        view.begin_read(now_ms, counts)
        if spec.handler is None:
            reply = self._run(spec, args)
        else:
            # `_run` without what only writes need: every read passes here.
            try:
                reply = spec.handler(view, args, context)
            except CommandError as error:
                reply = resp.error(str(error))
            except (InvariantViolated, WorldFault):
                raise
            except Exception as bug:
                reply = self._failed(spec, bug)
        return None if view.saw_expired else reply

    def batch(
        self,
        items: Iterable[Item],
        now_ms: int,
        seq: int,
        counts: dict[int, int],
        below: list[Effects] | None = None,
    ) -> tuple[Effects | None, list[bytes]]:
        """Run `items` in order as one batch, on top of the batches `below` that are not applied yet;
        their effects (None: nothing changed), their replies."""
        view = self.view
        context = self.context
        context.now_ms = now_ms
        view.begin_batch(now_ms, seq, counts, below)
        replies: list[bytes] = []
        add = replies.append
        run = self._run
        for item in items:
            spec = item[2]
            context.db = item[4]
            context.proto = item[5]
            if spec is EXEC:
                add(self._transaction(item[3]))
            else:
                add(run(spec, item[3]))
        return view.finish(), replies

    def _run(self, spec: Spec, args: Any) -> bytes:
        view = self.view
        view.command_start()
        try:
            if spec is VERSIONS:
                db = self.context.db
                return msgspec.msgpack.encode([view.version(db, key) for key in args[1:]])
            return spec.handler(view, args, self.context)  # type: ignore[misc]
        except CommandError as error:
            view.command_undo()
            return resp.error(str(error))
        except (InvariantViolated, WorldFault):
            raise
        except Exception as bug:
            # Why: a bug that one request can reach must not stop every node that runs it.
            view.command_undo()
            return self._failed(spec, bug)

    def _failed(self, spec: Spec, error: Exception) -> bytes:
        self.trace("command_failed", command=spec.name, error=repr(error))
        return _UNDONE

    def _transaction(self, transaction: Transaction) -> bytes:
        view = self.view
        context = self.context
        for db, key, version in transaction.watched:
            if view.version(db, key) != version:
                return b"_\r\n" if context.proto == 3 else b"*-1\r\n"
        replies = []
        for db, spec, args in transaction.commands:
            context.db = db
            replies.append(self._run(spec, args))
        return resp.array(replies)


def find(name: bytes) -> Spec | None:
    """The data command called `name` in any case, as forwarded by a peer."""
    if name == b"META.CHANGE":
        return CHANGE
    spec = COMMANDS.get(name) or COMMANDS.get(name.upper())
    return spec if spec is not None and spec.handler is not None else None
