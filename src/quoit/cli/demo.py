"""`quoit demo`: the promise, watched. Three real nodes, a stream of writes, the leader killed in the
middle of it, every acknowledged write looked for afterwards.

It is also a check: it ends with 0 only if nothing that was acknowledged is missing.
"""

import itertools
import json
import shutil
import sys
import tempfile
import threading
import time
from binascii import crc_hqx
from pathlib import Path
from typing import Annotated, Any

import redis
import typer

from quoit.base.errors import BadRequest
from quoit.cli.cluster import LocalCluster
from quoit.cli.shared import FAILED, new_app, run_app

__all__ = ["main"]

app = new_app("Watch a cluster lose a node and no write.")

WRITERS = 4


class Writers:
    """Threads that write unique values and remember which were acknowledged.

    acknowledged  key -> value, only what the cluster said +OK to
    moments       when each acknowledgement came, for finding the pause
    """

    def __init__(self, ports: list[int]) -> None:
        self.ports = ports
        self.acknowledged: dict[str, str] = {}
        self.moments: list[tuple[float, int]] = []
        self.unknown = 0
        self.refused = 0
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._run, args=(number,), daemon=True)
            for number in range(WRITERS)
        ]

    def start(self) -> None:
        """Begin writing."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Finish the writes under way."""
        self._stop.set()
        for thread in self._threads:
            thread.join(timeout=20)

    def _run(self, number: int) -> None:
        connections = [
            redis.Redis(port=port, socket_timeout=6, socket_connect_timeout=1, retry=None)
            for port in self.ports
        ]
        which = number % len(connections)
        for count in itertools.count():
            if self._stop.is_set():
                return
            key, value = f"demo:{number}:{count}", f"value {count} of writer {number}"
            try:
                connections[which].set(key, value)
            except redis.ResponseError:
                # UNKNOWN maybe applied, or a clear refusal: neither was acknowledged.
                self.unknown += 1
            except (redis.ConnectionError, redis.TimeoutError):
                self.unknown += 1
                which = (which + 1) % len(connections)
            else:
                self.acknowledged[key] = value
                slot = crc_hqx(key.encode(), 0) % 16384
                self.moments.append((time.monotonic(), slot))

    def longest_pause(self, low: int, high: int, since: float) -> float:
        """Longest time without an acknowledged write to a key whose slot is in [low, high]."""
        moments = [at for at, slot in self.moments if low <= slot <= high and at >= since - 0.2]
        return max((b - a for a, b in itertools.pairwise(sorted(moments))), default=0.0)


@app.command()
def demo(
    directory: Annotated[Path | None, typer.Option("--dir", help="Keep the cluster here.")] = None,
    seconds: Annotated[float, typer.Option(help="How long to write, before and after.")] = 2.0,
) -> int:
    """Three nodes, a stream of writes, a kill. On a terminal it then stays up for you to try."""
    temporary = directory is None
    place = Path(tempfile.mkdtemp(prefix="quoit-demo-")) if directory is None else directory
    cluster = LocalCluster(place)
    try:
        return _story(cluster, seconds, temporary)
    except BadRequest as error:
        print(f"quoit: {error}", file=sys.stderr)
        return FAILED
    finally:
        for node in cluster.nodes:
            cluster.stop(node)
        if temporary:
            shutil.rmtree(place, ignore_errors=True)


def _story(cluster: LocalCluster, seconds: float, temporary: bool) -> int:
    began = time.monotonic()
    if not cluster.nodes:
        cluster.create(3, 0, 0)
    for node in cluster.nodes:
        if not cluster.running(node):
            cluster.launch(node)
    cluster.wait_ready()
    _say(f"3 nodes are up and every shard has a leader ({time.monotonic() - began:.1f} s)")
    for node in cluster.nodes:
        _say(f"    {node['name']}  redis://{node['resp']}/0   pid {node['pid']}")
    ports = [int(node["resp"].rpartition(":")[2]) for node in cluster.nodes]
    _sample(ports)
    return _kill_and_check(cluster, ports, seconds, temporary)


