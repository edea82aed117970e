"""`quoit demo`: the promise, watched. Three real nodes, a stream of writes, the leader killed in the
middle of it, every acknowledged write looked for afterwards.

It is also a check: it ends with 0 only if nothing that was acknowledged is missing and writes went on.
"""

import json
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated, Any

import redis
import typer

from quoit.base.errors import BadRequest
from quoit.cli.clients import connect
from quoit.cli.cluster import LocalCluster
from quoit.cli.shared import FAILED, OK, new_app, run_app
from quoit.cli.writers import Writers, longest_pause, missing

__all__ = ["main"]

app = new_app()

NODES = 3
CATCH_UP_S = 30.0
COMMANDS = "kill N · restart N · pause N · resume N · status · bye"


@app.command()
def demo(
    directory: Annotated[Path | None, typer.Option("--dir", help="Keep the cluster here.")] = None,
    seconds: Annotated[
        float, typer.Option(min=0.5, max=600, help="How long to write, before and after.")
    ] = 2.0,
) -> int:
    """Watch a cluster lose a node and no write. Example: quoit demo --dir q

    Three nodes, a stream of writes, a kill; then every acknowledged write is looked for. On a
    terminal the cluster stays up for you to try. The exit code is 0 only if nothing was lost."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    temporary = directory is None
    place = Path(tempfile.mkdtemp(prefix="quoit-demo-")) if directory is None else directory
    try:
        cluster = LocalCluster(place)
        try:
            return _Demo(cluster, temporary).story(seconds)
        finally:
            cluster.stop_all()
    except (BadRequest, redis.RedisError) as error:
        print(f"quoit: the demo failed: {error}", file=sys.stderr)
        return FAILED
    finally:
        if temporary:
            shutil.rmtree(place, ignore_errors=True)


class _Demo:
    """One telling of the story."""

    def __init__(self, cluster: LocalCluster, temporary: bool) -> None:
        self.cluster = cluster
        self.temporary = temporary

    def story(self, seconds: float) -> int:
        """All of it; the exit code."""
        began = time.monotonic()
        cluster = self.cluster
        if not cluster.nodes:
            cluster.create(NODES)
        cluster.start()
        count = len(cluster.nodes)
        _say(
            f"{count} nodes are up and every shard has a leader ({time.monotonic() - began:.1f} s)"
        )
        for node in cluster.nodes:
            _say(f"    {node['name']}  redis://{node['resp']}/0   pid {node['pid']}")
        self.ports = [int(node["resp"].rpartition(":")[2]) for node in cluster.nodes]
        self._sample()
        summary, code = self._kill_and_check(seconds)
        if sys.stdin.isatty() and sys.stdout.isatty():
            self._prompt()
        _say(summary)
        return code

    def _sample(self) -> None:
        first, last = connect(self.ports[0]), connect(self.ports[-1])
        first.set("user:1", json.dumps({"name": "Ada", "likes": "engines"}))
        read = last.get("user:1")
        text = read.decode() if isinstance(read, bytes) else "nothing"
        first.incr("visits")
        visits = last.incr("visits")
        names = self.cluster.nodes[0]["name"], self.cluster.nodes[-1]["name"]
        _say(f"SET user:1 at {names[0]}, GET user:1 at {names[1]}: {text}; visits: {visits}")

    def _kill_and_check(self, seconds: float) -> tuple[str, int]:
        cluster = self.cluster
        writers = Writers(self.ports)
        writers.start()
        time.sleep(seconds)
        shard, victim = self._busiest(writers)
        before = len(writers.acknowledged)
        _say(f"{before:,} writes acknowledged; now kill -9 {victim['name']}, "
             f"which leads shard {shard['id']}")  # fmt: skip
        killed = time.monotonic()
        cluster.kill(victim)
        time.sleep(seconds + 0.5)
        ended = time.monotonic()
        writers.stop()
        slots = (shard["slot_low"], shard["slot_high"])
        pause = longest_pause(writers.moments, slots, killed, ended)
        resumed = any(slots[0] <= slot <= slots[1] and at > killed + pause / 2
                      for at, slot in writers.moments)  # fmt: skip
        total = len(writers.acknowledged)
        _say(
            f"writes to that shard paused for {pause:.2f} s; {total - before:,} more acknowledged "
            f"without {victim['name']} ({writers.unanswered} were not, and their clients were told)"
        )
        where = cluster.nodes.index(victim)
        lost = missing(writers.acknowledged, self.ports[:where] + self.ports[where + 1 :])
        _say(f"reading all {total:,} acknowledged writes from the other nodes: {lost} lost")
        caught_up = self._restart(victim)
        lost += missing(writers.acknowledged, [self.ports[where]])
        _say(f"{victim['name']} is back and caught up after {caught_up:.1f} s; "
             f"reading them all through it: {lost} lost")  # fmt: skip
        if not resumed:
            print("quoit: writes did not go on after the kill", file=sys.stderr)
        summary = (
            f"demo: {total:,} writes acknowledged, {lost} lost, writes paused {pause:.2f} s "
            f"when {victim['name']} was killed"
        )
        return summary, OK if not lost and total and resumed else FAILED

    def _busiest(self, writers: Writers) -> tuple[dict[str, Any], dict[str, Any]]:
        """The shard that took most of the writes, and the node that leads it."""
        slots = [slot for _, slot in writers.moments]
        for node in self.cluster.nodes:
            status = self.cluster.status(node)
            led = [shard for shard in status["shards"] if shard["leader"]] if status else []
            if led:
                shard = max(
                    led,
                    key=lambda one: sum(one["slot_low"] <= s <= one["slot_high"] for s in slots),
                )
                return shard, self.cluster.node(str(shard["leader"]))
        raise BadRequest("no node knows a leader")

    def _restart(self, victim: dict[str, Any]) -> float:
        """Start the node and wait until it has applied what the others had when it came back."""
        began = time.monotonic()
        self.cluster.launch(victim)
        self.cluster.wait_ready([victim["name"]])
        while time.monotonic() - began < CATCH_UP_S:
            told = {name: one for name, one in self.cluster.statuses().items() if one}
            own = told.get(victim["name"])
            if own and all(
                own["shards"][shard]["role"] == "none"
                or own["shards"][shard]["applied_index"]
                >= max(one["shards"][shard]["applied_index"] for one in told.values())
                for shard in range(len(own["shards"]))
            ):
                return time.monotonic() - began
            time.sleep(0.05)
        raise BadRequest(f"{victim['name']} has not caught up in {CATCH_UP_S:.0f} s")

    def _prompt(self) -> None:
        from quoit.cli import local

        if self.temporary:
            print("Temporary: nothing survives this prompt.")
        port = self.ports[0]
        print(f"Try: redis-cli -p {port} get user:1\n{COMMANDS}")
        while True:
            try:
                words = input("demo> ").split()
            except (EOFError, KeyboardInterrupt):
                print()
                return
            if words[:1] in (["bye"], ["quit"], ["exit"]):
                return
            if words and words[0] in ("kill", "restart", "pause", "resume", "status"):
                local.main([*words, "--dir", str(self.cluster.directory)])
                self.cluster.reload()
            elif words:
                print(COMMANDS)


def _say(text: str) -> None:
    print(text, flush=True)


def main(argv: list[str]) -> int:
    """Run the command."""
    return run_app(app, argv, "demo")
