"""`quoit sim`: run seeds, scenarios and mutants.

    quoit sim --seeds 1..300          many seeds
    quoit sim --seed 17 --trace       one, with every event on standard error
    quoit sim run leader-isolated     a scenario (or a TOML file); `quoit sim run` lists them
    quoit sim shrink --seed 17        a failing seed made small, and written as a scenario file
    quoit sim mutants                 deliberate bugs: each must be caught

Exit codes: 0 all passed; 10 a node crashed; 11 no progress after healing; 12 a promise was broken;
13 a checker gave up, too many runs tested nothing, or many runs
left a fault or a transition uncovered. A failure prints the seed, its options and the
command that repeats it.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import msgspec

from quoit.base.errors import BadRequest
from quoit.quorum.members import MODES
from quoit.sim import scenario as scenarios
from quoit.sim.coverage import ENOUGH_RUNS, Coverage
from quoit.sim.mutants import applied, find, hunt_all
from quoit.sim.options import Options, changed, draw
from quoit.sim.run import Result, run
from quoit.sim.shrink import as_toml, shrink, tell
from quoit.sim.world import CORRECTNESS, CRASH, INCONCLUSIVE, LIVENESS

__all__ = ["main"]

EXIT_CODES = {CRASH: 10, LIVENESS: 11, CORRECTNESS: 12, INCONCLUSIVE: 13}
EMPTY_SHARE_MAX = 0.03
"""Of many seeds, so many may have tested nothing (no leader changed, for example)."""
INCONCLUSIVE_SHARE_MAX = 0.01


def main(argv: list[str]) -> int:
    """Run the command; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="quoit sim", description="Run whole clusters on simulated time, faults and all."
    )
    parser.add_argument("what", nargs="*", help="run NAME|FILE, shrink, or mutants [ID ...]")
    parser.add_argument("--seed", type=int, help="run this seed")
    parser.add_argument("--seeds", type=_range, help="run these seeds: A..B", metavar="A..B")
    parser.add_argument("--consensus", choices=["raft", "paxos"], default="raft")
    parser.add_argument("--quorum", choices=MODES, default="majority")
    parser.add_argument("--nodes", type=int, default=0, help="size of the cluster (default: drawn)")
    parser.add_argument(
        "--mutant", default="", help="shrink: with this deliberate bug", metavar="ID"
    )
    parser.add_argument("--out", default="", help="shrink: the file to write", metavar="FILE")
    parser.add_argument("--json", action="store_true", help="one JSON object per run")
    parser.add_argument("--trace", action="store_true", help="every event on standard error")
    parser.add_argument("--jobs", type=int, default=1, help="processes to use")
    options = parser.parse_args(argv)
    seeds = options.seeds or ([options.seed] if options.seed is not None else [])
    try:
        if options.what[:1] == ["run"]:
            return _run_scenarios(options.what[1:], seeds or [1], options)
        if options.what == ["shrink"]:
            return _shrink(seeds, options)
        if options.what[:1] == ["mutants"]:
            return hunt_all(options.what[1:], options.json)
        if options.what:
            parser.error(f"unknown: {options.what[0]}")
    except BadRequest as error:
        print(f"quoit sim: {error}", file=sys.stderr)
        return 2
    return _run_seeds(seeds or list(range(1, 101)), options)


def _range(text: str) -> list[int]:
    first, dots, last = text.partition("..")
    if not (first.isdigit() and (not dots or last.isdigit())):
        raise argparse.ArgumentTypeError("give A..B, for example 1..100")
    return list(range(int(first), int(last or first) + 1))


def _tracer(wanted: bool) -> Callable[[str], None] | None:
    return (lambda line: print(line, file=sys.stderr)) if wanted else None


def _run_seeds(seeds: list[int], args: argparse.Namespace) -> int:
    began = time.monotonic()
    results: Iterable[Result]
    if args.jobs > 1:
        pool = ProcessPoolExecutor(args.jobs)
        results = pool.map(run, [chosen(seed, args) for seed in seeds], chunksize=4)
    else:
        trace = _tracer(args.trace)
        results = (run(chosen(seed, args), trace) for seed in seeds)
    report = Report(args.json, quiet=len(seeds) > 1)
    for result in results:
        report.add(result, f"quoit sim --seed {result.options.seed}{_extra(args)}")
    # Coverage is asked of seeds as they are drawn: not every cluster size can have every fault.
    demand = (args.consensus, args.quorum) if not args.nodes else None
    return report.end(time.monotonic() - began, demand)


def chosen(seed: int, args: argparse.Namespace) -> Options:
    """The options of a seed under the command's settings."""
    return draw(seed, nodes=args.nodes, consensus=args.consensus, quorum=args.quorum)


def _extra(args: argparse.Namespace) -> str:
    """The settings that a command needs to repeat a run."""
    parts = [f" --nodes {args.nodes}"] if args.nodes else []
    if args.consensus != "raft":
        parts.append(f" --consensus {args.consensus}")
    if args.quorum != "majority":
        parts.append(f" --quorum {args.quorum}")
    return "".join(parts)


def _run_scenarios(chosen: list[str], seeds: list[int], args: argparse.Namespace) -> int:
    if not chosen:
        for name in scenarios.names():
            print(f"{name:20} {scenarios.load(name).about}")
        return 0
    began = time.monotonic()
    report = Report(args.json, quiet=False)
    for name in scenarios.names() if chosen == ["all"] else chosen:
        scenario = scenarios.load(name)
        for seed in seeds:
            for number, options in enumerate(_variants(scenario, seed, args)):
                result = scenarios.run_scenario(scenario, options, _tracer(args.trace))
                title = f"{scenario.name}#{number}" if scenario.variant else scenario.name
                report.add(result, f"quoit sim run {name} --seed {seed}{_extra(args)}", title)
    return report.end(time.monotonic() - began)


