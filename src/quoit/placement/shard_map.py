"""Shards: contiguous ranges of slots, each kept by one replicated group."""

from collections.abc import Sequence

import msgspec

from quoit.base.check import invariant
from quoit.base.ids import NodeId, ShardId, Slot
from quoit.base.limits import SLOTS
from quoit.placement.assign import assign
from quoit.placement.ring import NodeInfo

__all__ = ["ShardMap", "ShardRange", "shard_name"]


class ShardRange(msgspec.Struct, frozen=True):
    """One shard: its slots (inclusive) and the nodes that hold it, the preferred leader first."""

    id: ShardId
    slot_low: Slot
    slot_high: Slot
    replicas: tuple[NodeId, ...]


class ShardMap(msgspec.Struct, frozen=True):
    """All shards. Invariant: in slot order, without gap or overlap, covering every slot.

    slot_to_shard  16384 shard ids, by slot
    epoch          version of the map; a later map has a greater one
    """

    shards: tuple[ShardRange, ...]
    slot_to_shard: list[ShardId]
    epoch: int = 1

    @classmethod
    def of(cls, shards: tuple[ShardRange, ...], epoch: int = 1) -> "ShardMap":
        """A map from its shards; checks the invariant."""
        slot_to_shard: list[ShardId] = []
        ids: set[ShardId] = set()
        for shard in shards:
            invariant(shard.id not in ids, "each shard has its own id", id=shard.id)
            ids.add(shard.id)
            invariant(shard.replicas, "a shard has replicas", id=shard.id)
            distinct = len(set(shard.replicas)) == len(shard.replicas)
            invariant(distinct, "a node holds a shard once", id=shard.id)
            invariant(shard.slot_low == len(slot_to_shard), "shards follow one another")
            invariant(shard.slot_high >= shard.slot_low, "a shard has slots")
            slot_to_shard.extend([shard.id] * (shard.slot_high - shard.slot_low + 1))
        invariant(len(slot_to_shard) == SLOTS, "every slot has a shard")
        return cls(shards, slot_to_shard, epoch)

    @classmethod
    def create(cls, count: int, nodes: Sequence[NodeInfo], replication_factor: int) -> "ShardMap":
        """`count` shards of equal size (give or take a slot) over `nodes`."""
        invariant(1 <= count <= SLOTS, "between one shard and one per slot", count=count)
        edges = [number * SLOTS // count for number in range(count + 1)]
        names = [shard_name(number) for number in range(count)]
        replicas = assign(names, nodes, replication_factor)
        return cls.of(
            tuple(
                ShardRange(number, edges[number], edges[number + 1] - 1, replicas[number])
                for number in range(count)
            )
        )

    def rebalance(self, nodes: Sequence[NodeInfo], replication_factor: int) -> "ShardMap":
        """The next map, for `nodes` as they are now: the same shards, as few moves as possible.

        Nodes that are not listed lose their replicas (they left, died, or are drained). The map
        itself if nothing needs to change.
        """
        names = [shard_name(shard.id) for shard in self.shards]
        previous = [shard.replicas for shard in self.shards]
        replicas = assign(names, nodes, replication_factor, previous)
        if replicas == previous:
            return self
        shards = tuple(
            ShardRange(shard.id, shard.slot_low, shard.slot_high, chosen)
            for shard, chosen in zip(self.shards, replicas, strict=True)
        )
        return ShardMap.of(shards, self.epoch + 1)

    def split(self, shard_id: ShardId, at: Slot, new_id: ShardId) -> "ShardMap":
        """The map after the slots from `at` on became the shard `new_id` with the same replicas."""
        shards: list[ShardRange] = []
        for shard in self.shards:
            if shard.id != shard_id:
                shards.append(shard)
                continue
            invariant(shard.slot_low < at <= shard.slot_high, "both halves have slots", at=at)
            shards.append(ShardRange(shard.id, shard.slot_low, at - 1, shard.replicas))
            shards.append(ShardRange(new_id, at, shard.slot_high, shard.replicas))
        invariant(len(shards) > len(self.shards), "the shard to split exists", id=shard_id)
        return ShardMap.of(tuple(shards), self.epoch + 1)


def shard_name(shard: ShardId) -> str:
    """What gives the shard its position on the ring: its id, so that it keeps it for life."""
    return f"shard/{shard}"
