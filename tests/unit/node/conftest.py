"""Every test of a node runs on both protocols."""

import pytest

from tests.unit.node import harness


@pytest.fixture(autouse=True, params=["raft", "paxos"])
def consensus(request, monkeypatch):
    """The protocol; a test that is about one of them marks itself `@pytest.mark.only("raft")`."""
    only = request.node.get_closest_marker("only")
    if only is not None and request.param not in only.args:
        pytest.skip(f"is about {only.args[0]}")
    monkeypatch.setattr(harness, "CONSENSUS", request.param)
    return request.param
