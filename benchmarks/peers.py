"""The systems that are compared: each is started on loopback with its data on the real disk, asked
who leads, killed, restarted and stopped. Only processes started here are ever signalled.

Every system is set up to have a write on the disks of a majority before it answers, as far as it
can: quoit and etcd by design, NATS with `sync_interval: always`, Redis with `appendfsync always`
and WAIT 1 (which can still lose acknowledged writes in a failover). `single-redis` is the
exception, the unsafe ceiling: one node, synced once a second.
"""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import load_etcd
import load_nats
import load_resp
from usage import usage

__all__ = [
    "PEERS",
    "Etcd",
    "Nats",
    "Node",
    "Peer",
    "Quoit",
    "QuoitAll",
    "QuoitPaxos",
    "RedisSingle",
    "RedisWait",
]

Address = tuple[str, int]
HOST = "127.0.0.1"
START_SECONDS = 30.0
PINNED_DB = 1


@dataclass
class Node:
    """One process of a system."""

    name: str
    pid: int
    address: Address


def free_ports(count: int) -> list[int]:
    """Ports nobody listens on now, below the range that the kernel hands to outgoing connections,
    so that the load's own connections cannot take a node's port while it restarts."""
    found: list[int] = []
    port = 20000 + os.getpid() % 8000
    while len(found) < count:
        port += 1
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind((HOST, port))
            found.append(port)
    return found


def wait_for(what: str, ready: Any, seconds: float = START_SECONDS) -> None:
    """Poll until `ready()` is true; raises TimeoutError with what was waited for."""
    until = time.monotonic() + seconds
    problem: object = "not yet"
    while time.monotonic() < until:
        try:
            if ready():
                return
        except (OSError, ValueError, KeyError, IndexError) as error:
            problem = error
        time.sleep(0.05)
    raise TimeoutError(f"{what} did not happen in {seconds:.0f} s: {problem}")


def find_program(name: str) -> str | None:
    """On the PATH, or beside this Python (where pip puts etcd's and NATS' binaries)."""
    beside = Path(sys.executable).parent / name
    return shutil.which(name) or (str(beside) if beside.exists() else None)


