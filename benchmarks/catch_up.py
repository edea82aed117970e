"""A follower that was away comes back: what the others still do meanwhile, and how long it takes.

    python benchmarks/catch_up.py [--writes 1000000] [--consensus raft|paxos]

Three real nodes; one is killed, so many small keys are written without it, and it is started again while the
load goes on at the other two. Goal: at least 70 % of the throughput before. Prints a table; no test.
"""

import argparse
import json
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from pathlib import Path
from typing import Any

DEPTH = 50
CLIENTS = 4


def quoit(*words: str) -> None:
    subprocess.run([sys.executable, "-m", "quoit", *words], check=True, stdout=subprocess.DEVNULL)


class Load:
    """Pipelined SETs over a few connections, counted."""

    def __init__(self, ports: list[int]) -> None:
        self.count = 0
        self.stop = False
        self.lock = threading.Lock()
        self.threads = [
            threading.Thread(target=self._work, args=(ports[n % len(ports)], n), daemon=True)
            for n in range(CLIENTS)
        ]
        for thread in self.threads:
            thread.start()

    def _work(self, port: int, number: int) -> None:
        with socket.create_connection(("127.0.0.1", port)) as connection:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            turn = 0
            while not self.stop:
                turn += 1
                parts = []
                for place in range(DEPTH):
                    key = b"c%d:%d:%d" % (number, turn, place)
                    parts.append(
                        b"*3\r\n$3\r\nSET\r\n$%d\r\n%s\r\n$9\r\nsomething\r\n" % (len(key), key)
                    )
                connection.sendall(b"".join(parts))
                replies = 0
                while replies < DEPTH:
                    data = connection.recv(65536)
                    if not data:
                        raise ConnectionError("a node closed the connection")
                    replies += data.count(b"\r\n")
                with self.lock:
                    self.count += DEPTH

    def rate(self, seconds: float) -> float:
        before, began = self.count, time.monotonic()
        time.sleep(seconds)
        return (self.count - before) / (time.monotonic() - began)

    def end(self) -> None:
        self.stop = True
        for thread in self.threads:
            thread.join()


def shards(admin: str) -> dict[int, tuple[int, str]]:
    """Shard -> (applied index, role) at the node with this admin address."""
    with urllib.request.urlopen(f"http://{admin}/v1/status", timeout=2) as answer:
        found: dict[str, Any] = json.load(answer)
    return {one["id"]: (one["applied_index"], one["role"]) for one in found["shards"]}


def level(behind: str, other: str) -> bool:
    """The node at `behind` has all but the newest entries of every shard."""
    try:
        there, here = shards(behind), shards(other)
    except OSError:
        return False
    return all(there[shard][0] >= here[shard][0] - 200 for shard in here)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--writes", type=int, default=1_000_000)
    parser.add_argument("--consensus", default="raft")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        directory = str(Path(place) / "q")
        quoit(
            "local", "start", "--nodes", "3", "--dir", directory, "--consensus", options.consensus
        )
        try:
            measure(directory, options.writes)
        finally:
            quoit("local", "stop", "--dir", directory)


def measure(directory: str, writes: int) -> None:
    nodes = json.loads((Path(directory) / "cluster.json").read_text())["nodes"]
    ports = [int(node["resp"].rpartition(":")[2]) for node in nodes]
    quoit("local", "kill", "n3", "--dir", directory)
    time.sleep(2)
    load = Load(ports[:2])
    began = time.monotonic()
    while load.count < writes:
        time.sleep(0.5)
    spent = time.monotonic() - began
    before = load.rate(5)
    quoit("local", "restart", "n3", "--dir", directory)
    began = time.monotonic()
    rates = []
    while not level(nodes[2]["admin"], nodes[0]["admin"]):
        rates.append(load.rate(1))
        if time.monotonic() - began > 600:
            raise SystemExit("n3 did not catch up within 10 minutes")
    took = time.monotonic() - began
    after = load.rate(5)
    load.end()
    during = sum(rates) / len(rates) if rates else after
    print(f"{writes:,} writes while n3 was away ({writes / spent:,.0f}/s)")
    print(f"{'before it comes back':28} {before:>10,.0f}/s")
    print(f"{'while it catches up':28} {during:>10,.0f}/s   {during / before:.0%}, {took:.1f} s")
    print(f"{'lowest second of these':28} {min(rates, default=after):>10,.0f}/s")
    print(f"{'afterwards, three nodes':28} {after:>10,.0f}/s   {after / before:.0%}")


if __name__ == "__main__":
    main()
