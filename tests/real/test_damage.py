"""Bytes change under real nodes (faults.md, D2 and D7): in the data, in the log, in the mark. The node
heals without hands, and what it then serves as leader is what was acknowledged, all of it."""

import contextlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from quoit.cli.cluster import LocalCluster
from quoit.cli.main import dispatch
from quoit.sim.checkers.linearizable import LEGAL, check
from quoit.sim.history import OK
from quoit.storage.mark import SLOT_BYTES
from tests.real.load import Load, to_history

pytestmark = [pytest.mark.real, pytest.mark.slow]

KEYS = 3000
HEAL_S = 30.0

Node = dict[str, Any]


class ShortLogs(LocalCluster):
    """Nodes that keep little log, so that what the engine lost can come from peers only."""

    def command(self, node: Node) -> list[str]:
        """See short_log.py."""
        words = super().command(node)
        words[words.index("quoit")] = "tests.real.short_log"
        return [*words, "--cache-bytes", "0"]


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Callable[[str], ShortLogs]]:
    """Starts a cluster with one shard and some data."""
    found = ShortLogs(tmp_path / "cluster")

    def start(consensus: str) -> ShortLogs:
        found.create(3, 0, 1, consensus)
        for node in found.nodes:
            found.launch(node)
        found.wait_ready()
        client = redis.Redis(port=_port(found.nodes[0]))
        for low in range(0, KEYS, 100):
            pipe = client.pipeline(transaction=False)
            for number in range(low, low + 100):
                pipe.set(f"k{number}", _value(number))
            assert pipe.execute() == [True] * 100
        return found

    yield start
    for node in found.nodes:
        if found.running(node):
            found.kill(node)


def _port(node: Node) -> int:
    return int(node["resp"].rpartition(":")[2])


def _value(number: int) -> bytes:
    return b"value %d " % number * 20


def _said(node: Node, event: str) -> bool:
    return event in (Path(node["data"]) / "log.txt").read_text()


