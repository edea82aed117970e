"""The server: TIME, LOLWUT, ROLE, WAIT, SHUTDOWN, QUOIT, and what is refused with a reason."""

import time
from typing import TYPE_CHECKING

import msgspec

from quoit import __version__
from quoit.data.commands.parse import integer_or_none
from quoit.gateways.resp.own import own, unknown_subcommand
from quoit.wire import resp

if TYPE_CHECKING:
    from quoit.gateways.resp.connection import RespConnection

__all__: list[str] = []

_DOLMEN = """\
   ______________________________
  /                             /|
 /_____________________________/ /
 |_____________________________|/
     |   |     |   |    |   |
     |   |     |   |    |   |
     |___|     |___|    |___|

A quoit: one slab, held up by several stones. quoit """


@own("TIME", 1, group="server", since="2.6.0", flags=("fast",), summary="This node's Unix time.")
def time_(connection: "RespConnection", args: list[bytes], ticket: int) -> bytes:
    """TIME -> [seconds, microseconds]."""
    now_us = time.time_ns() // 1000
    return resp.bulk_array([b"%d" % (now_us // 1_000_000), b"%d" % (now_us % 1_000_000)])


@own("LOLWUT", -1, group="server", since="5.0.0", flags=("fast",), summary="A picture.")
def lolwut(connection: "RespConnection", args: list[bytes], ticket: int) -> bytes:
    """LOLWUT [VERSION version]."""
    return resp.verbatim(f"{_DOLMEN}{__version__}\n", connection.session.proto)


@own(
    "ROLE",
    1,
    group="server",
    since="2.8.12",
    flags=("fast",),
    summary="Always `master`: every node takes writes.",
)
def role(connection: "RespConnection", args: list[bytes], ticket: int) -> bytes:
    """ROLE."""
    return resp.array([resp.bulk(b"master"), resp.ZERO, resp.array([])])


@own(
    "WAIT",
    3,
    since="3.0.0",
    group="generic",
    summary="How many replicas beside the leader have every acknowledged write: quorum - 1.",
)
def wait(connection: "RespConnection", args: list[bytes], ticket: int) -> bytes:
    """WAIT numreplicas timeout.

    Nothing has to be waited for: replies keep their order, so this one follows those of the
    client's writes, and a write is answered only when a quorum has synced it.
    """
    asked = integer_or_none(args[1])
    timeout = integer_or_none(args[2])
    if asked is None or timeout is None:
        return b"-ERR value is not an integer or out of range\r\n"
    if timeout < 0:
        return b"-ERR timeout is negative\r\n"
    status = connection.gateway.status(connection.host.node)
    fewest = min((len(shard.replicas) for shard in status.shards), default=1)
    return resp.integer(fewest // 2)


@own(
    "QUOIT",
    -2,
    group="server",
    since="7.4.0",
    subcommands=("HELP", "STATUS"),
    summary="This node's status as JSON.",
)
def quoit(connection: "RespConnection", args: list[bytes], ticket: int) -> bytes:
    """QUOIT STATUS."""
    name = args[1].upper()
    if name == b"STATUS" and len(args) == 2:
        return resp.bulk(msgspec.json.encode(connection.gateway.status(connection.host.node)))
    if name == b"HELP" and len(args) == 2:
        return resp.simple_array(("QUOIT STATUS", "    This node's status as JSON."))
    return resp.error(unknown_subcommand(args))


def _refused(name: str, arity: int, since: str, text: str) -> None:
    reply = resp.error(f"ERR {text}")

    @own(
        name,
        arity,
        group="server",
        since=since,
        flags=("admin", "no_multi"),
        summary="Refused: " + text,
    )
    def refuse(connection: "RespConnection", args: list[bytes], ticket: int) -> bytes:
        return reply


_refused("SHUTDOWN", -1, "1.0.0", "SHUTDOWN is not taken from clients; use the quoit command line")
_refused("DEBUG", -2, "1.0.0", "DEBUG is not supported by this server")
_refused("SWAPDB", 3, "4.0.0", "SWAPDB is not supported: databases live on different shards")
_refused("MONITOR", 1, "1.0.0", "MONITOR is not supported by this server")
_refused(
    "SAVE",
    1,
    "1.0.0",
    "SAVE is not needed: every acknowledged write is on disk on a quorum of nodes",
)
_refused(
    "BGSAVE",
    -1,
    "1.0.0",
    "BGSAVE is not needed: every acknowledged write is on disk on a quorum of nodes",
)
_refused("BGREWRITEAOF", 1, "1.0.0", "BGREWRITEAOF is not needed: the log is compacted by itself")
for _name in ("REPLICAOF", "SLAVEOF"):
    _refused(
        _name,
        3,
        "1.0.0",
        f"{_name} is not supported: quoit replicates by itself, see CLUSTER NODES",
    )
