"""The connection itself: PING, ECHO, HELLO, AUTH, SELECT, RESET, QUIT, READONLY, READWRITE."""

from hmac import compare_digest
from typing import TYPE_CHECKING

from quoit.base.slots import DATABASES
from quoit.data.commands.parse import integer_or_none
from quoit.gateways.resp.own import own, plain
from quoit.wire import resp

if TYPE_CHECKING:
    from quoit.gateways.resp.connection import RespConnection

__all__ = ["REDIS_VERSION", "valid_name"]

REDIS_VERSION = "7.4.0"
"""The Redis whose behaviour is promised; clients choose features by it."""

_WRONGPASS = b"-WRONGPASS invalid username-password pair or user is disabled.\r\n"
_NO_PASSWORD_SET = (
    b"-ERR AUTH <password> called without any password configured for the default user. "
    b"Are you sure your configuration is correct?\r\n"
)
_NAME_ERROR = b"-ERR Client names cannot contain spaces, newlines or special characters.\r\n"


@own("PING", -1, flags=("fast",), summary="Answers PONG, or its argument.")
def ping(connection: "RespConnection", args: list[bytes], ticket: int) -> bytes:
    """PING [message]."""
    if len(args) > 2:
        return b"-ERR wrong number of arguments for 'ping' command\r\n"
    return resp.bulk(args[1]) if len(args) == 2 else b"+PONG\r\n"


@own("ECHO", 2, flags=("fast",), summary="Answers its argument.")
def echo(connection: "RespConnection", args: list[bytes], ticket: int) -> bytes:
    """ECHO message."""
    return resp.bulk(args[1])


@own("SELECT", 2, flags=("fast",), summary="Chooses the database, 0 to 15.")
def select(connection: "RespConnection", args: list[bytes], ticket: int) -> bytes:
    """SELECT index."""
    number = integer_or_none(args[1])
    if number is None:
        return b"-ERR value is not an integer or out of range\r\n"
    if not 0 <= number < DATABASES:
        return b"-ERR DB index is out of range\r\n"
    connection.session.db = number
    return resp.OK


@own("AUTH", -2, flags=("fast", "no_auth", "no_multi"), summary="Gives the password of this node.")
def auth(connection: "RespConnection", args: list[bytes], ticket: int) -> bytes:
    """AUTH [username] password."""
    if len(args) > 3:
        return b"-ERR syntax error\r\n"
    if len(args) == 2 and not connection.gateway.settings.password:
        return _NO_PASSWORD_SET
    user = args[1] if len(args) == 3 else b"default"
    return resp.OK if _authenticate(connection, user, args[-1]) else _WRONGPASS


def _authenticate(connection: "RespConnection", user: bytes, password: bytes) -> bool:
    """There is one user, `default`. Takes equally long wherever the password differs."""
    expected = connection.gateway.settings.password
    if user != b"default":
        return False
    if expected and not compare_digest(password, expected):
        return False
    connection.welcome()
    return True


def valid_name(name: bytes) -> bool:
    """What CLIENT SETNAME and SETINFO take: printable ASCII without spaces, at most 1 KiB."""
    return len(name) <= 1024 and all(0x21 <= byte <= 0x7E for byte in name)


@own(
    "HELLO",
    -1,
    flags=("fast", "no_auth", "no_multi"),
    since="6.0.0",
    summary="Chooses the protocol version, and tells about the server.",
)
def hello(connection: "RespConnection", args: list[bytes], ticket: int) -> bytes:
    """HELLO [protover [AUTH username password] [SETNAME name]]."""
    session = connection.session
    proto = session.proto
    name: bytes | None = None
    credentials: tuple[bytes, bytes] | None = None
    if len(args) > 1:
        asked = integer_or_none(args[1])
        if asked is None:
            return b"-ERR Protocol version is not an integer or out of range\r\n"
        if asked not in (2, 3):
            return b"-NOPROTO unsupported protocol version\r\n"
        proto = asked
    at = 2
    while at < len(args):
        option = args[at].upper()
        if option == b"AUTH" and at + 2 < len(args):
            credentials = (args[at + 1], args[at + 2])
            at += 3
        elif option == b"SETNAME" and at + 1 < len(args):
            name = args[at + 1]
            if not valid_name(name):
                return _NAME_ERROR
            at += 2
        else:
            return resp.error(f"ERR Syntax error in HELLO option '{plain(args[at])}'")
    if credentials is not None and not _authenticate(connection, *credentials):
        return _WRONGPASS
    if connection.guest:
        return (
            b"-NOAUTH HELLO must be called with the client already authenticated, otherwise the "
            b"HELLO <proto> AUTH <user> <pass> option can be used to authenticate the client and "
            b"select the RESP protocol version at the same time\r\n"
        )
    if name is not None:
        connection.name = name
    session.proto = proto
    facts = [
        (b"server", resp.bulk(b"redis")),
        (b"version", resp.bulk(REDIS_VERSION.encode())),
        (b"proto", resp.integer(proto)),
        (b"id", resp.integer(session.id)),
        (b"mode", resp.bulk(b"standalone")),
        (b"role", resp.bulk(b"master")),
        (b"modules", resp.array([])),
    ]
    return resp.mapping([(resp.bulk(key), value) for key, value in facts], proto)


@own(
    "RESET",
    1,
    flags=("fast", "no_auth", "no_multi"),
    since="6.2.0",
    summary="Puts the connection back into the state of a new one.",
)
def reset(connection: "RespConnection", args: list[bytes], ticket: int) -> bytes:
    """RESET."""
    session = connection.session
    connection.multi = None
    connection.silenced = False
    connection.skip = 0
    connection.name = b""
    connection.session.unwatch()
    session.db = 0
    session.proto = 2
    session.readonly = False
    connection.welcome(guest=bool(connection.gateway.settings.password))
    return b"+RESET\r\n"


@own("QUIT", -1, flags=("fast", "no_auth", "no_multi"), summary="Closes the connection.")
def quit_(connection: "RespConnection", args: list[bytes], ticket: int) -> bytes:
    """QUIT."""
    connection.finish()
    return resp.OK


@own(
    "READONLY",
    1,
    flags=("fast",),
    group="cluster",
    since="3.0.0",
    summary="Allows reads from followers, which may lag.",
)
def readonly(connection: "RespConnection", args: list[bytes], ticket: int) -> bytes:
    """READONLY."""
    connection.session.readonly = True
    return resp.OK


@own(
    "READWRITE",
    1,
    flags=("fast",),
    group="cluster",
    since="3.0.0",
    summary="Takes READONLY back.",
)
def readwrite(connection: "RespConnection", args: list[bytes], ticket: int) -> bytes:
    """READWRITE."""
    connection.session.readonly = False
    return resp.OK
