"""Routes that change the cluster's record, on real admin ports in front of pure nodes."""

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from quoit.cli.admin_client import AdminError, ask
from quoit.cli.cluster_client import ask_cluster
from quoit.cli.main import dispatch
from quoit.gateways.admin.routes import add_routes
from quoit.gateways.admin.server import all_routes
from quoit.node.cluster.changes import SetState
from quoit.node.cluster.state import META_SHARD
from tests.unit.cli.test_shard import Driver, Served, post

PLACE = {"host": "10.0.0.9", "peer_port": 1, "resp_port": 2, "admin_port": 3}


@pytest.fixture
def served() -> Iterator[Served]:
    found = Served()
    yield found
    found.stop()


def refused(admin: str, path: str, body: Any, words: str, status: int = 409) -> None:
    with pytest.raises(AdminError, match=words) as caught:
        ask(admin, path, body, 10.0)
    assert caught.value.status == status


def change(served: Served, *changes: Any) -> None:
    """Proposed to the record's leader and applied."""
    for one in changes:
        outcomes: list[str] = []
        with served.lock:
            leader = served.cluster.leader(META_SHARD)
            served.cluster.nodes[leader].cluster.propose(one, outcomes.append)
            served.cluster.pass_ms(300)
        assert outcomes == [""]


def test_one_node_is_told_by_name_or_number(served: Served) -> None:
    for name in ("n4", "4"):
        found = ask(served.admins[1], f"/v1/nodes/{name}")
        assert (found["record"]["id"], found["connected"], found["replicas"]) == (4, True, 0)
    refused(served.admins[1], "/v1/nodes/n9", None, "there are: n1, n2, n3, n4, n5", 404)


def test_a_node_that_a_quorum_needs_is_not_drained(served: Served) -> None:
    with served.lock:
        served.cluster.stop(3)
    refused(served.admins[5], "/v1/nodes/n2/drain", {}, "n2 is needed: .* 1 of 3 voters .* needs 2")
    # One that votes in nothing may be drained.
    assert ask(served.admins[5], "/v1/nodes/n4/drain", {}, 10.0)["state"] == "draining"


def test_nodes_that_cannot_be_reached_hold_nothing_after_a_decommission(served: Served) -> None:
    ask(served.admins[1], "/v1/settings", {"replication_factor": 4}, 10.0)
    with served.lock:
        served.cluster.stop(5)
    path = "/v1/nodes/n4/decommission"
    refused(served.admins[1], path, {}, "of the 4 other nodes n5 cannot be reached")
    ask(served.admins[1], "/v1/settings", {"replication_factor": 3}, 10.0)
    # It keeps nothing, so it may be removed before this is answered.
    assert ask(served.admins[1], path, {}, 10.0)["state"] in ("decommissioning", "removed")


def test_two_nodes_are_not_decommissioned_at_once_if_only_one_may_go(served: Served) -> None:
    ask(served.admins[1], "/v1/settings", {"replication_factor": 4}, 10.0)
    answers: list[str] = []

    def leave(name: str, admin: str) -> None:
        try:
            answers.append(ask(admin, f"/v1/nodes/{name}/decommission", {}, 10.0)["name"])
        except AdminError as error:
            answers.append(error.code)

    threads = [
        threading.Thread(target=leave, args=("n4", served.admins[4])),
        threading.Thread(target=leave, args=("n5", served.admins[5])),
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(answers)[0] == "REFUSED"
    assert sorted(answers)[1] in ("n4", "n5")


def test_a_node_that_keeps_only_the_record_is_not_removed(served: Served) -> None:
    for shard in (0, 1):
        words = ("shard", "move", str(shard), "n1", "n4", "--admin", served.admins[2])
        assert dispatch(list(words)) == 0
    assert ask(served.admins[2], "/v1/nodes/n1")["replicas"] == 0
    refused(served.admins[2], "/v1/nodes/n1/remove", {}, "n1 keeps the cluster's record")
    assert ask(served.admins[2], "/v1/nodes/n5/remove", {}, 10.0)["state"] == "removed"


def test_a_dead_node_is_not_removed_while_a_shard_needs_what_it_has(served: Served) -> None:
    for source, to in (("n1", "n4"), ("n2", "n5")):
        words = ("shard", "move", "0", source, to, "--admin", served.admins[3])
        assert dispatch(list(words)) == 0
    with served.lock:
        served.cluster.stop(4)
    change(served, SetState(4, "dead"))
    with served.lock:
        served.cluster.stop(5)
    refused(served.admins[1], "/v1/nodes/n4/remove", {}, "shard 0 has 1 of 3 voters .* needs 2")
    with served.lock:
        served.cluster.start(5)
    assert ask(served.admins[1], "/v1/nodes/n4/remove", {}, 10.0)["state"] == "removed"


def test_a_setting_changed_through_an_old_copy_takes_no_other_back(served: Served) -> None:
    with served.lock:
        old = served.cluster.nodes[5].cluster.state
    ask(served.admins[1], "/v1/settings", {"dead_after_s": 77}, 10.0)
    with served.lock:
        served.cluster.nodes[5].cluster.state = old
    found = ask(served.admins[5], "/v1/settings", {"split_ops": 99}, 10.0)
    assert (found["dead_after_s"], found["split_ops"]) == (77, 99)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"weight": -1.0}, "a weight is above 0"),
        ({"weight": 1000.0}, "a weight is above 0"),
        ({"zone": "a,b:c"}, "a zone is up to 64"),
        ({"name": "3"}, "no bare number"),
        ({"name": "my node"}, "a name is up to 64"),
        ({"host": ""}, "is no host"),
        ({"peer_port": 70_000}, "70000 is no port"),
        ({"id": 70_000}, "a node's number is 1 to 65535"),
        ({"id": 2, "name": "other"}, "number 2 belongs to n2"),
        ({"name": "n2"}, "node 2 is called n2 already"),
        ({"token": "guessed"}, "quoit node token"),
    ],
)
def test_who_may_not_join_is_told_why(served: Served, fields: dict[str, Any], words: str) -> None:
    refused(served.admins[2], "/v1/nodes", {**PLACE, **fields}, words)
    with served.lock:
        assert len(served.cluster.nodes[2].cluster.state.nodes) == 5


