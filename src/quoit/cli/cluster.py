"""A cluster of real node processes on this machine: what `quoit local` and `quoit demo` work on.

`DIR/cluster.json` says what runs: {"cluster_id": ..., "shards": ..., "nodes": [{"name", "id", "pid",
"resp", "peer", "admin", "data"}]}, addresses as host:port; pid 0: never started. A node's output goes
to `DIR/nX/log.txt`. Processes are acted on by the recorded pid, and only after a look at /proc that it
is still the one.
"""

import contextlib
import fcntl
import json
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from quoit.base.errors import BadRequest
from quoit.cli.ports import choose
from quoit.cli.shared import fetch_status

__all__ = ["LocalCluster", "NoSuchNode"]

START_S = 30.0
STOP_S = 15.0
_POLL_S = 0.03


class NoSuchNode(BadRequest):
    """The cluster has no node of that name."""


class LocalCluster:
    """The cluster in a directory.

    data    what cluster.json holds; empty before `create`
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory.resolve()
        self.file = self.directory / "cluster.json"
        self.data: dict[str, Any] = {}
        self._children: list[subprocess.Popen[bytes]] = []
        self.reload()

    def reload(self) -> None:
        """Read cluster.json again: another process may have restarted nodes."""
        try:
            self.data = json.loads(self.file.read_text())
        except FileNotFoundError:
            self.data = {}
        except (OSError, json.JSONDecodeError) as error:
            raise BadRequest(f"{self.file} cannot be read: {error}") from None

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
        raise NoSuchNode(f"there is no node {name!r} in {self.directory}; there are: {names}")

    def create(
        self,
        count: int,
        base_port: int = 0,
        shards: int = 0,
        consensus: str = "raft",
        quorum: str = "majority",
    ) -> None:
        """Write a new cluster's description; nothing is started."""
        if count < 1:
            raise BadRequest("a cluster needs at least one node")
        ports = choose(count, base_port)
        nodes = [
            {
                "name": f"n{number}",
                "id": number,
                "pid": 0,
                "resp": f"127.0.0.1:{resp}",
                "peer": f"127.0.0.1:{peer}",
                "admin": f"127.0.0.1:{admin}",
                "data": str(self.directory / f"n{number}"),
            }
            for number, (resp, admin, peer) in enumerate(ports, start=1)
        ]
        cluster_id = f"local-{secrets.token_hex(4)}"
        self.data = {
            "cluster_id": cluster_id, "shards": shards, "consensus": consensus, "quorum": quorum,
            "nodes": nodes,
        }  # fmt: skip
        self.directory.mkdir(parents=True, exist_ok=True)
        secret = self.directory / "secret"
        secret.touch(mode=0o600)
        secret.write_text(secrets.token_hex(16))
        self._save()

    def add(self) -> dict[str, Any]:
        """Describe one more node, which will join the cluster; it is not started."""
        with self._locked():
            self.reload()
            number = max(node["id"] for node in self.nodes) + 1
            ((resp, admin, peer),) = choose(1, 0)
            node = {
                "name": f"n{number}", "id": number, "pid": 0, "resp": f"127.0.0.1:{resp}",
                "peer": f"127.0.0.1:{peer}", "admin": f"127.0.0.1:{admin}",
                "data": str(self.directory / f"n{number}"), "joins": True,
            }  # fmt: skip
            self.nodes.append(node)
            self._save()
        return node

    def _save(self) -> None:
        partial = self.file.with_suffix(".new")
        partial.write_text(json.dumps(self.data, indent=2) + "\n")
        partial.replace(self.file)

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """One process at a time changes cluster.json."""
        with open(self.directory / "cluster.lock", "w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    # Processes

    def running(self, node: dict[str, Any]) -> bool:
        """The recorded process lives and is this node."""
        pid = node["pid"]
        if not pid:
            return False
        try:
            line = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        except OSError:
            return False
        return node["data"].encode() in line and _state(pid) not in ("Z", "")

    def start(self, timeout_s: float = START_S) -> None:
        """Start what does not run and wait until every node knows a leader for every shard. When
        that fails, what this call started is stopped again."""
        started = [node for node in self.nodes if not self.running(node)]
        try:
            for node in started:
                self.launch(node)
            self.wait_ready(timeout_s=timeout_s)
        except BaseException:
            for node in started:
                self.stop(node)
            raise

    def launch(self, node: dict[str, Any]) -> None:
        """Start the node's process in the background."""
        with self._locked():
            on_disk = {one["id"]: one["pid"] for one in json.loads(self.file.read_text())["nodes"]}
            for one in self.nodes:
                one["pid"] = on_disk[one["id"]]
            if self.running(node):
                raise BadRequest(f"{node['name']} runs already (pid {node['pid']})")
            process = self._spawn(node)
            self._children.append(process)
            node["pid"] = process.pid
            self._save()
        # Why: exec is reported a moment before the kernel has set the new command line.
        _until(lambda: self.running(node) or process.poll() is not None, 1.0)

    def _spawn(self, node: dict[str, Any]) -> "subprocess.Popen[bytes]":
        data = Path(node["data"])
        data.mkdir(parents=True, exist_ok=True)
        environment = {
            key: value for key, value in os.environ.items() if not key.startswith("QUOIT_")
        }
        environment["QUOIT_SECRET_FILE"] = str(self.directory / "secret")
        source = str(Path(__file__).resolve().parents[2])
        environment["PYTHONPATH"] = os.pathsep.join(
            part for part in (source, environment.get("PYTHONPATH", "")) if part
        )
        with open(data / "log.txt", "ab") as log:
            return subprocess.Popen(
                self.command(node), stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                env=environment, start_new_session=True,
            )  # fmt: skip

    def command(self, node: dict[str, Any]) -> list[str]:
        """The command line of the node's process."""
        words = [
            sys.executable, "-m", "quoit", "serve",
            "--node-id", str(node["id"]), "--name", node["name"],
            "--cluster-id", self.data["cluster_id"], "--data-dir", node["data"],
            "--resp-port", _port(node["resp"]), "--admin-port", _port(node["admin"]),
            "--peer-port", _port(node["peer"]),
        ]  # fmt: skip
        if node.get("joins"):
            running = [one for one in self.nodes if self.running(one)]
            # Needed at its first start only.
            return [*words, "--join", running[0]["admin"]] if running else words
        words += [
            "--shards", str(self.data["shards"]),
            "--consensus", self.data.get("consensus", "raft"),
            "--quorum", self.data.get("quorum", "majority"),
        ]  # fmt: skip
        for other in [one for one in self.nodes if not one.get("joins")]:
            places = f"{other['peer']}/{_port(other['resp'])}/{_port(other['admin'])}"
            words += ["--peers", f"{other['id']}={places}"]
        return words

    def signal(self, node: dict[str, Any], number: int) -> None:
        """Send a signal to the node's process."""
        if not self.running(node):
            raise BadRequest(f"{node['name']} does not run; `quoit local restart` starts it")
        os.kill(node["pid"], number)

    def pause(self, node: dict[str, Any]) -> None:
        """SIGSTOP, and wait until the process stands still."""
        self.signal(node, signal.SIGSTOP)
        _until(lambda: _state(node["pid"]) == "T", 5.0)

    def kill(self, node: dict[str, Any]) -> None:
        """SIGKILL, and wait until the process is gone."""
        self.signal(node, signal.SIGKILL)
        self._wait_gone([node], STOP_S)

    def stop(self, node: dict[str, Any], timeout_s: float = STOP_S) -> None:
        """SIGTERM, then SIGKILL when it takes too long."""
        self.stop_all([node], timeout_s)

    def stop_all(
        self, nodes: list[dict[str, Any]] | None = None, timeout_s: float = STOP_S
    ) -> None:
        """Stop all nodes (or these) side by side, the last resort being SIGKILL."""
        running = [node for node in (self.nodes if nodes is None else nodes) if self.running(node)]
        for node in running:
            with contextlib.suppress(ProcessLookupError):
                os.kill(node["pid"], signal.SIGCONT)
                os.kill(node["pid"], signal.SIGTERM)
        self._wait_gone(running, timeout_s)
        for node in running:
            if self.running(node):
                self.kill(node)

    def _wait_gone(self, nodes: list[dict[str, Any]], timeout_s: float) -> None:
        _until(lambda: not any(self.running(node) for node in nodes), timeout_s)
        # Fetch the end of our own children, or they stay as zombies.
        self._children = [child for child in self._children if child.poll() is None]

    # Waiting

    def statuses(self) -> dict[str, dict[str, Any] | None]:
        """Name -> what the node says of itself, None if it does not answer."""
        return {node["name"]: self.status(node) for node in self.nodes}

    def status(self, node: dict[str, Any]) -> dict[str, Any] | None:
        """What the node says of itself, None if it does not answer (or another process does)."""
        if not self.running(node):
            return None
        try:
            found = fetch_status(node["admin"], 1.0)
        except OSError:
            return None
        if (found["cluster_id"], found["node_id"]) != (self.data["cluster_id"], node["id"]):
            return None
        return found

    def wait_ready(self, names: Iterable[str] | None = None, timeout_s: float = START_S) -> None:
        """Until each of the nodes (default: all) knows a leader, which it can reach, for every
        shard. BadRequest when one stops or that takes longer."""
        wanted = self.nodes if names is None else [self.node(name) for name in names]
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
                time.sleep(_POLL_S)

    def _is_ready(self, node: dict[str, Any]) -> bool:
        status = self.status(node)
        if status is None:
            return False
        up = {peer["id"] for peer in status["peers"] if peer["connected"]}
        return all(shard["leader"] in up for shard in status["shards"])

    def _last_words(self, node: dict[str, Any]) -> str:
        try:
            lines = (Path(node["data"]) / "log.txt").read_text(errors="replace").splitlines()
        except OSError:
            return "it left no log"
        said = [line for line in lines if line.startswith("quoit: ")] or lines
        return said[-1].removeprefix("quoit: ") if said else "it left no word"

    def leader(self, shard: int) -> dict[str, Any] | None:
        """The node that leads `shard`, by its own word."""
        for node in self.nodes:
            status = self.status(node)
            if status and status["shards"][shard]["role"] == "leader":
                return node
        return None


def _state(pid: int) -> str:
    """The kernel's letter for the process (proc_pid_stat(5)): R, S, D, T, Z...; empty: none."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return ""


def _until(condition: Callable[[], bool], timeout_s: float) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.005)


def _port(address: str) -> str:
    return address.rpartition(":")[2]
