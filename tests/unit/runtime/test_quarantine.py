"""What is noted of damage, what is set aside, and when a node gives up."""

import pytest

from quoit.base.errors import Corruption, DiskFault, Diverged, EngineDamaged
from quoit.runtime.quarantine import Quarantine

HOUR_MS = 3_600_000


def opened(tmp_path, alone=False):
    return Quarantine(str(tmp_path), alone=alone)


def fill(tmp_path, text="one"):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "table").write_text(text)


def kept(tmp_path):
    return (tmp_path / "data.damaged" / "table").read_text()


def test_a_damaged_engine_is_set_aside_at_the_next_start_and_deleted_when_all_is_rebuilt(tmp_path):
    fill(tmp_path)
    first = opened(tmp_path)
    first.set_aside()
    assert not first.rebuilding
    assert first.found(EngineDamaged("block 7"), 1000)
    assert (tmp_path / "data" / "table").exists()
    second = opened(tmp_path)
    second.set_aside()
    assert second.rebuilding == "block 7"
    assert not (tmp_path / "data").exists()
    assert kept(tmp_path) == "one"
    # A crash while it is rebuilt: what is there now stays.
    fill(tmp_path, "new")
    third = opened(tmp_path)
    third.set_aside()
    assert third.rebuilding == "block 7"
    third.release()
    assert not (tmp_path / "data.damaged").exists()
    assert (tmp_path / "data" / "table").read_text() == "new"
    assert not opened(tmp_path).rebuilding


@pytest.mark.parametrize("crash", ["before the rename", "after the rename", "renamed twice"])
def test_a_crash_while_it_is_set_aside_changes_nothing(tmp_path, crash):
    fill(tmp_path)
    opened(tmp_path).found(EngineDamaged("block 7"), 1000)
    if crash != "before the rename":
        (tmp_path / "data").rename(tmp_path / "data.damaged")
    if crash == "renamed twice":
        (tmp_path / "data").mkdir()
    opened(tmp_path).set_aside()
    opened(tmp_path).set_aside()
    assert kept(tmp_path) == "one"
    assert not (tmp_path / "data").exists()


def test_damage_while_the_data_are_rebuilt_keeps_what_was_there_first(tmp_path):
    fill(tmp_path)
    for text in ("half", "half again"):
        opened(tmp_path).found(EngineDamaged(text), 1000)
        opened(tmp_path).set_aside()
        fill(tmp_path, text)
    assert kept(tmp_path) == "one"
    assert opened(tmp_path).rebuilding == "half again"


def test_a_damaged_log_is_a_reason_to_start_again_and_leaves_the_engine_alone(tmp_path):
    fill(tmp_path)
    assert opened(tmp_path).found(Corruption("entry 3"), 1000)
    again = opened(tmp_path)
    again.set_aside()
    assert (tmp_path / "data").exists() and not again.rebuilding


def test_nothing_is_set_aside_without_peers_nor_for_other_reasons(tmp_path):
    assert not opened(tmp_path, alone=True).found(EngineDamaged("block 7"), 1000)
    for error in (Diverged("digest"), DiskFault("sync"), ValueError("bug")):
        assert not opened(tmp_path).found(error, 1000)
    assert not (tmp_path / "damage.json").exists()


def test_the_fourth_damage_within_an_hour_stops_the_node(tmp_path):
    for number in range(3):
        assert opened(tmp_path).found(EngineDamaged("again"), 1000 + number)
        opened(tmp_path).set_aside()
        opened(tmp_path).release()
    assert not opened(tmp_path).found(EngineDamaged("again"), 2000)
    assert opened(tmp_path).found(EngineDamaged("again"), HOUR_MS + 1001)


def test_a_note_that_cannot_be_read_throws_nothing_away(tmp_path):
    fill(tmp_path)
    opened(tmp_path).found(EngineDamaged("block 7"), 1000)
    note = tmp_path / "damage.json"
    note.write_bytes(note.read_bytes()[:-9])
    opened(tmp_path).set_aside()
    assert (tmp_path / "data" / "table").exists()
