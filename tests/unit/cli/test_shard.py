"""`quoit shard` and `quoit serve --join` against real admin ports in front of pure nodes."""

import asyncio
import http.client
import json
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from quoit.base.errors import BadRequest
from quoit.cli.config import ServeConfig
from quoit.cli.join import joined
from quoit.cli.main import dispatch
from quoit.cli.ports import choose
from quoit.gateways.admin.server import serve_admin
from quoit.node.cluster.changes import SetSettings
from quoit.node.cluster.state import Settings
from quoit.node.config import PeerInfo
from quoit.runtime.disk import RealDisk
from quoit.runtime.nodes_file import read_view
from quoit.runtime.options import NodeOptions, PeerAddress
from tests.unit.node.harness import Client, Cluster

NODES = 5


class Driver:
    """What an admin port needs of a node's owner."""

    def __init__(self, node: Any, peers: list[PeerAddress]) -> None:
        self.node = node
        self.options = NodeOptions(
            node_id=node.config.node_id, name=f"n{node.config.node_id}", cluster_id="test",
            secret=b"s", data_dir="unused", peers=peers, founders=[1, 2, 3], shards=2,
            consensus="paxos",
        )  # fmt: skip


class Served:
    """Nodes 1 to 5, of which 1 to 3 keep the two shards; their time passes in a thread.

    lock     held while nodes work
    admins   node -> address of its admin port
    """

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.cluster = Cluster(
            NODES, shards=2, founders=(1, 2, 3), consensus="paxos", meta_shard=True
        )
        change = SetSettings(Settings(rebalance=False))
        self.cluster.pass_ms(1_000)
        self.cluster.nodes[1].cluster.propose(change, lambda outcome: None)
        self.cluster.pass_ms(500)
        ports = dict(enumerate(choose(NODES, 0), 1))
        self.admins = {number: f"127.0.0.1:{found[1]}" for number, found in ports.items()}
        self.peers = [
            PeerAddress(number, f"n{number}", "127.0.0.1", peer, resp, admin)
            for number, (resp, admin, peer) in ports.items()
        ]
        for node in self.cluster.nodes.values():
            for peer in self.peers:
                node.book.nodes[peer.id] = PeerInfo(
                    peer.id, peer.name, peer.host, peer.resp_port, peer.peer_port, peer.admin_port
                )
        self.stopped = threading.Event()
        self.ready = threading.Event()
        self.thread = threading.Thread(target=lambda: asyncio.run(self._run()))
        self.thread.start()
        assert self.ready.wait(10)

    async def _run(self) -> None:
        runners = {
            number: await serve_admin(
                Driver(node, self.peers), "127.0.0.1", self.peers[number - 1].admin_port
            )
            for number, node in self.cluster.nodes.items()
        }
        self.ready.set()
        while not self.stopped.is_set():
            with self.lock:
                self.cluster.pass_ms(10)
                gone = [one for one, node in self.cluster.nodes.items() if node.cluster.removed]
            for number in gone:
                if number in runners:  # As the process of a removed node does.
                    await runners.pop(number).cleanup()
            await asyncio.sleep(0.001)
        for runner in runners.values():
            await runner.cleanup()

    def stop(self) -> None:
        self.stopped.set()
        self.thread.join(10)

    def leader(self, shard: int) -> int:
        with self.lock:
            return self.cluster.leader(shard)

    def voters(self, shard: int) -> set[int]:
        with self.lock:
            return set(self.cluster.nodes[self.cluster.leader(shard)].members_of(shard).voters)


@pytest.fixture
def served() -> Iterator[Served]:
    found = Served()
    yield found
    found.stop()


def quoit(*words: str, admin: str) -> int:
    return dispatch(["shard", *words, "--admin", admin])


def post(admin: str, path: str, body: bytes, **headers: str) -> tuple[int, Any]:
    connection = http.client.HTTPConnection(*admin.split(":"), timeout=5)
    connection.request(
        "POST", path, body, {name.replace("_", "-"): v for name, v in headers.items()}
    )
    answer = connection.getresponse()
    return answer.status, json.loads(answer.read())


def test_a_replica_moves_whichever_node_is_asked(
    served: Served, capsys: pytest.CaptureFixture[str]
) -> None:
    with served.lock:
        client = Client(served.cluster, 1)
        assert client.ask("SET", "a", "1") == b"+OK\r\n"
    source = served.leader(0)
    # A node that has nothing to do with the shard, and the move of the leader's own replica.
    assert quoit("move", "0", f"n{source}", "4", admin=served.admins[5]) == 0
    told = capsys.readouterr()
    assert f"move n{source} -> n4 done" in told.out
    assert "step 1 of 4: n4 gets the data" in told.err
    assert served.voters(0) == {1, 2, 3, 4} - {source}
    with served.lock:
        assert Client(served.cluster, source).ask("GET", "a") == b"$1\r\n1\r\n"