def test_wrong_requests_change_nothing(served: Served) -> None:
    admin = served.admins[3]
    refused(admin, "/v1/nodes/n2/explode", {}, "there are: drain, recommission", 404)
    refused(admin, "/v1/nodes/n2/set", {"zone": "no zone"}, "a zone is up to 64")
    refused(admin, "/v1/nodes/n2/set", {"wait": 2}, "does not fit", 400)
    refused(admin, "/v1/settings", {"dead_after": 2}, "there is no setting 'dead_after'", 404)
    refused(admin, "/v1/settings", {"rebalance_latency_ms": 0}, "is 1 or more, not 0")
    refused(admin, "/v1/settings", {"rebalance": 3}, "a setting does not fit", 400)
    refused(admin, "/v1/tokens", {"minutes": 0}, "a token lives for 1 to", 400)
    refused(admin, "/v1/jobs/7", None, "there are none", 404)
    for path in ("/v1/nodes/n2/drain", "/v1/tokens", "/v1/settings", "/v1/ring/apply"):
        headers = {"Content_Type": "application/json", "Origin": "http://127.0.0.1"}
        assert post(admin, path, b"{}", **headers)[0] == 415


def test_plans_are_known_where_the_record_is_led(served: Served) -> None:
    leader = served.leader(META_SHARD)
    other = served.admins[5]
    for path, body in (("/v1/ring/plan", None), ("/v1/ring/apply", {}), ("/v1/jobs/1/cancel", {})):
        with pytest.raises(AdminError) as caught:
            ask(other, path, body)
        assert caught.value.status == 421
        assert caught.value.more["admin"] == served.admins[leader]
    # Followed to the leader, and waited for until all shards' leaders have told their members.
    assert ask_cluster(other, "/v1/ring/plan")["copies"] == 2
    refused(served.admins[leader], "/v1/ring/revert", {}, "no job to go back on")
    refused(served.admins[leader], "/v1/jobs/1/cancel", {}, "there is no job 1")


def test_a_node_elsewhere_needs_a_token(served: Served) -> None:
    """The same handlers, told that the request came from another machine."""

    @web.middleware
    async def elsewhere(
        request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        return await handler(request.clone(remote="10.0.0.9"))

    async def main() -> None:
        app = web.Application(middlewares=[elsewhere])
        driver = Driver(served.cluster.nodes[1], served.peers)
        add_routes(app, all_routes(driver))
        async with TestClient(TestServer(app)) as client:
            answer = await client.post("/v1/nodes", json=PLACE)
            told = await answer.json()
            assert (answer.status, told["error"]["code"]) == (403, "TOKEN_NEEDED")
            assert "quoit node token" in told["error"]["message"]

    asyncio.run(main())
    with served.lock:
        assert len(served.cluster.nodes[1].cluster.state.nodes) == 5
