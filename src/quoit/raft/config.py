"""Settings of one Raft replica."""

import msgspec

from quoit.base import limits
from quoit.base.ids import NodeId

__all__ = ["RaftConfig"]


class RaftConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Times in microseconds. Invariant: heartbeat_us is well below election_timeout_us."""

    node_id: NodeId
    voters: tuple[NodeId, ...]
    election_timeout_us: int = 300_000
    """T: a follower campaigns after T to 2T without a leader, and refuses votes for T after one."""
    heartbeat_us: int = 60_000
    lease_enabled: bool = True
    drift_ppm: int = 10_000
    append_bytes_max: int = limits.APPEND_BYTES_MAX
    inflight_appends_max: int = 64
    cache_bytes_max: int = limits.LOG_CACHE_BYTES_MAX
