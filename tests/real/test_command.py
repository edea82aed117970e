"""The command line as people and scripts use it: real processes, real signals, real exit codes."""

import itertools
import json
import os
import pty
import select
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path
from typing import Any

import pytest
import redis

from quoit.cli.clients import connect
from quoit.cli.cluster import LocalCluster
from quoit.cli.ports import choose

pytestmark = pytest.mark.real

START_S = 20.0


def quoit(*words: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    """Run a command to its end, without a terminal."""
    return subprocess.run(
        [sys.executable, "-m", "quoit", *words],
        capture_output=True, text=True, timeout=90, stdin=subprocess.DEVNULL,
        env={**os.environ, **environment},
    )  # fmt: skip


class Serving:
    """A `quoit serve` in the background."""

    def __init__(self, tmp_path: Path, *words: str, **environment: str) -> None:
        self.resp, self.admin, self.peer = choose(1, 0)[0]
        self.ready = tmp_path / "ready"
        self.data = tmp_path / "data"
        self.output = tmp_path / "output"
        command = [
            sys.executable, "-m", "quoit", "serve", "--data-dir", str(self.data),
            "--ready-file", str(self.ready), "--resp-port", str(self.resp),
            "--admin-port", str(self.admin), "--peer-port", str(self.peer), *words,
        ]  # fmt: skip
        with open(self.output, "ab") as output:
            self.process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=output,
                env={**os.environ, **environment},
            )  # fmt: skip

    def __enter__(self) -> "Serving":
        deadline = time.monotonic() + START_S
        while not self.ready.exists():
            assert self.process.poll() is None, self.output.read_text()
            assert time.monotonic() < deadline, self.output.read_text()
            time.sleep(0.02)
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()


def test_a_single_node_serves_and_keeps_its_data_over_a_restart(tmp_path: Path) -> None:
    with Serving(tmp_path) as node:
        assert int(node.ready.read_text()) == node.process.pid
        url = f"redis://127.0.0.1:{node.resp}/0"
        assert quoit("kv", "put", "hello", "world", "--url", url).returncode == 0
        assert quoit("kv", "get", "hello", QUOIT_URL=url).stdout == "world"
        assert quoit("kv", "get", "nothing", QUOIT_URL=url).returncode == 4
        status = quoit("status", "--check", "--json", QUOIT_ADMIN=f"127.0.0.1:{node.admin}")
        assert status.returncode == 0
        assert json.loads(status.stdout)["data"]["healthy"] is True
        shown = quoit("status", QUOIT_ADMIN=f"127.0.0.1:{node.admin}")
        assert "All 4 shards have a leader; 1 of 1 nodes live" in shown.stdout
        with urllib.request.urlopen(f"http://127.0.0.1:{node.admin}/metrics") as answer:
            assert b'quoit_shard_has_leader{shard="0"} 1.0' in answer.read()
        banner = node.output.read_text()
        assert f"redis://127.0.0.1:{node.resp}/0" in banner
        node.process.send_signal(signal.SIGTERM)
        assert node.process.wait(10) == 0
        assert not node.ready.exists()
    with Serving(tmp_path) as node:
        assert redis.Redis(port=node.resp).get("hello") == b"world"


def test_a_password_is_asked_for(tmp_path: Path) -> None:
    word = tmp_path / "word"
    word.write_text("correct horse\n")
    with Serving(tmp_path, "--password-file", str(word)) as node:
        with pytest.raises(redis.AuthenticationError):
            redis.Redis(port=node.resp).get("a")
        url = f"redis://127.0.0.1:{node.resp}/0"
        assert quoit("kv", "get", "a", "--url", url).returncode == 7
        assert redis.Redis(port=node.resp, password="correct horse").set("a", "b")
        assert "correct horse" not in node.output.read_text()


