"""Local clusters: ports, cluster.json, and acting only on processes that are the recorded ones."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from quoit.base.errors import BadRequest
from quoit.cli import cluster as module
from quoit.cli.cluster import LocalCluster, NoSuchNode
from quoit.cli.main import dispatch
from quoit.cli.ports import choose

SLEEPER = "import signal, sys, time; signal.signal(signal.SIGTERM, {}); time.sleep(60)"


@pytest.fixture
def cluster(tmp_path: Path) -> LocalCluster:
    found = LocalCluster(tmp_path / "c")
    found.create(3)
    return found


@pytest.fixture
def sleepers(cluster: LocalCluster, monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalCluster]:
    """A cluster whose processes only sleep, with the data directory on their command line."""

    def command(self: LocalCluster, node: dict[str, Any]) -> list[str]:
        return [sys.executable, "-c", SLEEPER.format("signal.SIG_DFL"), node["data"]]

    monkeypatch.setattr(LocalCluster, "command", command)
    yield cluster
    for node in cluster.nodes:
        if cluster.running(node):
            cluster.kill(node)


def test_free_ports_lie_below_those_of_outgoing_connections() -> None:
    low = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    numbers = [port for ports in choose(5, 0) for port in ports]
    assert len(dict.fromkeys(numbers)) == 15
    assert max(numbers) < low


def test_given_ports_count_up_from_the_base_and_must_be_free() -> None:
    base = choose(2, 0)[0][0]
    assert choose(2, base) == [(base, base + 1, base + 2), (base + 3, base + 4, base + 5)]
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", base + 4))
        holder.listen()
        with pytest.raises(BadRequest, match=str(base + 4)):
            choose(2, base)
    for bad in (-1, 65_531):
        with pytest.raises(BadRequest):
            choose(2, bad)


def test_the_description_names_every_node(cluster: LocalCluster) -> None:
    data = json.loads((cluster.directory / "cluster.json").read_text())
    assert [node["name"] for node in data["nodes"]] == ["n1", "n2", "n3"]
    for node in data["nodes"]:
        assert list(node) == ["name", "id", "pid", "resp", "peer", "admin", "data"]
        assert node["data"] == str(cluster.directory / node["name"])
        for address in (node["resp"], node["peer"], node["admin"]):
            host, _, port = address.partition(":")
            assert (host, port.isdigit()) == ("127.0.0.1", True)
    assert LocalCluster(cluster.directory).data == cluster.data


def test_the_secret_is_for_its_owner_only(cluster: LocalCluster) -> None:
    secret = cluster.directory / "secret"
    assert secret.stat().st_mode & 0o077 == 0
    assert len(secret.read_text()) >= 16


def test_nodes_are_found_by_name_and_number(cluster: LocalCluster) -> None:
    assert cluster.node("n2") is cluster.node("2")
    with pytest.raises(NoSuchNode, match="n1, n2, n3"):
        cluster.node("n4")


def test_the_command_line_carries_no_secret(cluster: LocalCluster) -> None:
    words = cluster.command(cluster.nodes[1])
    assert (cluster.directory / "secret").read_text() not in " ".join(words)
    assert words.count("--peers") == 3
    assert words[words.index("--node-id") + 1] == "2"


def test_a_process_is_started_recorded_and_killed(sleepers: LocalCluster) -> None:
    node = sleepers.nodes[0]
    assert not sleepers.running(node)
    sleepers.launch(node)
    assert sleepers.running(node)
    other = LocalCluster(sleepers.directory)
    assert other.nodes[0]["pid"] == node["pid"]
    with pytest.raises(BadRequest, match="runs already"):
        other.launch(other.nodes[0])
    sleepers.kill(node)
    assert not sleepers.running(node)
    assert not other.running(other.nodes[0])
    with pytest.raises(BadRequest, match="does not run"):
        sleepers.kill(node)


def test_what_another_process_started_is_not_forgotten(sleepers: LocalCluster) -> None:
    other = LocalCluster(sleepers.directory)
    sleepers.launch(sleepers.nodes[0])
    other.launch(other.nodes[1])
    sleepers.reload()
    assert [bool(node["pid"]) for node in sleepers.nodes] == [True, True, False]
    assert all(sleepers.running(node) for node in sleepers.nodes[:2])


def test_a_foreign_process_with_the_recorded_pid_is_never_touched(cluster: LocalCluster) -> None:
    stranger = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    try:
        node = cluster.nodes[0]
        node["pid"] = stranger.pid
        assert not cluster.running(node)
        with pytest.raises(BadRequest):
            cluster.signal(node, signal.SIGKILL)
        cluster.stop(node)
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


def test_stopping_wakes_a_paused_process_first(sleepers: LocalCluster) -> None:
    node = sleepers.nodes[0]
    sleepers.launch(node)
    sleepers.signal(node, signal.SIGSTOP)
    began = time.monotonic()
    sleepers.stop(node)
    assert not sleepers.running(node)
    assert time.monotonic() - began < 5


def test_a_process_that_will_not_stop_is_killed(
    sleepers: LocalCluster, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    ready = tmp_path / "ready"
    code = (
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
        f"open({str(ready)!r}, 'w').close(); time.sleep(60)"
    )
    monkeypatch.setattr(
        LocalCluster, "command", lambda self, node: [sys.executable, "-c", code, node["data"]]
    )
    node = sleepers.nodes[0]
    sleepers.launch(node)
    deadline = time.monotonic() + 10
    while not ready.exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    sleepers.stop_all(timeout_s=0.1)
    assert not sleepers.running(node)


def test_a_start_that_fails_leaves_nothing_behind(
    cluster: LocalCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = "import sys; print('quoit: the disk is full', file=sys.stderr); sys.exit(1)"

    def command(self: LocalCluster, node: dict[str, Any]) -> list[str]:
        failing = node["id"] == 2
        return [sys.executable, "-c", code if failing else SLEEPER.format("signal.SIG_DFL"),
                node["data"]]  # fmt: skip

    monkeypatch.setattr(LocalCluster, "command", command)
    monkeypatch.setattr(
        module, "fetch_status", lambda admin, timeout: {"cluster_id": cluster.data["cluster_id"],
        "node_id": 1, "peers": [], "shards": []}
    )  # fmt: skip
    with pytest.raises(BadRequest, match="n2 stopped: the disk is full"):
        cluster.start()
    assert not any(cluster.running(node) for node in cluster.nodes)


def test_ready_means_a_leader_in_reach_for_every_shard(
    sleepers: LocalCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = sleepers.nodes[0]
    sleepers.launch(node)
    status = {
        "cluster_id": sleepers.data["cluster_id"],
        "node_id": 1,
        "peers": [{"id": 1, "connected": True}, {"id": 2, "connected": False}],
        "shards": [{"leader": 1}, {"leader": 2}],
    }
    monkeypatch.setattr(module, "fetch_status", lambda admin, timeout: status)
    with pytest.raises(BadRequest, match="has not seen a leader"):
        sleepers.wait_ready(["n1"], timeout_s=0.1)
    status["peers"][1]["connected"] = True  # type: ignore[index]
    sleepers.wait_ready(["n1"], timeout_s=5)
    status["cluster_id"] = "another"
    with pytest.raises(BadRequest):
        sleepers.wait_ready(["n1"], timeout_s=0.1)


def test_exit_codes_of_the_commands(
    sleepers: LocalCluster, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    place = ["--dir", str(sleepers.directory)]
    assert dispatch(["local", "status", "--dir", str(tmp_path / "nowhere")]) == 4
    assert dispatch(["local", "start", "--nodes", "5", *place]) == 2
    assert dispatch(["local", "kill", "n9", *place]) == 4
    assert dispatch(["local", "kill", "n1", *place]) == 1
    assert dispatch(["local", "status", *place]) == 6
    capsys.readouterr()
    sleepers.launch(sleepers.nodes[0])
    assert dispatch(["--json", "local", "pause", "1", *place]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["kind"], told["data"]["state"], told["data"]["name"]) == ("Done", "paused", "n1")
    assert (
        Path(f"/proc/{told['data']['pid']}/stat").read_text().rpartition(")")[2].split()[0] == "T"
    )
    assert dispatch(["local", "resume", "n1", *place]) == 0
    assert dispatch(["local", "stop", *place]) == 0
    assert not sleepers.running(sleepers.nodes[0])


def test_a_broken_description_is_an_error_not_a_new_cluster(cluster: LocalCluster) -> None:
    (cluster.directory / "cluster.json").write_text("{")
    with pytest.raises(BadRequest, match="cannot be read"):
        LocalCluster(cluster.directory)
    assert os.path.exists(cluster.directory / "secret")
