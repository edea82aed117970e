"""Scenario files: what is wrong with one is said plainly."""

from pathlib import Path

import pytest

from quoit.base.errors import BadRequest
from quoit.sim import scenario
from quoit.sim.actions import ACTIONS
from quoit.sim.command import main
from quoit.sim.expectations import CONDITIONS
from quoit.sim.options import FAULTS

GOOD = """
about = "a story"
[options]
nodes = 3
safety_us = 5000000
[[step]]
at = 1
do = "kill"
node = "leader"
restart = 1
[expect]
writes_flow = 2
"""


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("[options]", "[optoins]", "no key 'optoins'; did you mean options?"),
        ("nodes = 3", "nodse = 3", "no option 'nodse'; did you mean nodes?"),
        ("nodes = 3", 'nodes = "three"', "Expected `int`, got `str`"),
        ("nodes = 3", 'faults = ["kil"]', "no fault kind 'kil'; did you mean kill?"),
        ("nodes = 3", 'consensus = "pbft"', "consensus is raft or paxos"),
        ('"kill"', '"kil"', "step 1: there is no action 'kil'; did you mean kill?"),
        ("at = 1", "when = 1", "step 1: `at` is missing"),
        ("at = 1", "at = 6", "not before the end of the faults"),
        ("at = 1", "at = -1", "step 1, at: a number is needed, not -1"),
        ("restart = 1", "restrat = 1", "no argument 'restrat'; did you mean restart?"),
        ("restart = 1", "", "step 1: kill needs `restart` (seconds)"),
        ("restart = 1", 'restart = 1\npower = "yes"', "power: true or false is needed"),
        ('"leader"', '"laeder"', "no role 'laeder'; did you mean leader?"),
        ('"leader"', "4", "a node is a number from 1 to 3 or a role, not 4"),
        ("writes_flow", "writes_flwo", "no condition 'writes_flwo'; did you mean writes_flow?"),
        ("writes_flow = 2", "writes_flow = []", "writes_flow: a number is needed"),
        ("about", "abuot", "no key 'abuot'"),
        ("[[step]]", "[[step", "Expected"),
    ],
)
def test_mistakes_are_named(old: str, new: str, words: str) -> None:
    assert old in GOOD
    with pytest.raises(BadRequest) as caught:
        scenario.parse(GOOD.replace(old, new, 1), "mine")
    assert words in str(caught.value)
    assert str(caught.value).startswith("scenario mine")


def test_a_file_of_ones_own_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(GOOD)
    assert main(["run", str(path), "--seed", "3"]) == 0
    assert "passed mine" in capsys.readouterr().out


def test_a_condition_that_does_not_hold_fails_the_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(GOOD.replace("writes_flow = 2", "elections_max = 0"))
    assert main(["run", str(path), "--seed", "3"]) == 12
    shown = capsys.readouterr().out
    assert "elections_max: shard" in shown
    assert f"quoit sim run {path} --seed 3" in shown


def test_a_missing_file_is_said() -> None:
    assert main(["run", "no-such.toml"]) == 2


def test_every_word_is_documented() -> None:
    page = (Path(__file__).parents[2] / "docs/reference/simulator.md").read_text()
    words = [*ACTIONS, *CONDITIONS, *FAULTS]
    assert [word for word in words if f"`{word}`" not in page] == []
