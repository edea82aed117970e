"""The admin port: who may ask, what health means, and metrics that a scraper can read."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import aiohttp
import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from quoit.cli.ports import choose
from quoit.gateways.admin.access import host_is_local, is_loopback, token_fits
from quoit.gateways.admin.metrics import StatusCollector
from quoit.gateways.admin.server import readiness, serve_admin
from quoit.node.status import NodeStatus, PeerStatus, ShardStatus
from quoit.runtime.options import NodeOptions

COUNTERS = (
    "reads_local", "reads_indexed", "batches", "batch_commands", "forwards", "forwards_received",
    "refused", "unknown_outcomes", "busy", "elections_won", "log_writes", "log_bytes",
    "log_entries", "flushes", "frames_received", "snapshots_sent", "snapshots_installed",
    "snapshot_chunks", "snapshot_bytes", "snapshots_damaged", "digests_compared", "digests_differ",
)  # fmt: skip


def make_status(leader: int = 1, role: str = "leader") -> NodeStatus:
    """Two nodes, two shards; this is node 1."""
    peers = [
        PeerStatus(1, "n1", "127.0.0.1", 7379, 7401, 7400, True, 0),
        PeerStatus(2, "n2", "127.0.0.1", 7479, 7501, 7500, False, -1, "suspect", 8.5),
    ]
    shards = [
        ShardStatus(0, 0, 8191, [1, 2], 1, "leader", 3, 12, 10, 14, 5, {0: 7, 1: 2}, 4),
        ShardStatus(1, 8192, 16383, [1, 2], leader, role, 3, 1, 1, 1, 1, {}, 0),
    ]
    counters = {name: number for number, name in enumerate(COUNTERS, 1)}
    status = NodeStatus("c", 1, "n1", "0.1.0", "raft", 1500, peers, shards, counters)
    status.local_health, status.event_loop_lag_us, status.isolated = 2, 12_500, True
    return status


class FakeNode:
    def __init__(self) -> None:
        self.now = make_status()
        self.stopping = False

    def status(self) -> NodeStatus:
        return self.now


class FakeDriver:
    def __init__(self) -> None:
        self.options = NodeOptions(
            node_id=1, name="n1", cluster_id="c", secret=b"s", data_dir="unused"
        )
        self.node = FakeNode()


Client = Callable[..., Awaitable[tuple[int, str, Any]]]


def ask(
    questions: Callable[[FakeDriver, Client], Awaitable[None]],
    address: str = "127.0.0.1",
    password: str = "",
) -> None:
    """Run an admin port and `questions` against it."""

    async def run() -> None:
        driver = FakeDriver()
        port = choose(1, 0)[0][0]
        runner = await serve_admin(driver, address, port, password)
        try:
            async with aiohttp.ClientSession() as session:

                async def get(path: str, method: str = "GET", **headers: str) -> Any:
                    url = f"http://127.0.0.1:{port}{path}"
                    async with session.request(method, url, headers=headers) as answer:
                        return answer.status, await answer.text(), answer.headers

                await questions(driver, get)
        finally:
            await runner.cleanup()

    asyncio.run(run())


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.1.2.3", "::1", "[::1]"])
def test_loopback_is_recognized(host: str) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize(
    "host", ["", "127.0.0.1.evil.example", "127.evil.example", "localhost.evil.example", "10.0.0.1"]
)
def test_names_that_only_look_like_loopback_are_not(host: str) -> None:
    assert not is_loopback(host)
    assert not host_is_local(host)
    assert not host_is_local(f"{host}:7400")


@pytest.mark.parametrize("host", ["localhost:1", "LOCALHOST", "127.0.0.1:7400", "[::1]:7400"])
def test_host_headers_of_this_machine(host: str) -> None:
    assert host_is_local(host)


def test_tokens() -> None:
    assert token_fits("Bearer word", "word")
    assert token_fits("bearer word", "word")
    for header in ("", "word", "Basic word", "Bearer", "Bearer wor", "Bearer wörd"):
        assert not token_fits(header, "word")


def test_a_rebound_name_gets_nothing() -> None:
    async def questions(driver: FakeDriver, get: Client) -> None:
        for path in ("/v1/status", "/metrics", "/livez"):
            status, text, _ = await get(path, Host="evil.example")
            assert status == 421
            assert "shards" not in text
        status, _, _ = await get("/v1/status", Host="localhost:7400")
        assert status == 200

    ask(questions)


def test_beyond_loopback_all_but_health_wants_the_password() -> None:
    async def questions(driver: FakeDriver, get: Client) -> None:
        for path in ("/v1/status", "/metrics", "/nothing"):
            status, _, headers = await get(path)
            assert (status, headers["WWW-Authenticate"]) == (401, "Bearer")
            status, _, _ = await get(path, Authorization="Bearer wrong")
            assert status == 401
        status, _, _ = await get("/v1/status", Authorization="Bearer word")
        assert status == 200
        for path in ("/livez", "/readyz"):
            status, _, _ = await get(path)
            assert status == 200

    ask(questions, "0.0.0.0", "word")


def test_status_is_the_nodes_own_and_never_cached() -> None:
    async def questions(driver: FakeDriver, get: Client) -> None:
        status, text, headers = await get("/v1/status")
        assert status == 200
        assert headers["Content-Type"].startswith("application/json")
        assert headers["Cache-Control"] == "no-store"
        assert '"cluster_id":"c"' in text
        assert '"applied_index":10' in text

    ask(questions)


def test_unknown_paths_and_methods_answer_in_json() -> None:
    async def questions(driver: FakeDriver, get: Client) -> None:
        status, text, _ = await get("/v2/status")
        assert (status, '"NOT_FOUND"' in text) == (404, True)
        status, text, _ = await get("/v1/status", "POST")
        assert (status, '"METHOD"' in text) == (405, True)

    ask(questions)


def test_ready_means_every_shard_can_be_reached_and_live_does_not() -> None:
    async def questions(driver: FakeDriver, get: Client) -> None:
        assert (await get("/readyz"))[0] == 200
        driver.node.now = make_status(leader=0, role="candidate")
        status, text, _ = await get("/readyz?verbose")
        assert status == 503
        assert "[-]every-shard-has-a-leader" in text
        assert "[+]not-stopping" in text
        assert (await get("/readyz?exclude=every-shard-has-a-leader"))[0] == 200
        assert (await get("/livez"))[0] == 200
        driver.node.now = make_status()
        driver.node.stopping = True
        assert (await get("/readyz"))[0] == 503
        assert (await get("/livez"))[0] == 200

    ask(questions)


def test_a_damaged_replica_is_not_ready() -> None:
    assert all(readiness(make_status(), False).values())
    assert not all(readiness(make_status(role="damaged"), False).values())
    rebuilding = make_status()
    rebuilding.rebuilding = "block 7"
    assert not readiness(rebuilding, False)["data-are-not-being-rebuilt"]


def test_a_taken_port_is_an_error_at_start() -> None:
    async def run() -> None:
        port = choose(1, 0)[0][0]
        first = await serve_admin(FakeDriver(), "127.0.0.1", port)
        try:
            with pytest.raises(OSError):
                await serve_admin(FakeDriver(), "127.0.0.1", port)
        finally:
            await first.cleanup()

    asyncio.run(run())


def _samples() -> dict[tuple[str, str], float]:
    registry = CollectorRegistry()
    registry.register(StatusCollector(make_status))
    found = {}
    for family in text_string_to_metric_families(generate_latest(registry).decode()):
        assert family.documentation
        for sample in family.samples:
            label = " ".join(sample.labels.values())
            found[sample.name, label] = sample.value
    return found


def test_metrics_tell_what_the_status_tells() -> None:
    samples = _samples()
    assert samples["quoit_node_up", "n1"] == 1
    assert samples["quoit_node_up", "n2"] == 0
    assert ("quoit_node_silence_seconds", "n2") not in samples, "never heard is not zero seconds"
    assert samples["quoit_shard_keys", "0"] == 9
    assert samples["quoit_raft_apply_lag_entries", "0"] == 2
    assert samples["quoit_shard_log_entries", "0"] == 10
    assert samples["quoit_shard_pending_commands", "0"] == 4
    assert samples["quoit_uptime_seconds", ""] == 1.5
    assert samples["quoit_failure_detector_phi", "n2"] == 8.5
    assert ("quoit_failure_detector_phi", "n1") not in samples, "a node does not watch itself"
    states = ("live", "suspect", "unreachable", "dead")
    assert [samples["quoit_peer_state", f"n2 {state}"] for state in states] == [0, 1, 0, 0]
    assert samples["quoit_event_loop_lag_seconds", ""] == 0.0125
    assert (samples["quoit_local_health", ""], samples["quoit_isolated", ""]) == (2, 1)
    assert samples["quoit_rebuilding", ""] == 0
    assert samples["quoit_log_bytes_total", ""] == make_status().counters["log_bytes"]


def test_metric_names_follow_the_rules() -> None:
    for name, _ in _samples():
        assert name.startswith("quoit_")
        assert not name.endswith(("_ms", "_kb", "_mb", "_percent"))
    counters = [name for name, _ in _samples() if name.endswith("_total")]
    assert len(counters) == len(COUNTERS)


@pytest.mark.source_text
def test_every_counter_of_a_node_is_a_metric() -> None:
    # What the node counts is listed in its constructor only; its text is the contract.
    import inspect

    from quoit.gateways.admin import metrics
    from quoit.node import node

    source = inspect.getsource(node.Node.__init__)
    for key in metrics._COUNTERS:
        assert f'"{key}"' in source, f"the node has no counter {key}"


def test_the_cluster_is_whole_or_would_not_be_without_a_node() -> None:
    async def questions(driver: FakeDriver, get: Client) -> None:
        peers = [
            PeerStatus(number, f"n{number}", "127.0.0.1", 0, 0, 0, True, 0) for number in (1, 2, 3)
        ]
        driver.node.now.peers[:] = peers
        for shard in driver.node.now.shards:
            shard.replicas = [1, 2, 3]
        assert (await get("/healthz/cluster"))[0] == 200
        for name in ("n1", "n3", "2"):
            assert (await get(f"/healthz/cluster?maintenance={name}"))[0] == 200
        status, text, _ = await get("/healthz/cluster?maintenance=n9")
        assert (status, "the cluster has n1 n2 n3" in text) == (400, True)
        peers[1].connected = False
        assert (await get("/healthz/cluster"))[0] == 200
        assert (await get("/healthz/cluster?maintenance=n2"))[0] == 200
        status, text, _ = await get("/healthz/cluster?maintenance=n3")
        assert status == 412
        assert "shard 0: 1 of 3 voters, 2 needed" in text
        # This node's own replica counts for nothing while it is damaged.
        driver.node.now.shards[1].role = "damaged"
        status, text, _ = await get("/healthz/cluster")
        assert (status, text) == (503, "no writes accepted:\nshard 1: 1 of 3 voters, 2 needed\n")
        driver.node.now.shards[1].role = "follower"
        driver.node.now.consensus = "paxos/all"
        status, text, _ = await get("/healthz/cluster")
        assert (status, "2 of 3 voters, 3 needed" in text) == (503, True)

    ask(questions)
