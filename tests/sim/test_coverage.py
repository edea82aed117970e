"""What many runs must cover, and what is said when they do not."""

import pytest

from quoit.sim import command
from quoit.sim.command import main
from quoit.sim.coverage import RARE, RARE_RUNS, Coverage, expected
from quoit.sim.crash_points import OFTEN, POINTS
from quoit.sim.nemesis import Nemesis
from quoit.sim.options import BY_SCENARIO, FAULTS, draw


def test_every_fault_kind_can_be_inflicted() -> None:
    for kind in FAULTS:
        assert callable(getattr(Nemesis, f"_do_{kind}"))
    assert set(OFTEN) < set(POINTS)


def test_all_kinds_are_drawn() -> None:
    drawn = {kind for seed in range(1, 60) for kind in draw(seed).faults}
    assert drawn == set(FAULTS) - set(BY_SCENARIO)
    assert {draw(seed).lease for seed in range(1, 20)} == {True, False}
    assert {draw(seed).nodes for seed in range(1, 60)} >= {1, 3, 5}


def test_what_stays_at_zero_is_named() -> None:
    coverage = Coverage()
    faults, transitions = expected("raft", "majority")
    hits = dict.fromkeys(faults, 1)
    del hits["flip"]
    seen = dict.fromkeys(transitions, 2)
    seen["truncate"] = 0
    coverage.add(hits, seen)
    assert coverage.missing("raft", "majority") == ["fault flip", "transition truncate"]
    assert any("truncate" in line and "*" in line for line in coverage.table("raft", "majority"))


def test_rare_transitions_are_asked_of_many_runs_only() -> None:
    coverage = Coverage()
    faults, transitions = expected("paxos", "majority")
    common = [one for one in transitions if one not in RARE]
    for _ in range(RARE_RUNS - 1):
        coverage.add(dict.fromkeys(faults, 1), dict.fromkeys(common, 1))
    assert coverage.missing("paxos", "majority") == []
    coverage.add({}, {})
    assert f"transition {RARE[0]}" in coverage.missing("paxos", "majority")


def test_many_runs_without_coverage_fail(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command, "ENOUGH_RUNS", 2)
    assert main(["--seeds", "1..2"]) == 13
    shown = capsys.readouterr().out
    assert "NOT COVERED in 2 runs: " in shown
    assert "crash points" in shown
