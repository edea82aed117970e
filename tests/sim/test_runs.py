"""Whole simulated clusters: seeds pass, and a seed is one run, byte for byte."""

import os
import subprocess
import sys

import pytest

from quoit.sim.command import main
from quoit.sim.options import draw
from quoit.sim.run import run


@pytest.mark.parametrize("seed", [1, 2, 6, 33, 37, 79, 344, 469])
def test_seed_passes(seed: int) -> None:
    result = run(draw(seed))
    assert result.failure is None, result.failure
    assert result.ok > 50


def test_same_seed_same_run() -> None:
    first, second = run(draw(5)), run(draw(5))
    assert first.trace_hash == second.trace_hash
    assert first.trace_hash != run(draw(6)).trace_hash


def test_string_hashes_do_not_matter() -> None:
    found = []
    for hash_seed in ("1", "2"):
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
        environment["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
        code = (
            "from quoit.sim.options import draw\n"
            "from quoit.sim.run import run\n"
            "print(run(draw(11)).trace_hash)"
        )
        done = subprocess.run(
            [sys.executable, "-c", code],
            env=environment,
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        )
        found.append(done.stdout)
    assert found[0] == found[1]


def test_trace_tells_the_story() -> None:
    lines: list[str] = []
    run(draw(2), lines.append)
    assert any(" leader " in line for line in lines)
    assert any(" fault " in line for line in lines)


def test_command_reports_a_seed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--seed", "3"]) == 0
    shown = capsys.readouterr().out
    assert "passed seed 3" in shown
    assert "seed=3 nodes=3" in shown
    assert "runs per minute" in shown


def test_command_refuses_what_it_does_not_know(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "no-such-scenario"]) == 2
    assert "leader-isolated" in capsys.readouterr().err
