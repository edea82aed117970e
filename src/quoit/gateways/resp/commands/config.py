"""CONFIG: the settings that clients and tools ask for, an honest subset."""

from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from quoit.base import limits
from quoit.base.slots import DATABASES
from quoit.gateways.resp.own import own, plain, unknown_subcommand
from quoit.wire import resp

if TYPE_CHECKING:
    from quoit.gateways.resp.connection import RespConnection
    from quoit.gateways.resp.gateway import RespGateway

__all__: list[str] = []

_HELP = (
    "CONFIG <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
    "GET <pattern> [<pattern> ...]",
    "    The settings whose names match.",
    "SET <directive> <value> [...]",
    "    Changes maxclients or proto-max-bulk-len of this node until it is restarted.",
    "RESETSTAT",
    "    Sets the counters of INFO commandstats, errorstats and stats to zero.",
    "HELP",
    "    Prints this help.",
)
_UNITS = {
    b"": 1, b"b": 1, b"k": 1000, b"kb": 1024, b"m": 1000**2, b"mb": 1024**2, b"g": 1000**3,
    b"gb": 1024**3,
}  # fmt: skip
_FIXED = {
    "appendfsync": "always",
    "appendonly": "yes",
    "cluster-enabled": "no",
    "databases": str(DATABASES),
    "lazyfree-lazy-user-del": "no",
    "maxmemory": "0",
    "maxmemory-policy": "noeviction",
    "notify-keyspace-events": "",
    "protected-mode": "no",
    "save": "",
    "slowlog-log-slower-than": "-1",
    "slowlog-max-len": "0",
    "tcp-keepalive": "300",
    "timeout": "0",
}


def _settings(gateway: "RespGateway") -> dict[str, str]:
    settings = gateway.settings
    return _FIXED | {
        "maxclients": str(settings.clients_max),
        "port": str(settings.port),
        "proto-max-bulk-len": str(settings.bulk_bytes_max),
        # The password itself is shown to nobody.
        "requirepass": "********" if settings.password else "",
    }


@own(
    "CONFIG",
    -2,
    group="server",
    since="2.0.0",
    flags=("admin",),
    subcommands=("GET", "HELP", "RESETSTAT", "REWRITE", "SET"),
    summary="Shows and changes settings of this node.",
)
def config(connection: "RespConnection", args: list[bytes], ticket: int) -> bytes:
    """CONFIG GET | SET | RESETSTAT | HELP."""
    name = args[1].upper()
    gateway = connection.gateway
    if name == b"GET" and len(args) > 2:
        return _get(connection, args[2:])
    if name == b"SET" and len(args) > 3 and len(args) % 2 == 0:
        return _set(gateway, args[2:])
    if name == b"RESETSTAT" and len(args) == 2:
        gateway.reset_counters()
        return resp.OK
    if name == b"REWRITE" and len(args) == 2:
        return b"-ERR The server is running without a config file\r\n"
    if name == b"HELP" and len(args) == 2:
        return resp.simple_array(_HELP)
    return resp.error(unknown_subcommand(args))


def _get(connection: "RespConnection", patterns: list[bytes]) -> bytes:
    wanted = [plain(pattern).lower() for pattern in patterns]
    pairs = []
    for name, value in sorted(_settings(connection.gateway).items()):
        if any(fnmatchcase(name, pattern) for pattern in wanted):
            pairs.append((resp.bulk(name.encode()), resp.bulk(value.encode())))
    return resp.mapping(pairs, connection.session.proto)


def _memory(value: bytes) -> int | None:
    digits = value.rstrip(b"bBkKmMgG")
    unit = _UNITS.get(value[len(digits) :].lower())
    if unit is None or not digits.isdigit() or len(digits) > 18:
        return None
    return int(digits) * unit


def _set(gateway: "RespGateway", pairs: list[bytes]) -> bytes:
    known = _settings(gateway)
    changes: dict[str, int] = {}
    for raw, value in zip(pairs[::2], pairs[1::2], strict=True):
        name = plain(raw).lower()
        failed = f"ERR CONFIG SET failed (possibly related to argument '{plain(raw)}') - "
        if name not in known:
            return resp.error(
                f"ERR Unknown option or number of arguments for CONFIG SET - '{plain(raw)}'"
            )
        if name in changes:
            return resp.error(failed + "duplicate parameter")
        if name == "maxclients":
            if not value.isdigit() or not 1 <= int(value[:9]) <= 1_000_000:
                return resp.error(failed + "argument must be between 1 and 1000000 inclusive")
            changes[name] = int(value[:9])
        elif name == "proto-max-bulk-len":
            size = _memory(value)
            most = limits.BULK_BYTES_DEFAULT
            if size is None or not 1024 * 1024 <= size <= most:
                return resp.error(
                    failed + f"argument must be a memory value between 1048576 and {most}"
                )
            changes[name] = size
        elif value.decode("utf-8", "replace").lower() != known[name]:
            return resp.error(failed + "can't set immutable config")
    settings = gateway.settings
    if "maxclients" in changes:
        settings.clients_max = changes["maxclients"]
    if "proto-max-bulk-len" in changes:
        settings.bulk_bytes_max = changes["proto-max-bulk-len"]
        for client in gateway.clients.values():
            client.limit(settings.bulk_bytes_max)
    return resp.OK
