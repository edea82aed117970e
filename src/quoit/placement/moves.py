"""What changes between two maps, and how little could have."""

from collections.abc import Sequence

import msgspec

from quoit.base.check import invariant
from quoit.base.ids import NodeId, ShardId
from quoit.placement.ring import NodeInfo
from quoit.placement.shard_map import ShardMap
from quoit.placement.shares import Shares

__all__ = ["Move", "moves_between", "moves_lost", "moves_min"]


class Move(msgspec.Struct, frozen=True):
    """One replica of a shard changes its node.

    source  the node that gives it up; 0 if the shard only gains a replica
    target  the node that must copy the shard; 0 if the shard only loses a replica
    """

    shard: ShardId
    source: NodeId
    target: NodeId


def moves_between(before: ShardMap, after: ShardMap) -> list[Move]:
    """The moves that lead from one map to another with the same shards, in slot order.

    Changes of preferred leaders are no moves: they copy nothing.
    """
    same = [shard.id for shard in before.shards] == [shard.id for shard in after.shards]
    invariant(same, "both maps have the same shards")
    moves = []
    for old, new in zip(before.shards, after.shards, strict=True):
        gone = [node for node in old.replicas if node not in new.replicas]
        come = [node for node in new.replicas if node not in old.replicas]
        for number in range(max(len(gone), len(come))):
            source = gone[number] if number < len(gone) else 0
            target = come[number] if number < len(come) else 0
            moves.append(Move(new.id, source, target))
    return moves


def moves_lost(
    before: ShardMap, nodes: Sequence[NodeInfo], replication_factor: int
) -> dict[ShardId, int]:
    """How many new replicas each shard needs whatever else is chosen: those whose node is gone, drained
    or in a zone that has too many. Shards that need none are left out."""
    shares = Shares.of(nodes, len(before.shards), replication_factor)
    lost = {}
    for shard in before.shards:
        zones: dict[str, int] = {}
        for node in shard.replicas:
            zone = shares.zone_of.get(node)
            if zone is not None:
                zones[zone] = zones.get(zone, 0) + 1
        stay = sum(min(count, shares.zone_max[zone]) for zone, count in zones.items())
        if stay < replication_factor:
            lost[shard.id] = replication_factor - stay
    return lost


def moves_min(before: ShardMap, nodes: Sequence[NodeInfo], replication_factor: int) -> int:
    """A lower bound: no map with these nodes within their bounds copies fewer replicas.

    Replicas whose node is gone, or whose zone has too many, must be copied; so must what nodes miss
    to their low bound, and all that nodes hold above their high bound.
    """
    shares = Shares.of(nodes, len(before.shards), replication_factor)
    held = dict.fromkeys(shares.zone_of, 0)
    for shard in before.shards:
        for node in shard.replicas:
            if node in held:
                held[node] += 1
    lost = sum(moves_lost(before, nodes, replication_factor).values())
    low, high = shares.replicas.low, shares.replicas.high
    missed = sum(max(0, low[node] - count) for node, count in held.items())
    total = len(before.shards) * replication_factor
    crowded = total - sum(min(count, high[node]) for node, count in held.items())
    return max(lost, missed, crowded)
