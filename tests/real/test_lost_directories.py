"""A node's directory is put back to an older copy, or emptied (faults.md, D9): the others refuse the node, it
says what to do, and a node that joins takes its replicas. Nothing acknowledged is missing."""

import json
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from quoit.cli.cluster import LocalCluster
from quoit.cli.main import dispatch

pytestmark = [pytest.mark.real, pytest.mark.slow]

Node = dict[str, Any]


@pytest.fixture(params=["raft", "paxos"])
def cluster(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[LocalCluster]:
    found = LocalCluster(tmp_path / "cluster")
    found.create(3, 0, 2, request.param)
    try:
        for node in found.nodes:
            found.launch(node)
        found.wait_ready()
        yield found
    finally:
        for node in found.nodes:
            if found.running(node):
                found.kill(node)


def _write(cluster: LocalCluster, low: int, high: int) -> None:
    client = redis.Redis(port=int(cluster.nodes[0]["resp"].rpartition(":")[2]))
    for number in range(low, high):
        assert client.set(f"k{number}", f"v{number}")


def _said(node: Node) -> str:
    return (Path(node["data"]) / "log.txt").read_text()


def _remembered(node: Node) -> int:
    """How far the third node's log was, as this one wrote it down."""
    body = json.loads((Path(node["data"]) / "peers.json").read_text())["body"]
    return int(body["marks"]["3"]["synced"])


def _until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline, "it did not come"
        time.sleep(0.05)


def _stops_itself(cluster: LocalCluster, node: Node) -> str:
    """Start the node, which is to be refused; what it says."""
    cluster.launch(node)
    deadline = time.monotonic() + 10
    while cluster.running(node):
        assert time.monotonic() < deadline, "it was not refused"
        time.sleep(0.05)
    return _said(node)


def _replace(cluster: LocalCluster, gone: str) -> None:
    admin = cluster.nodes[0]["admin"]
    assert dispatch(["settings", "rebalance", "off", "--admin", admin]) == 0
    cluster.launch(cluster.add())
    cluster.wait_ready(["n1", "n2", "n4"])
    for shard in range(2):
        assert dispatch(["shard", "move", str(shard), gone, "n4", "--admin", admin]) == 0


def _read_all(cluster: LocalCluster, count: int) -> None:
    for node in cluster.nodes:
        if cluster.running(node):
            client = redis.Redis(port=int(node["resp"].rpartition(":")[2]))
            assert client.mget([f"k{number}" for number in range(count)]) == [
                b"v%d" % number for number in range(count)
            ]


def test_an_older_copy_is_refused_and_a_new_node_takes_over(
    cluster: LocalCluster, tmp_path: Path
) -> None:
    third = cluster.nodes[2]
    data = Path(third["data"])
    _write(cluster, 0, 50)
    cluster.kill(third)
    shutil.copytree(data, tmp_path / "copy")
    cluster.launch(third)
    cluster.wait_ready()
    told = [_remembered(node) for node in cluster.nodes[:2]]
    _write(cluster, 50, 150)
    time.sleep(0.5)  # so that also the node that leads nothing has been told
    cluster.kill(third)
    for node, before in zip(cluster.nodes[:2], told, strict=True):
        _until(lambda node=node, before=before: _remembered(node) > before + 20)  # type: ignore[misc]
    shutil.rmtree(data)
    shutil.copytree(tmp_path / "copy", data)
    # The others were restarted since they heard it: they wrote it down.
    for node in cluster.nodes[:2]:
        cluster.kill(node)
        cluster.launch(node)
    cluster.wait_ready(["n1", "n2"])
    said = _stops_itself(cluster, third)
    assert "put back to an older copy" in said
    assert "quoit serve --join" in said
    # Once refused, it does not try again.
    assert "the cluster refused this node" in _stops_itself(cluster, third)
    _replace(cluster, "n3")
    _write(cluster, 150, 200)
    _read_all(cluster, 200)


def test_an_emptied_directory_is_refused(cluster: LocalCluster) -> None:
    third = cluster.nodes[2]
    data = Path(third["data"])
    _write(cluster, 0, 50)
    cluster.kill(third)
    for name in ("log", "data"):
        shutil.rmtree(data / name)
    for name in ("node.json", "peers.json"):
        (data / name).unlink()
    assert "emptied or replaced" in _stops_itself(cluster, third)
    _write(cluster, 50, 60)
    _read_all(cluster, 60)
