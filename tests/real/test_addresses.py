"""All nodes of a cluster restart at once at other ports, and know only where one of them is."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from quoit.cli.cluster import LocalCluster
from quoit.cli.ports import choose
from quoit.cli.shared import fetch_status

pytestmark = [pytest.mark.real, pytest.mark.slow]


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[LocalCluster]:
    found = LocalCluster(tmp_path / "cluster")
    found.create(3, 0, 4, "raft")
    try:
        for node in found.nodes:
            found.launch(node)
        found.wait_ready()
        yield found
    finally:
        for node in found.nodes:
            if found.running(node):
                found.kill(node)


def test_all_nodes_at_other_ports_find_each_other(
    cluster: LocalCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = redis.Redis(port=int(cluster.nodes[0]["resp"].rpartition(":")[2]))
    for number in range(50):
        client.set(f"k{number}", str(number))
    for node in cluster.nodes:
        cluster.stop(node)
    for node, (resp, admin, peer) in zip(cluster.nodes, choose(3, 0), strict=True):
        node["resp"], node["admin"] = f"127.0.0.1:{resp}", f"127.0.0.1:{admin}"
        node["peer"] = f"127.0.0.1:{peer}"
    first = cluster.nodes[0]["admin"]

    def command(node: dict[str, str]) -> list[str]:
        """No list of peers: the first node knows nobody, the others where the first one is."""
        words = own(node)[:18]
        assert words[-2] == "--peer-port"
        return words if node["admin"] == first else [*words, "--join", first]

    own = cluster.command
    monkeypatch.setattr(cluster, "command", command)
    for node in cluster.nodes:
        cluster.launch(node)
        if node["admin"] == first:
            _until_answers(first)
    cluster.wait_ready()
    for node in cluster.nodes:
        status = fetch_status(node["admin"])
        assert all(peer["connected"] for peer in status["peers"])
        client = redis.Redis(port=int(node["resp"].rpartition(":")[2]), socket_timeout=20)
        assert client.mget([f"k{number}" for number in range(50)]) == [
            b"%d" % number for number in range(50)
        ]


def _until_answers(admin: str) -> None:
    deadline = time.monotonic() + 10
    while True:
        try:
            fetch_status(admin)
        except OSError:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        else:
            return
