"""Commands on a database as a whole: walking, counting, flushing."""

from itertools import islice

from quoit.base.limits import SLOTS
from quoit.base.slots import DATABASES, home_slot
from quoit.data.commands.parse import integer
from quoit.data.errors import INVALID_CURSOR, SYNTAX, CommandError
from quoit.data.glob import Glob
from quoit.data.keys import CURSOR_END, HEAD_BYTES, parse_cursor, position_of
from quoit.data.record import EXPIRES, TYPE_NAMES
from quoit.data.table import Context, command
from quoit.data.view import View
from quoit.wire import resp

__all__ = ["scan"]

_SCAN_COUNT_DEFAULT = 10
_SCAN_COUNT_MAX = 10_000
"""COUNT is a hint; one SCAN never looks at more keys than this, so that it stays short."""

_RANDOM_CHOICES = 16


@command(
    "KEYS",
    2,
    first_key=0,
    fanout="all-concat",
    group="generic",
    complexity="O(N) with N the number of keys in the database",
    summary="Lists the keys whose names match a glob pattern. SCAN is kinder to a large database.",
)
def keys(view: View, args: list[bytes], context: Context) -> bytes:
    """KEYS pattern."""
    glob = Glob(args[1])
    if glob.literal is not None:
        key = glob.literal
        # Only the shard that owns the key may answer for it.
        found = view.owns(context.db, key) and view.exists(context.db, key)
        return resp.bulk_array([key] if found else [])
    if glob.everything:
        return resp.bulk_array(view.keys(context.db))
    matches = glob.matches
    return resp.bulk_array([key for key in view.keys(context.db) if matches(key)])


def _scan_options(args: list[bytes]) -> tuple[Glob | None, int, bytes | None]:
    """(MATCH, COUNT, TYPE). CommandError for anything else."""
    glob: Glob | None = None
    count = _SCAN_COUNT_DEFAULT
    type_name: bytes | None = None
    if len(args) % 2:
        raise CommandError(SYNTAX)
    for option, value in zip(args[::2], args[1::2], strict=True):
        name = option.upper()
        if name == b"COUNT":
            count = integer(value)
            if count < 1:
                raise CommandError(SYNTAX)
        elif name == b"MATCH":
            glob = Glob(value)
            if glob.everything:
                glob = None
        elif name == b"TYPE":
            type_name = value.lower()
        else:
            raise CommandError(SYNTAX)
    return glob, min(count, _SCAN_COUNT_MAX), type_name


@command(
    "SCAN",
    -2,
    first_key=0,
    fanout="cursor",
    group="generic",
    since="2.8.0",
    complexity="O(1) per call, O(N) for a whole iteration over N keys",
    summary="Walks over the keys of a database, a few per call, from cursor 0 until cursor 0.",
)
def scan(view: View, args: list[bytes], context: Context) -> bytes:
    """SCAN cursor [MATCH pattern] [COUNT n] [TYPE name].

    The cursor is the place `slot << 32 | hash` to go on from. Keys of one place (equal hashes)
    always come in one reply, because a cursor cannot point between them.
    """
    start = parse_cursor(args[1])
    if start is None:
        raise CommandError(INVALID_CURSOR)
    glob, count, type_name = _scan_options(args[2:])
    db = context.db
    found: list[bytes] = []
    seen = 0
    last = -1
    following = -1
    for physical, raw in view.scan(db, start) if start < CURSOR_END else ():
        place = position_of(physical)
        if seen >= count and place != last:
            following = place
            break
        last = place
        seen += 1
        if type_name is not None and TYPE_NAMES[raw[0] & ~EXPIRES] != type_name:
            continue
        key = physical[HEAD_BYTES:]
        if glob is None or glob.matches(key):
            found.append(key)
    if following < 0:
        following = _next_shard(view, db, start)
    return resp.array([resp.bulk(b"%d" % following), resp.bulk_array(found)])


def _next_shard(view: View, db: int, start: int) -> int:
    """The cursor after this shard's last key: the first slot of the next shard, 0 at the end."""
    if db or start >= CURSOR_END or view.slot_high + 1 >= SLOTS:
        return 0
    return (view.slot_high + 1) << 32


@command(
    "RANDOMKEY",
    1,
    first_key=0,
    fanout="any",
    group="generic",
    summary="Gives some key of the database, null if there is none.",
)
def randomkey(view: View, args: list[bytes], context: Context) -> bytes:
    """RANDOMKEY: one of the next few keys from a place drawn at random, around the end.

    Among a few and not simply the first, because keys do not lie evenly (CRC16 puts `k1` beside
    `k2`): the first key after a wide gap would come up again and again.
    """
    db = context.db
    low, high = (home_slot(db),) * 2 if db else (view.slot_low, view.slot_high)
    start = low << 32
    place = start + view.draw((high - low + 1) << 32)
    near = list(islice(view.scan(db, place), _RANDOM_CHOICES))
    if len(near) < _RANDOM_CHOICES:
        before = (pair for pair in view.scan(db, start) if position_of(pair[0]) < place)
        near += islice(before, _RANDOM_CHOICES - len(near))
    if not near:
        return resp.null(context.proto)
    return resp.bulk(near[view.draw(len(near))][0][HEAD_BYTES:])


@command(
    "DBSIZE",
    1,
    first_key=0,
    fanout="all-sum",
    group="server",
    flags=("fast",),
    summary="Tells the number of keys in the database.",
)
def dbsize(view: View, args: list[bytes], context: Context) -> bytes:
    """DBSIZE, with keys that expired and were not deleted yet, as in Redis."""
    return resp.integer(view.count(context.db))


def _check_flush(args: list[bytes]) -> None:
    if len(args) > 2 or (len(args) == 2 and args[1].upper() not in (b"ASYNC", b"SYNC")):
        raise CommandError(SYNTAX)


@command(
    "FLUSHDB",
    -1,
    write=True,
    first_key=0,
    fanout="all-ok",
    group="server",
    complexity="O(1): ranges of the store are dropped",
    summary="Deletes all keys of the database.",
)
def flushdb(view: View, args: list[bytes], context: Context) -> bytes:
    """FLUSHDB [ASYNC | SYNC]; both do the same here."""
    _check_flush(args)
    view.flush_db(context.db)
    return resp.OK


@command(
    "FLUSHALL",
    -1,
    write=True,
    first_key=0,
    fanout="all-ok",
    group="server",
    complexity="O(1): ranges of the store are dropped",
    summary="Deletes all keys of all databases.",
)
def flushall(view: View, args: list[bytes], context: Context) -> bytes:
    """FLUSHALL [ASYNC | SYNC]; both do the same here."""
    _check_flush(args)
    for db in range(DATABASES):
        view.flush_db(db)
    return resp.OK
