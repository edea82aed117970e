"""The harness of `make chaos` itself, on the one scenario that every machine allows."""

import asyncio
from pathlib import Path

import pytest

from tests.chaos.cluster import Cluster, Failure
from tests.chaos.judge import judge
from tests.chaos.on_processes import kill_all_once
from tests.chaos.scenario import Run, Scenario, Tools, run
from tests.chaos.traffic import Traffic
from tests.chaos.wire import Connection

pytestmark = [pytest.mark.real, pytest.mark.slow]


def test_kill_9_of_all_nodes_loses_nothing(tmp_path: Path) -> None:
    scenario = Scenario("kill-all", kill_all_once)
    result = asyncio.run(run(scenario, "raft", Tools(), tmp_path))
    assert result.problem == ""
    assert result.operations > 500
    assert 0.1 < result.pause_s < 30
    assert not (tmp_path / "raft-kill-all").exists()


async def _forge(directory: Path) -> str:
    """A correct run, then a value that nobody recorded is written behind the recorder's back."""
    cluster = Cluster(directory, 1, "raft")
    traffic = Traffic(cluster.addresses)
    try:
        await cluster.start()
        traffic.start()
        await asyncio.sleep(1.0)
        await traffic.stop()
        await judge(cluster, traffic)
        key = next(one for one in traffic.named() if one.startswith(b"register:"))
        connection = await Connection.open(cluster.node(1).host, cluster.node(1).resp)
        await connection.call((b"DEL", key), timeout_s=5.0)
        connection.close()
        try:
            await judge(cluster, traffic)
        except Failure as failure:
            return str(failure)
        return ""
    finally:
        cluster.kill_all()
        await traffic.abandon()


def test_a_lost_write_is_found(tmp_path: Path) -> None:
    assert "register:" in asyncio.run(_forge(tmp_path / "one"))


async def _nothing(run: Run) -> int:
    return 0


def test_a_scenario_whose_fault_hits_nothing_does_not_pass(tmp_path: Path) -> None:
    result = asyncio.run(run(Scenario("idle", _nothing), "raft", Tools(), tmp_path))
    assert "no fault hit anything" in result.problem
    assert (tmp_path / "raft-idle" / "history.txt").exists()
