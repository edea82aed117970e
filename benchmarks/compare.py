"""The comparison: quoit beside etcd, NATS and Redis, in one run on one machine (`make bench`).

    python benchmarks/compare.py [--quick] [--only quoit,etcd] [--seconds 5] [--rounds 3]

Each round starts one system after the other in a fresh directory on the real disk, fills 100k
keys, runs every row, kills the leader under load (quoit, etcd), and stops the system. Rounds
interleave the systems, so that a slow minute of the machine does not hit one of them alone; the
figures are medians over the rounds. A system that is not installed is a skipped row.
Writes benchmarks/results/latest.json and the charts in docs/images/.
"""

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import chart
import machine
from peers import PEERS, PINNED_DB, Peer
from report import judge, merge, render
from rows import ROWS, WAYS, Way, cross_check, failover, fill, measure

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "latest.json"
IMAGES = HERE.parent / "docs" / "images"
FAILOVER_WAYS = ("quoit-pinned", "paxos-pinned", "etcd-leader")
PROBLEMS = (RuntimeError, OSError, TimeoutError, ValueError)


def say(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')}  {text}", file=sys.stderr, flush=True)


class Comparison:
    """All runs of all rounds, as they come in.

    runs      way -> row -> results of the rounds
    kills     system -> results of failover()
    skipped   system or way -> why it is not in the tables
    """

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.directory = Path(options.dir or tempfile.gettempdir())
        self.runs: dict[str, dict[str, list[dict[str, Any]]]] = {}
        self.kills: dict[str, list[dict[str, Any]]] = {}
        self.idle: dict[str, float] = {}
        self.cross: dict[str, dict[str, float]] = {}
        self.skipped: dict[str, str] = {}
        self.machine = machine.describe(self.directory)

    def names(self) -> list[str]:
        """Which systems run; the others are noted as skipped."""
        wanted = self.options.only.split(",") if self.options.only else list(PEERS)
        for name in wanted:
            if name not in PEERS:
                raise SystemExit(f"no such system: {name}; there are {', '.join(PEERS)}")
        chosen: list[str] = []
        for name, peer in PEERS.items():
            why = "not asked for (--only)" if name not in wanted else peer.missing()
            if why:
                self.skipped[name] = why
                say(f"skipped {name}: {why}")
            else:
                chosen.append(name)
        return chosen

    def round(self, number: int, names: list[str]) -> None:
        for name in names:
            with tempfile.TemporaryDirectory(prefix=f"bench-{name}-", dir=self.directory) as place:
                peer = PEERS[name](Path(place))
                say(f"round {number + 1}: {peer.title}")
                try:
                    peer.start()
                    self.visit(peer, last=number + 1 == self.options.rounds)
                except PROBLEMS as problem:
                    say(f"  {name} failed: {problem}")
                    self.skipped.setdefault(name, f"failed: {problem}")
                finally:
                    peer.stop()

    def visit(self, peer: Peer, last: bool) -> None:
        """All that is measured of one system in one round."""
        time.sleep(1.0)
        self.idle[peer.name] = round(peer.memory_mb(), 1)
        ways = [way for way in WAYS if way.peer == peer.name]
        filled: dict[int, bool] = {}
        for way in ways:
            if way.db not in filled:
                rate = fill(way, peer)["rate"]
                filled[way.db] = True
                say(f"  filled 100k keys of database {way.db} at {rate:,.0f}/s")
            self.rows(way, peer)
        if last:
            self.check_across(peer)
        for way in ways:
            if way.name in FAILOVER_WAYS:
                self.kill(way, peer)

    def rows(self, way: Way, peer: Peer) -> None:
        for row in ROWS:
            try:
                result = measure(way, peer, row, self.options.seconds)
            except PROBLEMS as problem:
                say(f"  {way.title}: {row.title}: {problem}")
                self.skipped.setdefault(f"{way.name} {row.name}", str(problem)[:300])
                continue
            self.runs.setdefault(way.name, {}).setdefault(row.name, []).append(result)
            trouble = f"  {result['errors']} errors" if result["errors"] else ""
            trouble += f"  {result['bad']} BAD VALUES" if result.get("bad") else ""
            say(f"  {way.title}: {row.title}: {result['rate']:,.0f}/s{trouble}")

    def kill(self, way: Way, peer: Peer) -> None:
        for _ in range(self.options.kills):
            result = failover(way, peer)
            self.kills.setdefault(peer.name, []).append(result)
            say(f"  leader killed: {result['gap_ms']:.0f} ms without a write, {result['bad']} lost")

    def check_across(self, peer: Peer) -> None:
        """The same with redis-benchmark: does our own generator measure the same system?"""
        first = next(way for way in WAYS if way.peer == peer.name)
        rates = {row: runs[-1]["rate"] for row, runs in self.runs.get(first.name, {}).items()}
        try:
            found = cross_check(peer, rates, PINNED_DB if peer.name.startswith("quoit") else 0)
        except PROBLEMS as problem:
            say(f"  redis-benchmark: {problem}")
            return
        if found:
            self.cross[first.title] = found

    def results(self) -> dict[str, Any]:
        """What latest.json holds."""
        results: dict[str, Any] = {
            "date": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
            "commit": machine.commit(),
            "machine": self.machine,
            "settings": {
                "keys": 100_000,
                "value_bytes": 128,
                "nodes": 3,
                "seconds": self.options.seconds,
                "rounds": self.options.rounds,
                "kills_per_round": self.options.kills,
            },
            "versions": {n: p.version() for n, p in PEERS.items() if n not in self.skipped},
            "titles": {way.name: way.title for way in WAYS},
            "rows": {
                way: {row: merge(runs) for row, runs in rows.items()}
                for way, rows in self.runs.items()
            },
            "failover": {
                name: {
                    "gaps_ms": [run["gap_ms"] for run in runs],
                    "checked": sum(run["checked"] for run in runs),
                    "bad": sum(run["bad"] for run in runs),
                    "first_bad": next((r["first_bad"] for r in runs if r["first_bad"]), ""),
                }
                for name, runs in self.kills.items()
            },
            "idle_memory_mb": self.idle,
            "cross_check": self.cross,
            "skipped": self.skipped,
        }
        if "quoit" not in self.skipped:
            results["version_ms"] = machine.version_ms()
        results["budgets"] = [budget.as_dict() for budget in judge(results)]
        return results


def damaged(results: dict[str, Any]) -> bool:
    """Whether anything that was acknowledged was not there, or a reply was another key's."""
    rows = [row for rows in results["rows"].values() for row in rows.values()]
    return any(row["bad"] or row["wrong_replies"] for row in rows) or any(
        found["bad"] for name, found in results["failover"].items()
    )


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Compare quoit with etcd, NATS and Redis.")
    parser.add_argument("--quick", action="store_true", help="one round of 3 s rows")
    parser.add_argument("--only", default="", help="systems, by commas: " + ",".join(PEERS))
    parser.add_argument("--seconds", type=float, default=None, help="per row (default 5)")
    parser.add_argument("--rounds", type=int, default=None, help="default 3")
    parser.add_argument("--kills", type=int, default=None, help="leader kills a round (default 3)")
    parser.add_argument("--dir", default="", help="where data goes; must be a real disk")
    parser.add_argument("--no-write", action="store_true", help="print only: no JSON, no charts")
    options = parser.parse_args()
    options.seconds = options.seconds or (3.0 if options.quick else 5.0)
    options.rounds = options.rounds or (1 if options.quick else 3)
    options.kills = (1 if options.quick else 3) if options.kills is None else options.kills
    return options


def main() -> None:
    """Exit status 1: acknowledged data was wrong afterwards."""
    options = parse()
    comparison = Comparison(options)
    if comparison.machine["file_system"] == "tmpfs":
        raise SystemExit(
            f"{comparison.directory} is in memory: syncs cost nothing there, use --dir"
        )
    names = comparison.names()
    for number in range(options.rounds):
        comparison.round(number, names)
    results = comparison.results()
    print(render(results))
    if not options.no_write and comparison.runs:
        RESULTS.parent.mkdir(exist_ok=True)
        RESULTS.write_text(json.dumps(results, indent=1) + "\n")
        written = chart.write(results, IMAGES)
        print(f"\nwritten: {RESULTS}, {', '.join(str(path) for path in written)}")
    if damaged(results):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
