"""What quoit counts on from a disk, held against the real one and the simulated one."""

import random
from collections.abc import Callable
from pathlib import Path

import pytest

from quoit.base.errors import DiskFault
from quoit.base.seams import Disk
from quoit.runtime.disk import RealDisk
from quoit.sim.disk import SimDisk


@pytest.fixture(params=["real", "sim"])
def disk(request: pytest.FixtureRequest, tmp_path: Path) -> Disk:
    if request.param == "real":
        return RealDisk(str(tmp_path / "deep" / "directory"))
    return SimDisk(random.Random(1))


@pytest.fixture
def sim() -> SimDisk:
    return SimDisk(random.Random(1))


def test_what_is_written_can_be_read_at_once(disk: Disk) -> None:
    file = disk.open("a", create=True)
    file.pwrite(5000, b"hello")
    assert file.size() == 5005
    assert file.pread(4998, 100) == b"\0\0hello"
    assert file.pread(5005, 10) == b""
    assert file.pread(9999, 10) == b""
    file.pwrite(5001, b"u")
    assert file.pread(5000, 5) == b"hullo"


def test_a_write_over_many_pages_is_whole(disk: Disk) -> None:
    data = random.Random(3).randbytes(20_000)
    file = disk.open("a", create=True)
    file.pwrite(123, data)
    assert file.pread(123, len(data)) == data
    assert file.pread(123 + 4096, 5000) == data[4096:9096]


def test_two_handles_show_one_file(disk: Disk) -> None:
    one = disk.open("a", create=True)
    one.pwrite(0, b"x")
    assert disk.open("a").pread(0, 1) == b"x"


def test_an_absent_file_is_not_found(disk: Disk) -> None:
    with pytest.raises(FileNotFoundError):
        disk.open("nothing")
    with pytest.raises(FileNotFoundError):
        disk.remove("nothing")
    assert disk.list() == []


def test_create_keeps_what_is_there(disk: Disk) -> None:
    disk.open("a", create=True).pwrite(0, b"kept")
    assert disk.open("a", create=True).pread(0, 4) == b"kept"


def test_allocation_makes_zeros_and_never_shrinks(disk: Disk) -> None:
    file = disk.open("a", create=True)
    file.pwrite(0, b"head")
    file.allocate(10_000)
    assert file.size() == 10_000
    assert file.pread(0, 10_000) == b"head" + bytes(9996)
    file.allocate(100)
    assert file.size() == 10_000


def test_truncate_cuts_and_extends_with_zeros(disk: Disk) -> None:
    file = disk.open("a", create=True)
    file.pwrite(0, b"x" * 9000)
    file.truncate(5000)
    assert file.size() == 5000
    file.truncate(9000)
    assert file.pread(4990, 20) == b"x" * 10 + bytes(10)


def test_names_are_listed_in_order_and_renamed_over_others(disk: Disk) -> None:
    for name in ("b", "c", "a"):
        disk.open(name, create=True).pwrite(0, name.encode())
    assert disk.list() == ["a", "b", "c"]
    disk.rename("c", "a")
    assert disk.list() == ["a", "b"]
    assert disk.open("a").pread(0, 1) == b"c"
    disk.remove("b")
    disk.sync_directory()
    assert disk.list() == ["a"]


def test_an_open_file_outlives_its_name(disk: Disk) -> None:
    file = disk.open("a", create=True)
    file.pwrite(0, b"still")
    disk.remove("a")
    assert file.pread(0, 5) == b"still"


def test_sync_and_close_can_be_called(disk: Disk) -> None:
    file = disk.open("a", create=True)
    file.pwrite(0, b"x")
    file.sync()
    file.close()
    file.close()
    assert disk.free_bytes() > 0


def test_a_closed_real_file_gives_a_disk_fault(tmp_path: Path) -> None:
    file = RealDisk(str(tmp_path)).open("a", create=True)
    file.close()
    calls: list[Callable[[], object]] = [
        lambda: file.pwrite(0, b"x"), file.sync, file.size, lambda: file.pread(0, 1),
        lambda: file.allocate(1), lambda: file.truncate(1),
    ]  # fmt: skip
    for call in calls:
        with pytest.raises(DiskFault):
            call()


def test_directories_in_a_real_directory_are_not_files(tmp_path: Path) -> None:
    (tmp_path / "log").mkdir()
    assert RealDisk(str(tmp_path)).list() == []


def test_a_path_that_cannot_be_a_directory_gives_a_disk_fault(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DiskFault):
        RealDisk(str(tmp_path / "file" / "below"))


# The simulated disk's faults


def test_a_crash_forgets_what_was_not_synced(sim: SimDisk) -> None:
    file = sim.open("a", create=True)
    file.pwrite(0, b"synced")
    file.sync()
    sim.sync_directory()
    file.pwrite(0, b"losing")
    file.pwrite(9000, b"more")
    sim.crash()
    again = sim.open("a")
    assert (again.pread(0, 100), again.size()) == (b"synced", 6)
    with pytest.raises(DiskFault):
        file.pwrite(0, b"ghost")


