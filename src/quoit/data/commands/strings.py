"""Commands that set and get whole strings."""

from quoit.data.commands.expiry import UNITS, deadline
from quoit.data.errors import SYNTAX, CommandError, wrong_arity
from quoit.data.record import STRING
from quoit.data.table import Context, command
from quoit.data.view import View
from quoit.wire import resp

__all__ = ["get", "set_"]


@command("GET", 2, flags=("fast",), summary="Gives the string under a key.")
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


def _options(
    args: list[bytes], at: int, allowed: tuple[bytes, ...]
) -> tuple[dict[bytes, None], bytes, bytes]:
    """What SET and GETEX take: (plain options, unit option or empty, its time). CommandError if one
    is unknown or rules out another. Of a repeated unit the last counts, as in Redis."""
    plain: dict[bytes, None] = {}
    unit = time = b""
    while at < len(args):
        option = args[at].upper()
        at += 1
        if option in UNITS and unit in (b"", option) and at < len(args):
            unit = option
            time = args[at]
            at += 1
        elif option in allowed:
            plain[option] = None
        else:
            raise CommandError(SYNTAX)
    if b"NX" in plain and b"XX" in plain:
        raise CommandError(SYNTAX)
    if unit and (b"KEEPTTL" in plain or b"PERSIST" in plain):
        raise CommandError(SYNTAX)
    return plain, unit, time


def _set_with_options(view: View, args: list[bytes], context: Context) -> bytes:
    plain, unit, time = _options(args, 3, (b"NX", b"XX", b"GET", b"KEEPTTL"))
    expire_ms = deadline(unit, time, context.now_ms, "set") if unit else 0
    db, key = context.db, args[1]
    want_old = b"GET" in plain
    record = None
    if plain:
        record = view.get_string_record(db, key) if want_old else view.get(db, key)
    blocked = (b"NX" in plain and record is not None) or (b"XX" in plain and record is None)
    if not blocked:
        if b"KEEPTTL" in plain and record is not None:
            expire_ms = record.expire_ms
        view.put(db, key, STRING, args[2], expire_ms)
    if want_old:
        return resp.null(context.proto) if record is None else resp.bulk(record.payload)
    return resp.null(context.proto) if blocked else resp.OK


@command(
    "SETNX",
    3,
    write=True,
    flags=("denyoom", "fast"),
    summary="Sets a key to a string only if the key does not exist. SET with NX does the same.",
)
def setnx(view: View, args: list[bytes], context: Context) -> bytes:
    """SETNX key value: 1 if it was set."""
    if view.exists(context.db, args[1]):
        return resp.ZERO
    view.put(context.db, args[1], STRING, args[2])
    return resp.ONE


@command(
    "SETEX",
    4,
    write=True,
    since="2.0.0",
    flags=("denyoom",),
    summary="Sets a string that expires after some seconds. SET with EX does the same.",
)
def setex(view: View, args: list[bytes], context: Context) -> bytes:
    """SETEX key seconds value."""
    expire_ms = deadline(b"EX", args[2], context.now_ms, "setex")
    view.put(context.db, args[1], STRING, args[3], expire_ms)
    return resp.OK


@command(
    "PSETEX",
    4,
    write=True,
    since="2.6.0",
    flags=("denyoom",),
    summary="Sets a string that expires after some milliseconds. SET with PX does the same.",
)
def psetex(view: View, args: list[bytes], context: Context) -> bytes:
    """PSETEX key milliseconds value."""
    expire_ms = deadline(b"PX", args[2], context.now_ms, "psetex")
    view.put(context.db, args[1], STRING, args[3], expire_ms)
    return resp.OK


@command(
    "GETEX",
    -2,
    write=True,
    since="6.2.0",
    flags=("fast",),
    summary="Gives the string under a key and changes or removes its expiry.",
)
def getex(view: View, args: list[bytes], context: Context) -> bytes:
    """GETEX key [EX s | PX ms | EXAT s | PXAT ms | PERSIST]."""
    plain, unit, time = _options(args, 2, (b"PERSIST",))
    db, key = context.db, args[1]
    record = view.get_string_record(db, key)
    if record is None:
        return resp.null(context.proto)
    if unit:
        expire_ms = deadline(unit, time, context.now_ms, "getex")
        if expire_ms <= context.now_ms:
            view.delete(db, key)
        else:
            view.put(db, key, STRING, record.payload, expire_ms)
    elif plain and record.expire_ms:
        view.put(db, key, STRING, record.payload)
    return resp.bulk(record.payload)


@command(
    "GETDEL",
    2,
    write=True,
    since="6.2.0",
    flags=("fast",),
    summary="Gives the string under a key and deletes the key.",
)
def getdel(view: View, args: list[bytes], context: Context) -> bytes:
    """GETDEL key."""
    value = view.get_string(context.db, args[1])
    if value is None:
        return resp.null(context.proto)
    view.delete(context.db, args[1])
    return resp.bulk(value)


@command(
    "GETSET",
    3,
    write=True,
    flags=("denyoom", "fast"),
    summary="Sets a key to a string and gives what it held. SET with GET does the same.",
)
def getset(view: View, args: list[bytes], context: Context) -> bytes:
    """GETSET key value."""
    old = view.get_string(context.db, args[1])
    view.put(context.db, args[1], STRING, args[2])
    return resp.null(context.proto) if old is None else resp.bulk(old)


@command(
    "MGET",
    -2,
    last_key=-1,
    fanout="each",
    flags=("fast",),
    complexity="O(N) with N the number of keys",
    summary="Gives the strings under several keys, null for each that is none.",
)
def mget(view: View, args: list[bytes], context: Context) -> bytes:
    """MGET key [key ...]."""
    null = resp.null(context.proto)
    parts: list[bytes] = []
    for key in args[1:]:
        record = view.get(context.db, key)
        parts.append(null if record is None or record.type != STRING else resp.bulk(record.payload))
    return resp.array(parts)


def _pairs(args: list[bytes], name: str) -> list[tuple[bytes, bytes]]:
    if len(args) % 2 == 0:
        raise wrong_arity(name)
    return list(zip(args[1::2], args[2::2], strict=True))


@command(
    "MSET",
    -3,
    write=True,
    last_key=-1,
    key_step=2,
    since="1.0.1",
    flags=("denyoom",),
    complexity="O(N) with N the number of keys",
    summary="Sets several keys to strings at once.",
)
def mset(view: View, args: list[bytes], context: Context) -> bytes:
    """MSET key value [key value ...]."""
    for key, value in _pairs(args, "mset"):
        view.put(context.db, key, STRING, value)
    return resp.OK


@command(
    "MSETNX",
    -3,
    write=True,
    last_key=-1,
    key_step=2,
    since="1.0.1",
    flags=("denyoom",),
    complexity="O(N) with N the number of keys",
    summary="Sets several keys to strings at once, but only if none of them exists.",
)
def msetnx(view: View, args: list[bytes], context: Context) -> bytes:
    """MSETNX key value [key value ...]: 1 if they were set."""
    pairs = _pairs(args, "msetnx")
    if any(view.exists(context.db, key) for key, _ in pairs):
        return resp.ZERO
    for key, value in pairs:
        view.put(context.db, key, STRING, value)
    return resp.ONE
