"""Settings of one Paxos replica."""

import msgspec

from quoit.base import limits
from quoit.base.check import invariant
from quoit.base.ids import NodeId
from quoit.quorum.members import MODES

__all__ = ["PaxosConfig"]


class PaxosConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Times in microseconds. Invariant: heartbeat_us is well below election_timeout_us, so that one
    lost heartbeat does not start an election."""

    node_id: NodeId
    quorum: str = "majority"
    """Write quorum: majority, or all (quorum.members.quorums)."""
    election_timeout_us: int = 300_000
    """T: a replica campaigns after T to 2T without a leader, and promises nothing for T after one."""
    heartbeat_us: int = 60_000
    lease_enabled: bool = True
    drift_ppm: int = 10_000
    """How much faster or slower than real time any node's clock may run, in millionths."""
    append_bytes_max: int = limits.APPEND_BYTES_MAX
    """Data of one Accept; a single larger entry still goes alone."""
    inflight_accepts_max: int = 64
    """Unanswered Accepts per follower."""
    cache_bytes_max: int = limits.LOG_CACHE_BYTES_MAX
    """Newest entries held in memory, once they are durable and applied."""
    committed_bytes_max: int = 4 * limits.BATCH_BYTES_MAX
    """Entries handed out for application in one Ready."""
    promise_bytes_max: int = 4 * limits.BATCH_BYTES_MAX
    """A promise repeats what the candidate lacks; one that lacks more chosen entries than this is
    brought forward by a leader first."""
    gap_max: int = 10_000
    """Instances that may be missing below one that is accepted."""

    def __post_init__(self) -> None:
        """Refuse settings under which the protocol is not safe or not live."""
        invariant(0 < self.node_id < 1 << 16, "a node's id fits into a ballot", id=self.node_id)
        invariant(self.quorum in MODES, "a known kind of quorum", quorum=self.quorum)
        invariant(
            0 < 2 * self.heartbeat_us <= self.election_timeout_us,
            "two heartbeats fit into an election time-out",
            heartbeat_us=self.heartbeat_us, election_timeout_us=self.election_timeout_us,
        )  # fmt: skip
        invariant(0 <= 2 * self.drift_ppm < 1_000_000, "drift bound", ppm=self.drift_ppm)
        invariant(self.inflight_accepts_max > 0, "accepts must be able to leave")
