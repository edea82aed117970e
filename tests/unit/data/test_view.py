import pytest

from quoit.base.errors import InvariantViolated
from quoit.data.deletions import ABSENT
from quoit.data.errors import BATCH_FULL, WRONGTYPE, CommandError
from quoit.data.keys import database_ranges, physical_key
from quoit.data.record import encode_record
from quoit.data.view import View


class Counting(dict):
    gets = 0

    def get(self, key, default=None):
        self.gets += 1
        return super().get(key, default)


@pytest.fixture
def engine():
    return Counting()


@pytest.fixture
def view(engine):
    def scan(low, high):
        return iter(sorted((k, v) for k, v in engine.items() if low <= k < high))

    return View(engine.get, scan, 0, 16383, value_bytes_max=1000)


def store(engine, key, value=b"v", *, db=0, expire_ms=0, version=1, type_=0):
    engine[physical_key(db, key)] = encode_record(type_, version, expire_ms, value)


def test_batch_without_changes_has_no_effects(view, engine):
    store(engine, b"a")
    view.begin_batch(5, 9, {0: 1})
    assert view.get_string(0, b"a") == b"v"
    assert not view.delete(0, b"nokey")
    assert view.finish() is None


def test_batch_reads_its_own_writes(view):
    view.begin_batch(5, 9, {})
    view.put(0, b"a", 0, b"1")
    assert view.get_string(0, b"a") == b"1"
    assert view.version(0, b"a") == 10
    assert view.delete(0, b"a")
    assert view.get(0, b"a") is None
    effects = view.finish()
    assert effects.items == {physical_key(0, b"a"): None}
    assert effects.counts == {}
    assert effects.seq > 10


def test_versions_grow_with_each_write(view, engine):
    store(engine, b"a", version=4)
    view.begin_batch(5, 9, {0: 1})
    assert view.version(0, b"a") == 4
    view.put(0, b"a", 0, b"1")
    first = view.version(0, b"a")
    view.put(0, b"a", 0, b"1")
    assert 9 < first < view.version(0, b"a") <= view.finish().seq


def test_read_then_write_costs_one_engine_read(view, engine):
    store(engine, b"a")
    view.begin_batch(5, 9, {0: 1})
    view.get(0, b"a")
    view.put(0, b"a", 0, b"2")
    assert engine.gets == 1


def test_counts_follow_appearing_and_disappearing_keys(view, engine):
    store(engine, b"a")
    store(engine, b"b", db=3)
    view.begin_batch(5, 9, {0: 1, 3: 1})
    view.put(0, b"a", 0, b"2")
    view.put(0, b"n", 0, b"2")
    view.put(0, b"m", 0, b"2")
    view.put(0, b"m", 0, b"3")
    view.delete(3, b"b")
    assert view.count(0) == 3
    assert view.count(3) == 0
    assert view.finish().counts == {0: 2, 3: -1}


def test_read_meets_expired_key(view, engine):
    store(engine, b"a", expire_ms=100)
    view.begin_read(100)
    assert view.get_string(0, b"a") == b"v"
    assert not view.saw_expired
    view.begin_read(101)
    assert view.get_string(0, b"a") is None
    assert view.saw_expired
    view.begin_read(101)
    assert not view.saw_expired
    assert not view.exists(0, b"a")
    assert view.saw_expired


def test_batch_deletes_expired_key_as_an_effect(view, engine):
    store(engine, b"a", expire_ms=100)
    view.begin_batch(101, 9, {0: 1})
    assert view.get_string(0, b"a") is None
    assert view.version(0, b"a") & ABSENT
    effects = view.finish()
    assert effects.items == {physical_key(0, b"a"): None}
    assert effects.counts == {0: -1}


def test_overwriting_an_expired_key_does_not_count_twice(view, engine):
    store(engine, b"a", expire_ms=100)
    view.begin_batch(101, 9, {0: 1})
    view.put(0, b"a", 0, b"new")
    assert view.finish().counts == {}


def test_reads_must_not_write(view, engine):
    store(engine, b"a")
    view.begin_read(1)
    for write in (
        lambda: view.put(0, b"b", 0, b""),
        lambda: view.delete(0, b"a"),
        lambda: view.flush_db(0),
        view.finish,
    ):
        with pytest.raises(InvariantViolated):
            write()


def test_read_after_batch_sees_the_engine_only(view):
    view.begin_batch(1, 0, {})
    view.put(0, b"a", 0, b"1")
    view.begin_read(1)
    assert view.get(0, b"a") is None


def test_wrong_type(view, engine):
    store(engine, b"h", type_=4)
    store(engine, b"e", type_=4, expire_ms=50)
    view.begin_read(1)
    for key in (b"h", b"e"):
        for reader in (view.get_string, view.get_string_record):
            with pytest.raises(CommandError, match=WRONGTYPE):
                reader(0, key)
        assert view.get(0, key).type == 4


def test_undo_takes_back_one_command(view, engine):
    store(engine, b"a")
    store(engine, b"gone", expire_ms=1)
    view.begin_batch(5, 9, {0: 2})
    view.command_start()
    view.put(0, b"kept", 0, b"1")
    view.command_start()
    view.put(0, b"kept", 0, b"2")
    view.put(0, b"new", 0, b"2", 77)
    view.delete(0, b"a")
    view.get(0, b"gone")
    view.put(0, b"a", 0, b"3")
    view.command_undo()
    assert view.count(0) == 3
    assert view.get_string(0, b"kept") == b"1"
    assert view.get_string(0, b"a") == b"v"
    assert view.get(0, b"new") is None
    effects = view.finish()
    assert list(effects.items) == [physical_key(0, b"kept")]
    assert effects.counts == {0: 1}