def test_an_open_door_is_refused_before_anything_is_touched(tmp_path: Path) -> None:
    done = quoit("serve", "--host", "0.0.0.0", "--data-dir", str(tmp_path / "data"))
    assert done.returncode == 2
    assert "--password-file" in done.stderr
    assert done.stdout == ""
    assert not (tmp_path / "data").exists()


def test_a_node_that_cannot_start_says_why_and_ends(tmp_path: Path) -> None:
    with Serving(tmp_path) as node:
        ports = [str(port) for port in choose(1, 0)[0]]
        same_data = quoit("serve", "--data-dir", str(node.data), "--resp-port", ports[0],
                          "--admin-port", ports[1], "--peer-port", ports[2])  # fmt: skip
        assert same_data.returncode == 1
        assert "another process uses" in same_data.stderr
        other = ["serve", "--data-dir", str(tmp_path / "other"), "--peer-port", ports[2]]
        same_port = quoit(*other, "--resp-port", str(node.resp), "--admin-port", ports[1])
        assert same_port.returncode == 1
        assert str(node.resp) in same_port.stderr
        same_admin = quoit(*other, "--resp-port", ports[0], "--admin-port", str(node.admin))
        assert same_admin.returncode == 1
        assert redis.Redis(port=node.resp).ping()


def test_another_clusters_directory_is_refused(tmp_path: Path) -> None:
    with Serving(tmp_path) as node:
        node.process.send_signal(signal.SIGTERM)
        node.process.wait(10)
    ports = [str(port) for port in choose(1, 0)[0]]
    done = quoit("serve", "--data-dir", str(node.data), "--cluster-id", "another", "--resp-port",
                 ports[0], "--admin-port", ports[1], "--peer-port", ports[2])  # fmt: skip
    assert done.returncode == 1
    assert "another" in done.stderr


def test_a_second_signal_ends_a_node_at_once(tmp_path: Path) -> None:
    with Serving(tmp_path) as node:
        began = time.monotonic()
        node.process.send_signal(signal.SIGTERM)
        node.process.send_signal(signal.SIGINT)
        node.process.wait(10)
        assert time.monotonic() - began < 3


def test_systemd_is_told(tmp_path: Path) -> None:
    path = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(path)
        listener.settimeout(START_S)
        with Serving(tmp_path, NOTIFY_SOCKET=path) as node:
            assert listener.recv(100) == b"READY=1"
            node.process.send_signal(signal.SIGTERM)
            assert listener.recv(100) == b"STOPPING=1"


