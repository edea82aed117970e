"""Making a failing run small: the shortest fault timeline that still fails, as a scenario file.

A run is its options and a timeline of faults, each with random numbers of its own (fault_base.py), so
faults can be left out one by one. A candidate counts if it fails in the same way (crash, liveness,
correctness); which check says so may differ. The search: fewer faults (delta debugging, Zeller and
Hildebrandt), a shorter run, a smaller cluster, fewer clients and keys, knobs back to their defaults, and
fewer faults again.
"""

from collections.abc import Callable, Iterator
from typing import Any

import msgspec

from quoit.sim.fault_base import Fault
from quoit.sim.options import FAULTS, Options
from quoit.sim.run import Result, run
from quoit.sim.scenario import Scenario, run_scenario
from quoit.sim.story import Step

__all__ = ["RUNS_MAX", "Shrunk", "as_toml", "shrink", "tell"]

RUNS_MAX = 300
_SMALLER: dict[str, tuple[int, ...]] = {
    "nodes": (3,),
    "shards": (1,),
    "clients": (0, 1, 2, 3, 4, 6),
    "keys": (1, 2, 4, 8),
}
"""Option -> values to try, smallest first."""


class Shrunk(msgspec.Struct):
    """What was found. runs: how many runs it took; faults: how many there were at first."""

    scenario: Scenario
    result: Result
    runs: int
    faults: int


class _Search:
    """The smallest failing scenario so far, and how to try another one."""

    def __init__(self, first: Scenario, kind: str, runs_max: int) -> None:
        self.best = first
        self.kind = kind
        self.left = runs_max
        self.runs = 0
        self.result: Result | None = None

    def try_it(self, options: dict[str, Any], steps: list[Step]) -> bool:
        """Keep this candidate if it still fails."""
        if self.left <= 0:
            return False
        self.left -= 1
        self.runs += 1
        candidate = msgspec.structs.replace(self.best, options=options, step=steps)
        result = run_scenario(candidate, candidate.runs(0)[0])
        if result.failure is None or result.failure.kind != self.kind:
            return False
        self.best, self.result = candidate, result
        return True

    def fewer_faults(self) -> None:
        """Delta debugging: leave out halves, quarters and so on, down to single faults."""
        parts = 2
        while True:
            steps = self.best.step
            size = max(1, -(-len(steps) // parts))
            for at in range(0, len(steps), size):
                if self.try_it(self.best.options, steps[:at] + steps[at + size :]):
                    parts = max(2, parts - 1)
                    break
            else:
                if size == 1 or not self.left:
                    return
                parts *= 2

    def shorter(self) -> None:
        """End the faults soon after the failure, or after the last fault."""
        failure = self.result.failure if self.result is not None else None
        last_us = max([0, *(round(step["at"] * 1e6) for step in self.best.step)])
        now_us = self.best.options.get("safety_us", Options(seed=0).safety_us)
        ends = [last_us + more for more in (50_000, 500_000, 2_000_000)]
        if failure is not None:
            ends.append(failure.time_us + 1_000)
        for end_us in sorted(ends):
            if last_us < end_us < now_us and self._with("safety_us", end_us):
                return

    def smaller(self) -> None:
        """A smaller cluster and less load."""
        plain = msgspec.to_builtins(Options(seed=0))
        for name, values in _SMALLER.items():
            for value in values:
                if value >= self.best.options.get(name, plain[name]):
                    break
                if self._with(name, value):
                    break

    def plainer(self) -> None:
        """Knobs that do not matter go back to their defaults."""
        for name in list(self.best.options):
            if name not in ("seed", "safety_us", "consensus", "quorum", *_SMALLER):
                rest = {one: value for one, value in self.best.options.items() if one != name}
                self.try_it(rest, self.best.step)

    def _with(self, name: str, value: int) -> bool:
        return self.try_it({**self.best.options, name: value}, self.best.step)


def shrink(options: Options, runs_max: int = RUNS_MAX) -> Shrunk | None:
    """The smallest failing scenario that `runs_max` runs found, or None if `options` do not fail, or
    not as a scenario."""
    result = run(options)
    if result.failure is None:
        return None
    faults = result.timeline
    first = _as_scenario(options, faults, result.failure.check)
    search = _Search(first, result.failure.kind, runs_max)
    if not search.try_it(first.options, first.step):
        return None
    before = None
    while search.left and before != search.best:
        before = search.best
        for step in (search.fewer_faults, search.shorter, search.smaller, search.plainer):
            step()
    if search.result is None:
        return None
    return Shrunk(search.best, search.result, search.runs, len(faults))


def _as_scenario(options: Options, faults: list[Fault], check: str) -> Scenario:
    plain = msgspec.to_builtins(Options(seed=0))
    mine = msgspec.to_builtins(options)
    changed = {
        name: value
        for name, value in mine.items()
        if name == "seed"
        or (value != plain[name] and name not in ("faults", "weights", "fault_gap_us"))
    }
    steps: list[Step] = [
        {"at": one.at_us / 1e6, "do": "fault", "kind": one.kind, "number": one.number}
        for one in faults
        if one.at_us < options.safety_us
    ]
    about = f"Seed {options.seed} made small: {check} fails."
    return Scenario(name=f"shrunk-{options.seed}", about=about, options=changed, step=steps)


def tell(shrunk: Shrunk) -> Iterator[str]:
    """Lines for people: what is left, and what it does when it runs."""
    failure = shrunk.result.failure
    steps = shrunk.scenario.step
    yield (
        f"{len(steps)} of {shrunk.faults} faults are left after {shrunk.runs} runs; "
        f"options: {shrunk.result.options.line()}"
    )
    for step in steps:
        yield f"  {step['at']:10.6f} s  {step['kind']:14} {FAULTS[step['kind']]}"
    yield "what happens:"
    lines: list[str] = []
    run_scenario(shrunk.scenario, shrunk.scenario.runs(0)[0], _chosen(lines.append))
    yield from (f"  {line}" for line in lines)
    if failure is not None:
        yield failure.reason


_TOLD = {
    "fault", "cut", "links", "start", "start_failed", "stop", "pause", "resume", "flip",
    "flip_data", "misdirect", "stale", "crash_point", "candidate", "leader", "transfer", "FAILURE",
}  # fmt: skip
_LINES_MAX = 60


def _chosen(take: Callable[[str], None]) -> Callable[[str], None]:
    """Passes on only those lines of a trace that tell the story."""
    count = 0

    def keep(line: str) -> None:
        nonlocal count
        event = line.split(None, 3)[2]
        if event in _TOLD and "shard=" not in line:
            count += 1
            if count <= _LINES_MAX or event == "FAILURE":
                take(line)

    return keep


def as_toml(scenario: Scenario) -> str:
    """The scenario as a file that `quoit sim run` takes."""
    lines = [f"about = {_toml(scenario.about)}", "", "[options]"]
    lines += [f"{name} = {_toml(value)}" for name, value in scenario.options.items()]
    for step in scenario.step:
        lines += ["", "[[step]]", *(f"{name} = {_toml(value)}" for name, value in step.items())]
    return "\n".join(lines) + "\n"


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        return f"{value:.6f}"
    if isinstance(value, list):
        return f"[{', '.join(map(_toml, value))}]"
    return msgspec.json.encode(value).decode()