def test_undo_takes_back_a_flush(view, engine):
    store(engine, b"a")
    view.begin_batch(5, 9, {0: 1})
    view.put(0, b"b", 0, b"1")
    view.delete(0, b"a")
    view.command_start()
    view.put(0, b"c", 0, b"1")
    view.flush_db(0)
    view.put(0, b"d", 0, b"1")
    assert view.count(0) == 1
    view.command_undo()
    assert view.count(0) == 1
    assert sorted(view.keys(0)) == [b"b"]
    effects = view.finish()
    assert effects.ranges == []
    assert effects.items.keys() == {physical_key(0, b"a"), physical_key(0, b"b")}


def test_flush_drops_the_overlay_and_hides_the_engine(view, engine):
    store(engine, b"a")
    store(engine, b"b", db=1)
    view.begin_batch(5, 9, {0: 1, 1: 1})
    view.put(0, b"c", 0, b"1")
    view.put(1, b"x", 0, b"1")
    view.flush_db(0)
    assert view.get(0, b"a") is None
    assert view.get(0, b"c") is None
    assert list(view.keys(0)) == []
    view.put(0, b"a", 0, b"2")
    assert view.count(0) == 1
    assert sorted(view.keys(1)) == [b"b", b"x"]
    effects = view.finish()
    assert effects.ranges == database_ranges(0, 0, 16383)
    assert effects.items.keys() == {physical_key(0, b"a"), physical_key(1, b"x")}
    assert effects.counts == {1: 1}


def test_flush_of_an_empty_database_is_no_effect(view):
    view.begin_batch(5, 9, {0: 0})
    view.flush_db(0)
    view.flush_db(7)
    assert view.finish() is None


def test_flush_twice_names_a_range_once(view, engine):
    store(engine, b"a")
    view.begin_batch(5, 9, {0: 1})
    view.flush_db(0)
    view.put(0, b"b", 0, b"1")
    view.flush_db(0)
    effects = view.finish()
    assert (effects.ranges, effects.items, effects.counts) == (
        database_ranges(0, 0, 16383),
        {},
        {0: -1},
    )


def test_flush_keeps_to_the_shards_slots(engine):
    view = View(engine.get, lambda low, high: iter(()), 0, 99)
    view.begin_batch(5, 9, {0: 1})
    view.flush_db(0)
    assert view.finish().ranges == [(b"m\0\0\0", b"m\0\0\x64")]


def test_scan_merges_overlay_and_engine_in_order(view, engine):
    names = [b"k%d" % number for number in range(20)]
    for name in names[:12]:
        store(engine, name)
    view.begin_batch(5, 9, {0: 12})
    for name in names[8:16]:
        view.put(0, name, 0, b"new")
    for name in (*names[:3], names[15]):
        view.delete(0, name)
    pairs = list(view.scan(0))
    assert [physical for physical, _ in pairs] == sorted(
        physical_key(0, name) for name in names[3:15]
    )
    assert sum(raw.endswith(b"new") for _, raw in pairs) == 7


def test_scan_starts_at_a_position(view, engine):
    for number in range(20):
        store(engine, b"k%d" % number)
    view.begin_read(5)
    everything = [physical for physical, _ in view.scan(0)]
    middle = int.from_bytes(everything[7][2:8], "big")
    assert [physical for physical, _ in view.scan(0, middle)] == everything[7:]
    assert [physical for physical, _ in view.scan(0, middle + 1)] == everything[8:]


def test_scan_leaves_expired_keys_out(view, engine):
    store(engine, b"a", expire_ms=1)
    store(engine, b"b")
    view.begin_read(5)
    assert list(view.keys(0)) == [b"b"]
    assert view.saw_expired
    view.begin_batch(5, 9, {0: 2})
    assert list(view.keys(0)) == [b"b"]
    assert view.finish().counts == {0: -1}


def test_count_walks_when_nobody_counted(view, engine):
    store(engine, b"a")
    store(engine, b"b", db=2)
    view.begin_read(5)
    assert (view.count(0), view.count(2), view.count(3)) == (1, 1, 0)
    view.begin_read(5, {0: 41})
    assert view.count(0) == 41


def test_a_batch_cannot_outgrow_an_entry(view):
    view._bytes_max = 100
    view.begin_batch(5, 9, {})
    view.put(0, b"a", 0, b"x" * 60)
    with pytest.raises(CommandError, match=BATCH_FULL):
        view.put(0, b"b", 0, b"x" * 60)
    # Overwriting counts once, deleting makes room.
    for _ in range(5):
        view.put(0, b"a", 0, b"x" * 60)
    view.delete(0, b"a")
    view.put(0, b"b", 0, b"x" * 60)
    assert view.finish().counts == {0: 1}


def test_draw_is_spread_and_repeatable():
    first, second = (View({}.get, lambda low, high: (), 0, 9) for _ in range(2))
    first.begin_read(7)
    second.begin_read(7)
    draws = [first.draw(10) for _ in range(200)]
    assert draws == [second.draw(10) for _ in range(200)]
    assert all(8 <= draws.count(number) <= 35 for number in range(10))


def test_undo_of_a_flush_forgets_what_was_read_under_it(view, engine):
    store(engine, b"a")
    view.begin_batch(5, 9, {0: 1})
    view.command_start()
    view.flush_db(0)
    assert view.get(0, b"a") is None
    view.command_undo()
    assert view.get_string(0, b"a") == b"v"
    view.put(0, b"a", 0, b"2")
    assert view.finish().counts == {}