def _local(place: Path, *words: str) -> Any:
    done = quoit("local", *words, "--dir", str(place), "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)["data"]


def test_a_local_cluster_is_started_shown_broken_mended_and_stopped(tmp_path: Path) -> None:
    place = tmp_path / "c"
    try:
        nodes = _local(place, "start", "--nodes", "3", "--shards", "2")["nodes"]
        # Ready means ready: writes through every node at once.
        for number, node in enumerate(nodes):
            port = int(node["resp"].rpartition(":")[2])
            assert redis.Redis(port=port).set(f"key:{number}", number)
        rows = _local(place, "status")["nodes"]
        assert [row["state"] for row in rows] == ["live"] * 3
        assert sorted(shard for row in rows for shard in row["leads"]) == [0, 1]

        _local(place, "kill", "n2")
        shown = quoit("local", "status", "--dir", str(place))
        assert shown.returncode == 6
        assert "stopped" in shown.stdout
        port = int(nodes[0]["resp"].rpartition(":")[2])
        assert redis.Redis(port=port, socket_timeout=10).get("key:1") == b"1"
        restarted = _local(place, "restart", "2")
        assert restarted["pid"] != nodes[1]["pid"]

        _local(place, "pause", "n3")
        assert quoit("local", "status", "--dir", str(place)).returncode == 6
        _local(place, "resume", "n3")

        _local(place, "stop")
        assert json.loads((place / "cluster.json").read_text())["nodes"][0]["name"] == "n1"
        again = _local(place, "start")["nodes"]
        assert [node["resp"] for node in again] == [node["resp"] for node in nodes]
        for node in again:
            port = int(node["resp"].rpartition(":")[2])
            assert redis.Redis(port=port).mget("key:0", "key:1", "key:2") == [b"0", b"1", b"2"]
    finally:
        quoit("local", "stop", "--dir", str(place))


class Sluggish(LocalCluster):
    """A cluster whose followers wait two seconds before they elect a new leader."""

    def command(self, node: dict[str, Any]) -> list[str]:
        return [*super().command(node), "--election-timeout-ms", "2000"]


def test_a_node_that_is_asked_to_stop_hands_over_so_that_nobody_waits(tmp_path: Path) -> None:
    cluster = Sluggish(tmp_path / "c")
    cluster.create(3, shards=1)
    try:
        cluster.start()
        leader = cluster.leader(0)
        assert leader is not None
        other = next(node for node in cluster.nodes if node is not leader)
        client = connect(int(other["resp"].rpartition(":")[2]))
        moments: list[float] = []
        stop = threading.Event()

        def write() -> None:
            while not stop.is_set():
                client.set("key", len(moments))
                moments.append(time.monotonic())

        writer = threading.Thread(target=write)
        writer.start()
        time.sleep(0.5)
        os.kill(leader["pid"], signal.SIGTERM)
        time.sleep(2.5)
        stop.set()
        writer.join()
        assert not cluster.running(leader)
        assert moments[-1] > time.monotonic() - 1, "the writer met an error"
        # An election takes two seconds here: a gap as short as this one is a handover.
        assert max(after - before for before, after in itertools.pairwise(moments)) < 1.2
        assert client.get("key") == b"%d" % (len(moments) - 1), "a write was refused or lost"
    finally:
        cluster.stop_all()


@pytest.mark.slow
def test_the_demo_tells_its_story_and_leaves_nothing(tmp_path: Path) -> None:
    done = quoit("demo", "--seconds", "1", TMPDIR=str(tmp_path))
    assert done.returncode == 0, done.stdout + done.stderr
    last = done.stdout.splitlines()[-1]
    assert last.startswith("demo: ")
    assert " 0 lost, writes paused 0." in last
    assert list(tmp_path.iterdir()) == []
    for line in done.stdout.splitlines():
        if "   pid " in line:
            assert not Path(f"/proc/{line.rpartition(' ')[2]}").exists()


@pytest.mark.slow
def test_on_a_terminal_the_demo_stays_up_for_experiments() -> None:
    pid, terminal = pty.fork()
    if pid == 0:
        os.execv(sys.executable, [sys.executable, "-m", "quoit", "demo", "--seconds", "0.5"])
    words = [b"kill 2\n", b"status\n", b"dance\n", b"bye\n"]
    seen = b""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if not select.select([terminal], [], [], 0.5)[0]:
            continue
        try:
            part = os.read(terminal, 4096)
        except OSError:  # How a terminal says that the other end is gone.
            break
        if (seen + part).endswith(b"demo> ") and words:
            os.write(terminal, words.pop(0))
        seen += part
    _, state = os.waitpid(pid, 0)
    text = seen.decode()
    assert os.waitstatus_to_exitcode(state) == 0, text
    assert "n2 killed" in text
    assert "n2  stopped" in text
    assert "kill N" in text.partition("dance")[2], "an unknown word shows the known ones"
    assert text.splitlines()[-1].startswith("demo: ")


def test_bench_prints_what_it_measured(tmp_path: Path) -> None:
    with Serving(tmp_path) as node:
        url = f"redis://127.0.0.1:{node.resp}/0"
        done = quoit("bench", "--url", url, "--seconds", "0.3", "--clients", "2", "--json")
        assert done.returncode == 0, done.stderr
        rows = json.loads(done.stdout)["data"]
        assert [row["command"] for row in rows] == ["SET", "GET"]
        assert all(row["per_second"] > 0 and row["errors"] == 0 for row in rows)