def _variants(scenario: scenarios.Scenario, seed: int, args: argparse.Namespace) -> list[Options]:
    """A scenario's runs; the protocol is the command's, unless the file asks for one."""
    changes = {"consensus": args.consensus, "quorum": args.quorum}
    mine = {name: value for name, value in changes.items() if name not in scenario.options}
    return [msgspec.structs.replace(options, **mine) for options in scenario.runs(seed)]


def _shrink(seeds: list[int], args: argparse.Namespace) -> int:
    """Make the first failing seed small; 0 if a small one was found and written."""
    with ExitStack() as stack:
        changes: dict[str, Any] = {}
        nodes = args.nodes
        if args.mutant:
            mutant = find(args.mutant)
            stack.enter_context(applied(mutant))
            changes, nodes = mutant.options, mutant.nodes
        if not seeds and not args.mutant:
            raise BadRequest("say which seed fails: quoit sim shrink --seed N")
        for seed in seeds or range(1, 101):
            drawn = draw(seed, nodes=nodes, consensus=args.consensus, quorum=args.quorum)
            found = shrink(changed(drawn, changes))
            if found is not None:
                print("\n".join(tell(found)))
                path = Path(args.out or f"shrunk-{seed}.toml")
                path.write_text(as_toml(found.scenario))
                print(f"written: {path}; repeat: quoit sim run {path}")
                return 0
    print(f"none of {len(seeds) or 100} seeds fails")
    return 1


class Report:
    """Prints results as they come and keeps the totals."""

    def __init__(self, as_json: bool, *, quiet: bool) -> None:
        self.as_json = as_json
        self.quiet = quiet
        self.count = 0
        self.empty = 0
        self.operations = 0
        self.leaders = 0
        self.coverage = Coverage()
        self.failures: dict[str, int] = {}

    def add(self, result: Result, replay: str, title: str = "") -> None:
        """One run is over."""
        self.count += 1
        self.empty += bool(result.empty)
        self.operations += result.ok
        self.leaders += result.leaders
        self.coverage.add(result.hits, result.seen)
        failure = result.failure
        if failure is not None:
            self.failures[failure.kind] = self.failures.get(failure.kind, 0) + 1
        if self.as_json:
            print(json.dumps(_as_json(result, replay, title)))
            return
        name = title or f"seed {result.options.seed}"
        if failure is not None:
            print(
                f"FAILED {name}: {failure.kind}, {failure.check} at {failure.time_us / 1e6:.6f} s"
            )
            print("  " + failure.reason.replace("\n", "\n  "))
            print(f"  options: {result.options.line()}")
            print(f"  repeat:  {replay}")
        elif not self.quiet:
            empty = f" (tested nothing: {result.empty})" if result.empty else ""
            print(
                f"passed {name}: {result.ok} operations, {result.unknown} unknown, "
                f"{result.leaders} leaderships, {result.virtual_us / 1e6:.1f} s of virtual time, "
                f"trace {result.trace_hash}{empty}"
            )
            if not title:
                print(f"  options: {result.options.line()}")
        elif self.count % 100 == 0:
            print(f"... {self.count} runs, {sum(self.failures.values())} failed", flush=True)

    def end(self, seconds: float, demand: tuple[str, str] | None = None) -> int:
        """Totals and the exit code. `demand`: (consensus, quorum) whose coverage is asked for."""
        code = 0
        for kind in (CRASH, LIVENESS, CORRECTNESS):
            if self.failures.get(kind):
                code = max(code, EXIT_CODES[kind])
        few = self.count >= 20
        gave_up = self.failures.get(INCONCLUSIVE, 0)
        if not code and gave_up > (self.count * INCONCLUSIVE_SHARE_MAX if few else 0):
            code = EXIT_CODES[INCONCLUSIVE]
        if not code and few and self.empty > self.count * EMPTY_SHARE_MAX:
            code = EXIT_CODES[INCONCLUSIVE]
        missing: list[str] = []
        if demand is not None and self.count >= ENOUGH_RUNS:
            missing = self.coverage.missing(*demand)
            if missing and not code:
                code = EXIT_CODES[INCONCLUSIVE]
        if not self.as_json:
            bad = sum(self.failures.values())
            rate = self.count * 60 / max(seconds, 1e-9)
            print(
                f"{self.count - bad} of {self.count} runs passed; {self.operations} operations, "
                f"{self.leaders} leaderships, {self.empty} runs tested nothing; "
                f"{rate:.0f} runs per minute"
            )
            if self.quiet and demand is not None:
                print("\n".join(self.coverage.table(*demand)))
            if missing:
                print(f"NOT COVERED in {self.count} runs: {', '.join(missing)}")
        return code


def _as_json(result: Result, replay: str, title: str) -> dict[str, object]:
    failure = result.failure
    return {
        "seed": result.options.seed,
        "scenario": title,
        "passed": failure is None,
        "kind": failure.kind if failure else "",
        "check": failure.check if failure else "",
        "reason": failure.reason if failure else "",
        "ok": result.ok,
        "unknown": result.unknown,
        "failed": result.failed,
        "leaderships": result.leaders,
        "hits": result.hits,
        "seen": result.seen,
        "empty": result.empty,
        "trace_hash": result.trace_hash,
        "options": result.options.line(),
        "replay": replay,
    }