def _sample(ports: list[int]) -> None:
    first, second = (redis.Redis(port=port, decode_responses=True) for port in ports[:2])
    first.set("user:1", json.dumps({"name": "Ada", "likes": "engines"}))
    first.incr("visits", 41)
    visits = second.incr("visits")
    _say(f"SET user:1 at n1, GET user:1 at n2: {second.get('user:1')}; visits: {visits}")


def _kill_and_check(
    cluster: LocalCluster, ports: list[int], seconds: float, temporary: bool
) -> int:
    writers = Writers(ports)
    writers.start()
    time.sleep(seconds)
    status = next(one for one in cluster.statuses().values() if one)
    # The busiest shard: the one whose log grew most.
    shard = max(status["shards"], key=lambda one: int(one["commit_index"]))
    victim = next(node for node in cluster.nodes if node["id"] == shard["leader"])
    before = len(writers.acknowledged)
    _say(
        f"{before:,} writes acknowledged; kill -9 {victim['name']}, which leads shard {shard['id']}"
    )
    cluster.kill(victim)
    killed = time.monotonic()
    time.sleep(seconds + 0.5)
    writers.stop()
    pause = writers.longest_pause(shard["slot_low"], shard["slot_high"], killed)
    total = len(writers.acknowledged)
    _say(
        f"writes to that shard paused for {pause:.2f} s; {total - before:,} more acknowledged "
        f"without {victim['name']} ({writers.unknown} outcomes unknown, said so)"
    )
    survivors = [
        port for port, node in zip(ports, cluster.nodes, strict=True) if node is not victim
    ]
    lost = _missing(writers.acknowledged, survivors)
    _say(f"all {total:,} acknowledged writes read back from the others: {lost} lost")
    caught_up = _restart(cluster, victim)
    lost += _missing(writers.acknowledged, [ports[cluster.nodes.index(victim)]])
    _say(
        f"{victim['name']} is back and caught up after {caught_up:.1f} s; read through it: {lost} lost"
    )
    if sys.stdin.isatty() and sys.stdout.isatty():
        _prompt(cluster, temporary)
    print(
        f"demo: {total:,} writes acknowledged, {lost} lost, writes paused {pause:.2f} s "
        f"when {victim['name']} was killed",
        flush=True,
    )
    return FAILED if lost or not total else 0


def _missing(expected: dict[str, str], ports: list[int]) -> int:
    lost = 0
    keys = list(expected)
    for number, port in enumerate(ports):
        client = redis.Redis(port=port, decode_responses=True, socket_timeout=10)
        mine = keys[number :: len(ports)]
        for start in range(0, len(mine), 500):
            part = mine[start : start + 500]
            with client.pipeline(transaction=False) as pipe:
                for key in part:
                    pipe.get(key)
                found = pipe.execute()
            lost += sum(1 for key, value in zip(part, found, strict=True) if value != expected[key])
    return lost


def _restart(cluster: LocalCluster, victim: dict[str, Any]) -> float:
    began = time.monotonic()
    cluster.launch(victim)
    cluster.wait_ready([victim["name"]])
    while time.monotonic() - began < 30:
        told = {name: one for name, one in cluster.statuses().items() if one}
        own = told.get(victim["name"])
        if own and all(
            own["shards"][shard]["applied_index"]
            >= max(one["shards"][shard]["applied_index"] for one in told.values())
            for shard in range(len(own["shards"]))
        ):
            return time.monotonic() - began
        time.sleep(0.05)
    raise BadRequest(f"{victim['name']} has not caught up in 30 s")


def _prompt(cluster: LocalCluster, temporary: bool) -> None:
    if temporary:
        print("Temporary: nothing survives this prompt.")
    print("kill N · restart N · pause N · resume N · status · bye")
    from quoit.cli import local

    while True:
        try:
            words = input("demo> ").split()
        except (EOFError, KeyboardInterrupt):
            return
        if not words:
            continue
        if words[0] in ("bye", "quit", "exit"):
            return
        if words[0] in ("kill", "restart", "pause", "resume", "status"):
            local.main([*words, "--dir", str(cluster.directory)])
            cluster.data = LocalCluster(cluster.directory).data
        else:
            print("kill N · restart N · pause N · resume N · status · bye")


def _say(text: str) -> None:
    print(text, flush=True)


def main(argv: list[str]) -> int:
    """Run the command."""
    return run_app(app, argv, "demo")
