"""The table of commands: what each one is called, takes, touches and does, as data.

A handler is `handler(view, args, context) -> reply bytes`. It validates everything first and only
then writes to the view, because a command that fails must leave nothing behind. `args[0]` is the
command's name as the client sent it (container commands such as OBJECT have args[1] as subcommand).
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from quoit.data.view import View

__all__ = ["COMMANDS", "Context", "Handler", "Spec", "command"]


class Context(msgspec.Struct):
    """What a command knows of the world besides the view. One per batch, changed per command."""

    now_ms: int = 0
    """The leader's stamped Unix time in milliseconds; never runs backwards within a shard."""
    proto: int = 2
    """The client's RESP version, 2 or 3."""
    db: int = 0
    """The client's database, 0..15."""


Handler = Callable[["View", list[bytes], Context], bytes]


class Spec(msgspec.Struct, frozen=True, kw_only=True):
    """One row of the table."""

    name: str
    """Upper case."""
    arity: int
    """Redis' convention: exact count including the name, or negative for a minimum."""
    write: bool = False
    first_key: int = 1
    """Position of the first key; 0: the command has no keys."""
    last_key: int = 1
    """Position of the last key; -1: up to the end."""
    key_step: int = 1
    handler: Handler | None = None
    """None: the gateway answers this command itself (connection commands)."""
    fanout: str = ""
    """How a command over several shards is put together. "": an error if its keys lie on several.
    "each": run once per key as `args[0] key`, join the replies into one array (MGET).
    "sum": run per shard on its keys, add the integers (EXISTS, TOUCH).
    "all-sum": keyless, run on every shard of the database, add the integers (DBSIZE).
    "all-concat": keyless, run on every shard, join the arrays (KEYS).
    "all-ok": keyless, run on every shard, +OK when all did (FLUSHDB, FLUSHALL).
    "any": keyless, run on shards in random order until one gives a non-null reply (RANDOMKEY).
    "cursor": SCAN; args[1] is a cursor whose slot names the shard."""
    group: str = "string"
    """COMMAND DOCS group: string, generic, connection, server, transactions, cluster."""
    since: str = "1.0.0"
    summary: str = ""
    complexity: str = "O(1)"
    flags: tuple[str, ...] = ()
    """Further flags for COMMAND INFO beside write/readonly: fast, denyoom, loading, noscript..."""
    subcommands: tuple[str, ...] = ()


COMMANDS: dict[bytes, Spec] = {}
"""By upper-case name. Filled by importing quoit.data.commands; the gateway adds its own."""


def command(name: str, arity: int, **options: object) -> Callable[[Handler], Handler]:
    """Declare a command: `@command("GET", 2, summary=...)` above its handler."""

    def declare(handler: Handler) -> Handler:
        spec = Spec(name=name, arity=arity, handler=handler, **options)  # type: ignore[arg-type]
        COMMANDS[name.encode()] = spec
        return handler

    return declare
