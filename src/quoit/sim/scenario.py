"""Scenarios: named stories, written as TOML files, each with its own conditions for passing.

    about = "what happens and why it matters"
    [options]            topology, load and knobs: fields of sim.options.Options
    [[variant]]          runs of the same story with some options changed (may be left out)
    [[step]]             at = seconds, do = action, and the action's arguments (actions.py)
    [expect]             conditions, judged before everything is healed (expectations.py)

Nodes in steps are numbers, or roles that are resolved when the first step happens: "leader" (of shard
0), "follower-1", "follower-2" and so on (the others, in order of their numbers).
"""

import tomllib
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import Any

import msgspec

from quoit.base.errors import BadRequest
from quoit.quorum.members import MODES
from quoit.sim.actions import check_step, check_value, refuse_unknown
from quoit.sim.expectations import CONDITIONS, Expectations
from quoit.sim.options import FAULTS, Options
from quoit.sim.run import Result, compare_now_and_then, judge, settle
from quoit.sim.story import Step, Story
from quoit.sim.world import World

__all__ = ["Scenario", "load", "names", "parse", "run_scenario"]


class Scenario(msgspec.Struct, forbid_unknown_fields=True):
    """One file."""

    name: str
    about: str
    options: dict[str, Any] = {}
    step: list[Step] = []
    expect: dict[str, Any] = {}
    variant: list[dict[str, Any]] = []

    def runs(self, seed: int) -> list[Options]:
        """The options of each variant. A file may fix the seed, as those of `shrink` do."""
        variants = self.variant or [{}]
        return [
            msgspec.convert({"seed": seed, **self.options, **changes}, Options)
            for changes in variants
        ]

    def check(self) -> None:
        """BadRequest if the file asks for something that there is not."""
        where = f"scenario {self.name}"
        fields = msgspec.structs.fields(Options)
        for given in (self.options, *self.variant):
            refuse_unknown(given, [one.name for one in fields], f"{where}, options", "option")
        for options in self._converted(where):
            if options.consensus not in ("raft", "paxos") or options.quorum not in MODES:
                raise BadRequest(f"{where}: consensus is raft or paxos, quorum one of {MODES}")
            refuse_unknown(options.faults, FAULTS, f"{where}, options, faults", "fault kind")
            for number, step in enumerate(self.step, 1):
                place = f"{where}, step {number}"
                check_step(step, place, options.nodes, options.safety_us / 1e6)
        refuse_unknown(self.expect, CONDITIONS, f"{where}, expect", "condition")
        for name, value in self.expect.items():
            check_value(value, CONDITIONS[name], f"{where}, expect, {name}", 0)

    def _converted(self, where: str) -> list[Options]:
        try:
            return self.runs(1)
        except msgspec.ValidationError as error:
            raise BadRequest(f"{where}, options: {error}") from None


def names() -> list[str]:
    """The scenarios that come with quoit."""
    folder = resources.files("quoit.sim") / "scenarios"
    return sorted(one.name[:-5] for one in folder.iterdir() if one.name.endswith(".toml"))


def load(name: str) -> Scenario:
    """The scenario called `name`, or in the file `name`. BadRequest if there is none, or it is wrong."""
    if name.endswith(".toml"):
        path = Path(name)
        if not path.is_file():
            raise BadRequest(f"there is no file {name}")
        return parse(path.read_text(), path.stem)
    if name not in names():
        raise BadRequest(f"there is no scenario {name}; there are: {', '.join(names())}")
    folder = resources.files("quoit.sim") / "scenarios"
    return parse((folder / f"{name}.toml").read_text(), name)


def parse(text: str, name: str) -> Scenario:
    """The scenario in `text`. BadRequest says what is wrong with it, and where."""
    try:
        plain = tomllib.loads(text)
        known = [one.name for one in msgspec.structs.fields(Scenario) if one.name != "name"]
        refuse_unknown(plain, known, f"scenario {name}", "key")
        scenario = msgspec.convert({"name": name, **plain}, Scenario)
    except (tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
        raise BadRequest(f"scenario {name}: {error}") from None
    scenario.check()
    return scenario


def run_scenario(
    scenario: Scenario, options: Options, trace: Callable[[str], None] | None = None
) -> Result:
    """One variant of a scenario, to its verdict."""
    world = World(options, trace=trace)
    story = Story(world, scenario.step)
    world.start_all()
    world.workload.start()
    story.plan()
    compare_now_and_then(world)
    world.run_until(options.safety_us)
    if world.failure is None:
        Expectations(story).judge(scenario.expect)
    story.nemesis.stop()
    settle(world)
    result = judge(world, story.nemesis.timeline)
    # A story says itself what has to happen; that nobody else led may be the point of it.
    result.empty = "" if scenario.step else "it has no steps"
    return result
