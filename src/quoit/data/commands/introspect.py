"""OBJECT and MEMORY: what the store tells about a key beside its value."""

from quoit.data.commands.parse import integer, integer_or_none
from quoit.data.errors import SYNTAX, CommandError, wrong_arity
from quoit.data.keys import HEAD_BYTES
from quoit.data.record import STRING, Record
from quoit.data.table import Context, command
from quoit.data.view import View
from quoit.wire import resp

__all__ = ["object_"]

_EMBEDDED_BYTES_MAX = 44
"""Redis keeps strings up to this length beside their header and calls them `embstr`."""
_RECORD_HEAD_BYTES = 17

_NO_FREQUENCY = (
    "ERR An LFU maxmemory policy is not selected, access frequency not tracked. Please note that "
    "when switching between policies at runtime LRU and LFU data will take some time to adjust."
)
_OBJECT_HELP = (
    "OBJECT <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
    "ENCODING <key>",
    "    How Redis would keep the value: int, embstr or raw for strings.",
    "FREQ <key>",
    "    An error: access frequencies are not kept.",
    "IDLETIME <key>",
    "    0: access times are not kept.",
    "REFCOUNT <key>",
    "    1: values are never shared.",
    "HELP",
    "    Prints this help.",
)
_MEMORY_HELP = (
    "MEMORY <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
    "USAGE <key> [SAMPLES <count>]",
    "    Bytes that the key and its value take in the store, before compression.",
    "HELP",
    "    Prints this help.",
)


def _unknown(container: str, subcommand: bytes) -> CommandError:
    shown = subcommand[:128].decode("utf-8", "surrogateescape")
    return CommandError(f"ERR unknown subcommand '{shown}'. Try {container} HELP.")


def _encoding(record: Record) -> bytes:
    value = record.payload
    if integer_or_none(value) is not None:
        return b"int"
    return b"embstr" if len(value) <= _EMBEDDED_BYTES_MAX else b"raw"


@command(
    "OBJECT",
    -2,
    first_key=2,
    last_key=2,
    fanout="any",
    group="generic",
    since="2.2.3",
    subcommands=("ENCODING", "FREQ", "HELP", "IDLETIME", "REFCOUNT"),
    summary="Tells about the inside of a value.",
)
def object_(view: View, args: list[bytes], context: Context) -> bytes:
    """OBJECT ENCODING | FREQ | IDLETIME | REFCOUNT key, OBJECT HELP."""
    name = args[1].upper()
    if name not in (b"ENCODING", b"FREQ", b"IDLETIME", b"REFCOUNT", b"HELP"):
        raise _unknown("OBJECT", args[1])
    if len(args) != (2 if name == b"HELP" else 3):
        raise wrong_arity("object|" + name.decode().lower())
    if name == b"HELP":
        return resp.simple_array(_OBJECT_HELP)
    record = view.get(context.db, args[2])
    if record is None:
        return resp.null(context.proto)
    if name == b"ENCODING":
        return resp.bulk(_encoding(record) if record.type == STRING else b"raw")
    if name == b"REFCOUNT":
        return resp.ONE
    if name == b"IDLETIME":
        return resp.ZERO
    raise CommandError(_NO_FREQUENCY)


@command(
    "MEMORY",
    -2,
    first_key=2,
    last_key=2,
    fanout="any",
    group="server",
    since="4.0.0",
    subcommands=("HELP", "USAGE"),
    summary="Tells how much room a key takes.",
)
def memory(view: View, args: list[bytes], context: Context) -> bytes:
    """MEMORY USAGE key [SAMPLES count], MEMORY HELP."""
    name = args[1].upper()
    if name == b"HELP":
        if len(args) != 2:
            raise wrong_arity("memory|help")
        return resp.simple_array(_MEMORY_HELP)
    if name != b"USAGE":
        raise _unknown("MEMORY", args[1])
    if len(args) < 3:
        raise wrong_arity("memory|usage")
    options = args[3:]
    if options:
        if len(options) != 2 or options[0].upper() != b"SAMPLES":
            raise CommandError(SYNTAX)
        if integer(options[1]) < 0:
            raise CommandError(SYNTAX)
    record = view.get(context.db, args[2])
    if record is None:
        return resp.null(context.proto)
    return resp.integer(HEAD_BYTES + len(args[2]) + _RECORD_HEAD_BYTES + len(record.payload))