class Peer:
    """One system under test.

    system      which of load.py's protocols speaks to it
    nodes       its processes, once started
    """

    name = ""
    title = ""
    system = "resp"
    program = ""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.nodes: list[Node] = []
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.commands: dict[str, list[str]] = {}

    @classmethod
    def missing(cls) -> str:
        """Why it cannot be measured here; "" if it can."""
        return "" if find_program(cls.program) else f"no {cls.program} on this machine"

    @classmethod
    def version(cls) -> str:
        program = find_program(cls.program)
        if not program:
            return ""
        run = subprocess.run([program, "--version"], capture_output=True, text=True, check=False)
        return (run.stdout or run.stderr).strip().splitlines()[0]

    def start(self) -> None:
        raise NotImplementedError

    def leader(self) -> int:
        """Position in `nodes` of the node that leads (what pinned clients write to)."""
        return 0

    def at_leader(self) -> list[Address]:
        return [self.nodes[self.leader()].address]

    def everywhere(self) -> list[Address]:
        return [node.address for node in self.nodes]

    def launch(self, name: str, command: list[str], address: Address) -> None:
        """Start one node's process, its output in a file."""
        self.commands[name] = command
        with (self.directory / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(
                command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, cwd=self.directory
            )
        self.processes[name] = process
        self.nodes = [node for node in self.nodes if node.name != name]
        self.nodes.append(Node(name, process.pid, address))
        self.nodes.sort(key=lambda node: node.name)

    def kill(self, position: int) -> None:
        """SIGKILL."""
        node = self.nodes[position]
        os.kill(node.pid, signal.SIGKILL)
        if process := self.processes.get(node.name):
            process.wait()

    def restart(self, position: int) -> None:
        node = self.nodes[position]
        self.launch(node.name, self.commands[node.name], node.address)

    def stop(self) -> None:
        for process in self.processes.values():
            if process.poll() is None:
                process.terminate()
        for process in self.processes.values():
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self.processes.clear()

    def memory_mb(self) -> float:
        """Resident megabytes of the largest node."""
        return max(usage(node.pid).memory_mb for node in self.nodes)


class Quoit(Peer):
    """quoit, three nodes, by its own `quoit local`."""

    name = "quoit"
    title = "quoit"
    agreement: tuple[str, ...] = ()

    @classmethod
    def run(cls, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "quoit", *words],
            capture_output=True,
            text=True,
            check=check,
            timeout=90,
        )

    @classmethod
    def missing(cls) -> str:
        ended = cls.run("local", "--help", check=False)
        return "" if ended.returncode == 0 else f"`quoit local` does not run: {ended.stderr[-200:]}"

    @classmethod
    def version(cls) -> str:
        return cls.run("version", check=False).stdout.strip().split("\n")[0]

    def start(self) -> None:
        base = str(free_ports(1)[0])
        words = ["local", "start", "--nodes", "3", "--dir", str(self.directory), *self.agreement]
        try:
            self.run(*words, "--base-port", base)
        except subprocess.CalledProcessError as error:
            raise TimeoutError(f"quoit local start failed: {error.stderr[-1000:]}") from error
        self.read_nodes()
        wait_for("a leader for every slot", self.covered)

    def read_nodes(self) -> None:
        """Take the nodes from the cluster.json that `quoit local` keeps."""
        described = json.loads((self.directory / "cluster.json").read_text())
        self.nodes = []
        for row in described["nodes"]:
            host, _, port = str(row["resp"]).rpartition(":")
            self.nodes.append(Node(row["name"], row["pid"], (host or HOST, int(port))))

    def covered(self) -> bool:
        slots = load_resp.SlotMap(self.everywhere())
        slots.refresh()
        return slots.covered

    def leader(self) -> int:
        """The node that leads the shard of the pinned database."""
        slots = load_resp.SlotMap(self.everywhere())
        slots.refresh()
        return slots.owner[load_resp.slot_of(b"db:%d" % PINNED_DB)]

    def restart(self, position: int) -> None:
        self.run("local", "restart", self.nodes[position].name, "--dir", str(self.directory))
        self.read_nodes()

    def stop(self) -> None:
        if (self.directory / "cluster.json").exists():  # also after a start that failed half-way
            self.run("local", "stop", "--dir", str(self.directory), check=False)


class QuoitPaxos(Quoit):
    """The same on Multi-Paxos."""

    name = "quoit-paxos"
    title = "quoit, Paxos"
    agreement = ("--consensus", "paxos")


class QuoitAll(Quoit):
    """The same on Multi-Paxos, each write on all three nodes."""

    name = "quoit-all"
    title = "quoit, write-all"
    agreement = ("--consensus", "paxos", "--quorum", "all")


class Etcd(Peer):
    """etcd, three members."""

    name = "etcd"
    title = "etcd"
    system = "etcd"
    program = "etcd"

    def start(self) -> None:
        program = find_program("etcd")
        ports = free_ports(6)
        urls = [f"http://{HOST}:{port}" for port in ports]
        cluster = ",".join(f"e{n}={urls[2 * n + 1]}" for n in range(3))
        for n in range(3):
            client, peer = urls[2 * n], urls[2 * n + 1]
            command = [
                str(program), "--name", f"e{n}", "--data-dir", str(self.directory / f"e{n}"),
                "--listen-client-urls", client, "--advertise-client-urls", client,
                "--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer,
                "--initial-cluster", cluster, "--initial-cluster-state", "new",
                "--log-level", "error", "--quota-backend-bytes", str(8 << 30),
            ]  # fmt: skip
            self.launch(f"e{n}", command, (HOST, ports[2 * n]))
        wait_for("an etcd leader", lambda: self.leader() >= 0)

    def leader(self) -> int:
        for position, node in enumerate(self.nodes):
            with contextlib.suppress(OSError, ValueError):
                leader, member = load_etcd.leader_and_member(node.address)
                if leader and leader == member:
                    return position
        raise ValueError("etcd has no leader")


