"""Throughput of one machine with one worker and with two, side by side: pipelined SETs and GETs of several
client processes, each of which talks to the worker that leads its keys.

    python benchmarks/workers.py [--seconds 5] [--clients 2] [--depth 16]

Clients and workers share the machine's cores: with two cores, two workers and their clients cannot both have
one each, so the ratio that is printed is a lower bound for a machine with more.
"""

import argparse
import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import redis
from redis.crc import key_slot

from quoit.cli.ports import choose


def _keys(port: int) -> list[str]:
    """Keys of the shards that the worker at this port leads, as a cluster-aware client would send it."""
    client = redis.Redis(port=port, socket_timeout=20, decode_responses=True)
    own = [(one["start_slot"], one["end_slot"]) for one in _slots(client) if one["port"] == port]
    keys = (f"k{number}" for number in range(200_000))
    return [key for key in keys if any(low <= key_slot(key.encode()) <= high for low, high in own)]


def _slots(client: redis.Redis) -> list[dict[str, int]]:
    found = client.execute_command("CLUSTER SLOTS")
    if isinstance(found, dict):
        return [
            {"start_slot": low, "end_slot": high, "port": one["primary"][1]}
            for (low, high), one in found.items()
        ]
    return [{"start_slot": low, "end_slot": high, "port": one[1]} for low, high, one, *_ in found]


def _load(
    port: int, depth: int, seconds: float, kind: str, out: "multiprocessing.Queue[int]"
) -> None:
    keys = _keys(port)
    client = redis.Redis(port=port, socket_timeout=20)
    done, turn = 0, 0
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        pipe = client.pipeline(transaction=False)
        for number in range(depth):
            key = keys[(turn * depth + number) * 7919 % len(keys)]
            if kind == "set":
                pipe.set(key, b"x" * 64)
            else:
                pipe.get(key)
        pipe.execute()
        done += depth
        turn += 1
    out.put(done)


def measure(workers: int, clients: int, depth: int, seconds: float) -> dict[str, float]:
    """Operations a second by kind."""
    ((resp, admin, peer),) = choose(1, 0)
    with tempfile.TemporaryDirectory(prefix="quoit-workers-") as name:
        ready = Path(name) / "ready"
        process = subprocess.Popen(
            [
                sys.executable, "-m", "quoit", "serve", "--workers", str(workers), "--data-dir",
                f"{name}/data", "--resp-port", str(resp), "--admin-port", str(admin), "--peer-port",
                str(peer), "--ready-file", str(ready), "--log-level", "error",
            ],
            stdout=subprocess.DEVNULL, env=dict(os.environ),
        )  # fmt: skip
        try:
            while not ready.exists():
                if process.poll() is not None:
                    raise SystemExit("the workers did not start")
                time.sleep(0.05)
            found = {}
            for kind in ("set", "get"):
                out: multiprocessing.Queue[int] = multiprocessing.Queue()
                loads = [
                    multiprocessing.Process(
                        target=_load, args=(resp + 10 * (one % workers), depth, seconds, kind, out)
                    )
                    for one in range(clients)
                ]
                for one in loads:
                    one.start()
                total = sum(out.get() for _ in loads)
                for one in loads:
                    one.join()
                found[kind] = total / seconds
            return found
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(30)


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--clients", type=int, default=2)
    parser.add_argument("--depth", type=int, default=16)
    given = parser.parse_args()
    one = measure(1, given.clients, given.depth, given.seconds)
    two = measure(2, given.clients, given.depth, given.seconds)
    print(f"{'':<6} {'1 worker':>12} {'2 workers':>12} {'ratio':>7}   ({os.cpu_count()} cores)")
    for kind in ("set", "get"):
        print(f"{kind:<6} {one[kind]:>10.0f}/s {two[kind]:>10.0f}/s {two[kind] / one[kind]:>6.2f}x")


if __name__ == "__main__":
    main()
