"""MULTI: the queue of one connection, and what EXEC does with it.

The node gets the data commands; the gateway's own commands (PING, SELECT, ECHO...) run here, in
their place in the queue, and their replies are spliced into the node's array.
"""

from functools import partial
from typing import TYPE_CHECKING

from quoit.base import limits
from quoit.base.slots import DATABASES
from quoit.data.table import Spec
from quoit.gateways.resp.own import OWN
from quoit.gateways.resp.splice import elements
from quoit.wire import resp

if TYPE_CHECKING:
    from quoit.gateways.resp.connection import RespConnection

__all__ = ["Transaction"]

_QUEUED = b"+QUEUED\r\n"
_BYTES_MAX = 2 * limits.BULK_BYTES_DEFAULT
_CROSS_SHARD = (
    "CROSSSLOT This command's keys are kept by another shard than those of the transaction's "
    "commands before it; use a {hash tag} in their names, or a database from 1 to 15, which is one "
    "shard. The transaction will be discarded"
)
_TOO_BIG = "ERR this transaction is too big and will be discarded"


class Transaction:
    """The commands between MULTI and EXEC.

    dirty   a command was refused, so EXEC must discard all
    shard   of the keys so far, or -1
    db      the database that a queued SELECT will have chosen by then
    """

    __slots__ = ("_bytes", "_commands", "_connection", "db", "dirty", "shard")

    def __init__(self, connection: "RespConnection") -> None:
        self._connection = connection
        self._commands: list[tuple[Spec, list[bytes]]] = []
        self._bytes = 0
        self.db = connection.session.db
        self.shard = -1
        self.dirty = False

    def __len__(self) -> int:
        return len(self._commands)

    def queue(self, spec: Spec, args: list[bytes]) -> bytes:
        """Keep a command for EXEC; the reply."""
        problem = self._problem(spec, args)
        if problem:
            self.dirty = True
            return resp.error(problem)
        self._commands.append((spec, args))
        return _QUEUED

    def _problem(self, spec: Spec, args: list[bytes]) -> str:
        self._bytes += sum(map(len, args))
        if self._bytes > _BYTES_MAX or len(self) >= limits.TRANSACTION_COMMANDS_MAX:
            return _TOO_BIG
        if spec.handler is None:
            if "no_multi" in spec.flags:
                return "ERR Command not allowed inside a transaction"
            if spec.name == "SELECT" and args[1].isdigit() and int(args[1][:4]) < DATABASES:
                self.db = int(args[1][:4])
            return ""
        for shard in self._connection.host.node.router.shards_of(self.db, spec, args):
            if self.shard < 0:
                self.shard = shard
            elif shard != self.shard:
                return _CROSS_SHARD
        return ""

    def execute(self, ticket: int) -> bytes | None:
        """Run the queue: the reply, or None when the node will fill the ticket."""
        connection = self._connection
        session = connection.session
        db_before = session.db
        inserted: list[tuple[int, bytes]] = []
        commands: list[tuple[int, Spec, list[bytes]]] = []
        for place, (spec, args) in enumerate(self._commands):
            if spec.handler is None:
                reply = OWN[spec.name](connection, args, -1)
                inserted.append((place, reply if reply is not None else resp.NULL2))
            else:
                commands.append((session.db, spec, args))
        answer = connection.host.node.submit_transaction(session, ticket, commands)
        if not inserted:
            return answer
        complete = partial(_complete, connection, inserted, db_before, session.db)
        if answer is not None:
            return complete(answer)
        connection.after[ticket] = complete
        return None


def _complete(
    connection: "RespConnection",
    inserted: list[tuple[int, bytes]],
    db_before: int,
    db_after: int,
    answer: bytes,
) -> bytes:
    """The node's array with the gateway's own replies in their places."""
    if answer[:1] != b"*" or answer == resp.NULL_ARRAY2:
        # Nothing happened, so a queued SELECT did not happen either.
        if connection.session.db == db_after:
            connection.session.db = db_before
        return answer
    parts = elements(answer)
    for place, reply in inserted:
        parts.insert(place, reply)
    return resp.array(parts)
