"""Torn tails against damage, byte by byte; what a damaged log still knows; missing files."""

import random
from contextlib import suppress

import pytest

from quoit.base.errors import DiskFault
from quoit.quorum.agreement import HardState
from quoit.sim.disk import SimDisk
from quoit.storage import log_format as form
from quoit.storage.log import Log, Write
from quoit.storage.mark import SLOT_BYTES
from tests.unit.storage.helpers import (
    SEGMENT_BYTES,
    entries,
    new_disk,
    open_log,
    restart,
    update,
    write,
)

MARK = "synced.mark"


def three_writes() -> tuple[SimDisk, list[Write]]:
    disk = new_disk()
    log, _ = open_log(disk)
    writes = [
        write(log, update(0, entries(1, 3), hard=(4, 2)), update(1, entries(1, 2), hard=(7, 1))),
        write(log, update(0, entries(3, 4, size=60))),
        write(log, update(1, entries(2, 4)), update(0, hard=(5, 3))),
    ]
    return disk, writes


def wipe_marks(disk: SimDisk) -> None:
    file = disk.open(MARK)
    for slot in range(4):
        file.pwrite(slot * SLOT_BYTES, bytes(16))
    file.sync()


def test_every_flipped_byte_of_a_synced_record_is_found() -> None:
    _, writes = three_writes()
    for which, made in enumerate(writes):
        kept = [[], entries(1, 3), entries(1, 3) + entries(3, 4, size=60)][which]
        for at in range(len(made.data)):
            disk, _ = three_writes()
            disk.flip_at(form.segment_name(made.segment), made.offset + at, at % 8)
            _, recovery = restart(disk)
            assert recovery.damaged
            found = recovery.shards[0]
            assert found.damaged and found.entries == kept
            assert (found.must_reach, found.must_term) == (3, 5)
            assert found.hard_state == HardState(5, 3)
            other = recovery.shards[1]
            assert other.damaged and other.must_reach == 3
            assert other.hard_state == HardState(7, 1)
            assert "votes, leads and acknowledges nothing" in recovery.notes[0]


def test_every_cut_of_an_unsynced_record_is_a_torn_tail() -> None:
    disk, writes = three_writes()
    last = writes[-1]
    for cut in range(len(last.data)):
        disk = new_disk()
        log, _ = open_log(disk)
        write(log, update(0, entries(1, 3), hard=(4, 2)), update(1, entries(1, 2), hard=(7, 1)))
        made = log.prepare([update(0, entries(3, 4, size=60), hard=(9, 9)), update(1, hard=(9, 9))])
        disk.open(form.segment_name(made.segment)).pwrite(made.offset, made.data[:cut])
        _, recovery = restart(disk)
        assert not recovery.damaged
        assert recovery.shards[0].entries == entries(1, 3)
        # Half a batch is dropped as one: neither its entries nor its hard states are there.
        assert recovery.shards[0].hard_state == HardState(4, 2)
        assert recovery.shards[1].hard_state == HardState(7, 1)


def test_a_torn_tail_with_holes_is_cut_off_whatever_sectors_arrived() -> None:
    for missing in range(8):
        disk = new_disk()
        log, _ = open_log(disk)
        write(log, update(0, entries(1, 2)))
        made = log.prepare([update(0, entries(2, 4, size=1800))])
        data = bytearray(made.data)
        data[missing * 512 : missing * 512 + 512] = bytes(min(512, len(data) - missing * 512))
        disk.open(form.segment_name(made.segment)).pwrite(made.offset, bytes(data))
        log, recovery = restart(disk)
        assert not recovery.damaged
        assert recovery.torn_bytes > 0
        assert "cut off" in recovery.notes[0]
        assert recovery.shards[0].entries == entries(1, 2)
        # What is cut off stays cut off, also when new records follow.
        write(log, update(0, entries(2, 3, term=2)))
        _, recovery = restart(disk)
        assert (recovery.damaged, recovery.torn_bytes) == (False, 0)
        assert recovery.shards[0].entries == entries(1, 2) + entries(2, 3, term=2)


def test_zeros_in_place_of_the_last_synced_record_are_damage() -> None:
    disk, writes = three_writes()
    last = writes[-1]
    disk.open(form.segment_name(last.segment)).pwrite(last.offset, bytes(len(last.data)))
    _, recovery = restart(disk)
    assert recovery.damaged
    assert recovery.shards[1].must_reach == 3


def test_old_bytes_behind_the_end_are_neither_data_nor_damage() -> None:
    # Blocks that the file system hands out again may show an older segment's records.
    disk, writes = three_writes()
    last = writes[-1]
    file = disk.open(form.segment_name(last.segment))
    end = last.offset + len(last.data)
    for shift in (0, 7, 100):
        file.pwrite(end + shift, writes[0].data + writes[1].data)
    foreign = form.encode_record(last.segment + 5, end, form.ORDINARY, 99, b"")
    file.pwrite(end + 1000, foreign)
    file.sync()
    _, recovery = restart(disk)
    assert not recovery.damaged
    assert recovery.shards[1].entries == entries(1, 4)


