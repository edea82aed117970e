"""Deliberate bugs: each is a small patch of the shipped code, and each must be caught.

A mutant that survives means that a check or a fault is missing; the mutant stays, the hole is closed.
A patch replaces one snippet in one function's source; the function is compiled again in its module
and its code object is swapped, so every reference to it, also in tables, runs the mutant. Leaving
the context restores the code.
"""

import importlib
import inspect
import json
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from types import FunctionType
from typing import Any

import msgspec

from quoit.base.build import compiled
from quoit.base.check import invariant
from quoit.base.errors import BadRequest
from quoit.sim import scenario as scenarios
from quoit.sim.mutant_table import MUTANTS as RAFT_MUTANTS
from quoit.sim.mutant_table import Mutant
from quoit.sim.mutant_table_paxos import PAXOS_MUTANTS
from quoit.sim.options import changed, draw
from quoit.sim.run import Result, run

__all__ = ["MUTANTS", "applied", "find", "hunt", "hunt_all"]

SEEDS_MAX = 500
MUTANTS = RAFT_MUTANTS + PAXOS_MUTANTS


@contextmanager
def applied(mutant: Mutant) -> Iterator[None]:
    """The shipped code with the mutant's bug in it."""
    if compiled():
        raise BadRequest("mutants patch source text: use the pure Python build of quoit for them")
    function = _find(mutant)
    source = textwrap.dedent(inspect.getsource(function))
    count = source.count(mutant.old)
    invariant(count == 1, "a mutant's snippet occurs once", id=mutant.id, count=count)
    module = importlib.import_module(mutant.module)
    scope: dict[str, Any] = dict(vars(module))
    exec(compile(source.replace(mutant.old, mutant.new), f"<mutant {mutant.id}>", "exec"), scope)
    changed = scope[function.__name__]
    original = function.__code__
    function.__code__ = changed.__code__
    try:
        yield
    finally:
        function.__code__ = original


def _find(mutant: Mutant) -> FunctionType:
    found: Any = importlib.import_module(mutant.module)
    for part in mutant.function.split("."):
        found = inspect.getattr_static(found, part)
    if isinstance(found, staticmethod | classmethod):
        found = found.__func__
    invariant(isinstance(found, FunctionType), "a mutant patches a function", id=mutant.id)
    return found  # type: ignore[no-any-return]


class Catch(msgspec.Struct):
    """How a mutant ended: caught in the run of that number (from 1), or it survived `runs` runs."""

    mutant: Mutant
    runs: int
    result: Result | None

    def line(self) -> str:
        """One row of the table."""
        failure = self.result.failure if self.result is not None else None
        if failure is None:
            return f"{self.mutant.id:6} SURVIVED {self.runs:4} runs   {self.mutant.what}"
        reason = failure.reason.splitlines()[0][:90]
        return (
            f"{self.mutant.id:6} caught by {failure.check:8} in run {self.runs:3}   "
            f"{self.mutant.what}\n{'':9}{reason}"
        )


def find(name: str) -> Mutant:
    """The mutant with that id; BadRequest if there is none."""
    known = {mutant.id: mutant for mutant in MUTANTS}
    if name not in known:
        raise BadRequest(f"no mutant {name}; there are: {', '.join(known)}")
    return known[name]


def hunt(mutant: Mutant, seeds_max: int = SEEDS_MAX) -> Catch:
    """Run the mutant's scenario, or seeds that favour what it takes, until a check fails."""
    with applied(mutant):
        for seed in range(1, seeds_max + 1):
            result = _run_once(mutant, seed)
            if result.failure is not None and result.failure.kind != "inconclusive":
                return Catch(mutant, seed, result)
    return Catch(mutant, seeds_max, None)


def _run_once(mutant: Mutant, seed: int) -> Result:
    if mutant.scenario:
        scenario = scenarios.load(mutant.scenario)
        return scenarios.run_scenario(scenario, scenario.runs(seed)[0])
    return run(changed(draw(seed, nodes=mutant.nodes), mutant.options))


def hunt_all(ids: list[str], as_json: bool = False) -> int:
    """Hunt the named mutants, or all. Prints a table; 0 if each was caught, else 12."""
    survivors = 0
    for mutant in [find(name) for name in ids] or MUTANTS:
        catch = hunt(mutant)
        survivors += catch.result is None
        if as_json:
            failure = catch.result.failure if catch.result is not None else None
            check = failure.check if failure is not None else ""
            print(json.dumps({"id": mutant.id, "runs": catch.runs, "caught_by": check}))
        else:
            print(catch.line(), flush=True)
    if survivors:
        print(f"{survivors} survived: a check or a fault is missing")
    return 12 if survivors else 0