def _until(condition: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + HEAL_S
    while not condition():
        assert time.monotonic() < deadline, f"{what} did not come within {HEAL_S:.0f} s"
        time.sleep(0.02)


def _follower(cluster: LocalCluster) -> Node:
    leader = cluster.leader(0)
    return next(node for node in reversed(cluster.nodes) if node is not leader)


def _shard(cluster: LocalCluster, node: Node) -> dict[str, Any]:
    status = cluster.status(node)
    shards: list[dict[str, Any]] = status["shards"] if status else [{"role": "", "first_index": 0}]
    return shards[0]


def _has_short_log(cluster: LocalCluster, node: Node) -> bool:
    return bool(_shard(cluster, node)["first_index"] > 1)


def _is_whole(cluster: LocalCluster, node: Node) -> bool:
    status = cluster.status(node)
    if status is None or status["rebuilding"]:
        return False
    return all(shard["role"] in ("leader", "follower") for shard in status["shards"])


def _lead(cluster: LocalCluster, node: Node) -> None:
    words = ["shard", "leader", "0", "--to", node["name"], "--admin", cluster.nodes[0]["admin"]]
    _until(lambda: dispatch(words) == 0, f"that {node['name']} leads")


def _read_all(cluster: LocalCluster, node: Node) -> list[bytes | None]:
    """All values from the node's own data."""
    assert _shard(cluster, node)["role"] == "leader"
    client = redis.Redis(port=_port(node), socket_timeout=5)
    found: list[bytes | None] = client.mget([f"k{number}" for number in range(KEYS)])
    assert client.dbsize() == KEYS
    assert _shard(cluster, node)["role"] == "leader"
    return found


def _check(cluster: LocalCluster, node: Node) -> None:
    """The node holds everything, and the cluster takes writes while it leads."""
    _lead(cluster, node)
    assert _read_all(cluster, node) == [_value(number) for number in range(KEYS)]
    assert redis.Redis(port=_port(node)).incr("n") == 1


def _flip(file: Path, at: int) -> None:
    with open(file, "r+b") as opened:
        opened.seek(at)
        byte = opened.read(1)[0]
        opened.seek(at)
        opened.write(bytes([byte ^ 4]))


def _tables(node: Node) -> list[Path]:
    return sorted((Path(node["data"]) / "data").glob("*.sst"))


def _flip_table(node: Node) -> None:
    # Among the records: behind the first block, before the index at the end.
    for table in _tables(node):
        _flip(table, table.stat().st_size // 3)


def _remove_table(node: Node) -> None:
    _tables(node)[0].unlink()


def _flip_manifest(node: Node) -> None:
    manifest = next((Path(node["data"]) / "data").glob("MANIFEST-*"))
    _flip(manifest, manifest.stat().st_size // 2)


def _remove_manifest(node: Node) -> None:
    next((Path(node["data"]) / "data").glob("MANIFEST-*")).unlink()


@pytest.mark.parametrize(
    ("damage", "consensus"),
    [
        (_flip_table, "raft"), (_flip_table, "paxos"), (_remove_table, "raft"),
        (_flip_manifest, "paxos"), (_remove_manifest, "raft"),
    ],
)  # fmt: skip
def test_damaged_data_of_a_stopped_node_are_rebuilt_from_its_peers(
    make: Callable[[str], ShortLogs], damage: Callable[[Node], None], consensus: str
) -> None:
    cluster = make(consensus)
    node = _follower(cluster)
    _until(lambda: _has_short_log(cluster, node), "a short log")
    cluster.kill(node)
    damage(node)
    cluster.launch(node)
    if damage is _flip_table:
        # Found when it is read: as leader it must serve what is right, or nothing.
        client = redis.Redis(port=_port(node), socket_timeout=1, retry=None)
        _until(lambda: _is_whole(cluster, node), "the node")
        _lead(cluster, node)
        for number in range(KEYS):
            try:
                assert client.get(f"k{number}") == _value(number)
            except redis.RedisError:
                break
    _until(lambda: _said(node, "engine_rebuilt"), "the repair")
    _until(lambda: _is_whole(cluster, node), "the node")
    assert _said(node, "engine_damaged") and _said(node, "engine_set_aside")
    assert not (Path(node["data"]) / "data.damaged").exists()
    status = cluster.status(node)
    assert status is not None and status["counters"]["snapshots_installed"] == 1
    _check(cluster, node)


@pytest.mark.parametrize("consensus", ["raft", "paxos"])
def test_data_that_are_damaged_while_their_leader_runs_are_not_served(
    make: Callable[[str], ShortLogs], consensus: str
) -> None:
    cluster = make(consensus)
    node = cluster.leader(0)
    assert node is not None
    _until(lambda: _has_short_log(cluster, node) and _tables(node), "data in tables")
    pid = node["pid"]
    _flip_table(node)
    client = redis.Redis(port=_port(node), socket_timeout=1, retry=None)
    for number in range(KEYS):
        try:
            assert client.get(f"k{number}") == _value(number)
        except redis.RedisError:
            break
    _until(lambda: _said(node, "engine_rebuilt"), "the repair")
    _until(lambda: _is_whole(cluster, node), "the node")
    assert node["pid"] == pid and cluster.running(node)
    _check(cluster, node)


def _times(node: Node, event: str) -> int:
    return (Path(node["data"]) / "log.txt").read_text().count(event)


def _damage_and_heal(cluster: LocalCluster, node: Node) -> None:
    before = _times(node, "engine_rebuilt")
    _until(lambda: _has_short_log(cluster, node), "a short log")
    cluster.kill(node)
    _flip_table(node)
    cluster.launch(node)
    _until(lambda: _is_whole(cluster, node), "the node")
    _lead(cluster, node)
    # The load reads what is in memory; this reads the rest.
    client = redis.Redis(port=_port(node), socket_timeout=1, retry=None)
    with contextlib.suppress(redis.RedisError):
        for low in range(0, KEYS, 100):
            part = range(low, low + 100)
            found = client.mget([f"k{number}" for number in part])
            assert found == [_value(number) for number in part]
    _until(lambda: _times(node, "engine_rebuilt") > before, "the repair")
    _until(lambda: _is_whole(cluster, node), "the node")


def test_leaders_whose_data_are_damaged_under_load_lose_nothing(
    make: Callable[[str], ShortLogs],
) -> None:
    cluster = make("raft")
    load = Load([_port(node) for node in cluster.nodes], clients=4)
    load.start()
    for _ in range(2):
        time.sleep(0.3)
        node = cluster.leader(0)
        assert node is not None
        _damage_and_heal(cluster, node)
        load.rotate_keys()
    load.stop()
    history = to_history(load)
    verdict = check(history)
    assert verdict.result == LEGAL, verdict.report()
    assert history.count(OK) > 300, "too few operations for the test to mean anything"
    written = sorted({operation.key for operation in load.operations})
    seen = []
    for node in cluster.nodes:
        _lead(cluster, node)
        seen.append(redis.Redis(port=_port(node), socket_timeout=5).mget(written))
    assert seen[0] == seen[1] == seen[2]
    now = time.monotonic_ns()
    for key, value in zip(written, seen[0], strict=True):
        read = history.invoke("final", "get", key.encode(), now_us=now // 1000)
        history.complete(read, OK, value, now_us=now // 1000)
    verdict = check(history)
    assert verdict.result == LEGAL, verdict.report()


def _segment(node: Node) -> tuple[Path, int]:
    """The newest segment of the log, and where its written part ends."""
    file = max(
        (Path(node["data"]) / "log").glob("*.log"), key=lambda one: (_end(one) > 0, one.name)
    )
    return file, _end(file)


def _end(file: Path) -> int:
    return len(file.read_bytes().rstrip(b"\0"))


def _flip_log(node: Node) -> None:
    file, end = _segment(node)
    _flip(file, end // 2)


def _cut_log(node: Node) -> None:
    file, end = _segment(node)
    with open(file, "r+b") as opened:
        opened.truncate(end - 30)


def _flip_mark(node: Node) -> None:
    for slot in range(4):
        _flip(Path(node["data"]) / "log" / "synced.mark", slot * SLOT_BYTES + 12)


@pytest.mark.parametrize(
    ("damage", "consensus", "found"),
    [
        (_flip_log, "raft", True), (_flip_log, "paxos", True), (_cut_log, "raft", True),
        (_cut_log, "paxos", True), (_flip_mark, "raft", False),
    ],
)  # fmt: skip
def test_a_damaged_log_heals_from_its_peers(
    make: Callable[[str], ShortLogs], damage: Callable[[Node], None], consensus: str, found: bool
) -> None:
    cluster = make(consensus)
    node = _follower(cluster)
    cluster.kill(node)
    damage(node)
    cluster.launch(node)
    _until(lambda: _is_whole(cluster, node), "the node")
    assert _said(node, "synced records of the log are damaged") == found
    _check(cluster, node)
    # For good.
    cluster.kill(node)
    cluster.launch(node)
    _until(lambda: _is_whole(cluster, node), "the node")
