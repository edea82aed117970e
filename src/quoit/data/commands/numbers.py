"""Commands that count: a string that holds a number, changed by another number."""

from quoit.data.commands.parse import INT64_MAX, INT64_MIN, integer, integer_or_none
from quoit.data.errors import NOT_A_FLOAT, NOT_AN_INTEGER, OVERFLOW, CommandError
from quoit.data.longdouble import format_number, parse_number, total
from quoit.data.record import STRING
from quoit.data.table import Context, command
from quoit.data.view import View
from quoit.wire import resp

__all__ = ["incr"]

_FLAGS = ("denyoom", "fast")


def _add(view: View, context: Context, key: bytes, delta: int) -> bytes:
    db = context.db
    record = view.get_string_record(db, key)
    value: int | None = 0
    expire_ms = 0
    if record is not None:
        value = integer_or_none(record.payload)
        expire_ms = record.expire_ms
        if value is None:
            raise CommandError(NOT_AN_INTEGER)
    result = (value or 0) + delta
    if not INT64_MIN <= result <= INT64_MAX:
        raise CommandError(OVERFLOW)
    view.put(db, key, STRING, b"%d" % result, expire_ms)
    return b":%d\r\n" % result


@command("INCR", 2, write=True, flags=_FLAGS, summary="Adds one to the integer under a key.")
def incr(view: View, args: list[bytes], context: Context) -> bytes:
    """INCR key: the new value; a key that does not exist counts as 0."""
    return _add(view, context, args[1], 1)


@command("DECR", 2, write=True, flags=_FLAGS, summary="Takes one from the integer under a key.")
def decr(view: View, args: list[bytes], context: Context) -> bytes:
    """DECR key."""
    return _add(view, context, args[1], -1)


@command("INCRBY", 3, write=True, flags=_FLAGS, summary="Adds a number to the integer under a key.")
def incrby(view: View, args: list[bytes], context: Context) -> bytes:
    """INCRBY key increment."""
    return _add(view, context, args[1], integer(args[2]))


@command(
    "DECRBY", 3, write=True, flags=_FLAGS, summary="Takes a number from the integer under a key."
)
def decrby(view: View, args: list[bytes], context: Context) -> bytes:
    """DECRBY key decrement."""
    delta = integer(args[2])
    if delta == INT64_MIN:
        raise CommandError("ERR decrement would overflow")
    return _add(view, context, args[1], -delta)


@command(
    "INCRBYFLOAT",
    3,
    write=True,
    since="2.6.0",
    flags=_FLAGS,
    summary="Adds a floating-point number to the number under a key.",
)
def incrbyfloat(view: View, args: list[bytes], context: Context) -> bytes:
    """INCRBYFLOAT key increment: the new value as text."""
    db, key = context.db, args[1]
    record = view.get_string_record(db, key)
    value = parse_number(b"0" if record is None else record.payload)
    delta = parse_number(args[2])
    if value is None or delta is None:
        raise CommandError(NOT_A_FLOAT)
    result = None
    if not isinstance(value, str) and not isinstance(delta, str):
        result = total(value, delta)
    if result is None:
        raise CommandError("ERR increment would produce NaN or Infinity")
    text = format_number(result)
    view.put(db, key, STRING, text, 0 if record is None else record.expire_ms)
    return resp.bulk(text)
