"""Commands that the gateway answers itself: declared here, found by the connection in OWN."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from quoit.data.table import COMMANDS, Spec
from quoit.wire import resp

if TYPE_CHECKING:
    from quoit.gateways.resp.connection import RespConnection

__all__ = [
    "OWN",
    "OwnHandler",
    "address",
    "own",
    "plain",
    "unknown_command",
    "unknown_subcommand",
    "wrong_arity",
]

OwnHandler = Callable[["RespConnection", list[bytes], int], bytes | None]
"""handler(connection, args, ticket) -> reply, or None when `connection.fill(ticket, reply)` will be
called later. The number of arguments has been checked."""

OWN: dict[str, OwnHandler] = {}
"""By upper-case name."""


def own(
    name: str, arity: int, *, keys: bool = False, **options: object
) -> Callable[[OwnHandler], OwnHandler]:
    """Declare a command of the gateway; `options` are fields of Spec. `keys`: args[1:] are keys."""

    def declare(handler: OwnHandler) -> OwnHandler:
        positions = (1, -1) if keys else (0, 0)
        options.setdefault("group", "connection")
        first, last = positions
        spec = Spec(name=name, arity=arity, first_key=first, last_key=last, **options)  # type: ignore[arg-type]
        COMMANDS[name.encode()] = spec
        OWN[name] = handler
        return handler

    return declare


def plain(value: bytes, longest: int = 128) -> str:
    """What a client sent, for an error text: cut, and byte for byte when encoded again."""
    return value[:longest].decode("utf-8", "surrogateescape")


def unknown_subcommand(args: list[bytes]) -> str:
    """Redis' text for a subcommand that does not exist, or has a wrong number of arguments."""
    container = plain(args[0]).upper()
    name = plain(args[1])
    spec = COMMANDS.get(container.encode())
    if spec is not None and name.upper() in spec.subcommands:
        full = f"{container}|{name}".lower()
        return f"ERR wrong number of arguments for '{full}' command"
    return f"ERR unknown subcommand '{name}'. Try {container} HELP."


def unknown_command(args: list[bytes]) -> bytes:
    """Redis' text, with up to 128 characters of the arguments."""
    shown = ""
    for arg in args[1:]:
        if len(shown) >= 128:
            break
        shown += f"'{plain(arg, 128 - len(shown))}' "
    return resp.error(f"ERR unknown command '{plain(args[0])}', with args beginning with: {shown}")


def wrong_arity(spec: Spec) -> bytes:
    """Redis' text for a wrong number of arguments."""
    return resp.error(f"ERR wrong number of arguments for '{spec.name.lower()}' command")


def address(transport: Any, which: str) -> str:
    """`peername` or `sockname` of a transport as host:port."""
    info = transport.get_extra_info(which) if transport is not None else None
    if isinstance(info, tuple) and len(info) >= 2:
        host = f"[{info[0]}]" if ":" in str(info[0]) else str(info[0])
        return f"{host}:{info[1]}"
    return ":0"
