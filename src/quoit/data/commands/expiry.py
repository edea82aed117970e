"""When keys expire: the arithmetic of expiry times, and the commands that set and show them."""

from quoit.data.commands.parse import INT64_MAX, INT64_MIN, integer
from quoit.data.errors import CommandError, expire_error
from quoit.data.table import Context, Handler, command
from quoit.data.view import View
from quoit.wire import resp

__all__ = ["UNITS", "deadline"]

UNITS = {b"EX": (True, 1000), b"PX": (True, 1), b"EXAT": (False, 1000), b"PXAT": (False, 1)}
"""Option of SET and GETEX -> (relative to now, milliseconds per unit)."""

_CONDITIONS = (b"NX", b"XX", b"GT", b"LT")


def deadline(option: bytes, text: bytes, now_ms: int, name: str) -> int:
    """The expiry time, Unix milliseconds, that an option of command `name` asks for. CommandError
    if the number is not positive, or the time does not fit into 63 bits."""
    relative, unit_ms = UNITS[option]
    value = integer(text)
    base_ms = now_ms if relative else 0
    if value <= 0 or value > INT64_MAX // unit_ms or value * unit_ms > INT64_MAX - base_ms:
        raise expire_error(name)
    return value * unit_ms + base_ms


def _conditions(options: list[bytes]) -> dict[bytes, None]:
    found: dict[bytes, None] = {}
    for option in options:
        name = option.upper()
        if name not in _CONDITIONS:
            raise CommandError(
                "ERR Unsupported option " + option.decode("utf-8", "surrogateescape")
            )
        found[name] = None
    if b"NX" in found and len(found) > 1:
        raise CommandError("ERR NX and XX, GT or LT options at the same time are not compatible")
    if b"GT" in found and b"LT" in found:
        raise CommandError("ERR GT and LT options at the same time are not compatible")
    return found


def _refused(conditions: dict[bytes, None], moment: int, old: int) -> bool:
    """`old` is the present expiry time, 0 for never, which counts as later than any time."""
    if not conditions:
        return False
    return (
        (b"NX" in conditions and old != 0)
        or (b"XX" in conditions and old == 0)
        or (b"GT" in conditions and (old == 0 or moment <= old))
        or (b"LT" in conditions and (old != 0 and moment >= old))
    )


def _setter(name: str, unit_ms: int, relative: bool) -> Handler:
    def expire(view: View, args: list[bytes], context: Context) -> bytes:
        """key time [NX | XX | GT | LT]: 1 if the time was set."""
        conditions = _conditions(args[3:])
        value = integer(args[2])
        base_ms = context.now_ms if relative else 0
        limit = INT64_MAX // unit_ms
        if value > limit or value < -(-INT64_MIN // unit_ms):
            raise expire_error(name)
        moment = value * unit_ms
        if moment > INT64_MAX - base_ms:
            raise expire_error(name)
        moment += base_ms
        db, key = context.db, args[1]
        record = view.get(db, key)
        if record is None or _refused(conditions, moment, record.expire_ms):
            return resp.ZERO
        if moment <= context.now_ms:
            view.delete(db, key)
        else:
            view.put(db, key, record.type, record.payload, moment)
        return resp.ONE

    return expire


for _name, _unit_ms, _relative, _since, _summary in (
    ("EXPIRE", 1000, True, "1.0.0", "Lets a key expire after a number of seconds."),
    ("PEXPIRE", 1, True, "2.6.0", "Lets a key expire after a number of milliseconds."),
    ("EXPIREAT", 1000, False, "1.2.0", "Lets a key expire at a Unix time in seconds."),
    ("PEXPIREAT", 1, False, "2.6.0", "Lets a key expire at a Unix time in milliseconds."),
):
    command(
        _name, -3, write=True, group="generic", since=_since, flags=("fast",), summary=_summary
    )(_setter(_name.lower(), _unit_ms, _relative))


def _getter(unit_ms: int, absolute: bool) -> Handler:
    def remaining(view: View, args: list[bytes], context: Context) -> bytes:
        """key: the time; -1 if the key never expires, -2 if there is no key."""
        record = view.get(context.db, args[1])
        if record is None:
            return resp.integer(-2)
        if not record.expire_ms:
            return resp.integer(-1)
        time_ms = record.expire_ms - (0 if absolute else context.now_ms)
        return resp.integer(time_ms if unit_ms == 1 else (time_ms + 500) // 1000)

    return remaining


for _name, _unit_ms, _absolute, _since, _summary in (
    ("TTL", 1000, False, "1.0.0", "Tells in how many seconds a key expires."),
    ("PTTL", 1, False, "2.6.0", "Tells in how many milliseconds a key expires."),
    ("EXPIRETIME", 1000, True, "7.0.0", "Tells when a key expires, as a Unix time in seconds."),
    ("PEXPIRETIME", 1, True, "7.0.0", "Tells when a key expires, in Unix milliseconds."),
):
    command(_name, 2, group="generic", since=_since, flags=("fast",), summary=_summary)(
        _getter(_unit_ms, _absolute)
    )


@command(
    "PERSIST",
    2,
    write=True,
    group="generic",
    since="2.2.0",
    flags=("fast",),
    summary="Takes a key's expiry away.",
)
def persist(view: View, args: list[bytes], context: Context) -> bytes:
    """PERSIST key: 1 if it had an expiry."""
    db, key = context.db, args[1]
    record = view.get(db, key)
    if record is None or not record.expire_ms:
        return resp.ZERO
    view.put(db, key, record.type, record.payload)
    return resp.ONE
