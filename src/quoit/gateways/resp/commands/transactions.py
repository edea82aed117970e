"""MULTI, EXEC, DISCARD, WATCH, UNWATCH."""

from typing import TYPE_CHECKING

from quoit.base import limits
from quoit.gateways.resp.own import own
from quoit.gateways.resp.transaction import Transaction
from quoit.wire import resp

if TYPE_CHECKING:
    from quoit.gateways.resp.connection import RespConnection

__all__: list[str] = []

_FLAGS = ("fast", "no_multi")


@own("MULTI", 1, group="transactions", since="1.2.0", flags=_FLAGS, summary="Starts a transaction.")
def multi(connection: "RespConnection", args: list[bytes], ticket: int) -> bytes:
    """MULTI."""
    if connection.multi is not None:
        return b"-ERR MULTI calls can not be nested\r\n"
    connection.multi = Transaction(connection)
    connection.refresh()
    return resp.OK


@own(
    "EXEC",
    1,
    group="transactions",
    since="1.2.0",
    flags=_FLAGS,
    summary="Runs the transaction: all of its commands, or none if a watched key changed.",
)
def exec_(connection: "RespConnection", args: list[bytes], ticket: int) -> bytes | None:
    """EXEC."""
    transaction = connection.multi
    if transaction is None:
        return b"-ERR EXEC without MULTI\r\n"
    connection.multi = None
    connection.refresh()
    if transaction.dirty:
        connection.session.unwatch()
        return b"-EXECABORT Transaction discarded because of previous errors.\r\n"
    return transaction.execute(ticket)


@own(
    "DISCARD",
    1,
    group="transactions",
    since="2.0.0",
    flags=_FLAGS,
    summary="Forgets the transaction.",
)
def discard(connection: "RespConnection", args: list[bytes], ticket: int) -> bytes:
    """DISCARD."""
    if connection.multi is None:
        return b"-ERR DISCARD without MULTI\r\n"
    connection.multi = None
    connection.refresh()
    connection.session.unwatch()
    return resp.OK


@own(
    "WATCH",
    -2,
    keys=True,
    group="transactions",
    since="2.2.0",
    flags=_FLAGS,
    summary="Lets the next EXEC fail if one of the keys changes until then.",
    complexity="O(N) in the number of keys",
)
def watch(connection: "RespConnection", args: list[bytes], ticket: int) -> bytes | None:
    """WATCH key [key ...]."""
    if connection.multi is not None:
        return b"-ERR WATCH inside MULTI is not allowed\r\n"
    session = connection.session
    if len(session.watched) + len(args) > limits.TRANSACTION_COMMANDS_MAX:
        return b"-ERR too many watched keys\r\n"
    return connection.host.node.watch(session, ticket, args[1:])


@own(
    "UNWATCH",
    1,
    group="transactions",
    since="2.2.0",
    flags=("fast",),
    summary="Forgets all watched keys.",
)
def unwatch(connection: "RespConnection", args: list[bytes], ticket: int) -> bytes:
    """UNWATCH."""
    # Inside MULTI (ticket -1) EXEC has taken the watched keys already: nothing is left to forget.
    if ticket >= 0:
        connection.session.unwatch()
    return resp.OK
