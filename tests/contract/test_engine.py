"""What quoit counts on from an engine, held against RocksDB and its in-memory twin."""

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from quoit.base.errors import Corruption, EngineDamaged, WorldFault
from quoit.storage.api import Engine, Group
from quoit.storage.buffered import BufferedEngine
from quoit.storage.engine import RocksEngine
from quoit.storage.memory import MemoryEngine


@pytest.fixture(params=["rocks", "memory", "buffered rocks", "buffered memory"])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    rocks = request.param.endswith("rocks")
    made: Engine = RocksEngine(str(tmp_path / "db")) if rocks else MemoryEngine()
    if request.param.startswith("buffered"):
        made = BufferedEngine(made, 10_000, 10_000)
    yield made
    made.close()


def put(engine: Engine, **items: bytes | None) -> None:
    engine.write([([], {key.encode(): value for key, value in items.items()})])


def test_what_is_written_is_read(engine: Engine) -> None:
    put(engine, a=b"1", b=b"")
    assert engine.get(b"a") == b"1"
    assert engine.get(b"b") == b""
    assert engine.get(b"c") is None
    put(engine, a=None, b=b"2", c=None)
    assert engine.get(b"a") is None
    assert engine.get(b"b") == b"2"


def test_groups_apply_in_order_ranges_before_items(engine: Engine) -> None:
    put(engine, a=b"1", b=b"1", c=b"1", d=b"1")
    engine.write(
        [
            ([(b"a", b"c")], {b"b": b"2"}),
            ([], {b"a": b"3"}),
            ([(b"b", b"c"), (b"d", b"e")], {b"e": b"4"}),
        ]
    )
    assert list(engine.scan(b"", b"\xff")) == [(b"a", b"3"), (b"c", b"1"), (b"e", b"4")]


def test_scan_is_ordered_bounded_and_can_run_backwards(engine: Engine) -> None:
    keys = [bytes(random.Random(i).randbytes(1 + i % 5)) for i in range(200)]
    engine.write([([], {key: key for key in keys})])
    low, high = b"\x20", b"\xb0\x01"
    expected = [(key, key) for key in sorted(set(keys)) if low <= key < high]
    assert list(engine.scan(low, high)) == expected
    assert list(engine.scan(low, high, reverse=True)) == expected[::-1]
    assert list(engine.scan(b"\x50", b"\x50")) == []
    assert list(engine.scan(b"\x60", b"\x50")) == []


@pytest.mark.parametrize("reverse", [False, True])
def test_a_scan_shows_the_moment_it_was_made(engine: Engine, reverse: bool) -> None:
    put(engine, a=b"1", b=b"1", c=b"1", d=b"1")
    late = engine.scan(b"a", b"z", reverse=reverse)
    begun = engine.scan(b"a", b"z", reverse=reverse)
    first = next(begun)
    engine.write([([(b"b", b"d")], {b"a": b"2", b"d": None, b"e": b"2", b"bb": b"2"})])
    before = [(key, b"1") for key in (b"a", b"b", b"c", b"d")]
    before = before[::-1] if reverse else before
    assert [first, *begun] == before
    engine.flush()
    assert list(late) == before
    assert list(engine.scan(b"a", b"z")) == [(b"a", b"2"), (b"bb", b"2"), (b"e", b"2")]


def test_scans_of_two_moments_do_not_disturb_each_other(engine: Engine) -> None:
    put(engine, a=b"1", c=b"1")
    one = engine.scan(b"a", b"z")
    assert next(one) == (b"a", b"1")
    put(engine, b=b"2")
    two = engine.scan(b"a", b"z")
    put(engine, b=None, c=None)
    assert list(two) == [(b"a", b"1"), (b"b", b"2"), (b"c", b"1")]
    assert list(one) == [(b"c", b"1")]


def test_random_writes_agree_with_a_dict(engine: Engine) -> None:
    rng = random.Random(7)
    model: dict[bytes, bytes] = {}
    for turn in range(150):
        groups: list[Group] = []
        for _ in range(rng.randrange(1, 3)):
            ranges = []
            if rng.random() < 0.2:
                low = b"%03d" % rng.randrange(0, 300)
                high = b"%03d" % rng.randrange(0, 300)
                if low < high:
                    ranges.append((low, high))
            items = {
                b"%03d" % rng.randrange(0, 300): rng.choice([None, b"%d" % turn])
                for _ in range(rng.choice([1, 3, 80]))
            }
            groups.append((ranges, items))
            for low, high in ranges:
                model = {key: value for key, value in model.items() if not low <= key < high}
            for key, value in items.items():
                if value is None:
                    model.pop(key, None)
                else:
                    model[key] = value
        engine.write(groups)
        if rng.random() < 0.5:
            assert list(engine.scan(b"", b"\xff")) == sorted(model.items())
        key = b"%03d" % rng.randrange(0, 300)
        assert engine.get(key) == model.get(key)
    assert engine.bytes_used() > 0


