"""What the rebalancer's two ends say to one another, inside the nodes' frames."""

import msgspec

from quoit.quorum.members import Members

__all__ = ["Ask", "Load", "NodeReport", "OperationAsk", "OperationTold", "ShardReport"]


class Ask(msgspec.Struct, frozen=True, array_like=True):
    """A change of one shard's members, as `membership.Request` has it; `index`: only if the members are
    still those of the entry at this index, so that what is asked for twice is done once."""

    kind: str
    shard: int
    node: int
    source: int = 0
    index: int = 0

    @property
    def pair(self) -> tuple[int, int]:
        """(node that loses a replica, node that gets one); 0 where there is none."""
        if self.kind == "remove-replica":
            return (self.node, 0)
        return (self.source, self.node)


class Load(msgspec.Struct, frozen=True, array_like=True):
    """How a node is, in microseconds: its slowest log write and its latest tick of the last second."""

    sync_us: int = 0
    lag_us: int = 0

    @property
    def worst_us(self) -> int:
        """The greater of both."""
        return max(self.sync_us, self.lag_us)


class ShardReport(msgspec.Struct, frozen=True, array_like=True):
    """A shard by its leader. Members are those that were agreed on and applied, by the entry at `index`."""

    shard: int
    term: int
    index: int
    members: Members
    operation: Ask | None
    """What is being changed now, whoever asked for it."""
    keys: int
    bytes: int
    """Estimate of one replica's data (reports.py)."""
    ops: float
    """Commands a second."""


class OperationAsk(msgspec.Struct, frozen=True, array_like=True, tag=140):
    """The leader of the meta shard asks a shard's leader. Asked again under the same id, it is told how
    far that is."""

    id: int
    ask: Ask


class OperationTold(msgspec.Struct, frozen=True, array_like=True, tag=141):
    """What became of an OperationAsk. state: as of membership.Operation, or not-leader (ask `next`), busy
    (another operation runs), changed (the members are others by now) or refused; see `reason`."""

    id: int
    shard: int
    state: str
    step: int = 0
    waits_for: str = ""
    reason: str = ""
    next: int = 0
    bytes: int = 0
    """Sent for it so far, in snapshots."""


class NodeReport(msgspec.Struct, frozen=True, array_like=True, tag=142):
    """How a node is, and the shards that it leads; to the leader of the meta shard, every second."""

    load: Load
    shards: list[ShardReport]
