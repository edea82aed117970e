"""ACL, SLOWLOG, LATENCY, MODULE, PUBSUB: what tools ask when they look around; quoit has one user,
no slow log, no latency monitor and no modules, and says so in the shapes that the tools expect."""

from typing import TYPE_CHECKING

from quoit.gateways.resp.own import own, unknown_subcommand
from quoit.wire import resp

if TYPE_CHECKING:
    from quoit.gateways.resp.connection import RespConnection

__all__: list[str] = []


def _has(args: list[bytes], name: bytes, least: int = 2, most: int = 2) -> bool:
    return args[1].upper() == name and least <= len(args) <= most


@own(
    "ACL",
    -2,
    group="server",
    since="6.0.0",
    subcommands=("LIST", "USERS", "WHOAMI"),
    summary="There is one user, `default`, who may do everything.",
)
def acl(connection: "RespConnection", args: list[bytes], ticket: int) -> bytes:
    """ACL WHOAMI | USERS | LIST."""
    if _has(args, b"WHOAMI"):
        return resp.bulk(b"default")
    if _has(args, b"USERS"):
        return resp.bulk_array([b"default"])
    if _has(args, b"LIST"):
        access = b"#*" if connection.gateway.settings.password else b"nopass"
        return resp.bulk_array([b"user default on %b ~* &* +@all" % access])
    return resp.error(unknown_subcommand(args))


@own(
    "SLOWLOG",
    -2,
    group="server",
    since="2.2.12",
    subcommands=("GET", "HELP", "LEN", "RESET"),
    summary="Empty: slow commands are not logged.",
)
def slowlog(connection: "RespConnection", args: list[bytes], ticket: int) -> bytes:
    """SLOWLOG GET | LEN | RESET | HELP."""
    if _has(args, b"GET", 2, 3):
        return resp.array([])
    if _has(args, b"LEN"):
        return resp.ZERO
    if _has(args, b"RESET"):
        return resp.OK
    if _has(args, b"HELP"):
        return resp.simple_array(
            ("SLOWLOG GET [count] | LEN | RESET: slow commands are not logged.",)
        )
    return resp.error(unknown_subcommand(args))


@own(
    "LATENCY",
    -2,
    group="server",
    since="2.8.13",
    subcommands=("DOCTOR", "HELP", "HISTOGRAM", "HISTORY", "LATEST", "RESET"),
    summary="Empty: the metrics of the admin endpoint measure latencies.",
)
def latency(connection: "RespConnection", args: list[bytes], ticket: int) -> bytes:
    """LATENCY LATEST | HISTORY | HISTOGRAM | RESET | DOCTOR | HELP."""
    proto = connection.session.proto
    if _has(args, b"LATEST") or _has(args, b"HISTORY", 3, 3):
        return resp.array([])
    if args[1].upper() == b"HISTOGRAM":
        return resp.mapping([], proto)
    if args[1].upper() == b"RESET":
        return resp.ZERO
    if _has(args, b"DOCTOR"):
        return resp.verbatim(
            "Latencies are not monitored here; see the metrics of the admin endpoint.\n", proto
        )
    if _has(args, b"HELP"):
        return resp.simple_array(("LATENCY LATEST | HISTORY event | RESET: nothing is monitored.",))
    return resp.error(unknown_subcommand(args))


@own(
    "MODULE",
    -2,
    group="server",
    since="4.0.0",
    subcommands=("LIST",),
    summary="There are no modules.",
)
def module(connection: "RespConnection", args: list[bytes], ticket: int) -> bytes:
    """MODULE LIST."""
    if _has(args, b"LIST"):
        return resp.array([])
    return resp.error(unknown_subcommand(args))
