"""Prometheus metrics, read from the node's plain counters when somebody asks."""

from collections.abc import Callable, Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from quoit.node.status import NodeStatus

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
    "snapshots_sent": ("quoit_snapshots_sent", "Snapshot transfers begun"),
    "snapshots_installed": ("quoit_snapshots_installed", "Snapshots taken from a leader"),
}


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
        up = GaugeMetricFamily("quoit_node_up", "1 if the node is connected", labels=["node"])
        for peer in status.peers:
            up.add_metric([peer.name], int(peer.connected))
        yield up
        families = [
            ("quoit_shard_has_leader", "1 if a leader is known", lambda s: int(bool(s.leader))),
            ("quoit_shard_is_leader", "1 if led here", lambda s: int(s.role == "leader")),
            ("quoit_shard_term", "Term", lambda s: s.term),
            (
                "quoit_raft_apply_lag_entries",
                "Committed, not applied",
                lambda s: s.commit_index - s.applied_index,
            ),
            ("quoit_shard_keys", "Keys at the applied index", lambda s: sum(s.keys.values())),
        ]
        for name, text, value in families:
            family = GaugeMetricFamily(name, text, labels=["shard"])
            for shard in status.shards:
                family.add_metric([str(shard.id)], value(shard))
            yield family
        for key, (name, text) in _COUNTERS.items():
            counter = CounterMetricFamily(name, text)
            counter.add_metric([], status.counters.get(key, 0))
            yield counter