def test_flush_close_and_open_again_keep_everything(tmp_path: Path) -> None:
    path = str(tmp_path / "db")
    engine = RocksEngine(path)
    put(engine, a=b"1")
    engine.flush()
    put(engine, b=b"2")
    engine.close()
    engine.close()
    engine = RocksEngine(path)
    assert next(engine.scan(b"", b"\xff")) == (b"a", b"1")
    engine.close()


def test_a_checkpoint_is_a_whole_copy(tmp_path: Path) -> None:
    engine = RocksEngine(str(tmp_path / "db"))
    put(engine, a=b"1", b=b"2")
    engine.checkpoint(str(tmp_path / "copy"))
    put(engine, a=b"later")
    copy = RocksEngine(str(tmp_path / "copy"))
    assert list(copy.scan(b"", b"\xff")) == [(b"a", b"1"), (b"b", b"2")]
    copy.close()
    engine.close()


def filled(tmp_path: Path) -> tuple[Path, dict[bytes, bytes]]:
    """A closed engine's directory whose data are in table files."""
    path = tmp_path / "db"
    engine = RocksEngine(str(path))
    pairs = {b"m%06d" % i: b"value %d " % i * 8 for i in range(5000)}
    items: dict[bytes, bytes | None] = dict(pairs)
    engine.write([([], items)])
    engine.flush()
    engine.close()
    return path, pairs


@pytest.mark.parametrize("seed", range(12))
def test_a_flipped_bit_in_a_table_is_an_error_and_never_wrong_data(
    tmp_path: Path, seed: int
) -> None:
    path, pairs = filled(tmp_path)
    rng = random.Random(seed)
    table = next(path.glob("*.sst"))
    data = bytearray(table.read_bytes())
    data[rng.randrange(0, len(data))] ^= 1 << rng.randrange(0, 8)
    table.write_bytes(data)
    try:
        engine = RocksEngine(str(path))
    except Corruption:
        return
    for reverse in (False, True):
        try:
            found = list(engine.scan(b"m", b"n", reverse=reverse))
        except Corruption as error:
            assert "checksum mismatch" in str(error) or "orrupt" in str(error)
        else:
            assert found == sorted(pairs.items(), reverse=reverse)
    for key in rng.sample(sorted(pairs), 300):
        try:
            assert engine.get(key) == pairs[key]
        except Corruption:
            continue
    engine.close()


def test_a_missing_table_is_an_error(tmp_path: Path) -> None:
    path, _ = filled(tmp_path)
    next(path.glob("*.sst")).unlink()
    with pytest.raises(EngineDamaged):
        RocksEngine(str(path))


def test_a_second_process_is_refused(tmp_path: Path) -> None:
    engine = RocksEngine(str(tmp_path / "db"))
    with pytest.raises(WorldFault):
        RocksEngine(str(tmp_path / "db"))
    engine.close()


def test_memory_crash_returns_to_a_flush_or_to_a_write_after_it() -> None:
    engine = MemoryEngine(crashable=True)
    put(engine, a=b"1")
    engine.flush()
    put(engine, a=b"2", b=b"2")
    count = engine.begin_flush()
    put(engine, c=b"3")
    everything = [(b"a", b"2"), (b"b", b"2"), (b"c", b"3")]
    assert list(engine.scan(b"", b"\xff")) == everything
    assert list(engine.crash().scan(b"", b"\xff")) == [(b"a", b"1")]
    assert list(engine.crash(1).scan(b"", b"\xff")) == everything[:2]
    assert list(engine.crash(2).scan(b"", b"\xff")) == everything
    engine.end_flush(count)
    again = engine.crash()
    assert list(again.scan(b"", b"\xff")) == everything[:2]
    put(again, a=None)
    assert list(again.crash().scan(b"", b"\xff")) == everything[:2]
