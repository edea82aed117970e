"""A failing run is made small, and the file that comes out fails alike."""

from pathlib import Path

import pytest

from quoit.sim.command import main
from quoit.sim.mutants import applied, find
from quoit.sim.options import changed, draw
from quoit.sim.scenario import parse, run_scenario
from quoit.sim.shrink import as_toml, shrink


@pytest.mark.source_text
def test_a_mutants_run_shrinks_to_the_fault_that_it_takes() -> None:
    mutant = find("xS3")
    options = changed(draw(1, nodes=3), mutant.options)
    with applied(mutant):
        found = shrink(options)
        assert found is not None
        story = parse(as_toml(found.scenario), "again")
        again = run_scenario(story, story.runs(99)[0])
    kinds = [step["kind"] for step in story.step]
    # Perhaps one more, which only shifts the moment.
    assert "sync_error" in kinds
    assert len(kinds) <= 2 < found.faults
    assert found.result.failure is not None
    assert again.failure is not None
    assert again.failure.check == found.result.failure.check == "FAILSTOP"
    assert again.trace_hash == found.result.trace_hash
    assert run_scenario(story, story.runs(99)[0]).failure is None, "without the bug it passes"


def test_what_does_not_fail_is_not_shrunk() -> None:
    assert shrink(draw(3)) is None


@pytest.mark.source_text
def test_command_writes_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "small.toml"
    assert main(["shrink", "--seed", "1", "--mutant", "xS3", "--out", str(path)]) == 0
    shown = capsys.readouterr().out
    assert "faults are left" in shown
    assert "sync_error" in shown
    with applied(find("xS3")):
        assert main(["run", str(path)]) == 12


def test_command_wants_a_seed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["shrink"]) == 2
    assert "--seed N" in capsys.readouterr().err
