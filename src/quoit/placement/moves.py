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

    The greatest of three sums: over shards, the replicas whose node is gone or whose zone has too many;
    over nodes, what each misses to its low bound; and all replicas less those that the zones can keep.
    A zone keeps no more than its part of each shard, than its nodes' high bounds, and than what is
    left of its room when its nodes have got what they miss. (The exact minimum is a flow of least
    cost; the tests compute it for small clusters.)
    """
    count = len(before.shards)
    shares = Shares.of(nodes, count, replication_factor)
    zone_of, zone_max = shares.zone_of, shares.zone_max
    low, high = shares.replicas.low, shares.replicas.high
    held = dict.fromkeys(zone_of, 0)
    stay = dict.fromkeys(zone_max, 0)
    for shard in before.shards:
        zones: dict[str, int] = {}
        for node in shard.replicas:
            if node in held:
                held[node] += 1
                zones[zone_of[node]] = zones.get(zone_of[node], 0) + 1
        for zone, number in zones.items():
            stay[zone] += min(number, zone_max[zone])
    below, missed, room = (dict.fromkeys(zone_max, 0) for _ in range(3))
    for node, zone in zone_of.items():
        below[zone] += min(held[node], high[node])
        missed[zone] += max(0, low[node] - held[node])
        room[zone] += high[node]
    kept = 0
    for zone, most in zone_max.items():
        kept += min(stay[zone], below[zone], min(room[zone], most * count) - missed[zone])
    lost = sum(moves_lost(before, nodes, replication_factor).values())
    return max(lost, sum(missed.values()), count * replication_factor - kept)
