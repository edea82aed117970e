"""Commands that follow a job: to its end, to its failure, and when the node that was asked goes away."""

import json
import time
from collections.abc import Iterator

import pytest

from quoit.cli import job as job_module
from quoit.cli.admin_client import ask
from quoit.cli.cluster_client import entries
from quoit.cli.config import load
from quoit.cli.main import dispatch
from tests.unit.cli.test_shard import Served


@pytest.fixture
def served() -> Iterator[Served]:
    found = Served()
    yield found
    found.stop()


def quoit(served: Served, *words: str, node: int = 4) -> int:
    return dispatch([*words, "--admin", served.admins[node]])


def test_a_node_may_be_asked_to_decommission_itself(
    served: Served, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its admin port closes when it is removed; the end is learnt from the others."""
    assert quoit(served, "node", "decommission", "n2", "--json", node=2) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["kind"], told["data"]["state"]) == ("NodeRecord", "removed")
    deadline = time.monotonic() + 10
    while quoit(served, "node", "ls", node=2) != 3:
        assert time.monotonic() < deadline, "its admin port is still open"
        time.sleep(0.05)
    capsys.readouterr()
    assert [one["record"]["id"] for one in ask(served.admins[1], "/v1/nodes")] == [1, 3, 4, 5]
    assert quoit(served, "node", "info", "n2", node=1) == 0
    assert "n2 (number 2): removed" in capsys.readouterr().out


def test_a_job_that_waits_says_for_what_and_can_be_cancelled(
    served: Served, capsys: pytest.CaptureFixture[str]
) -> None:
    assert quoit(served, "ring", "plan") == 0
    assert "a replica on n" in capsys.readouterr().out
    with served.lock:
        served.cluster.stop(5)
    assert quoit(served, "ring", "apply", "--no-wait") == 0
    assert "quoit job wait 1" in capsys.readouterr().out
    assert quoit(served, "ring", "apply") == 5
    assert "job 1 (rebalance) is under way" in capsys.readouterr().err
    assert quoit(served, "job", "show") == 0
    assert "job 1 (rebalance): running" in capsys.readouterr().out
    assert quoit(served, "job", "cancel", "1") == 0
    assert "job 1 is cancelled" in capsys.readouterr().out
    assert quoit(served, "job", "wait", "1", "--json") == 1
    job = json.loads(capsys.readouterr().out)["data"]
    assert (job["state"], job["reason"]) == ("cancelled", "cancelled by request")
    assert quoit(served, "job", "cancel", "1") == 5
    assert "job 1 is cancelled" in capsys.readouterr().err


def test_who_stops_looking_is_told_how_to_look_again(
    served: Served, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with served.lock:
        served.cluster.stop(5)

    def interrupt(seconds: float) -> None:
        raise KeyboardInterrupt

    assert quoit(served, "ring", "apply", "--no-wait") == 0
    monkeypatch.setattr(job_module.time, "sleep", interrupt)
    assert quoit(served, "job", "wait") == 130
    assert "quoit job wait 1" in capsys.readouterr().err
    assert ask(served.admins[1], "/v1/jobs")[0]["state"] == "running"


def test_a_node_that_is_called_back_has_not_left(
    served: Served, capsys: pytest.CaptureFixture[str]
) -> None:
    """It keeps everything: the only other place cannot be reached."""
    ask(served.admins[1], "/v1/settings", {"replication_factor": 4}, 10.0)
    assert quoit(served, "node", "decommission", "n1", "--no-wait") == 0
    assert "quoit job ls" in capsys.readouterr().out
    assert quoit(served, "node", "drain", "n1") == 5
    assert "quoit node recommission n1" in capsys.readouterr().err
    assert quoit(served, "node", "recommission", "n1") == 0
    nodes = ask(served.admins[1], "/v1/nodes")
    assert nodes[0]["record"]["state"] == "live"
    capsys.readouterr()
    with pytest.raises(job_module.typer.Exit) as left:
        job_module.follow_about(served.admins[4], 1, False)
    assert left.value.exit_code == 1
    assert capsys.readouterr().out == "n1 is live\n"


def test_setting_nothing_is_a_wrong_use(served: Served, capsys: pytest.CaptureFixture[str]) -> None:
    assert quoit(served, "node", "set", "n1") == 2
    assert "--zone Z --weight W" in capsys.readouterr().err
    assert quoit(served, "node", "info", "no/node") == 4


def test_other_entries_are_the_connected_nodes() -> None:
    record = {"host": "::1", "admin_port": 7400}
    nodes = [
        {"record": record, "connected": True},
        {"record": {**record, "host": "h"}, "connected": False},
        {"record": {**record, "admin_port": 0}, "connected": True},
    ]
    assert entries(nodes) == ["[::1]:7400"]


def test_a_token_may_come_from_the_environment() -> None:
    assert load({}, {"QUOIT_JOIN_TOKEN": "abc", "QUOIT_JOIN": "h:1"}).join_token == "abc"
