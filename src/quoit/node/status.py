"""What a node can say about itself and its view of the cluster, as values for INFO, CLUSTER,
the admin API and the CLI."""

import msgspec

__all__ = ["NodeStatus", "PeerStatus", "ShardStatus"]


class PeerStatus(msgspec.Struct):
    """A node of the cluster (also this one)."""

    id: int
    name: str
    host: str
    resp_port: int
    peer_port: int
    admin_port: int
    connected: bool
    heard_ms_ago: int
    """Milliseconds since its last message; 0 for this node, -1 for never."""


class ShardStatus(msgspec.Struct):
    """A shard as this node sees it."""

    id: int
    slot_low: int
    slot_high: int
    """Inclusive."""
    replicas: list[int]
    leader: int
    """0: unknown."""
    role: str
    """leader, follower, candidate, pre-candidate, damaged, or none (no replica here)."""
    term: int
    commit_index: int
    applied_index: int
    last_index: int
    first_index: int
    keys: dict[int, int]
    """Database -> number of keys, at this replica's applied index."""
    pending: int
    """Commands that wait for their outcome here."""


class NodeStatus(msgspec.Struct):
    """Everything. `counters` are monotonic totals since the start (commands, reads_local,
    reads_indexed, batches, batch_commands, forwards, elections, log_writes, log_bytes...)."""

    cluster_id: str
    node_id: int
    node_name: str
    version: str
    consensus: str
    uptime_ms: int
    peers: list[PeerStatus]
    shards: list[ShardStatus]
    counters: dict[str, int]
