"""The log's writes: groups of shards, suffixes, segments, reading back, release, room, fail-stop."""

import time

import pytest

from quoit.base.errors import Corruption, DiskFault, DiskFull, InvariantViolated
from quoit.quorum.agreement import Entry, HardState
from quoit.sim.disk import SimDisk
from quoit.storage import log_format as form
from quoit.storage.log import Log
from tests.unit.storage.helpers import (
    SEGMENT_BYTES,
    entries,
    new_disk,
    open_log,
    restart,
    update,
    write,
)


def test_one_write_serves_many_shards_and_is_one_record() -> None:
    disk = new_disk()
    log, _ = open_log(disk)
    made = write(log, update(0, entries(1, 3), hard=(1, 2)), update(5, entries(1, 2)))
    assert log.sequence == made.sequence == 2
    log, recovery = restart(disk)
    assert recovery.shards[0].entries == entries(1, 3)
    assert recovery.shards[0].hard_state == HardState(1, 2)
    assert recovery.shards[5].entries == entries(1, 2)
    assert not recovery.damaged
    assert recovery.notes == []


def test_an_unknown_shard_is_new_unless_something_was_lost() -> None:
    disk = new_disk()
    _, recovery = open_log(disk)
    assert recovery.find(3) is None


def test_a_conflicting_suffix_is_replaced() -> None:
    disk = new_disk()
    log, _ = open_log(disk)
    write(log, update(0, entries(1, 10)))
    write(log, update(0, entries(4, 6, term=2), hard=(2, 0)))
    expected = entries(1, 4) + entries(4, 6, term=2)
    assert log.reader(0).entries(1, 6, 1 << 20) == expected
    with pytest.raises(Corruption):
        log.reader(0).entries(6, 7, 1 << 20)
    assert restart(disk)[1].shards[0].entries == expected


def test_a_reset_forgets_the_log_and_starts_behind_the_snapshot() -> None:
    disk = new_disk()
    log, _ = open_log(disk)
    write(log, update(0, entries(1, 10)))
    write(log, update(0, entries(51, 53, term=3), reset=(50, 3)))
    assert log.reader(0).entries(51, 53, 1 << 20) == entries(51, 53, term=3)
    found = restart(disk)[1].shards[0]
    assert (found.compacted, found.entries) == ((50, 3), entries(51, 53, term=3))
    assert not found.damaged


def test_a_reset_below_the_last_index_forgets_what_is_above() -> None:
    disk = new_disk()
    log, _ = open_log(disk)
    write(log, update(0, entries(1, 10)))
    write(log, update(0, reset=(5, 4)))
    log, recovery = restart(disk)
    found = recovery.shards[0]
    assert (found.compacted, found.entries, found.damaged) == ((5, 4), [], False)
    write(log, update(0, entries(6, 7, term=4)))
    assert restart(disk)[1].shards[0].entries == entries(6, 7, term=4)


def test_reading_respects_the_byte_limit_and_gives_at_least_one() -> None:
    log, _ = open_log(new_disk())
    write(log, update(0, entries(1, 6, size=100)))
    reader = log.reader(0)
    assert [entry.index for entry in reader.entries(2, 6, 1)] == [2]
    assert [entry.index for entry in reader.entries(2, 6, 250)] == [2, 3]
    assert [entry.index for entry in reader.entries(2, 5, 1 << 20)] == [2, 3, 4]
    assert reader.entries(2, 2, 100) == []


def test_entries_larger_than_a_segment_get_one_of_their_own() -> None:
    disk = new_disk()
    log, _ = open_log(disk)
    large = [Entry(1, 1, 0, b"x" * (3 * SEGMENT_BYTES))]
    write(log, update(0, large))
    write(log, update(0, entries(2, 3)))
    assert log.reader(0).entries(1, 3, 1 << 20) == large + entries(2, 3)
    assert restart(disk)[1].shards[0].entries == large + entries(2, 3)


