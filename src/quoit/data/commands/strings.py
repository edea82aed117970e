"""GET and SET."""

from quoit.data.commands.expiry import deadline
from quoit.data.errors import SYNTAX, CommandError
from quoit.data.record import STRING
from quoit.data.table import Context, command
from quoit.data.view import View
from quoit.wire import resp

__all__ = ["get", "set_"]

_UNITS = {b"EX": (True, 1000), b"PX": (True, 1), b"EXAT": (False, 1000), b"PXAT": (False, 1)}
"""Option -> (relative to now, milliseconds per unit)."""


@command("GET", 2, flags=("fast",), summary="Gives the string value of a key.")
def get(view: View, args: list[bytes], context: Context) -> bytes:
    """GET key."""
    value = view.get_string(context.db, args[1])
    if value is None:
        return resp.NULL3 if context.proto == 3 else resp.NULL2
    return b"$%d\r\n%b\r\n" % (len(value), value)


@command(
    "SET",
    -3,
    write=True,
    flags=("denyoom",),
    summary="Sets a key to a string, whatever it held; options add an expiry or a condition.",
)
def set_(view: View, args: list[bytes], context: Context) -> bytes:
    """SET key value [NX | XX] [GET] [EX s | PX ms | EXAT s | PXAT ms | KEEPTTL]."""
    if len(args) == 3:
        view.put(context.db, args[1], STRING, args[2])
        return resp.OK
    return _set_with_options(view, args, context)


def _set_with_options(view: View, args: list[bytes], context: Context) -> bytes:
    condition = b""
    want_old = keep = False
    expire_ms = 0
    at = 3
    while at < len(args):
        option = args[at].upper()
        at += 1
        if option in (b"NX", b"XX") and condition in (b"", option):
            condition = option
        elif option == b"GET":
            want_old = True
        elif option == b"KEEPTTL" and not expire_ms:
            keep = True
        elif option in _UNITS and not expire_ms and not keep and at < len(args):
            relative, unit_ms = _UNITS[option]
            expire_ms = deadline(args[at], unit_ms, context.now_ms if relative else 0, "set")
            at += 1
        else:
            raise CommandError(SYNTAX)
    db, key = context.db, args[1]
    old: bytes | None = None
    exists = False
    old_expire_ms = 0
    if want_old or keep or condition:
        record = view.get_string_record(db, key) if want_old else view.get(db, key)
        if record is not None:
            exists = True
            old = record.payload
            old_expire_ms = record.expire_ms
    blocked = exists if condition == b"NX" else (condition == b"XX" and not exists)
    if not blocked:
        view.put(db, key, STRING, args[2], old_expire_ms if keep else expire_ms)
    if want_old:
        return resp.null(context.proto) if old is None else resp.bulk(old)
    return resp.null(context.proto) if blocked else resp.OK
