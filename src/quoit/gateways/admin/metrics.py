"""Prometheus metrics, read from the node's plain counters when somebody asks.

The reference (docs/reference/metrics.md) is made from what is collected here. Names follow Prometheus'
rules: one prefix, base units, `_total` on counters. The only labels are `shard`, `node`, `peer` (a node
that is not this one) and `state`, all bounded by the cluster.
"""

from collections.abc import Callable, Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from quoit.detector.peer import PeerState
from quoit.node.cluster.state import DEAD, DECOMMISSIONING, DRAINING, JOINING, LIVE, REMOVED
from quoit.node.status import NodeStatus, ShardStatus

__all__ = ["StatusCollector"]

_COUNTERS = {
    "reads_local": ("quoit_reads_local", "Reads answered from this leader's state under its lease"),
    "reads_indexed": ("quoit_reads_indexed", "Reads that needed a quorum round"),
    "batches": ("quoit_batches", "Batches of commands run here as leader"),
    "batch_commands": ("quoit_batch_commands", "Commands in those batches"),
    "forwards": ("quoit_forwards", "Commands sent on to the shard's leader"),
    "forwards_received": ("quoit_forwards_received", "Commands run for other nodes"),
    "refused": ("quoit_refused", "Commands refused because a shard had no leader"),
    "unknown_outcomes": ("quoit_unknown_outcomes", "Writes answered with: maybe applied"),
    "busy": ("quoit_admission_rejected", "Commands refused because too many waited"),
    "elections_won": ("quoit_shard_leader_changes", "Leaderships this node took"),
    "log_writes": ("quoit_log_writes", "Synced writes of the log"),
    "log_bytes": ("quoit_log_bytes", "Bytes written to the log"),
    "log_entries": ("quoit_log_entries", "Entries written to the log"),
    "flushes": ("quoit_engine_flushes", "Flushes of the engine"),
    "frames_received": ("quoit_peer_frames_received", "Frames that came from other nodes"),
    "snapshots_sent": ("quoit_snapshots_sent", "Snapshot transfers begun"),
    "snapshots_installed": ("quoit_snapshots_installed", "Snapshots taken from a leader"),
    "snapshot_chunks": ("quoit_snapshot_chunks", "Chunks of snapshots sent, repeated ones too"),
    "snapshot_bytes": ("quoit_snapshot_bytes", "Bytes of those chunks"),
    "snapshots_damaged": ("quoit_snapshots_damaged", "Chunks that failed their checksum"),
    "digests_compared": ("quoit_digests_compared", "Digests of replicas that were compared"),
    "digests_differ": ("quoit_digests_differ", "Replicas found to differ from their peers"),
}

_SHARD_GAUGES: list[tuple[str, str, Callable[[ShardStatus], int]]] = [
    ("quoit_shard_has_leader", "1 if a leader is known", lambda shard: int(bool(shard.leader))),
    ("quoit_shard_is_leader", "1 if led here", lambda shard: int(shard.role == "leader")),
    ("quoit_shard_is_damaged", "1 if not trusted", lambda shard: int(shard.role == "damaged")),
    ("quoit_shard_term", "Raft's term", lambda shard: shard.term),
    ("quoit_shard_keys", "Keys at the applied index", lambda shard: sum(shard.keys.values())),
    ("quoit_shard_pending_commands", "Commands without an outcome", lambda shard: shard.pending),
    (
        "quoit_shard_log_entries",
        "Entries that the log still holds",
        lambda shard: max(0, shard.last_index - shard.first_index + 1),
    ),
    (
        "quoit_raft_apply_lag_entries",
        "Committed entries that are not applied",
        lambda shard: shard.commit_index - shard.applied_index,
    ),
]


class StatusCollector(Collector):
    """Turns a NodeStatus into metric families."""

    def __init__(self, status: Callable[[], NodeStatus]) -> None:
        self._status = status

    def collect(self) -> Iterator[Metric]:
        """All families."""
        status = self._status()
        info = GaugeMetricFamily("quoit_build_info", "Version", labels=["version", "consensus"])
        info.add_metric([status.version, status.consensus], 1)
        yield info
        uptime = GaugeMetricFamily("quoit_uptime_seconds", "Seconds since the node started")
        uptime.add_metric([], status.uptime_ms / 1000)
        yield uptime
        rebuilding = GaugeMetricFamily("quoit_rebuilding", "1 while damaged data come from peers")
        rebuilding.add_metric([], int(bool(status.rebuilding)))
        yield rebuilding
        yield from _nodes(status)
        yield from _liveness(status)
        yield from _record(status)
        for name, text, value in _SHARD_GAUGES:
            family = GaugeMetricFamily(name, text, labels=["shard"])
            for shard in status.shards:
                if shard.role != "none" or name == "quoit_shard_has_leader":
                    family.add_metric([str(shard.id)], value(shard))
            yield family
        for key, (name, text) in _COUNTERS.items():
            counter = CounterMetricFamily(name, text)
            counter.add_metric([], status.counters[key])
            yield counter


def _nodes(status: NodeStatus) -> Iterator[Metric]:
    up = GaugeMetricFamily("quoit_node_up", "1 if the node is connected", labels=["node"])
    silence = GaugeMetricFamily(
        "quoit_node_silence_seconds", "Time since its last message", labels=["node"]
    )
    for peer in status.peers:
        up.add_metric([peer.name], int(peer.connected))
        if peer.heard_ms_ago >= 0:
            silence.add_metric([peer.name], peer.heard_ms_ago / 1000)
    yield up
    yield silence


def _record(status: NodeStatus) -> Iterator[Metric]:
    nodes = GaugeMetricFamily(
        "quoit_cluster_nodes", "Nodes by their state in the cluster's record", labels=["state"]
    )
    for state in (JOINING, LIVE, DRAINING, DECOMMISSIONING, DEAD, REMOVED):
        nodes.add_metric([state], status.node_states.get(state, 0))
    yield nodes
    version = GaugeMetricFamily(
        "quoit_cluster_record_version", "Version of this node's copy of the cluster's record"
    )
    version.add_metric([], status.record_version)
    yield version
    epoch = GaugeMetricFamily("quoit_cluster_placement_epoch", "Version of the wanted placement")
    epoch.add_metric([], status.placement_epoch)
    yield epoch
    running = GaugeMetricFamily("quoit_cluster_jobs_running", "Jobs under way")
    running.add_metric([], int(bool(status.job)))
    yield running


def _liveness(status: NodeStatus) -> Iterator[Metric]:
    phi = GaugeMetricFamily(
        "quoit_failure_detector_phi", "How surprising the peer's silence is", labels=["peer"]
    )
    states = GaugeMetricFamily(
        "quoit_peer_state", "1 for the state in which this node sees it", labels=["peer", "state"]
    )
    for peer in status.peers:
        if peer.id != status.node_id:
            phi.add_metric([peer.name], peer.phi)
            for state in PeerState:
                states.add_metric([peer.name, state.value], int(peer.state == state.value))
    yield phi
    yield states
    lag = GaugeMetricFamily(
        "quoit_event_loop_lag_seconds", "Lateness of the latest tick of the last 10 to 20 seconds"
    )
    lag.add_metric([], status.event_loop_lag_us / 1e6)
    yield lag
    health = GaugeMetricFamily(
        "quoit_local_health", "0 is well; time-outs for peers are multiplied by 1 + this"
    )
    health.add_metric([], status.local_health)
    yield health
    isolated = GaugeMetricFamily("quoit_isolated", "1 if in touch with no majority of the nodes")
    isolated.add_metric([], int(status.isolated))
    yield isolated
