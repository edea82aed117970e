"""What a node is told at its start. Everything here is fixed for the life of the process."""

import msgspec

from quoit.base import limits
from quoit.detector.settings import DetectorSettings

__all__ = ["NodeConfig", "PeerInfo"]

_DETECTOR = DetectorSettings()


class PeerInfo(msgspec.Struct, frozen=True):
    """A node of the cluster: identity and where its ports are."""

    id: int
    name: str
    host: str = "127.0.0.1"
    resp_port: int = 0
    peer_port: int = 0
    admin_port: int = 0
    zone: str = ""
    """What fails together with it; empty: it stands for itself."""
    weight: float = 1.0
    """Share of the data in proportion to the other nodes'."""
    version: str = ""
    """Of the software that it runs, as it said itself; empty: not told."""


class NodeConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Settings of one node. Times in microseconds."""

    node_id: int
    cluster_id: str
    nodes: tuple[PeerInfo, ...]
    """All nodes of the cluster, this one included."""
    directory: int = 0
    """The number that the data directory got when it was new."""
    founders: tuple[int, ...] = ()
    """The nodes among which the shards were placed at creation; empty: all. Never changes."""
    founder_zones: tuple[str, ...] = ()
    """Their zones at creation, in the same order; an empty one: the node stands for itself."""
    shards: int = 0
    """Number of shards at creation; 0: 4, or the number of nodes if that is larger."""
    consensus: str = "raft"
    """raft or paxos; chosen at creation."""
    quorum: str = "majority"
    """Who must accept a write: a majority, or all replicas (paxos only); chosen at creation."""
    meta_shard: bool = True
    """Keep the cluster's record in a shard of its own. Without it, members change only by hand."""
    replication_factor: int = 3
    """Replicas of a shard; never more than there are nodes."""
    election_timeout_us: int = 300_000
    heartbeat_us: int = 60_000
    lease_enabled: bool = True
    drift_ppm: int = 10_000
    """Greatest difference between the rates of two nodes' clocks that leases must survive."""
    tick_us: int = 10_000
    leader_wait_us: int = 5_000_000
    """How long a command waits for a shard to have a leader; then it is refused, not applied."""
    outcome_wait_us: int = 4_000_000
    """How long a proposed write waits for its outcome; then the answer is `maybe applied`."""
    dead_after_us: int = _DETECTOR.dead_after_us
    """A node that nobody reaches for so long counts as dead: its replicas may be rebuilt elsewhere."""
    suspect_phi: float = _DETECTOR.phi_threshold
    """Others are asked about a node when its silence is this surprising (detector/phi.py)."""
    disk_hang_us: int = 1_000_000
    """A log write that takes longer makes the node hand over its leaderships."""
    inflight_batches_max: int = 4
    """Batches of one shard that may be proposed and not applied yet."""
    pipelined_commands_min: int = 4
    """Fewer waiting commands do not make a further batch: each costs every replica a frame and a
    share of a sync."""
    pending_commands_max: int = limits.PENDING_COMMANDS_MAX
    pending_bytes_max: int = limits.PEER_QUEUE_BYTES_MAX
    flush_log_bytes: int = 64 * 1024 * 1024
    """Flush the engine after this much log, so that the log can be compacted behind it."""
    give_back_after_us: int = 10_000_000
    """A shard's preferred leader gets it back when it has been there for so long."""
    settle_records: int = 2000
    """Buffered records that go into the engine in one turn, before a flush."""
    digest_interval_us: int = 600_000_000
    """How often the replicas of a shard compare their data."""
    snapshot_bytes_per_s: int = 32 * 1024 * 1024
    """All snapshots that this node sends share so much."""
    log_tail_entries: int = limits.LOG_TAIL_ENTRIES
    """Entries kept behind the compaction point for followers that are a little slow."""
    log_tail_bytes: int = 64 * 1024 * 1024
    """So much of a shard's log is kept for a follower that is connected and catching up; never more."""
    version: str = "0"
