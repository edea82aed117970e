"""A peer that knows less than it said before is refused (D9), and nobody else is."""

import random

import pytest

from quoit.base.errors import DiskFull
from quoit.node.outbox import Outbox
from quoit.node.standings import Standing, Standings
from quoit.sim.disk import SimDisk
from quoit.storage.peer_marks import PeerMark, PeerMarks, read_peer_marks, write_peer_marks

OWN = Standing(1, 1, 0)


def told(*steps: tuple[int, int, int, int]) -> Standings:
    """Peer 2 connected with (directory, life, began) and then said `synced`, several times."""
    standings = Standings(OWN, {})
    for directory, life, began, synced in steps:
        assert standings.refusal(2, Standing(directory, life, began)) == ""
        standings.met(2, Standing(directory, life, began))
        standings.heard(2, synced)
    return standings


@pytest.mark.parametrize(
    ("standing", "words"),
    [
        (Standing(7, 2, 30), ""),
        (Standing(7, 2, 31), ""),
        (
            Standing(7, 2, 29),
            "put back to an older copy: its log ends at record 29, and had reached 30",
        ),
        (Standing(8, 2, 900), "emptied or replaced"),
        (Standing(7, 1, 10), ""),
    ],
)
def test_a_new_process_must_have_what_the_old_one_said(standing: Standing, words: str) -> None:
    standings = told((7, 1, 10, 30))
    refusal = standings.refusal(2, standing)
    assert words in refusal
    assert bool(words) == bool(refusal)


def test_late_frames_and_reconnections_of_one_process_take_nothing_back() -> None:
    standings = told((7, 1, 10, 30), (7, 1, 10, 12))
    assert standings.known[2].synced == 30
    assert standings.refusal(2, Standing(7, 2, 29))


def test_who_was_never_met_is_welcome_and_remembered() -> None:
    standings = Standings(OWN, {})
    standings.heard(3, 5)
    assert standings.known == {}
    assert not standings.changed
    standings.met(3, Standing(4, 5, 6))
    assert standings.changed
    assert standings.taken().marks == {3: PeerMark(4, 5, 6)}
    assert not standings.changed


def test_everybody_is_told_when_there_is_news() -> None:
    standings, outbox = Standings(OWN, {}), Outbox()
    standings.tell(outbox, [2, 3], 1_000_000)
    assert not outbox.frames
    outbox.synced = 4
    standings.tell(outbox, [2, 3], 1_000_000)
    assert list(outbox.frames) == [2, 3]
    frames, _ = outbox.drain({2: 0, 3: 0})
    assert len(frames) == 2
    standings.tell(outbox, [2, 3], 9_000_000)
    assert not outbox.frames


def test_what_was_said_survives_a_power_cut_and_damage_is_found() -> None:
    disk = SimDisk(random.Random(1))
    assert read_peer_marks(disk) is None
    marks = PeerMarks({2: PeerMark(7, 1, 30)}, refused="by all")
    write_peer_marks(disk, marks)
    disk.crash()
    assert read_peer_marks(disk) == marks
    disk.flip_at("peers.json", 12)
    assert read_peer_marks(disk) is None


def test_a_full_disk_is_told() -> None:
    disk = SimDisk(random.Random(1))
    disk.full(True)
    with pytest.raises(DiskFull):
        write_peer_marks(disk, PeerMarks({1: PeerMark(1, 2, 3)}))
