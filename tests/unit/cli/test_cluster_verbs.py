"""`quoit node`, `ring`, `job`, `settings` against real admin ports in front of pure nodes."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from quoit.cli.admin_client import AdminError, ask
from quoit.cli.main import dispatch
from tests.unit.cli.test_shard import Served


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    found = Served()
    yield found
    found.stop()


def quoit(served: Served, *words: str, node: int = 4) -> int:
    return dispatch([*words, "--admin", served.admins[node]])


def test_all_nodes_are_listed_whoever_is_asked(
    served: Served, capsys: pytest.CaptureFixture[str]
) -> None:
    for node in (1, 5):
        assert quoit(served, "node", "ls", "--json", node=node) == 0
        nodes = json.loads(capsys.readouterr().out)["data"]
        assert [one["record"]["name"] for one in nodes] == ["n1", "n2", "n3", "n4", "n5"]
        assert {one["record"]["state"] for one in nodes} == {"live"}
    assert quoit(served, "node", "ls") == 0
    assert "replicas" in capsys.readouterr().out
    assert quoit(served, "node", "info", "n2") == 0
    assert "n2 (number 2): live" in capsys.readouterr().out
    assert quoit(served, "node", "info", "n9") == 4
    assert "n1, n2, n3" in capsys.readouterr().err


def test_a_drained_node_is_live_again(served: Served, capsys: pytest.CaptureFixture[str]) -> None:
    assert quoit(served, "node", "drain", "2") == 0
    assert "quoit node recommission" in capsys.readouterr().out
    assert ask(served.admins[1], "/v1/nodes")[1]["record"]["state"] == "draining"
    assert quoit(served, "node", "recommission", "n2") == 0
    assert ask(served.admins[3], "/v1/nodes")[1]["record"]["state"] == "live"


def test_zone_and_weight_are_set(served: Served, capsys: pytest.CaptureFixture[str]) -> None:
    assert quoit(served, "node", "set", "n5", "--zone", "z", "--weight", "1.5") == 0
    assert "zone z, weight 1.5" in capsys.readouterr().out
    assert quoit(served, "node", "set", "n5", "--weight", "0") == 5
    assert "above 0" in capsys.readouterr().err
    assert quoit(served, "node", "set", "n5", "--zone", "", "--weight", "1") == 0


def test_a_node_that_keeps_something_is_not_removed(
    served: Served, capsys: pytest.CaptureFixture[str]
) -> None:
    assert quoit(served, "node", "remove", "n1") == 5
    assert "quoit node decommission n1" in capsys.readouterr().err


def test_settings_are_shown_and_changed(served: Served, capsys: pytest.CaptureFixture[str]) -> None:
    assert quoit(served, "settings", "dead_after_s", "77") == 0
    assert capsys.readouterr().out == "dead_after_s  77\n"
    assert quoit(served, "settings", node=1) == 0
    assert "dead_after_s           77" in capsys.readouterr().out
    assert quoit(served, "settings", "dead_afters") == 4
    assert "dead_after_s" in capsys.readouterr().err
    assert quoit(served, "settings", "dead_after_s", "soon") == 2
    assert "does not fit" in capsys.readouterr().err


def test_a_token_is_made_and_only_its_digest_is_kept(
    served: Served, capsys: pytest.CaptureFixture[str]
) -> None:
    assert quoit(served, "node", "token", "--minutes", "5") == 0
    token = capsys.readouterr().out.strip()
    assert len(token) > 40
    with served.lock:
        tokens = served.cluster.nodes[4].cluster.state.tokens
    assert token not in tokens and tokens
    place = {"host": "h", "peer_port": 1, "resp_port": 2, "admin_port": 3}
    with pytest.raises(AdminError, match="quoit node token"):
        ask(served.admins[2], "/v1/nodes", {**place, "token": "wrong"})
    told = ask(served.admins[2], "/v1/nodes", {**place, "token": token}, 10.0)
    assert told["id"] >= 6
    assert ask(served.admins[2], f"/v1/nodes/{told['id']}/remove", {}, 10.0)["state"] == "removed"


def test_a_plan_is_shown_carried_out_and_gone_back_on(
    served: Served, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert quoit(served, "ring", "show") == 0
    assert "2 shards" in capsys.readouterr().out
    picture = tmp_path / "ring.svg"
    assert quoit(served, "ring", "show", "--svg", str(picture)) == 0
    assert picture.read_text().startswith("<svg")
    capsys.readouterr()
    assert quoit(served, "ring", "plan", "--json") == 0
    plan = json.loads(capsys.readouterr().out)["data"]
    assert plan["copies"] == plan["copies_min"] == 2
    assert quoit(served, "ring", "plan") == 0
    assert "copies 2 (at least 2)" in capsys.readouterr().out
    assert quoit(served, "ring", "apply") == 0
    assert "2 of 2 steps" in capsys.readouterr().err
    assert quoit(served, "job", "ls") == 0
    assert "rebalance" in capsys.readouterr().out
    assert quoit(served, "job", "show") == 0
    assert "at least 2 are needed" in capsys.readouterr().out
    assert quoit(served, "ring", "apply") == 0
    assert "nothing to move" in capsys.readouterr().out
    assert quoit(served, "ring", "revert") == 0
    assert quoit(served, "job", "show", "99") == 4
    assert quoit(served, "job", "cancel") == 5
    assert "job" in capsys.readouterr().err


def test_a_decommission_is_refused_if_too_few_would_be_left_else_followed_to_its_end(
    served: Served, capsys: pytest.CaptureFixture[str]
) -> None:
    assert quoit(served, "settings", "replication_factor", "5") == 0
    assert quoit(served, "node", "decommission", "n3") == 5
    assert "add a node first" in capsys.readouterr().err
    assert quoit(served, "settings", "replication_factor", "3") == 0
    assert quoit(served, "node", "decommission", "n3") == 0
    assert "n3 is removed" in capsys.readouterr().out
    nodes = ask(served.admins[1], "/v1/nodes")
    assert "n3" not in [one["record"]["name"] for one in nodes]


def test_nobody_answers(capsys: pytest.CaptureFixture[str]) -> None:
    assert dispatch(["node", "ls", "--admin", "127.0.0.1:1"]) == 3
    assert "quoit serve" in capsys.readouterr().err
