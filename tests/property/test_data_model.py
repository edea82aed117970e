"""Random batches against a model that is as simple as can be; a replica that only gets the effects
ends up with the same engine; the key counts are right."""

from collections.abc import Iterator

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from quoit.data.effects import decode_effects, encode_effects
from quoit.data.errors import CommandError
from quoit.data.keys import split_physical
from quoit.data.record import decode_record
from quoit.data.table import COMMANDS, Context
from quoit.data.view import View
from quoit.wire import resp

QUICK = settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow])

KEYS = st.sampled_from([b"a", b"b", b"{a}c", b"d"])
VALUES = st.sampled_from([b"", b"x", b"5", b"-3", b"long" * 9])
TIMES = st.sampled_from([b"1", b"5", b"20"])
COMMAND = st.one_of(
    st.tuples(st.just(b"GET"), KEYS),
    st.tuples(st.just(b"SET"), KEYS, VALUES),
    st.tuples(st.just(b"SET"), KEYS, VALUES, st.sampled_from([b"NX", b"XX", b"KEEPTTL"])),
    st.tuples(st.just(b"PSETEX"), KEYS, TIMES, VALUES),
    st.tuples(st.just(b"PEXPIRE"), KEYS, TIMES),
    st.tuples(st.just(b"PERSIST"), KEYS),
    st.tuples(st.just(b"PTTL"), KEYS),
    st.tuples(st.just(b"INCR"), KEYS),
    st.tuples(st.just(b"APPEND"), KEYS, VALUES),
    st.tuples(st.just(b"DEL"), KEYS, KEYS),
    st.tuples(st.just(b"RENAME"), KEYS, KEYS),
    st.tuples(st.just(b"EXISTS"), KEYS, KEYS),
    st.tuples(st.just(b"KEYS"), st.just(b"*")),
    st.tuples(st.just(b"FLUSHDB")),
    st.tuples(st.just(b"FLUSHALL")),
    st.tuples(st.just(b"FAIL"), KEYS, VALUES),
)
# A step: advance time by some milliseconds, then run a batch of commands in databases 0 and 1.
STEP = st.tuples(st.integers(0, 8), st.lists(st.tuples(st.integers(0, 1), COMMAND), max_size=8))


def failing(view: View, args: list[bytes], context: Context) -> bytes:
    """A command that writes, deletes and flushes before it fails."""
    view.put(context.db, args[1], 0, args[2], context.now_ms + 3)
    view.delete(context.db, b"a")
    view.flush_db(context.db)
    view.put(context.db, b"d", 0, b"after")
    raise CommandError("ERR failed")


class Model:
    """db -> key -> (value, expiry or 0)."""

    def __init__(self) -> None:
        self.data: list[dict[bytes, tuple[bytes, int]]] = [{}, {}]
        self.now = 0

    def purge(self) -> None:
        for database in self.data:
            for key in [k for k, (_, when) in database.items() if when and self.now > when]:
                del database[key]

    def run(self, db: int, args: tuple[bytes, ...]) -> bytes:
        self.purge()
        database = self.data[db]
        name, rest = args[0], args[1:]
        old = database.get(rest[0]) if rest else None
        if name == b"GET":
            return resp.NULL2 if old is None else resp.bulk(old[0])
        if name == b"SET":
            option = rest[2] if len(rest) > 2 else b""
            if (option == b"NX" and old) or (option == b"XX" and not old):
                return resp.NULL2
            database[rest[0]] = (rest[1], old[1] if option == b"KEEPTTL" and old else 0)
            return resp.OK
        if name == b"PSETEX":
            database[rest[0]] = (rest[2], self.now + int(rest[1]))
            return resp.OK
        if name == b"PEXPIRE":
            if old:
                database[rest[0]] = (old[0], self.now + int(rest[1]))
            return resp.integer(1 if old else 0)
        if name == b"PERSIST":
            if old:
                database[rest[0]] = (old[0], 0)
            return resp.integer(1 if old and old[1] else 0)
        if name == b"PTTL":
            return resp.integer(-2 if not old else old[1] - self.now if old[1] else -1)
        if name == b"INCR":
            value, when = old or (b"0", 0)
            if value not in (b"0",) and not value.lstrip(b"-").isdigit():
                return b"-ERR value is not an integer or out of range\r\n"
            if value.lstrip(b"-")[:1] == b"0" and len(value) > 1:
                return b"-ERR value is not an integer or out of range\r\n"
            if value.count(b"-") > 1 or b"-" in value[1:]:
                return b"-ERR value is not an integer or out of range\r\n"
            number = int(value) + 1
            if number >= 1 << 63 or int(value) >= 1 << 63 or int(value) < -(1 << 63):
                return b"-ERR value is not an integer or out of range\r\n"
            database[rest[0]] = (b"%d" % number, when)
            return resp.integer(number)
        if name == b"APPEND":
            value, when = old or (b"", 0)
            database[rest[0]] = (value + rest[1], when)
            return resp.integer(len(value + rest[1]))
        if name == b"DEL":
            return resp.integer(sum(database.pop(key, None) is not None for key in rest))
        if name == b"RENAME":
            if not old:
                return b"-ERR no such key\r\n"
            del database[rest[0]]
            database[rest[1]] = old
            return resp.OK
        if name == b"EXISTS":
            return resp.integer(sum(key in database for key in rest))
        if name == b"KEYS":
            return b"".join(sorted(database))
        if name == b"FAIL":
            return b"-ERR failed\r\n"
        for target in [database] if name == b"FLUSHDB" else self.data:
            target.clear()
        return resp.OK