def test_a_killed_process_loses_nothing_that_it_wrote(sim: SimDisk) -> None:
    file = sim.open("a", create=True)
    file.pwrite(0, b"cached")
    sim.kill()
    assert sim.open("a").pread(0, 6) == b"cached"
    with pytest.raises(DiskFault):
        file.sync()


def test_torn_crashes_keep_subsets_prefixes_and_parts_of_pages() -> None:
    seen = set()
    for seed in range(200):
        sim = SimDisk(random.Random(seed))
        file = sim.open("a", create=True)
        file.allocate(3 * 4096)
        file.sync()
        sim.sync_directory()
        file.pwrite(0, b"x" * 3 * 4096)
        sim.crash(torn=True)
        kept = sim.open("a").pread(0, 3 * 4096)
        seen.add(tuple(kept[page * 4096 : page * 4096 + 4096].count(b"x") for page in range(3)))
    assert {(0, 0, 0), (4096, 0, 0), (0, 4096, 0), (4096, 0, 4096)} <= seen
    assert any(0 < count < 4096 and count % 512 == 0 for counts in seen for count in counts)


def test_names_that_were_not_synced_may_vanish_or_return() -> None:
    seen = set()
    for seed in range(50):
        sim = SimDisk(random.Random(seed))
        sim.open("old", create=True)
        sim.sync_directory()
        sim.remove("old")
        sim.open("new", create=True)
        sim.crash()
        seen.add(tuple(sim.list()))
    assert seen == {(), ("old",), ("new",), ("new", "old")}


def test_a_failed_sync_leaves_pages_that_look_written_and_are_not() -> None:
    lost = 0
    for seed in range(20):
        sim = SimDisk(random.Random(seed))
        file = sim.open("a", create=True)
        file.pwrite(0, b"old")
        file.sync()
        sim.sync_directory()
        sim.sync_error()
        file.pwrite(0, b"new")
        with pytest.raises(DiskFault):
            file.sync()
        file.sync()
        assert file.pread(0, 3) == b"new"
        sim.crash()
        lost += sim.open("a").pread(0, 3) == b"old"
    assert 0 < lost < 20


def test_a_full_disk_takes_writes_where_room_was_reserved(sim: SimDisk) -> None:
    file = sim.open("a", create=True)
    file.allocate(8192)
    sim.full()
    file.pwrite(4096, b"x" * 4096)
    with pytest.raises(DiskFault):
        file.pwrite(8000, b"x" * 1000)
    with pytest.raises(DiskFault):
        file.allocate(8193)
    assert sim.free_bytes() == 0
    sim.clear_faults()
    file.allocate(8193)


def test_a_read_only_disk_refuses_every_change(sim: SimDisk) -> None:
    file = sim.open("a", create=True)
    sim.readonly()
    calls: list[Callable[[], object]] = [
        lambda: file.pwrite(0, b"x"), lambda: file.truncate(0), lambda: sim.remove("a"),
        lambda: sim.rename("a", "b"), lambda: sim.open("c", create=True), lambda: file.allocate(9),
    ]  # fmt: skip
    for call in calls:
        with pytest.raises(DiskFault):
            call()
    assert sim.list() == ["a"]


def test_a_lying_sync_is_found_out_by_a_crash(sim: SimDisk) -> None:
    file = sim.open("a", create=True)
    sim.sync_directory()
    sim.lie()
    file.pwrite(0, b"x")
    file.sync()
    sim.crash()
    assert sim.open("a").size() == 0


def test_a_flip_changes_one_bit_of_something_written(sim: SimDisk) -> None:
    assert sim.flip("log") is None
    file = sim.open("0000000000000001.log", create=True)
    file.pwrite(100, b"data")
    file.sync()
    found = sim.flip("log")
    assert found is not None and 100 <= found[1] < 104
    changed = file.pread(0, 104)
    bits = sum((a ^ b).bit_count() for a, b in zip(changed, bytes(100) + b"data", strict=True))
    assert bits == 1


def test_an_image_brings_an_older_disk_back(sim: SimDisk) -> None:
    file = sim.open("a", create=True)
    file.pwrite(0, b"old")
    file.sync()
    sim.sync_directory()
    image = sim.image()
    file.pwrite(0, b"new")
    file.sync()
    twin = sim.clone(random.Random(2))
    sim.restore(image)
    assert sim.open("a").pread(0, 3) == b"old"
    assert twin.open("a").pread(0, 3) == b"new"
    sim.wipe()
    assert sim.list() == []


def test_the_same_seed_tears_in_the_same_way() -> None:
    def torn() -> bytes:
        sim = SimDisk(random.Random(9))
        file = sim.open("a", create=True)
        sim.sync_directory()
        file.pwrite(0, bytes(range(1, 200)) * 300)
        sim.crash(torn=True)
        return sim.open("a").pread(0, 100_000)

    assert torn() == torn()