def test_reading_checks_what_it_reads() -> None:
    disk = new_disk()
    log, _ = open_log(disk)
    made = write(log, update(0, entries(1, 4)))
    disk.flip_at(form.segment_name(made.segment), made.locations[1][2] & 0xFFFFFFFF, 3)
    assert log.reader(0).entries(1, 2, 1 << 20) == entries(1, 2)
    with pytest.raises(Corruption, match="entry 2 of shard 0"):
        log.reader(0).entries(1, 4, 1 << 20)


def test_an_entry_in_a_wrong_place_is_not_taken() -> None:
    # D8: the disk returns another record's bytes, whole and with the right shard and index.
    disk = new_disk()
    log, _ = open_log(disk)
    one = write(log, update(0, entries(1, 2, term=1)))
    two = write(log, update(0, entries(1, 2, term=2)))
    file = disk.open(form.segment_name(one.segment))
    file.pwrite(two.offset, one.data)
    with pytest.raises(Corruption):
        log.reader(0).entries(1, 2, 1 << 20)
    assert restart(disk)[1].damaged


def test_segments_go_once_everything_in_them_is_compacted() -> None:
    disk = new_disk()
    log, _ = open_log(disk)
    for index in range(1, 100):
        write(log, update(0, entries(index, index + 1, size=500)), update(1, hard=(index, 1)))
        assert log.release() == 0
    before = log.segments
    assert before > 5
    write(log, update(0, compacted=(90, 1)))
    assert log.release() > 3
    write(log, update(1, hard=(200, 2)))
    on_disk = [name for name in disk.list() if form.segment_number(name) is not None]
    assert len(on_disk) == log.segments < before - 3
    assert log.reader(0).entries(91, 100, 1 << 20) == entries(91, 100, size=500)
    for torn in (False, True):
        disk.crash(torn=torn)
        log, recovery = open_log(disk)
        found = recovery.shards[0]
        assert (found.compacted, found.entries) == ((90, 1), entries(91, 100, size=500))
        assert recovery.shards[1].hard_state == HardState(200, 2)
        assert not any(shard.damaged for shard in recovery.shards.values())


def test_an_idle_shard_does_not_hold_segments() -> None:
    disk = new_disk()
    log, _ = open_log(disk)
    write(log, update(1, hard=(3, 1)))
    for index in range(1, 100):
        compacted = (index - 1, 1) if index > 1 else None
        write(log, update(0, entries(index, index + 1, size=500), compacted=compacted))
        log.release()
    assert log.segments <= 3
    assert restart(disk)[1].shards[1].hard_state == HardState(3, 1)


def test_restarts_do_not_pile_up_reserved_room() -> None:
    disk = new_disk()
    log, _ = open_log(disk)
    write(log, update(0, entries(1, 2)))
    for _ in range(20):
        log, _ = restart(disk)
    sizes = [disk.open(name).size() for name in disk.list() if name.endswith(".log")]
    assert sum(sizes) < 2 * SEGMENT_BYTES + 20 * 300
    write(log, update(0, entries(2, 3), compacted=(1, 1)))
    log.release()
    write(log, update(0, entries(3, 4)))
    assert len([name for name in disk.list() if name.endswith(".log")]) == 1


# D3: fail-stop


def test_after_a_failed_sync_the_log_is_dead_for_ever() -> None:
    disk = new_disk()
    log, _ = open_log(disk)
    made = log.prepare([update(0, entries(1, 2))])
    disk.sync_error()
    with pytest.raises(DiskFault):
        log.commit(made)
        log.note(made)
    disk.clear_faults()
    with pytest.raises(DiskFault, match="could not be written and synced"):
        log.commit(made)
        log.note(made)
    log.publish(made)
    with pytest.raises(DiskFault):
        log.prepare([update(0, entries(2, 3))])


