"""Named stories, each with its own conditions."""

import pytest

from quoit.sim import scenario

QUICK = ["leader-isolated", "sync-fails-once", "pause-and-return", "leader-deaf"]


@pytest.mark.parametrize("name", QUICK)
def test_scenario(name: str) -> None:
    story = scenario.load(name)
    for options in story.runs(seed=2):
        result = scenario.run_scenario(story, options)
        assert result.failure is None, result.failure


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in scenario.names() if name not in QUICK])
def test_long_scenario(name: str) -> None:
    test_scenario(name)


def test_every_scenario_can_be_read() -> None:
    for name in scenario.names():
        story = scenario.load(name)
        assert story.about
        assert story.expect
        assert story.runs(seed=1)