def test_damage_is_remembered_until_the_shard_is_healed() -> None:
    disk, writes = three_writes()
    disk.flip_at(form.segment_name(writes[0].segment), writes[0].offset + 40)
    _, recovery = restart(disk)
    assert recovery.damaged
    for _ in range(2):
        log, recovery = restart(disk)
        assert not recovery.damaged
        assert (recovery.shards[0].damaged, recovery.shards[0].must_reach) == (True, 3)
        assert recovery.shards[0].must_term == 5
    write(log, update(0, entries(1, 6, term=6), hard=(6, 0)))
    assert restart(disk)[1].shards[0].damaged
    log, _ = restart(disk)
    write(log, update(0, healed=True))
    _, recovery = restart(disk)
    assert not recovery.shards[0].damaged
    assert recovery.shards[0].entries == entries(1, 6, term=6)
    assert recovery.shards[1].damaged


def test_after_damage_a_shard_that_was_never_mentioned_is_not_new() -> None:
    disk, writes = three_writes()
    disk.flip_at(form.segment_name(writes[0].segment), writes[0].offset + 40)
    for _ in range(2):
        log, recovery = restart(disk)
        found = recovery.find(9)
        assert found is not None and found.damaged
    write(log, update(9, entries(1, 2), hard=(1, 1)))
    log, recovery = restart(disk)
    assert recovery.shards[9].damaged
    write(log, update(9, healed=True))
    assert not restart(disk)[1].shards[9].damaged


def test_without_the_mark_damage_before_a_valid_record_is_still_found_and_bounded() -> None:
    disk, writes = three_writes()
    disk.flip_at(form.segment_name(writes[1].segment), writes[1].offset + 30)
    wipe_marks(disk)
    _, recovery = restart(disk)
    assert recovery.damaged
    # Entry 3 of shard 0 lay in the damaged record; no valid record speaks of it.
    assert recovery.shards[0].must_reach >= 3
    assert recovery.shards[1].must_reach >= 3
    assert recovery.shards[0].hard_state == HardState(5, 3)


def test_terms_and_votes_survive_the_loss_of_the_whole_log() -> None:
    disk, _ = three_writes()
    for name in disk.list():
        if name.endswith(".log"):
            disk.remove(name)
    _, recovery = restart(disk)
    assert recovery.damaged
    assert recovery.shards[0].hard_state == HardState(5, 3)
    assert (recovery.shards[0].must_reach, recovery.shards[1].must_reach) == (3, 3)


@pytest.mark.parametrize("marks", [True, False])
def test_a_missing_segment_is_damage_wherever_it_was(marks: bool) -> None:
    def filled() -> SimDisk:
        disk = new_disk()
        log, _ = open_log(disk)
        write(log, update(1, entries(1, 2)))
        for index in range(1, 60):
            write(log, update(0, entries(index, index + 1, size=500)))
        return disk

    names = [name for name in filled().list() if name.endswith(".log")]
    assert len(names) > 3
    for name in names if marks else names[:-1]:
        disk = filled()
        disk.remove(name)
        if not marks:
            wipe_marks(disk)
        _, recovery = restart(disk)
        found = recovery.find(0)
        assert found is not None and found.damaged
        assert found.must_reach >= 59 if marks else True
        other = recovery.find(1)
        assert other is not None
        assert other.damaged or other.entries == entries(1, 2)


@pytest.mark.parametrize("slot", range(4))
def test_a_damaged_mark_alone_does_no_harm(slot: int) -> None:
    disk, _ = three_writes()
    for at in range(60):
        disk.flip_at(MARK, slot * SLOT_BYTES + at, at % 8)
    _, recovery = restart(disk)
    assert not recovery.damaged
    assert recovery.shards[0].entries == entries(1, 3) + entries(3, 4, size=60)
    assert recovery.shards[0].hard_state == HardState(5, 3)


def test_a_start_that_is_cut_off_leaves_everything_as_it_was() -> None:
    for seed in range(30):
        disk, _ = three_writes()
        disk.crash()
        twin = disk.clone(random.Random(seed))
        twin.sync_error(times=1 + seed % 3)
        with suppress(DiskFault):
            open_log(twin)
        twin.clear_faults()
        twin.crash(torn=True)
        _, recovery = open_log(twin)
        assert not recovery.damaged, recovery.notes
        assert recovery.shards[1].entries == entries(1, 4)


def test_the_size_of_a_segment_may_change() -> None:
    disk, _ = three_writes()
    disk.kill()
    log, recovery = Log.open(disk, SEGMENT_BYTES * 4)
    assert recovery.shards[1].entries == entries(1, 4)
    write(log, update(1, entries(4, 5, size=2 * SEGMENT_BYTES)))
    assert len(restart(disk)[1].shards[1].entries) == 4
