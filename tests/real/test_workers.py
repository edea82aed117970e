"""`quoit serve --workers 2`: two nodes under one supervisor."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from quoit.cli.cluster_client import ask_cluster
from quoit.cli.ports import choose

pytestmark = [pytest.mark.real, pytest.mark.slow]


class Machine:
    """The supervisor, started by `launch`; its workers' ports are 10 apart."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        while True:
            ((self.resp, self.admin, self.peer),) = choose(1, 0)
            if max(self.resp, self.admin, self.peer) + 10 not in (self.resp, self.admin, self.peer):
                break
        self.process: subprocess.Popen[bytes] | None = None

    def launch(self) -> None:
        words = [
            "serve", "--workers", "2", "--data-dir", str(self.directory / "data"),
            "--resp-port", str(self.resp), "--admin-port", str(self.admin),
            "--peer-port", str(self.peer), "--ready-file", str(self.directory / "ready"),
        ]  # fmt: skip
        environment = {key: one for key, one in os.environ.items() if not key.startswith("QUOIT_")}
        with open(self.directory / "out.txt", "ab") as out:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "quoit", *words], stdin=subprocess.DEVNULL, stdout=out,
                stderr=out, env=environment,
            )  # fmt: skip
        self.wait_ready()

    def wait_ready(self) -> None:
        deadline = time.monotonic() + 20
        while not (self.directory / "ready").exists():
            assert time.monotonic() < deadline, self.said()
            time.sleep(0.05)

    def said(self) -> str:
        return (self.directory / "out.txt").read_text()

    def pids(self) -> list[int]:
        return [
            int((self.directory / "data" / f"worker-{one}.ready").read_text()) for one in (1, 2)
        ]

    def stop(self) -> int:
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(30)


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    found = Machine(tmp_path)
    found.launch()
    yield found
    if found.process is not None and found.process.poll() is None:
        found.process.kill()


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def _until(true: object, seconds: float = 20) -> None:
    assert callable(true)
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_both_workers_serve_and_a_killed_one_comes_back(machine: Machine) -> None:
    for count, port in enumerate((machine.resp, machine.resp + 10)):
        client = redis.Redis(port=port, socket_timeout=10)
        assert all(client.set(f"k{count}:{one}", "v") for one in range(50))
    nodes = ask_cluster(f"127.0.0.1:{machine.admin}", "/v1/nodes")
    assert len({one["record"]["zone"] for one in nodes}) == 1
    assert [one["record"]["name"] for one in nodes] == ["n1", "n2"]
    first = machine.pids()[1]
    os.kill(first, signal.SIGKILL)
    ready = machine.directory / "data" / "worker-2.ready"
    _until(lambda: ready.exists() and machine.pids()[1] != first)
    client = redis.Redis(port=machine.resp, socket_timeout=10)
    assert client.mget([f"k{count}:{one}" for count in (0, 1) for one in range(50)]) == [b"v"] * 100
    assert "worker_crashed" in machine.said()
    assert "SIGKILL" in machine.said()


def test_one_signal_stops_all_and_the_data_are_there_again(machine: Machine) -> None:
    redis.Redis(port=machine.resp, socket_timeout=10).set("a", "1")
    pids = machine.pids()
    assert machine.stop() == 0
    assert not any(map(_runs, pids))
    machine.launch()
    assert redis.Redis(port=machine.resp + 10, socket_timeout=10).get("a") == b"1"
    assert machine.said().count("2 workers") == 2


def test_workers_end_with_a_killed_supervisor(machine: Machine) -> None:
    pids = machine.pids()
    assert machine.process is not None
    machine.process.kill()
    machine.process.wait(10)
    _until(lambda: not any(map(_runs, pids)))
