"""Nodes that join a running cluster, on real sockets: all hear of them, and remember them."""

import asyncio
import json

import pytest

from quoit.base.errors import Corruption
from quoit.node.cluster.changes import SetSettings
from quoit.node.cluster.state import META_SHARD, Settings
from quoit.node.membership import Request
from quoit.runtime.disk import RealDisk
from quoit.runtime.driver import Driver
from quoit.runtime.nodes_file import read_view, view_of, write_view
from quoit.runtime.options import NodeOptions, PeerAddress
from tests.unit.runtime.test_driver import OK, Client, free_ports


def options(tmp_path, number, ports, known, founders):
    """`known`: the nodes that this one is told of at its start."""
    peers = [PeerAddress(n, f"n{n}", "127.0.0.1", ports[n - 1], 0, 0) for n in known]
    return NodeOptions(
        node_id=number, name=f"n{number}", cluster_id="c", secret=b"s", peers=peers,
        founders=founders, data_dir=str(tmp_path / f"n{number}"), peer_port=ports[number - 1],
        engine="memory", election_timeout_us=150_000, heartbeat_us=30_000, consensus="paxos",
        replication_factor=1,
    )  # fmt: skip


async def until(condition):
    for _ in range(500):
        if condition():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it never came true")


def view(tmp_path, number):
    return read_view(RealDisk(str(tmp_path / f"n{number}")))


def test_who_joins_by_one_node_is_known_to_all_and_founds_nothing(tmp_path):
    async def main():
        ports = free_ports(4)
        first = Driver(options(tmp_path, 1, ports, [1], []))
        await first.start()
        assert await Client(first).ask("SET", "a", "1") == OK
        second = Driver(options(tmp_path, 2, ports, [1, 2], [1]))
        await second.start()
        await until(lambda: 2 in first.node.connected)
        # Of the third, only the second is told.
        third = Driver(options(tmp_path, 3, ports, [2, 3], [1]))
        await third.start()
        await until(lambda: 3 in first.node.connected and 1 in third.node.connected)
        assert await Client(third).ask("GET", "a") == b"$1\r\n1\r\n"
        assert second.node.replicas == third.node.replicas == {}
        for number in (1, 2, 3):
            found = view(tmp_path, number)
            assert found.founders == [1]
            assert [node.id for node in found.nodes] == [1, 2, 3]
        await third.stop()
        await first.stop()
        # The founder comes back with the settings of its first start, and knows them all.
        first = Driver(options(tmp_path, 1, ports, [1], []))
        await first.start()
        assert len(first.node.map.shards) == 4
        assert all(shard.replicas == (1,) for shard in first.node.map.shards)
        await until(lambda: 2 in first.node.connected)
        # The third comes back at another address; nobody was told.
        moved = [*ports[:2], ports[3]]
        third = Driver(options(tmp_path, 3, moved, [3], [1]))
        await third.start()
        await until(lambda: 3 in first.node.connected and 3 in second.node.connected)
        assert {node.id: node.peer_port for node in view(tmp_path, 2).nodes}[3] == ports[3]
        for driver in (third, second, first):
            await driver.stop()

    asyncio.run(main())


def test_a_joined_node_takes_a_shard_over_and_keeps_it_over_a_restart(tmp_path):
    async def main():
        ports = free_ports(2)
        first = Driver(options(tmp_path, 1, ports, [1], []))
        first.options.engine = "rocks"
        await first.start()
        client = Client(first)
        for number in range(50):
            await client.ask("SET", f"k{number}", "1")
        second = Driver(options(tmp_path, 2, ports, [1, 2], [1]))
        second.options.engine = "rocks"
        await second.start()
        await until(lambda: 2 in first.node.connected)
        await until(lambda: first.node.cluster.state.nodes)
        outcomes = []
        first.node.cluster.propose(SetSettings(Settings(rebalance=False)), outcomes.append)
        await until(lambda: outcomes == [""])
        for shard in range(4):
            request = Request(kind="add-replica", shard=shard, node=2)
            operation = first.node.membership.begin(request)
            await until(lambda operation=operation: operation.state == "done")
            request = Request(kind="leader", shard=shard, node=2)
            operation = first.node.membership.begin(request)
            await until(lambda shard=shard: shard in second.node.serving)
            request = Request(kind="remove-replica", shard=shard, node=1)
            operation = second.node.membership.begin(request)
            await until(lambda operation=operation: operation.state == "done")
        await until(lambda: set(first.node.replicas) == {META_SHARD})
        assert await client.ask("DBSIZE") == b":50\r\n"
        await first.stop()
        await second.stop()
        second = Driver(options(tmp_path, 2, ports, [2], [1]))
        second.options.engine = "rocks"
        await second.start()
        await until(lambda: len(second.node.serving) == 4)
        assert await Client(second).ask("DBSIZE") == b":50\r\n"
        await second.stop()

    asyncio.run(main())


def test_a_list_of_nodes_that_cannot_be_read_is_not_ignored(tmp_path):
    disk = RealDisk(str(tmp_path))
    assert read_view(disk) is None
    known = view_of(options(tmp_path, 1, [7401], [1], [1]))
    write_view(disk, known)
    assert read_view(disk) == known
    path = tmp_path / "nodes.json"
    assert json.loads(path.read_text())["founders"] == [1]
    path.write_text(path.read_text()[:-20])
    with pytest.raises(Corruption, match=r"nodes\.json"):
        read_view(disk)
