"""Manifests that RocksDB reads, refuses, or would never come back from."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from quoit.base.errors import EngineDamaged
from quoit.runtime.manifest import _head, _valid_end, check_manifest
from quoit.storage.engine import RocksEngine

OPEN = """
import sys
from quoit.base.errors import EngineDamaged
from quoit.storage.engine import RocksEngine
for place in sys.argv[1:]:
    try:
        RocksEngine(place).close()
    except EngineDamaged:
        print("damaged", flush=True)
    else:
        print("opened", flush=True)
"""


@pytest.fixture
def manifest(tmp_path) -> Path:
    engine = RocksEngine(str(tmp_path))
    for number in range(3):
        engine.write([([], {b"key": b"%d" % number})])
        engine.flush()
    engine.close()
    return next(tmp_path.glob("MANIFEST-*"))


def records(data):
    at, found = 0, []
    while at < len(data):
        found.append(at)
        at += _head.size + _head.unpack_from(data, at)[1]
    return found


def test_a_whole_manifest_passes(manifest):
    data = manifest.read_bytes()
    assert len(records(data)) > 3
    assert _valid_end(data) == len(data)
    check_manifest(manifest.parent)


@pytest.mark.parametrize(("cut", "tail"), [(3, b""), (0, bytes(100)), (0, b"\xff" * 50)])
def test_a_torn_tail_is_left_to_the_engine(manifest, cut, tail):
    data = manifest.read_bytes()
    manifest.write_bytes(data[: len(data) - cut] + tail)
    check_manifest(manifest.parent)
    RocksEngine(str(manifest.parent)).close()


def test_files_that_are_missing_are_left_to_the_engine(manifest):
    manifest.unlink()
    check_manifest(manifest.parent)
    with pytest.raises(EngineDamaged, match="No such file"):
        RocksEngine(str(manifest.parent))
    (manifest.parent / "CURRENT").unlink()
    check_manifest(manifest.parent)


@pytest.mark.parametrize("which", [0, 1, -1])
def test_a_record_of_a_recycled_log_is_found_as_the_engine_might_not_come_back(manifest, which):
    data = bytearray(manifest.read_bytes())
    at = records(data)[which]
    data[at + _head.size - 1] ^= 4
    manifest.write_bytes(data)
    with pytest.raises(EngineDamaged, match=f"at byte {at}"):
        check_manifest(manifest.parent)


def test_the_engine_comes_back_from_all_other_damage_of_the_last_record(manifest, tmp_path):
    data = manifest.read_bytes()
    last = records(data)[-1]
    found, places = 0, []
    for at in range(last, last + _head.size + 2):
        for bit in range(8):
            changed = bytearray(data)
            changed[at] ^= 1 << bit
            place = tmp_path / f"{at}-{bit}"
            place.mkdir()
            for name in (*tmp_path.glob("*.sst"), tmp_path / "CURRENT"):
                shutil.copy(name, place)
            (place / manifest.name).write_bytes(changed)
            try:
                check_manifest(place)
            except EngineDamaged:
                found += 1
            else:
                places.append(str(place))
    assert (found, len(places)) == (1, 71)
    # In a process of its own, which can be ended if it hangs.
    done = subprocess.run(
        [sys.executable, "-c", OPEN, *places], capture_output=True, timeout=60, text=True
    )
    assert done.stdout.count("opened") + done.stdout.count("damaged") == len(places), done.stderr
