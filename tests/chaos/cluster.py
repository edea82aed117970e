"""A cluster of real `quoit serve` processes, each on its own loopback address 127.0.1.N, so that faults
of the network can tell them apart. Only processes that were started here are ever signalled."""

import asyncio
import os
import secrets
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from quoit.cli.ports import choose
from quoit.cli.shared import fetch_status

__all__ = ["Cluster", "Failure", "Node"]

READY_S = 40.0
SOURCE = Path(__file__).resolve().parents[2] / "src"


class Failure(Exception):
    """The cluster broke a promise, or did not come back. The message says which."""


@dataclass
class Node:
    """One node and its process."""

    number: int
    host: str
    resp: int
    admin: int
    peer: int
    directory: Path
    """Holds the data directory and the log file; perhaps on a file system of its own."""
    log: Path
    environment: dict[str, str] = field(default_factory=dict)
    routes: dict[int, tuple[str, int]] = field(default_factory=dict)
    """Other node -> where this one dials it, if not directly (a proxy)."""
    process: "subprocess.Popen[bytes] | None" = None

    @property
    def running(self) -> bool:
        """Its process has not ended."""
        return self.process is not None and self.process.poll() is None

    def signal(self, number: int) -> None:
        """Send a signal to the process, if it runs."""
        if self.process is not None and self.running:
            self.process.send_signal(number)

    def kill(self) -> None:
        """SIGKILL, and fetch its end."""
        self.signal(signal.SIGKILL)
        if self.process is not None:
            self.process.wait(10)

    def said(self, text: str) -> bool:
        """Its log holds `text`."""
        return text in self.log.read_text(errors="replace")


class Cluster:
    """`count` nodes below `directory`. `consensus`: raft or paxos."""

    def __init__(self, directory: Path, count: int, consensus: str) -> None:
        self.directory = directory
        self.consensus = consensus
        self.cluster_id = f"chaos-{secrets.token_hex(4)}"
        self.nodes: list[Node] = []
        self.shards: list[tuple[int, int]] = []
        """Slots of each shard, inclusive; known once the cluster was ready."""
        directory.mkdir(parents=True, exist_ok=True)
        (directory / "secret").write_text(secrets.token_hex(16))
        for number, (resp, admin, peer) in enumerate(choose(count, 0), start=1):
            place = directory / f"n{number}"
            place.mkdir()
            self.nodes.append(
                Node(number, f"127.0.1.{number}", resp, admin, peer, place,
                     directory / f"n{number}.log")
            )  # fmt: skip

    @property
    def addresses(self) -> list[tuple[int, str, int]]:
        """Where clients go."""
        return [(node.number, node.host, node.resp) for node in self.nodes]

    def node(self, number: int) -> Node:
        """By number, from 1."""
        return self.nodes[number - 1]

    # Processes

    def launch(self, node: Node) -> None:
        """Start the node's process."""
        if node.running:
            raise Failure(f"n{node.number} runs already")
        words = [
            sys.executable, "-m", "quoit", "serve", "--node-id", str(node.number),
            "--cluster-id", self.cluster_id, "--data-dir", str(node.directory / "data"),
            "--host", node.host, "--admin-host", node.host, "--resp-port", str(node.resp),
            "--admin-port", str(node.admin), "--peer-port", str(node.peer),
            "--consensus", self.consensus, "--shards", "4",
        ]  # fmt: skip
        for other in self.nodes:
            host, port = node.routes.get(other.number, (other.host, other.peer))
            words += ["--peers", f"{other.number}={host}:{port}/{other.resp}/{other.admin}"]
        environment = {
            key: value for key, value in os.environ.items() if not key.startswith("QUOIT_")
        }
        environment["QUOIT_SECRET_FILE"] = str(self.directory / "secret")
        environment["PYTHONPATH"] = str(SOURCE)
        with open(node.log, "ab") as log:
            node.process = subprocess.Popen(
                words, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                env={**environment, **node.environment},
            )  # fmt: skip

    async def start(self) -> None:
        """Start what does not run, and wait until all are ready."""
        for node in self.nodes:
            if not node.running:
                self.launch(node)
        await self.ready()

    def kill_all(self) -> None:
        """SIGKILL every process at once, then fetch their ends."""
        for node in self.nodes:
            node.signal(signal.SIGKILL)
        for node in self.nodes:
            node.kill()

    # What nodes say

    async def status(self, node: Node) -> dict[str, Any] | None:
        """What the node says of itself; None if it does not answer within a second."""
        try:
            return await asyncio.to_thread(fetch_status, f"{node.host}:{node.admin}", 1.0)
        except (OSError, ValueError):
            return None

    async def statuses(self) -> dict[int, dict[str, Any]]:
        """Number -> status of every node that answers."""
        found = await asyncio.gather(*map(self.status, self.nodes))
        return {node.number: one for node, one in zip(self.nodes, found, strict=True) if one}

    async def ready(self, within_s: float = READY_S) -> None:
        """Until every node is connected to all others and knows a leader of every shard."""
        deadline = time.monotonic() + within_s
        while True:
            statuses = await self.statuses()
            if len(statuses) == len(self.nodes) and all(map(_is_ready, statuses.values())):
                self.shards = [(one["slot_low"], one["slot_high"]) for one in statuses[1]["shards"]]
                return
            for node in self.nodes:
                if not node.running:
                    raise Failure(f"n{node.number} stopped by itself; its log is {node.log}")
            if time.monotonic() > deadline:
                raise Failure(f"not all nodes are ready {within_s:.0f} s after all was healed")
            await asyncio.sleep(0.1)

    async def leaders(self) -> dict[int, list[int]]:
        """Node -> shards that it leads, by its own word."""
        statuses = await self.statuses()
        return {
            number: [one["id"] for one in status["shards"] if one["role"] == "leader"]
            for number, status in statuses.items()
        }

    async def busiest(self) -> Node:
        """The node that leads most shards; the lowest number of equals."""
        leaders = await self.leaders()
        return self.node(max(leaders, key=lambda number: (len(leaders[number]), -number)))

    async def terms(self) -> dict[int, int]:
        """Shard -> the highest term (or ballot) that a node that answers is in."""
        found: dict[int, int] = {}
        for status in (await self.statuses()).values():
            for one in status["shards"]:
                found[one["id"]] = max(found.get(one["id"], 0), one["term"])
        return found

    async def replicas_equal(self, within_s: float = 10.0) -> str:
        """ "" once all replicas of each shard have applied the same entries and then hold equally many
        keys; else what differs."""
        deadline = time.monotonic() + within_s
        while True:
            problem = ""
            seen: dict[int, set[tuple[int, str]]] = {}
            for status in (await self.statuses()).values():
                for one in status["shards"]:
                    if one["role"] != "none":
                        state = (one["applied_index"], str(sorted(one["keys"].items())))
                        seen.setdefault(one["id"], set()).add(state)
            for shard, states in sorted(seen.items()):
                if len(states) > 1:
                    problem = f"replicas of shard {shard} differ (applied, keys): {sorted(states)}"
            if not problem or time.monotonic() > deadline:
                return problem
            await asyncio.sleep(0.2)


def _is_ready(status: dict[str, Any]) -> bool:
    up = {peer["id"] for peer in status["peers"] if peer["connected"]}
    return len(up) == len(status["peers"]) and all(one["leader"] in up for one in status["shards"])
