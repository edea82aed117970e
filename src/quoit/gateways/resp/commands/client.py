"""CLIENT: what a connection says of itself and may know of the others."""

from typing import TYPE_CHECKING

from quoit.data.commands.parse import integer_or_none
from quoit.gateways.resp.commands.basic import valid_name
from quoit.gateways.resp.own import own, plain, unknown_subcommand
from quoit.wire import resp

if TYPE_CHECKING:
    from quoit.gateways.resp.connection import RespConnection

__all__: list[str] = []

_HELP = (
    "CLIENT <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
    "GETNAME",
    "    The connection's name.",
    "GETREDIR",
    "    -1: invalidations are never redirected.",
    "ID",
    "    The connection's number on this node.",
    "INFO",
    "    What this node knows of the connection.",
    "KILL <ip:port> | [ID <id>] [ADDR <ip:port>] [LADDR <ip:port>] [USER <name>] [SKIPME yes|no]",
    "    Disconnects clients of this node.",
    "LIST [TYPE (NORMAL|MASTER|REPLICA|PUBSUB)] [ID <id> ...]",
    "    What this node knows of its connections.",
    "NO-EVICT (ON|OFF)",
    "    Accepted; nothing is ever evicted.",
    "NO-TOUCH (ON|OFF)",
    "    Accepted; access times are not kept.",
    "REPLY (ON|OFF|SKIP)",
    "    Chooses whether commands are answered.",
    "SETINFO (LIB-NAME|LIB-VER) <value>",
    "    The client library's name and version.",
    "SETNAME <name>",
    "    Names the connection.",
    "HELP",
    "    Prints this help.",
)
_SUBCOMMANDS = (
    "GETNAME", "GETREDIR", "HELP", "ID", "INFO", "KILL", "LIST", "NO-EVICT", "NO-TOUCH", "REPLY",
    "SETINFO", "SETNAME",
)  # fmt: skip
_REFUSED = {
    b"TRACKING": "ERR client-side caching (CLIENT TRACKING) is not supported by this server",
    b"CACHING": "ERR client-side caching (CLIENT CACHING) is not supported by this server",
    b"TRACKINGINFO": "ERR client-side caching (CLIENT TRACKINGINFO) is not supported by this server",
    b"MAINT_NOTIFICATIONS": "ERR maintenance notifications are not supported by this server",
    b"PAUSE": "ERR CLIENT PAUSE is not supported by this server",
    b"UNPAUSE": "ERR CLIENT UNPAUSE is not supported by this server",
    b"UNBLOCK": "ERR CLIENT UNBLOCK is not supported by this server",
}
_SYNTAX = b"-ERR syntax error\r\n"


def describe(client: "RespConnection") -> str:
    """One line of CLIENT LIST, with the fields of Redis 7.4."""
    session = client.session
    now_ms = client.host.node.wall_ms
    incomplete, waiting, held = client.buffered()
    flags = ("x" if client.multi is not None else "") + ("r" if session.readonly else "")
    multi = -1 if client.multi is None else len(client.multi)
    facts = {
        "id": session.id,
        "addr": client.address("peername"),
        "laddr": client.address("sockname"),
        "fd": 0,
        "name": client.name.decode(),
        "age": max(0, now_ms - client.made_ms) // 1000,
        "idle": max(0, now_ms - client.active_ms) // 1000,
        "flags": flags or "N",
        "db": session.db,
        "sub": 0,
        "psub": 0,
        "ssub": 0,
        "multi": multi,
        "watch": len(session.watched),
        "qbuf": incomplete,
        "qbuf-free": 0,
        "argv-mem": 0,
        "multi-mem": 0,
        "rbs": 0,
        "rbp": 0,
        "obl": 0,
        "oll": waiting,
        "omem": held,
        "tot-mem": incomplete + held,
        "events": "r",
        "cmd": client.last.lower() or "NULL",
        "user": "default",
        "redir": -1,
        "resp": session.proto,
        "lib-name": client.lib_name.decode(),
        "lib-ver": client.lib_version.decode(),
    }
    return " ".join(f"{key}={value}" for key, value in facts.items())


def _on_off(value: bytes) -> bool | None:
    return {b"ON": True, b"OFF": False}.get(value.upper())


