"""Where a loaded node's time goes (`make profile`): py-spy samples the leader while it works.

    python benchmarks/profile_node.py [--op set|get] [--clients 64] [--depth 1] [--seconds 6]
                                 [--entry] [--follower] [--out FILE.speedscope.json]

Starts three nodes, loads the pinned database at its leader (`--entry`: database 0 through one node,
whose commands are two thirds forwarded) and prints the functions with the most samples, by their
own time and with everything they call. `--out` also keeps the samples for speedscope.
"""

import argparse
import json
import subprocess
import tempfile
from collections import Counter
from pathlib import Path

from peers import Peer, Quoit, find_program
from rows import WAYS, Way, command_for, fill, job_for

__all__ = ["Samples", "top"]

TOP = 25
SAMPLES_PER_SECOND = 400


class Samples:
    """Counts out of py-spy's raw format: one line per distinct stack, `frame;frame;... count`,
    a frame being `function (file:line)`. Lines of one function are added up."""

    def __init__(self, raw: str) -> None:
        self.own: Counter[str] = Counter()
        self.with_calls: Counter[str] = Counter()
        self.total = 0
        for line in raw.splitlines():
            stack, _, count = line.rpartition(" ")
            if not stack:
                continue
            names = [self.function(frame) for frame in stack.split(";")]
            self.total += int(count)
            self.own[names[-1]] += int(count)
            for name in dict.fromkeys(names):
                self.with_calls[name] += int(count)

    @staticmethod
    def function(frame: str) -> str:
        name, _, where = frame.rpartition(" (")
        file, _, _ = where.rstrip(")").rpartition(":")
        return f"{name} ({file or where.rstrip(')')})"


def top(title: str, counts: Counter[str], total: int) -> str:
    rows = [f"{count / total:7.1%}  {name}" for name, count in counts.most_common(TOP)]
    return "\n".join([title, *rows])


def sample(pid: int, seconds: float, file: Path, style: str, gil: bool) -> None:
    """Let py-spy watch a process; raises RuntimeError with its words when it cannot."""
    program = find_program("py-spy")
    if program is None:
        raise RuntimeError("py-spy is not installed (pip install py-spy)")
    command = [
        program, "record", "--pid", str(pid), "--duration", str(round(seconds)), "--format", style,
        "--rate", str(SAMPLES_PER_SECOND), "--output", str(file), "--nonblocking",
    ]  # fmt: skip
    ended = subprocess.run(
        command + (["--gil"] if gil else []), capture_output=True, text=True, check=False
    )
    if ended.returncode or not file.exists():
        raise RuntimeError(f"py-spy: {ended.stderr.strip()[-500:]}")


def watch(options: argparse.Namespace, peer: Peer, way: Way, place: Path) -> str:
    """Load the cluster, sample one node, and say what was found."""
    if options.op == "get":
        fill(way, peer)
    target = 0 if options.entry else peer.leader()
    position = (target + 1) % len(peer.nodes) if options.follower else target
    node = peer.nodes[position]
    job = job_for(
        way, peer, op=options.op, clients=options.clients, depth=options.depth, check=0,
        seconds=options.seconds + 3.0,
    )  # fmt: skip
    load = subprocess.Popen(command_for(job), stdout=subprocess.PIPE, text=True)
    try:
        raw = place / "samples.raw"
        sample(node.pid, options.seconds, raw, "raw", options.gil)
        result = json.loads(load.communicate(timeout=60)[0])
    finally:
        if load.poll() is None:
            load.kill()
    samples = Samples(raw.read_text())
    if not samples.total:
        raise RuntimeError("py-spy saw nothing: the node was idle")
    return "\n\n".join([
        f"{node.name} (pid {node.pid}) under {options.op} by {options.clients} clients, depth "
        f"{options.depth}: {result['rate']:,.0f}/s while sampled, {samples.total} samples, "
        f"cores used by each node {result['node_cpu']}, by the generator "
        f"{result['generator_cpu']}",
        top("own time", samples.own, samples.total),
        top("with everything called", samples.with_calls, samples.total),
    ])  # fmt: skip


def keep_speedscope(options: argparse.Namespace, peer: Peer, way: Way) -> str:
    """The same load once more, kept as a file that https://speedscope.app can open."""
    node = peer.nodes[0 if options.entry else peer.leader()]
    job = job_for(way, peer, op=options.op, clients=options.clients, depth=options.depth, check=0,
                  seconds=options.seconds + 3.0)  # fmt: skip
    load = subprocess.Popen(command_for(job), stdout=subprocess.DEVNULL)
    try:
        sample(node.pid, options.seconds, Path(options.out), "speedscope", options.gil)
        load.wait(60)
    finally:
        if load.poll() is None:
            load.kill()
    return f"written: {options.out}"


def main() -> None:
    parser = argparse.ArgumentParser(description="Sample a loaded node with py-spy.")
    parser.add_argument("--op", choices=["set", "get"], default="set")
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--depth", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=6.0)
    parser.add_argument("--entry", action="store_true", help="database 0 through one entry node")
    parser.add_argument("--follower", action="store_true", help="sample another node than that")
    parser.add_argument("--gil", action="store_true", help="only samples that hold the GIL")
    parser.add_argument("--out", default="", help="keep a speedscope file too")
    options = parser.parse_args()
    way = next(w for w in WAYS if w.name == ("quoit-entry" if options.entry else "quoit-pinned"))
    if why := Quoit.missing():
        raise SystemExit(why)
    with tempfile.TemporaryDirectory(prefix="profile-") as place:
        peer = Quoit(Path(place))
        try:
            peer.start()
            print(watch(options, peer, way, Path(place)))
            if options.out:
                print(keep_speedscope(options, peer, way))
        except (RuntimeError, OSError, TimeoutError) as problem:
            raise SystemExit(f"profile: {problem}") from problem
        finally:
            peer.stop()


if __name__ == "__main__":
    main()
