"""Commands that look at or change a part of a string."""

from quoit.data.commands.parse import integer
from quoit.data.errors import TOO_LONG, CommandError
from quoit.data.record import STRING
from quoit.data.table import Context, Handler, command
from quoit.data.view import View
from quoit.wire import resp

__all__ = ["append"]


@command(
    "APPEND",
    3,
    write=True,
    since="2.0.0",
    flags=("denyoom", "fast"),
    complexity="O(N) with N the length of the string",
    summary="Adds bytes at the end of the string under a key.",
)
def append(view: View, args: list[bytes], context: Context) -> bytes:
    """APPEND key value: the new length."""
    db, key = context.db, args[1]
    record = view.get_string_record(db, key)
    if record is None:
        view.put(db, key, STRING, args[2])
        return resp.integer(len(args[2]))
    length = len(record.payload) + len(args[2])
    if length > view.value_bytes_max:
        raise CommandError(TOO_LONG)
    view.put(db, key, STRING, record.payload + args[2], record.expire_ms)
    return resp.integer(length)


@command(
    "STRLEN", 2, since="2.2.0", flags=("fast",), summary="Tells the length of the string in bytes."
)
def strlen(view: View, args: list[bytes], context: Context) -> bytes:
    """STRLEN key: 0 if there is no key."""
    value = view.get_string(context.db, args[1])
    return resp.integer(0 if value is None else len(value))


def _getrange(view: View, args: list[bytes], context: Context) -> bytes:
    """GETRANGE key start end: both inclusive, negative ones count from the end."""
    start, end = integer(args[2]), integer(args[3])
    value = view.get_string(context.db, args[1])
    if value is None or (start < 0 and end < 0 and start > end):
        return resp.EMPTY
    length = len(value)
    if start < 0:
        start = max(length + start, 0)
    if end < 0:
        end = max(length + end, 0)
    # Why max: mypyc's slice of bytes fails where it ends before it starts.
    return resp.bulk(value[start : max(start, end + 1)])


_ranges: tuple[tuple[str, str, str], ...] = (
    ("GETRANGE", "2.4.0", "Gives a part of the string under a key."),
    ("SUBSTR", "1.0.0", "Gives a part of the string under a key. The old name of GETRANGE."),
)
for _name, _since, _summary in _ranges:
    _handler: Handler = _getrange
    command(
        _name,
        4,
        since=_since,
        complexity="O(N) with N the length of the part",
        summary=_summary,
    )(_handler)


@command(
    "SETRANGE",
    4,
    write=True,
    since="2.2.0",
    flags=("denyoom",),
    complexity="O(N) with N the length of the string",
    summary="Overwrites a part of the string under a key, filling a gap with zero bytes.",
)
def setrange(view: View, args: list[bytes], context: Context) -> bytes:
    """SETRANGE key offset value: the new length."""
    offset, patch = integer(args[2]), args[3]
    if offset < 0:
        raise CommandError("ERR offset is out of range")
    db, key = context.db, args[1]
    record = view.get_string_record(db, key)
    value = b"" if record is None else record.payload
    if not patch:
        return resp.integer(len(value))
    end = offset + len(patch)
    if end > view.value_bytes_max:
        raise CommandError(TOO_LONG)
    value = value[:offset].ljust(offset, b"\0") + patch + value[end:]
    view.put(db, key, STRING, value, 0 if record is None else record.expire_ms)
    return resp.integer(len(value))