@own(
    "CLIENT",
    -2,
    since="2.4.0",
    subcommands=_SUBCOMMANDS,
    summary="About this connection and the others of this node.",
)
def client_(connection: "RespConnection", args: list[bytes], ticket: int) -> bytes:
    """CLIENT subcommand."""
    name = args[1].upper()
    count = len(args)
    session = connection.session
    if name == b"ID" and count == 2:
        return resp.integer(session.id)
    if name == b"INFO" and count == 2:
        return resp.verbatim(describe(connection) + "\n", session.proto)
    if name == b"LIST":
        return _list(connection, args)
    if name == b"GETNAME" and count == 2:
        return resp.bulk(connection.name) if connection.name else resp.null(session.proto)
    if name == b"GETREDIR" and count == 2:
        return resp.integer(-1)
    if name == b"SETNAME" and count == 3:
        if not valid_name(args[2]):
            return b"-ERR Client names cannot contain spaces, newlines or special characters.\r\n"
        connection.name = args[2]
        return resp.OK
    if name == b"SETINFO" and count == 4:
        return _set_info(connection, args[2], args[3])
    if name in (b"NO-EVICT", b"NO-TOUCH") and count == 3:
        choice = _on_off(args[2])
        if choice is None:
            return _SYNTAX
        if name == b"NO-EVICT":
            connection.no_evict = choice
        else:
            connection.no_touch = choice
        return resp.OK
    if name == b"REPLY" and count == 3:
        return _reply(connection, args[2].upper())
    if name == b"KILL" and count > 2:
        return _kill(connection, args)
    if name == b"HELP" and count == 2:
        return resp.simple_array(_HELP)
    if name in _REFUSED:
        return resp.error(_REFUSED[name])
    return resp.error(unknown_subcommand(args))


def _set_info(connection: "RespConnection", option: bytes, value: bytes) -> bytes:
    chosen = option.upper()
    if chosen not in (b"LIB-NAME", b"LIB-VER"):
        return resp.error(f"ERR Unrecognized option '{plain(option)}'")
    if not valid_name(value):
        shown = chosen.decode().lower()
        return resp.error(f"ERR {shown} cannot contain spaces, newlines or special characters.")
    if chosen == b"LIB-NAME":
        connection.lib_name = value[:128]
    else:
        connection.lib_version = value[:128]
    return resp.OK


def _reply(connection: "RespConnection", mode: bytes) -> bytes:
    if mode == b"ON":
        connection.silenced = False
        connection.skip = 0
    elif mode == b"OFF":
        connection.silenced = True
    elif mode == b"SKIP":
        if not connection.silenced:
            connection.skip = 2
    else:
        return _SYNTAX
    connection.refresh()
    return resp.OK


def _list(connection: "RespConnection", args: list[bytes]) -> bytes:
    clients = connection.gateway.clients
    chosen = sorted(clients)
    if len(args) > 2:
        option = args[2].upper()
        if option == b"TYPE" and len(args) == 4:
            kind = args[3].upper()
            if kind not in (b"NORMAL", b"MASTER", b"REPLICA", b"SLAVE", b"PUBSUB"):
                return resp.error(f"ERR Unknown client type '{plain(args[3])}'")
            chosen = chosen if kind == b"NORMAL" else []
        elif option == b"ID" and len(args) > 3:
            wanted = []
            for text in args[3:]:
                number = integer_or_none(text)
                if number is None or number < 1:
                    return b"-ERR Invalid client ID\r\n"
                wanted.append(number)
            chosen = [number for number in wanted if number in clients]
        else:
            return _SYNTAX
    listing = "".join(describe(clients[number]) + "\n" for number in chosen)
    return resp.verbatim(listing, connection.session.proto)


def _kill(connection: "RespConnection", args: list[bytes]) -> bytes:
    clients = connection.gateway.clients
    if len(args) == 3:
        address = plain(args[2])
        for client in list(clients.values()):
            if client.address("peername") == address:
                _disconnect(connection, client)
                return resp.OK
        return b"-ERR No such client\r\n"
    if len(args) % 2:
        return _SYNTAX
    skip_me = True
    chosen = list(clients.values())
    for option, value in zip(args[2::2], args[3::2], strict=True):
        name = option.upper()
        if name == b"ID":
            number = integer_or_none(value)
            if number is None or number < 1:
                return b"-ERR client-id should be greater than 0\r\n"
            chosen = [client for client in chosen if client.session.id == number]
        elif name in (b"ADDR", b"LADDR"):
            which = "peername" if name == b"ADDR" else "sockname"
            chosen = [client for client in chosen if client.address(which) == plain(value)]
        elif name == b"USER":
            if value != b"default":
                return resp.error(f"ERR No such user '{plain(value)}'")
        elif name == b"TYPE":
            if value.upper() != b"NORMAL":
                chosen = []
        elif name == b"SKIPME" and value.lower() in (b"yes", b"no"):
            skip_me = value.lower() == b"yes"
        else:
            return _SYNTAX
    killed = 0
    for client in chosen:
        if client is connection and skip_me:
            continue
        _disconnect(connection, client)
        killed += 1
    return resp.integer(killed)


def _disconnect(connection: "RespConnection", client: "RespConnection") -> None:
    if client is connection:
        connection.finish()
    else:
        client.close()
