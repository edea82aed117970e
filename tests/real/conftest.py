"""A three-node cluster of real processes for each test that asks for one."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from quoit.cli.cluster import LocalCluster


@pytest.fixture(params=["raft", "paxos"])
def cluster(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[LocalCluster]:
    found = LocalCluster(tmp_path / "cluster")
    found.create(3, 0, 0, request.param)
    try:
        for node in found.nodes:
            found.launch(node)
        found.wait_ready()
        yield found
    finally:
        for node in found.nodes:
            if found.running(node):
                found.kill(node)
