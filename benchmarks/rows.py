"""What is measured of each system: the ways to use it, the rows, and the kill of a leader."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from load import Job
from peers import PINNED_DB, Peer, Quoit, find_program, wait_for

__all__ = ["ROWS", "WAYS", "Way", "cross_check", "failover", "fill", "measure"]

KEYS = 100_000
KILL_AFTER_SECONDS = 2.0
FAILOVER_SECONDS = 6.0
FAILOVER_CLIENTS = 16
GIVE_UP_MS = 250


@dataclass(frozen=True)
class Way:
    """A system and how clients reach it."""

    name: str
    title: str
    peer: str
    targets: Callable[[Peer], Any]
    db: int = 0
    mapped: bool = False
    note: str = ""


@dataclass(frozen=True)
class Row:
    name: str
    title: str
    op: str
    clients: int
    depth: int


WAYS = [
    Way("quoit-pinned", "quoit, one database at its leader", "quoit", Peer.at_leader, db=PINNED_DB),
    Way("quoit-mapped", "quoit, clients that know the map", "quoit", Peer.everywhere, mapped=True),
    Way("quoit-entry", "quoit, through one entry node", "quoit",
        lambda peer: peer.everywhere()[:1]),
    Way("paxos-pinned", "quoit on Paxos, one database at its leader", "quoit-paxos",
        Peer.at_leader, db=PINNED_DB),
    Way("paxos-entry", "quoit on Paxos, through one entry node", "quoit-paxos",
        lambda peer: peer.everywhere()[:1]),
    Way("all-pinned", "quoit, write-all, one database at its leader", "quoit-all",
        Peer.at_leader, db=PINNED_DB),
    Way("all-spread", "quoit, write-all, one database over all nodes", "quoit-all",
        Peer.everywhere, db=PINNED_DB, note="each node answers reads itself"),
    Way("etcd-leader", "etcd, at the leader", "etcd", Peer.at_leader),
    Way("etcd-spread", "etcd, spread over nodes", "etcd", Peer.everywhere),
    Way("nats", "NATS JetStream KV, sync always", "nats", Peer.at_leader,
        note="its read asks the stream's leader alone: not linearizable"),
    Way("redis", "Redis + WAIT 1, AOF always", "redis", Peer.at_leader,
        note="no consensus: a failover can lose acknowledged writes, reads are the primary's"),
    Way("single-redis", "single Redis, everysec", "single-redis", Peer.at_leader,
        note="unsafe: one copy, synced once a second"),
]  # fmt: skip

ROWS = [
    Row("set-1", "SET, 1 client", "set", 1, 1),
    Row("set-64", "SET, 64 clients", "set", 64, 1),
    Row("set-64x16", "SET, 64 clients, depth 16", "set", 64, 16),
    Row("get-1", "GET, 1 client", "get", 1, 1),
    Row("get-64", "GET, 64 clients", "get", 64, 1),
]


def command_for(job: Job) -> list[str]:
    return [
        sys.executable,
        str(Path(__file__).with_name("load.py")),
        "--job",
        json.dumps(asdict(job)),
    ]


def run(job: Job) -> dict[str, Any]:
    """Run the generator in a process of its own. Raises RuntimeError with its last words."""
    limit = 150 + job.seconds
    ended = subprocess.run(
        command_for(job), capture_output=True, text=True, timeout=limit, check=False
    )
    return outcome(ended.returncode, ended.stdout, ended.stderr)


def outcome(status: int, stdout: str, stderr: str) -> dict[str, Any]:
    if status:
        raise RuntimeError(stderr.strip()[-600:] or f"the load generator ended with {status}")
    result: dict[str, Any] = json.loads(stdout)
    return result


def job_for(way: Way, peer: Peer, **changes: Any) -> Job:
    base: dict[str, Any] = {
        "system": peer.system,
        "targets": way.targets(peer),
        "keys": KEYS,
        "db": way.db,
        "mapped": way.mapped,
        "wait_one": way.peer == "redis",
        "pids": [node.pid for node in peer.nodes],
    }
    return Job(**(base | changes))


def fill(way: Way, peer: Peer) -> dict[str, Any]:
    """Write every key once, so that each read finds its value."""
    return run(job_for(way, peer, op="fill", depth=16, mapped=False))


def measure(way: Way, peer: Peer, row: Row, seconds: float) -> dict[str, Any]:
    """One run of one row. After writes, a sample is read back at another node than the one that
    took the writes, where reads are linearizable there too."""
    check_at = [] if way.peer in ("nats", "redis") else peer.everywhere()[::-1]
    return run(
        job_for(way, peer, op=row.op, clients=row.clients, depth=row.depth, seconds=seconds,
                check_at=check_at)
    )  # fmt: skip


def failover(way: Way, peer: Peer, pause: float = 2.0) -> dict[str, Any]:
    """Kill -9 the leader under load; the longest time without an acknowledged write.

    The clients are connected to the nodes that survive and write keys of one shard that the killed
    node leads, so the gap is the system's, not the reconnect's. A client gives a request up
    after 250 ms and goes on with the next, so that a long server-side time-out does not hide the
    moment from which writes are taken again. Every acknowledged write must be there afterwards.
    """
    leader = peer.leader()
    survivors = [node.address for n, node in enumerate(peer.nodes) if n != leader]
    job = job_for(
        way, peer, targets=survivors, mapped=False, clients=FAILOVER_CLIENTS, warm_up=0.5,
        seconds=FAILOVER_SECONDS, timeout_ms=GIVE_UP_MS, check=5000,
    )  # fmt: skip
    process = subprocess.Popen(
        command_for(job), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    time.sleep(KILL_AFTER_SECONDS)
    peer.kill(leader)
    try:
        stdout, stderr = process.communicate(timeout=60)
    finally:
        if process.poll() is None:
            os.kill(process.pid, signal.SIGKILL)
    result = outcome(process.returncode, stdout, stderr)
    peer.restart(leader)
    time.sleep(pause)
    wait_for("a leader after the restart", lambda: peer.leader() >= 0)
    return result


def cross_check(peer: Peer, rates: dict[str, float], db: int = 0) -> dict[str, float]:
    """redis-benchmark's own figures for the same commands (RESP systems): {"SET c64": rate...}."""
    program = find_program("redis-benchmark")
    if program is None or peer.system != "resp":
        return {}
    found: dict[str, float] = {}
    host, port = peer.at_leader()[0] if isinstance(peer, Quoit) else peer.nodes[0].address
    for depth in (1, 16):
        count = int(max(20_000, rates.get(f"set-64x{depth}" if depth > 1 else "set-64", 0) * 2))
        command = [
            program, "-h", host, "-p", str(port), "-t", "set,get", "-c", "64", "-P", str(depth),
            "-n", str(count), "-d", "128", "-r", str(KEYS), "--dbnum", str(db), "--csv",
        ]  # fmt: skip
        ended = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
        for line in ended.stdout.splitlines():
            cells = [cell.strip('"') for cell in line.split(",")]
            if cells[0] in ("SET", "GET"):
                found[f"{cells[0]}, 64 clients, depth {depth}"] = float(cells[1])
    if not found:
        raise RuntimeError("redis-benchmark gave no figures")
    return found
