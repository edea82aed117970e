"""Fresh writes and hot records in front of an engine."""

import random

from quoit.storage.buffered import BufferedEngine
from quoit.storage.memory import MemoryEngine

STATE = b"!\0\0\0\1"
ROOMY = 1 << 30


def made(cache_bytes=ROOMY, buffer_bytes=ROOMY):
    inner = MemoryEngine(crashable=True)
    return inner, BufferedEngine(inner, cache_bytes, buffer_bytes)


def settle(engine, records=1000):
    while not engine.settle(records):
        pass


def test_writes_are_seen_at_once_and_reach_the_engine_when_settled():
    inner, engine = made()
    engine.write([([], {b"ma": b"1"}), ([], {b"x1": b""}), ([], {STATE: b"s"})])
    assert [engine.get(key) for key in (b"ma", b"x1", STATE)] == [b"1", b"", b"s"]
    assert not inner.data
    settle(engine)
    assert inner.data == {b"ma": b"1", b"x1": b"", STATE: b"s"}


def test_deletions_hide_what_the_engine_still_has():
    inner, engine = made(cache_bytes=0)
    engine.write([([], {b"ma": b"1"})])
    settle(engine)
    engine.write([([], {b"ma": None})])
    assert engine.get(b"ma") is None
    assert inner.data == {b"ma": b"1"}
    settle(engine)
    assert not inner.data


def test_the_state_record_is_settled_last():
    inner, engine = made()
    engine.write([([], {STATE: b"1"})])
    for number in range(10):
        engine.write([([], {b"m%d" % number: b"v"}), ([], {STATE: b"%d" % number})])
    while not engine.settle(3):
        assert STATE not in inner.data
    assert inner.data[STATE] == b"9"
    assert len(inner.data) == 11


def test_a_crash_while_settling_leaves_newer_records_never_a_newer_state():
    inner, engine = made()
    engine.write([([], {b"ma": b"1", b"mb": b"1"}), ([], {STATE: b"1"})])
    settle(engine)
    inner.flush()
    engine.write([([], {b"ma": b"2", b"mb": b"2"}), ([], {STATE: b"2"})])
    engine.settle(1)
    found = inner.crash(kept=1).data
    assert found == {b"ma": b"2", b"mb": b"1", STATE: b"1"}


def test_settling_covers_what_was_there_when_it_began_and_newer_writes_win():
    inner, engine = made(cache_bytes=0)
    engine.write([([], {b"ma": b"old", b"mb": b"old", b"mc": b"old"})])
    assert not engine.settle(1)
    engine.write([([], {b"ma": b"new", b"mc": b"new"})])
    assert engine.get(b"ma") == b"new"
    assert engine.get(b"mb") == b"old"
    settle(engine, 1)
    assert inner.data == {b"ma": b"old", b"mb": b"old", b"mc": b"old"}
    assert engine.get(b"mc") == b"new"
    settle(engine)
    assert inner.data[b"mc"] == b"new"


def test_a_scan_sees_everything_also_in_the_middle_of_settling():
    inner, engine = made()
    engine.write([([], {b"ma": b"1", b"mb": b"1"})])
    engine.settle(1)
    engine.write([([], {b"mb": b"2", b"mc": b"2"})])
    assert list(engine.scan(b"m", b"n")) == [(b"ma", b"1"), (b"mb", b"2"), (b"mc", b"2")]
    assert engine.settle(1)
    engine.write([([], {b"md": b"3"})])
    assert b"md" not in inner.data


def test_a_scan_of_the_expiry_index_leaves_records_where_they_are():
    inner, engine = made()
    engine.write([([], {b"ma": b"1"}), ([], {b"x1": b""})])
    assert list(engine.scan(b"x", b"x2")) == [(b"x1", b"")]
    assert inner.data == {b"x1": b""}


def test_deleting_a_range_is_atomic_and_behind_all_that_came_before():
    inner, engine = made()
    engine.write([([], {b"ma": b"1", b"mb": b"1"})])
    engine.write([([(b"m", b"n")], {b"mc": b"2"}), ([], {STATE: b"2"})])
    assert inner.data == {b"mc": b"2", STATE: b"2"}
    assert engine.get(b"ma") is None


def test_it_is_full_by_bytes_and_empty_again_when_settled():
    _, engine = made(buffer_bytes=1000)
    assert not engine.full
    engine.write([([], {b"ma": b"v" * 2000})])
    assert engine.full
    settle(engine)
    assert not engine.full


def test_it_agrees_with_a_dict_whatever_the_order_of_steps():
    rng = random.Random(3)
    for _ in range(30):
        inner, engine = made(cache_bytes=rng.choice([0, 2000, ROOMY]))
        model: dict[bytes, bytes] = {}
        for step in range(200):
            key = b"m%02d" % rng.randrange(40)
            kind = rng.randrange(8)
            if kind < 4:
                value = b"%d" % step if rng.random() < 0.8 else None
                engine.write([([], {key: value})])
                model.pop(key, None)
                if value is not None:
                    model[key] = value
            elif kind == 4:
                engine.settle(rng.randrange(1, 8))
            elif kind == 5:
                assert list(engine.scan(b"m", b"n")) == sorted(model.items())
            elif kind == 6 and rng.random() < 0.2:
                engine.write([([(b"m0", b"m2")], {})])
                model = {k: v for k, v in model.items() if not b"m0" <= k < b"m2"}
            assert engine.get(key) == model.get(key)
        settle(engine)
        settle(engine)
        assert inner.data == model
