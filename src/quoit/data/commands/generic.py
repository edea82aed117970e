"""Commands on keys of any type: deleting, testing, renaming, copying."""

from quoit.data.commands.parse import database
from quoit.data.errors import NO_SUCH_KEY, SYNTAX, CommandError
from quoit.data.record import TYPE_NAMES, Record
from quoit.data.table import Context, command
from quoit.data.view import View
from quoit.wire import resp

__all__ = ["delete"]

_PER_KEY = "O(N) with N the number of keys"
_SAME = "ERR source and destination objects are the same"
_ELSEWHERE = "CROSSSLOT The destination database is kept by another shard"


@command(
    "DEL",
    -2,
    write=True,
    last_key=-1,
    group="generic",
    complexity=_PER_KEY,
    summary="Deletes keys and tells how many there were.",
)
def delete(view: View, args: list[bytes], context: Context) -> bytes:
    """DEL key [key ...]."""
    db = context.db
    return resp.integer(sum(view.delete(db, key) for key in args[1:]))


@command(
    "UNLINK",
    -2,
    write=True,
    last_key=-1,
    group="generic",
    since="4.0.0",
    flags=("fast",),
    complexity=_PER_KEY,
    summary="Deletes keys and tells how many there were; the same as DEL here.",
)
def unlink(view: View, args: list[bytes], context: Context) -> bytes:
    """UNLINK key [key ...]."""
    return delete(view, args, context)


@command(
    "EXISTS",
    -2,
    last_key=-1,
    fanout="sum",
    group="generic",
    flags=("fast",),
    complexity=_PER_KEY,
    summary="Tells how many of the keys exist; a key named twice counts twice.",
)
def exists(view: View, args: list[bytes], context: Context) -> bytes:
    """EXISTS key [key ...]."""
    db = context.db
    return resp.integer(sum(view.exists(db, key) for key in args[1:]))


@command(
    "TOUCH",
    -2,
    last_key=-1,
    fanout="sum",
    group="generic",
    since="3.2.1",
    flags=("fast",),
    complexity=_PER_KEY,
    summary="Tells how many of the keys exist. Access times are not kept, so it touches nothing.",
)
def touch(view: View, args: list[bytes], context: Context) -> bytes:
    """TOUCH key [key ...]."""
    return exists(view, args, context)


@command(
    "TYPE", 2, group="generic", flags=("fast",), summary="Tells what type of value a key holds."
)
def type_(view: View, args: list[bytes], context: Context) -> bytes:
    """TYPE key: `none` if there is no key."""
    record = view.get(context.db, args[1])
    return b"+%b\r\n" % (b"none" if record is None else TYPE_NAMES[record.type])


def _source(view: View, args: list[bytes], context: Context) -> Record:
    record = view.get(context.db, args[1])
    if record is None:
        raise CommandError(NO_SUCH_KEY)
    return record


def _place(view: View, db: int, key: bytes, record: Record) -> None:
    view.put(db, key, record.type, record.payload, record.expire_ms)


@command(
    "RENAME",
    3,
    write=True,
    last_key=2,
    group="generic",
    summary="Gives a key another name; whatever had that name is gone.",
)
def rename(view: View, args: list[bytes], context: Context) -> bytes:
    """RENAME key new-key."""
    record = _source(view, args, context)
    if args[1] != args[2]:
        _place(view, context.db, args[2], record)
        view.delete(context.db, args[1])
    return resp.OK


@command(
    "RENAMENX",
    3,
    write=True,
    last_key=2,
    group="generic",
    flags=("fast",),
    summary="Gives a key another name if nothing has that name.",
)
def renamenx(view: View, args: list[bytes], context: Context) -> bytes:
    """RENAMENX key new-key: 1 if it was renamed."""
    record = _source(view, args, context)
    if view.exists(context.db, args[2]):
        return resp.ZERO
    _place(view, context.db, args[2], record)
    view.delete(context.db, args[1])
    return resp.ONE


@command(
    "COPY",
    -3,
    write=True,
    last_key=2,
    group="generic",
    since="6.2.0",
    flags=("denyoom",),
    complexity="O(N) with N the size of the value",
    summary="Copies a key's value and expiry to another key.",
)
def copy(view: View, args: list[bytes], context: Context) -> bytes:
    """COPY source destination [DB number] [REPLACE]: 1 if it was copied."""
    source_db = target_db = context.db
    replace = False
    at = 3
    while at < len(args):
        option = args[at].upper()
        at += 1
        if option == b"REPLACE":
            replace = True
        elif option == b"DB" and at < len(args):
            target_db = database(args[at])
            at += 1
        else:
            raise CommandError(SYNTAX)
    source, target = args[1], args[2]
    if (source_db, source) == (target_db, target):
        raise CommandError(_SAME)
    if not view.owns(target_db, target):
        raise CommandError(_ELSEWHERE)
    record = view.get(source_db, source)
    if record is None or (view.exists(target_db, target) and not replace):
        return resp.ZERO
    _place(view, target_db, target, record)
    return resp.ONE


@command(
    "MOVE",
    3,
    write=True,
    group="generic",
    flags=("fast",),
    summary="Moves a key to another database, if one shard keeps both.",
)
def move(view: View, args: list[bytes], context: Context) -> bytes:
    """MOVE key database: 1 if it was moved."""
    key = args[1]
    target_db = database(args[2])
    if target_db == context.db:
        raise CommandError(_SAME)
    if not view.owns(target_db, key):
        raise CommandError(_ELSEWHERE)
    record = view.get(context.db, key)
    if record is None or view.exists(target_db, key):
        return resp.ZERO
    _place(view, target_db, key, record)
    view.delete(context.db, key)
    return resp.ONE
