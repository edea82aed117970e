"""A cluster of real node processes on this machine: what `quoit local` and `quoit demo` work on.

`DIR/cluster.json` says what runs: {"cluster_id": ..., "shards": ..., "nodes": [{"name", "id", "pid",
"resp", "peer", "admin", "data"}]}, addresses as host:port. Processes are acted on by the recorded pid,
and only after a look at /proc that it is still the one.
"""

import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from quoit.base.errors import BadRequest
from quoit.cli.shared import fetch_status

__all__ = ["LocalCluster"]

START_S = 30.0


class LocalCluster:
    """The cluster in a directory."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory.resolve()
        self.file = self.directory / "cluster.json"
        self.data: dict[str, Any] = {}
        if self.file.exists():
            self.data = json.loads(self.file.read_text())

    @property
    def nodes(self) -> list[dict[str, Any]]:
        """All nodes."""
        found: list[dict[str, Any]] = self.data.get("nodes", [])
        return found

    def node(self, name: str) -> dict[str, Any]:
        """The node called `name` (`n2`) or numbered so (`2`)."""
        for node in self.nodes:
            if name in (node["name"], str(node["id"])):
                return node
        names = ", ".join(node["name"] for node in self.nodes) or "none"
        raise BadRequest(f"there is no node {name!r} in {self.directory}; there are: {names}")

    def create(self, count: int, base_port: int, shards: int) -> None:
        """Write a new cluster's description; nothing is started."""
        if count < 1:
            raise BadRequest("a cluster needs at least one node")
        ports = _ports(count, base_port)
        cluster_id = f"local-{secrets.token_hex(4)}"
        nodes = []
        for number in range(1, count + 1):
            resp, admin, peer = ports[number - 1]
            nodes.append(
                {
                    "name": f"n{number}",
                    "id": number,
                    "pid": 0,
                    "resp": f"127.0.0.1:{resp}",
                    "admin": f"127.0.0.1:{admin}",
                    "peer": f"127.0.0.1:{peer}",
                    "data": str(self.directory / f"n{number}"),
                }
            )
        self.data = {"cluster_id": cluster_id, "shards": shards, "nodes": nodes}
        self.directory.mkdir(parents=True, exist_ok=True)
        secret = self.directory / "secret"
        secret.touch(mode=0o600)
        secret.write_text(secrets.token_hex(16))
        self.save()

    def save(self) -> None:
        """Write cluster.json, whole or not at all."""
        partial = self.file.with_suffix(".new")
        partial.write_text(json.dumps(self.data, indent=2) + "\n")
        partial.replace(self.file)

    # Processes

    def running(self, node: dict[str, Any]) -> bool:
        """The recorded process lives and is this node."""
        pid = node["pid"]
        if not pid:
            return False
        try:
            line = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            return False
        return node["data"].encode() in line and state != "Z"

    def launch(self, node: dict[str, Any]) -> None:
        """Start the node's process in the background."""
        if self.running(node):
            raise BadRequest(f"{node['name']} runs already (pid {node['pid']})")
        Path(node["data"]).mkdir(parents=True, exist_ok=True)
        command = [
            sys.executable, "-m", "quoit", "serve",
            "--node-id", str(node["id"]), "--name", node["name"],
            "--cluster-id", self.data["cluster_id"], "--data-dir", node["data"],
            "--resp-port", _port(node["resp"]), "--admin-port", _port(node["admin"]),
            "--peer-port", _port(node["peer"]), "--shards", str(self.data["shards"]),
        ]  # fmt: skip
        for other in self.nodes:
            places = f"{other['peer']}/{_port(other['resp'])}/{_port(other['admin'])}"
            command += ["--peers", f"{other['id']}={places}"]
        environment = {
            key: value for key, value in os.environ.items() if not key.startswith("QUOIT_")
        }
        environment["QUOIT_SECRET_FILE"] = str(self.directory / "secret")
        source = str(Path(__file__).resolve().parents[2])
        environment["PYTHONPATH"] = os.pathsep.join(
            part for part in (source, environment.get("PYTHONPATH", "")) if part
        )
        with open(Path(node["data"]) / "log.txt", "ab") as log:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment,
                start_new_session=True,
            )  # fmt: skip
        node["pid"] = process.pid
        self._children.append(process)
        self.save()

    _children: list["subprocess.Popen[bytes]"] = []

    def signal(self, node: dict[str, Any], number: int) -> None:
        """Send a signal to the node's process."""
        if not self.running(node):
            raise BadRequest(f"{node['name']} does not run; `quoit local restart` starts it")
        os.kill(node["pid"], number)

    def kill(self, node: dict[str, Any]) -> None:
        """SIGKILL, and wait until the process is gone."""
        self.signal(node, signal.SIGKILL)
        self._wait_gone(node, 10)

    def stop(self, node: dict[str, Any], timeout_s: float = 15.0) -> None:
        """SIGTERM, then SIGKILL when it takes too long."""
        if not self.running(node):
            return
        os.kill(node["pid"], signal.SIGCONT)
        os.kill(node["pid"], signal.SIGTERM)
        if not self._wait_gone(node, timeout_s):
            self.kill(node)

    def _wait_gone(self, node: dict[str, Any], timeout_s: float) -> bool:
        deadline = time.monotonic() + timeout_s
        while self.running(node):
            if time.monotonic() > deadline:
                return False
            time.sleep(0.01)
        for child in list(self._children):
            if child.poll() is not None:
                self._children.remove(child)
        return True

    # Waiting

    def statuses(self) -> dict[str, dict[str, Any] | None]:
        """Name -> what the node says of itself, None if it does not answer."""
        found: dict[str, dict[str, Any] | None] = {}
        for node in self.nodes:
            try:
                found[node["name"]] = fetch_status(node["admin"], 1.0)
            except OSError:
                found[node["name"]] = None
        return found

    def wait_ready(self, names: list[str] | None = None, timeout_s: float = START_S) -> None:
        """Until every one of the nodes knows a leader for every shard."""
        wanted = [node for node in self.nodes if names is None or node["name"] in names]
        deadline = time.monotonic() + timeout_s
        for node in wanted:
            while not self._is_ready(node):
                if not self.running(node):
                    raise BadRequest(f"{node['name']} stopped: {self._last_words(node)}")
                if time.monotonic() > deadline:
                    raise BadRequest(
                        f"{node['name']} has not seen a leader for every shard in "
                        f"{timeout_s:.0f} s; its log is {node['data']}/log.txt"
                    )
                time.sleep(0.03)

    def _is_ready(self, node: dict[str, Any]) -> bool:
        try:
            status = fetch_status(node["admin"], 1.0)
        except OSError:
            return False
        if status["node_name"] != node["name"] or status["cluster_id"] != self.data["cluster_id"]:
            return False
        up = {peer["id"] for peer in status["peers"] if peer["connected"]}
        return all(shard["leader"] in up for shard in status["shards"])

    def _last_words(self, node: dict[str, Any]) -> str:
        try:
            lines = (Path(node["data"]) / "log.txt").read_text(errors="replace").splitlines()
        except OSError:
            return "it left no log"
        return lines[-1] if lines else "it left no word"

    def leader(self, shard: int) -> dict[str, Any] | None:
        """The node that leads `shard`, by its own word."""
        for node in self.nodes:
            status = self.statuses().get(node["name"])
            if status and status["shards"][shard]["role"] == "leader":
                return node
        return None


def _port(address: str) -> str:
    return address.rpartition(":")[2]


def _ports(count: int, base_port: int) -> list[tuple[int, int, int]]:
    """(resp, admin, peer) for each node: from `base_port` up, or free ones if it is 0."""
    if base_port:
        return [
            (base_port + 3 * i, base_port + 3 * i + 1, base_port + 3 * i + 2) for i in range(count)
        ]
    holders = []
    for _ in range(3 * count):
        holder = socket.socket()
        holder.bind(("127.0.0.1", 0))
        holders.append(holder)
    numbers = [holder.getsockname()[1] for holder in holders]
    for holder in holders:
        holder.close()
    return [(numbers[3 * i], numbers[3 * i + 1], numbers[3 * i + 2]) for i in range(count)]
