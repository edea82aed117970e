"""What a command costs in the pure node, without sockets and syncs: three nodes in one process.

    PYTHONPATH=src python benchmarks/bench_node.py [--profile] ["SET depth 1" ...]

Commands enter through the Redis connection, frames go from node to node as bytes, the log is
written to a directory in memory. Printed: microseconds per command in the leader and in a follower.
"""

import argparse
import cProfile
import pstats
import random
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from quoit.gateways.resp.connection import RespConnection
from quoit.gateways.resp.gateway import RespGateway, RespSettings
from quoit.node.config import NodeConfig, PeerInfo
from quoit.node.node import Node
from quoit.runtime.disk import RealDisk
from quoit.runtime.seams import RealClock
from quoit.storage.buffered import BufferedEngine
from quoit.storage.engine import RocksEngine
from quoit.storage.log import Log

CLIENTS = 64
KEYS = 100_000
now = time.perf_counter


class Transport:
    """Swallows replies."""

    def __init__(self) -> None:
        self.bytes = 0

    def write(self, data: bytes) -> None:
        self.bytes += len(data)

    def get_write_buffer_size(self) -> int:
        return 0

    def get_extra_info(self, name: str) -> None:
        return None


class Host:
    """What a connection wants of a driver."""

    def __init__(self, node: Node) -> None:
        self.node = node

    def kick(self) -> None:
        """Turns are taken by `Cluster.settle`."""

    def fail(self, message: str) -> None:
        raise SystemExit(message)


class Cluster:
    """Three nodes and what each has spent, in seconds."""

    def __init__(self, place: Path) -> None:
        peers = tuple(PeerInfo(number, f"n{number}") for number in (1, 2, 3))
        self.nodes: dict[int, Node] = {}
        self.spent = dict.fromkeys((1, 2, 3), 0.0)
        for number in (1, 2, 3):
            log, recovery = Log.open(RealDisk(str(place / f"{number}/log")))
            engine = BufferedEngine(RocksEngine(str(place / f"{number}/data")), 128 << 20, 64 << 20)
            config = NodeConfig(
                node_id=number, cluster_id="bench", nodes=peers, shards=1, disk_hang_us=1 << 40,
                election_timeout_us=3_000_000, heartbeat_us=600_000, give_back_after_us=1 << 40,
            )  # fmt: skip
            self.nodes[number] = Node(
                config, RealClock(), random.Random(number), engine, log, recovery, _quiet
            )
        for number, node in self.nodes.items():
            for other in self.nodes:
                if other != number:
                    node.on_peer(other, True)
        while not any(node.serving for node in self.nodes.values()):
            time.sleep(0.01)
            for node in self.nodes.values():
                node.tick()
            self.settle()
        self.leader = next(number for number, node in self.nodes.items() if node.serving)

    def turn(self, number: int) -> Any:
        begun = now()
        effects = self.nodes[number].end_turn()
        touched = {}
        for session, ticket, reply in effects.replies:
            session.sink.fill(ticket, reply)
            touched[session.id] = session.sink
        for sink in touched.values():
            sink.flush()
        self.spent[number] += now() - begun
        return effects

    def settle(self) -> None:
        """Turns until nothing happens any more."""
        busy = True
        while busy:
            busy = False
            for number, node in self.nodes.items():
                effects = self.turn(number)
                if effects.write is not None:
                    node.log.commit(effects.write)
                    node.log.note(effects.write)
                    begun = now()
                    node.on_persisted(effects.write)
                    self.spent[number] += now() - begun
                    busy = True
                for peer, payload in effects.urgent + effects.frames:
                    begun = now()
                    self.nodes[peer].on_frame(number, payload)
                    self.spent[peer] += now() - begun
                    busy = True


def _quiet(event: str, /, **facts: object) -> None:
    """No traces."""


class Load:
    """Clients at the leader."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.rng = random.Random(5)
        gateway = RespGateway(RespSettings())
        host: Any = Host(cluster.nodes[cluster.leader])
        self.connections = [RespConnection(gateway, host, n + 1) for n in range(CLIENTS)]
        for connection in self.connections:
            connection.connection_made(Transport())

    def set(self) -> bytes:
        key = b"k%015d" % self.rng.randrange(KEYS)
        return b"*3\r\n$3\r\nSET\r\n$16\r\n%b\r\n$128\r\n%b%b\r\n" % (key, key, b"x" * 112)

    def get(self) -> bytes:
        return b"*2\r\n$3\r\nGET\r\n$16\r\nk%015d\r\n" % self.rng.randrange(KEYS)

    def run(self, make: Callable[[], bytes], depth: int, cycles: int) -> tuple[float, float]:
        """Microseconds per command: (leader, follower)."""
        cluster = self.cluster
        spent = cluster.spent
        for number in spent:
            spent[number] = 0.0
        for _ in range(cycles):
            chunks = [b"".join(make() for _ in range(depth)) for _ in self.connections]
            begun = now()
            for connection, chunk in zip(self.connections, chunks, strict=True):
                connection.data_received(chunk)
            spent[cluster.leader] += now() - begun
            cluster.settle()
        commands = cycles * depth * CLIENTS
        led = spent[cluster.leader]
        return led / commands * 1e6, (sum(spent.values()) - led) / 2 / commands * 1e6


def main() -> None:
    """Run all rows, or those that were named."""
    parser = argparse.ArgumentParser(description="What a command costs in the pure node.")
    parser.add_argument("rows", nargs="*", help='such as "SET depth 16"')
    parser.add_argument("--profile", action="store_true", help="functions with the most time")
    options = parser.parse_args()
    place = Path(tempfile.mkdtemp(dir="/dev/shm" if Path("/dev/shm").is_dir() else None))
    try:
        load = Load(Cluster(place))
        load.run(load.set, 40, 40)
        rows = {
            "SET depth 1": (load.set, 1, 200),
            "SET depth 16": (load.set, 16, 30),
            "GET depth 1": (load.get, 1, 800),
            "GET depth 16": (load.get, 16, 60),
        }
        for name in options.rows or rows:
            if options.profile:
                with cProfile.Profile() as profile:
                    load.run(*rows[name])
                pstats.Stats(profile).sort_stats("tottime").print_stats(28)
            leader, follower = min(load.run(*rows[name]) for _ in range(5))
            print(f"{name:14} leader {leader:6.2f} us   follower {follower:6.2f} us")
    finally:
        shutil.rmtree(place)


if __name__ == "__main__":
    main()