class Replica:
    """An engine with what one replica knows of a shard."""

    def __init__(self) -> None:
        self.engine: dict[bytes, bytes] = {}
        self.counts: dict[int, int] = {}
        self.seq = 0

    def scan(self, low: bytes, high: bytes) -> Iterator[tuple[bytes, bytes]]:
        return iter(sorted((k, v) for k, v in self.engine.items() if low <= k < high))

    def apply(self, effects) -> None:
        self.seq = effects.seq
        effects.count_into(self.counts)
        for ranges, items in effects.groups():
            for low, high in ranges:
                for key in [k for k in self.engine if low <= k < high]:
                    del self.engine[key]
            for key, raw in items.items():
                if raw is None:
                    self.engine.pop(key, None)
                else:
                    self.engine[key] = raw


def execute(view: View, args: tuple[bytes, ...], now: int, db: int) -> bytes:
    handler = failing if args[0] == b"FAIL" else COMMANDS[args[0]].handler
    assert handler is not None
    view.command_start()
    try:
        reply = handler(view, list(args), Context(now, 2, db))
    except CommandError as error:
        view.command_undo()
        return resp.error(str(error))
    if args[0] == b"KEYS":
        return b"".join(sorted(reply.split(b"\r\n")[2::2]))
    return reply


@QUICK
@given(st.lists(STEP, max_size=12))
def test_batches_do_what_the_model_says(steps):
    leader, follower, model = Replica(), Replica(), Model()
    view = View(leader.engine.get, leader.scan, 0, 16383)
    model.now = 1000
    for advance, commands in steps:
        model.now += advance
        view.begin_batch(model.now, leader.seq, dict(leader.counts))
        for db, args in commands:
            assert execute(view, args, model.now, db) == model.run(db, args), args
        effects = view.finish()
        if effects is not None:
            follower.apply(decode_effects(encode_effects(effects)))
            leader.apply(effects)
        assert follower.engine == leader.engine
        assert follower.counts == leader.counts
        check(leader, model)


def check(replica: Replica, model: Model) -> None:
    model.purge()
    records = {k: decode_record(v) for k, v in replica.engine.items() if k[:1] == b"m"}
    counts: dict[int, int] = {}
    for physical in records:
        counts[physical[1]] = counts.get(physical[1], 0) + 1
    assert counts == replica.counts
    live = [{}, {}]
    for physical, record in records.items():
        db, key = split_physical(physical)
        assert 0 < record.version <= replica.seq
        if record.expire_ms:
            assert b"x" + record.expire_ms.to_bytes(8, "big") + physical in replica.engine
        if not (record.expire_ms and model.now > record.expire_ms):
            live[db][key] = (record.payload, record.expire_ms)
    assert live == model.data


@QUICK
@given(st.lists(STEP, max_size=8), COMMAND)
def test_a_read_equals_the_same_command_in_a_batch(steps, command):
    replica = Replica()
    view = View(replica.engine.get, replica.scan, 0, 16383)
    now = 1000
    for advance, commands in steps:
        now += advance
        view.begin_batch(now, replica.seq, dict(replica.counts))
        for db, args in commands:
            execute(view, args, now, db)
        effects = view.finish()
        if effects is not None:
            replica.apply(effects)
    if command[0] == b"FAIL" or COMMANDS[command[0]].write:
        return
    now += 3
    view.begin_read(now, replica.counts)
    read = execute(view, command, now, 0)
    expired = view.saw_expired
    view.begin_batch(now, replica.seq, dict(replica.counts))
    assert execute(view, command, now, 0) == read
    # A read that met nothing expired is a batch without effects, and the other way round.
    assert (view.finish() is not None) == expired