class Nats(Peer):
    """NATS JetStream: a key-value bucket with three replicas, each write synced."""

    name = "nats"
    title = "NATS JetStream R3, sync always"
    system = "nats"
    program = "nats-server"

    def start(self) -> None:
        program = find_program("nats-server")
        ports = free_ports(6)
        routes = ", ".join(f'"nats://{HOST}:{ports[2 * n + 1]}"' for n in range(3))
        for n in range(3):
            config = self.directory / f"n{n}.conf"
            config.write_text(
                f"server_name: n{n}\nlisten: {HOST}:{ports[2 * n]}\n"
                f'jetstream {{ store_dir: "{self.directory / f"n{n}"}", sync_interval: always }}\n'
                f"cluster {{ name: bench, listen: {HOST}:{ports[2 * n + 1]}, "
                f"routes: [{routes}] }}\n"
            )
            command = [str(program), "--config", str(config)]
            self.launch(f"n{n}", command, (HOST, ports[2 * n]))
        wait_for("a JetStream bucket", self.create_bucket)
        wait_for("a leader of the bucket", lambda: self.leader() >= 0)

    def create_bucket(self) -> bool:
        settings = {
            "name": load_nats.STREAM,
            "subjects": [f"$KV.{load_nats.BUCKET}.>"],
            "max_msgs_per_subject": 1,
            "storage": "file",
            "num_replicas": 3,
            "discard": "new",
            "deny_delete": True,
            "allow_rollup_hdrs": True,
            "allow_direct": True,
        }
        subject = f"$JS.API.STREAM.CREATE.{load_nats.STREAM}"
        answer = load_nats.request(
            self.nodes[0].address, [(subject, json.dumps(settings).encode())]
        )[0]
        return "config" in json.loads(answer)

    def leader(self) -> int:
        subject = f"$JS.API.STREAM.INFO.{load_nats.STREAM}"
        for node in self.nodes:
            with contextlib.suppress(OSError):
                answer = json.loads(load_nats.request(node.address, [(subject, b"")])[0])
                leader = answer["cluster"]["leader"]
                return [other.name for other in self.nodes].index(leader)
        raise ValueError("the bucket has no leader")


class RedisWait(Peer):
    """Redis, a primary and two replicas, every write synced on all, WAIT 1 after each write."""

    name = "redis"
    title = "Redis + WAIT 1, AOF always (no consensus)"
    program = "redis-server"
    sync = "always"
    count = 3

    def start(self) -> None:
        ports = free_ports(self.count)
        for n, port in enumerate(ports):
            data = self.directory / f"r{n}"
            data.mkdir()
            command = [
                str(find_program("redis-server")), "--port", str(port), "--bind", HOST,
                "--dir", str(data), "--save", "", "--appendonly", "yes", "--databases", "16",
                "--appendfsync", self.sync, "--repl-diskless-sync-delay", "0",
            ]  # fmt: skip
            if n:
                command += ["--replicaof", HOST, str(ports[0])]
            self.launch(f"r{n}", command, (HOST, port))
        wait_for("Redis with its replicas", self.complete)

    def complete(self) -> bool:
        wait = load_resp.encode("WAIT", self.count - 1, 100)
        set_one = load_resp.encode("SET", "warm", "1")
        return bool(load_resp.ask(self.nodes[0].address, set_one, wait)[1] == self.count - 1)


class RedisSingle(RedisWait):
    """The unsafe ceiling: one Redis, synced once a second."""

    name = "single-redis"
    title = "single Redis, everysec (unsafe)"
    sync = "everysec"
    count = 1


PEERS: dict[str, type[Peer]] = {
    peer.name: peer for peer in (Quoit, QuoitPaxos, QuoitAll, Etcd, Nats, RedisWait, RedisSingle)
}
