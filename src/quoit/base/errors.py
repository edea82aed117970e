"""Every error quoit raises on purpose, by who is at fault.

QuoitError
├── BadRequest            the caller: fix the request, do not repeat it
├── ClusterState          nobody: expected in a living cluster
│   ├── NotLeader         proven not applied; ask `leader` (0: unknown)
│   └── Overloaded        proven not applied; a limit was reached, try again later
├── Indeterminate         the outcome is unknown; the write may have been applied; never retried inside
├── WorldFault            the world broke
│   ├── DiskFault         a write or sync failed: the node stops, a sync is never retried
│   ├── DiskFull          no room: a DiskFault with a simple remedy
│   ├── Corruption        bytes that were synced are not what was written; never served
│   │   ├── EngineDamaged the engine's files: they are set aside, the peers' copies replace them
│   │   └── Diverged      a replica holds other data than its peers after the same entries
│   └── PeerFault         a peer broke the protocol; its connection is closed
└── InvariantViolated     ourselves: a bug; the node stops
"""

__all__ = [
    "BadRequest",
    "ClusterState",
    "Corruption",
    "DiskFault",
    "DiskFull",
    "Diverged",
    "EngineDamaged",
    "Indeterminate",
    "InvariantViolated",
    "NotLeader",
    "Overloaded",
    "PeerFault",
    "QuoitError",
    "WorldFault",
]


class QuoitError(Exception):
    """Base of all errors below. The message says what happened and what to do next."""


class BadRequest(QuoitError):
    """The request is wrong in itself."""


class ClusterState(QuoitError):
    """The cluster cannot do this now; proven not applied."""


class NotLeader(ClusterState):
    """This replica does not lead the shard; `leader` is a hint, 0 when unknown."""

    def __init__(self, leader: int = 0) -> None:
        super().__init__(f"not the leader of this shard (leader: node {leader or 'unknown'})")
        self.leader = leader


class Overloaded(ClusterState):
    """A bounded queue is full."""


class Indeterminate(QuoitError):
    """The outcome is unknown: it may have been applied, now or later, once or never."""


class WorldFault(QuoitError):
    """The disk, the network or a peer failed."""


class DiskFault(WorldFault):
    """A write or a sync failed. What it covered is not trusted; the node stops."""


class DiskFull(DiskFault):
    """There is no room left on the disk."""


class Corruption(WorldFault):
    """Synced bytes fail their checksum or contradict their place."""


class EngineDamaged(Corruption):
    """The engine's files are damaged or gone. They are never repaired in place (ADR 12)."""


class Diverged(Corruption):
    """This replica's data differ from its peers' at one index."""


class PeerFault(WorldFault):
    """A peer sent what the protocol does not allow."""


class InvariantViolated(QuoitError):
    """A bug in quoit. The node stops rather than go on with a state it does not understand."""