def test_what_a_failed_sync_covered_is_written_again_before_it_is_trusted() -> None:
    for seed in range(20):
        disk = new_disk(seed)
        log, _ = open_log(disk)
        write(log, update(0, entries(1, 2), hard=(1, 1)))
        made = log.prepare([update(0, entries(2, 3), hard=(2, 3))])
        disk.sync_error()
        with pytest.raises(DiskFault):
            log.commit(made)
            log.note(made)
        # The page cache still shows the record, and a new process finds it valid.
        disk.kill()
        log, recovery = open_log(disk)
        assert recovery.shards[0].entries == entries(1, 3)
        assert log.reader(0).entries(1, 3, 1 << 20) == entries(1, 3)
        disk.crash()
        _, recovery = open_log(disk)
        assert not recovery.damaged
        assert recovery.shards[0].entries == entries(1, 3)
        assert recovery.shards[0].hard_state == HardState(2, 3)


def test_two_writes_at_once_are_a_bug() -> None:
    log, _ = open_log(new_disk())
    log.prepare([update(0, entries(1, 2))])
    with pytest.raises(InvariantViolated):
        log.prepare([update(0, entries(2, 3))])


def test_a_closed_log_refuses() -> None:
    log, _ = open_log(new_disk())
    log.close()
    log.close()
    with pytest.raises(DiskFault, match="closed"):
        log.prepare([])


# D5: room


def test_a_full_disk_is_noticed_while_there_is_still_room() -> None:
    disk = new_disk()
    log, _ = open_log(disk)
    disk.full()
    index = 0
    while log.has_room:
        index += 1
        write(log, update(0, entries(index, index + 1, size=200)))
    assert not log.reserve()
    for _ in range(5):
        index += 1
        write(log, update(0, entries(index, index + 1, size=200)))
    disk.clear_faults()
    assert log.reserve()
    assert log.has_room
    disk.full()
    for _ in range(20):
        index += 1
        write(log, update(0, entries(index, index + 1, size=200)))
    assert len(restart_with_room(disk)) == index


def restart_with_room(disk: SimDisk) -> list[Entry]:
    disk.clear_faults()
    return restart(disk)[1].shards[0].entries


def test_a_disk_that_stays_full_ends_in_a_clean_error_and_nothing_is_lost() -> None:
    disk = new_disk()
    log, _ = open_log(disk)
    disk.full()
    index = 0
    with pytest.raises(DiskFull, match="make room"):
        while True:
            write(log, update(0, entries(index + 1, index + 2, size=200)))
            index += 1
    for _ in range(3):
        disk.kill()
        with pytest.raises(DiskFull):
            open_log(disk)
    assert len([name for name in disk.list() if name.endswith(".log")]) <= 2
    disk.clear_faults()
    _, recovery = restart(disk)
    assert recovery.shards[0].entries == entries(1, index + 1, size=200)
    assert not recovery.damaged


def test_a_disk_that_turns_read_only_is_a_fault() -> None:
    disk = new_disk()
    log, _ = open_log(disk)
    disk.readonly()
    with pytest.raises(DiskFault):
        write(log, update(0, entries(1, 2)))


# Speed and size


def test_a_hundred_thousand_entries_are_read_in_a_second() -> None:
    disk = new_disk()
    log, _ = Log.open(disk)
    for index in range(1, 10_001):
        made = log.prepare([update(s, [Entry(index, 1, 0, b"x" * 64)]) for s in range(10)])
        log.commit(made)
        log.note(made)
        log.publish(made)
    disk.kill()
    started = time.process_time()
    _, recovery = Log.open(disk)
    spent = time.process_time() - started
    assert sum(len(shard.entries) for shard in recovery.shards.values()) == 100_000
    # Measured 0.3 s; the limit leaves room for slow machines.
    assert spent < 2.0


def test_reserved_or_released_files_that_somebody_removed_do_no_harm() -> None:
    disk = new_disk()
    log, _ = open_log(disk)
    assert log.reserve()
    disk.remove(form.SPARE)
    for index in range(1, 60):
        write(log, update(0, entries(index, index + 1, size=500)))
    write(log, update(0, compacted=(59, 1)))
    assert log.release() > 1
    disk.remove(next(name for name in disk.list() if name.endswith(".log")))
    write(log, update(0, entries(60, 61)))
    assert restart(disk)[1].shards[0].entries == entries(60, 61)