def test_adding_removing_and_leading(served: Served, capsys: pytest.CaptureFixture[str]) -> None:
    admin = served.admins[4]
    assert quoit("add-replica", "1", "n5", admin=admin) == 0
    assert served.voters(1) == {1, 2, 3, 5}
    other = next(one for one in (1, 2, 3) if one != served.leader(1))
    assert quoit("leader", "1", "--to", str(other), admin=admin) == 0
    assert served.leader(1) == other
    assert quoit("remove-replica", "1", str(other), admin=admin) == 0
    assert served.voters(1) == {1, 2, 3, 5} - {other}
    capsys.readouterr()
    assert quoit("ls", "--json", admin=admin) == 0
    shards = json.loads(capsys.readouterr().out)["data"]
    assert set(shards[1]["replicas"]) == served.voters(1)
    assert quoit("info", "1", "--json", admin=admin) == 0
    members = json.loads(capsys.readouterr().out)["data"]["members"]
    assert {row["node"] for row in members} == served.voters(1)
    assert sorted(row["role"] for row in members) == ["follower", "follower", "leader"]


def test_a_dry_run_changes_nothing_and_says_what_stands_against_it(
    served: Served, capsys: pytest.CaptureFixture[str]
) -> None:
    follower = next(one for one in (1, 2, 3) if one != served.leader(0))
    assert quoit("move", "0", str(follower), "4", "--dry-run", admin=served.admins[1]) == 0
    text = capsys.readouterr().out
    assert "1. n4 gets the data\n  2. n4 votes\n" in text and f"3. n{follower} leaves" in text
    assert quoit("remove-replica", "0", "4", "--dry-run", admin=served.admins[1]) == 5
    assert "against it: node 4 is not a member" in capsys.readouterr().out
    assert served.voters(0) == {1, 2, 3}


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("add-replica", "0", "n1"), 5, "member already"),
        (("add-replica", "0", "n9"), 4, "there is no node 'n9'"),
        (("add-replica", "7", "n4"), 4, "there is no shard 7"),
        (("leader", "0", "--to", "n4"), 5, "does not vote"),
        (("move", "0", "n5", "n4"), 5, "node 5 is not a member"),
    ],
)
def test_refusals_have_a_reason_and_an_exit_code(
    served: Served, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], code: int, said: str
) -> None:
    assert quoit(*words, admin=served.admins[2]) == code
    assert said in capsys.readouterr().err
    assert served.voters(0) == {1, 2, 3}


def test_a_web_page_cannot_begin_an_operation(served: Served) -> None:
    path = "/v1/shards/0/operations"
    body = b'{"kind": "remove-replica", "node": 1}'
    admin = served.admins[served.leader(0)]
    assert post(admin, path, body, Content_Type="text/plain")[0] == 415
    with_origin = {"Content_Type": "application/json", "Origin": "http://127.0.0.1"}
    assert post(admin, path, body, **with_origin)[0] == 415
    status, told = post(admin, path, b'{"kind": 1}', Content_Type="application/json")
    assert (status, told["error"]["code"]) == (400, "BAD_REQUEST")
    assert served.voters(0) == {1, 2, 3}


def test_a_node_that_does_not_lead_names_the_one_that_does(served: Served) -> None:
    body = b'{"kind": "add-replica", "node": 4}'
    path = "/v1/shards/0/operations"
    status, told = post(served.admins[5], path, body, Content_Type="application/json")
    leader = served.leader(0)
    assert (status, told["error"]["code"]) == (421, "NOT_LEADER")
    assert (told["error"]["leader"], told["error"]["admin"]) == (leader, served.admins[leader])


def test_a_joining_node_takes_over_what_the_cluster_has_in_common(
    served: Served, tmp_path: Path
) -> None:
    config = ServeConfig(node_id=6, join=served.admins[2], data_dir=str(tmp_path), resp_port=9999)
    filled, view = joined(config)
    assert view is not None and view.founders == [1, 2, 3]
    assert (filled.cluster_id, filled.shards, filled.consensus) == ("test", 2, "paxos")
    assert [text.partition("=")[0] for text in filled.peers] == ["6", "1", "2", "3", "4", "5"]
    assert filled.peers[0] == "6=127.0.0.1:7401/9999/7400"
    assert read_view(RealDisk(str(tmp_path))).own == 6  # type: ignore[union-attr]
    # The next one gets the next number, and the same one if it asks again by its name.
    for number in (7, 7):
        config = ServeConfig(name="new", join=served.admins[2], data_dir=str(tmp_path / "new"))
        filled, _ = joined(config)
        assert (filled.node_id, filled.name) == (number, "new")
        shutil.rmtree(tmp_path / "new")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"node_id": 4}, "node 4 runs already.*leave --node-id out"),
        ({"cluster_id": "shop"}, "the cluster is 'test', not 'shop'"),
        ({"join": "127.0.0.1:1"}, "no node of a cluster answers"),
    ],
)
def test_what_cannot_join_is_told_why(
    served: Served, tmp_path: Path, changes: dict[str, Any], said: str
) -> None:
    config = ServeConfig(node_id=6, join=served.admins[1], data_dir=str(tmp_path))
    with pytest.raises(BadRequest, match=said):
        joined(msgspec.structs.replace(config, **changes))
