"""How much each node should hold: exact, fractional shares and the whole numbers beside them.

A share is proportional to a node's weight, except where that cannot be: no node holds a shard twice,
and no zone holds more of a shard than it must. What a full node or zone cannot take goes to the
others in proportion again (water-filling). The bounds of a node are its share rounded down and up, the
tightest "bounded loads" there are (Mirrokni, Thorup and Zadimoghaddam, *Consistent Hashing with
Bounded Loads*, SODA 2018, whose capacity is the mean times 1 + epsilon; here epsilon is 0).

Such bounds can always be met: giving each shard share/shards of each node satisfies every rule in
fractions, the rules form a network with whole capacities, and such a network that has a fractional
flow has one in whole numbers. `Fraction` keeps the arithmetic exact, so that no rounding differs
between machines.
"""

from collections.abc import Sequence
from fractions import Fraction
from math import ceil, floor

import msgspec

from quoit.base.check import invariant
from quoit.base.ids import NodeId
from quoit.placement.ring import NodeInfo

__all__ = ["Bounds", "Shares"]


class Bounds(msgspec.Struct, frozen=True):
    """The least and the most that each node should hold."""

    low: dict[NodeId, int]
    high: dict[NodeId, int]

    @classmethod
    def around(cls, shares: dict[NodeId, Fraction]) -> "Bounds":
        """Each share rounded down and up."""
        return cls(
            {node: floor(share) for node, share in shares.items()},
            {node: ceil(share) for node, share in shares.items()},
        )


class Shares(msgspec.Struct, frozen=True):
    """What a cluster of these nodes should look like. Dicts are in order of node id, without nodes of
    weight 0.

    zone_of   zone of each node
    zone_max  the most replicas of one shard in each zone: 1 if there are enough zones, else as
              few as the number of zones and their sizes allow
    exact     the fractional share of each node in all replicas
    replicas  bounds of the replicas on each node: `exact` rounded down and up
    leaders   bounds of the shards whose preferred leader a node is
    """

    zone_of: dict[NodeId, str]
    zone_max: dict[str, int]
    exact: dict[NodeId, Fraction]
    replicas: Bounds
    leaders: Bounds

    @classmethod
    def of(cls, nodes: Sequence[NodeInfo], shards: int, replication_factor: int) -> "Shares":
        """The shares of `nodes` (in any order) in `shards` shards."""
        nodes = sorted((node for node in nodes if node.weight), key=lambda node: node.id)
        invariant(0 < replication_factor <= len(nodes), "as many replicas as nodes at most")
        zone_of = {node.id: node.zone for node in nodes}
        sizes: dict[str, int] = {}
        for node in nodes:
            sizes[node.zone] = sizes.get(node.zone, 0) + 1
        most = 1
        while sum(min(size, most) for size in sizes.values()) < replication_factor:
            most += 1
        zone_max = {zone: min(size, most) for zone, size in sizes.items()}
        weights = {node.id: Fraction(node.weight) for node in nodes}
        total = Fraction(shards * replication_factor)
        exact = _zoned(weights, zone_of, zone_max, shards, total)
        leading = _fill(weights, exact, Fraction(shards))
        return cls(zone_of, zone_max, exact, Bounds.around(exact), Bounds.around(leading))


def _zoned(
    weights: dict[NodeId, Fraction],
    zone_of: dict[NodeId, str],
    zone_max: dict[str, int],
    shards: int,
    total: Fraction,
) -> dict[NodeId, Fraction]:
    """`total` replicas in proportion to the weights, within what nodes and zones can hold.

    A zone that is full stays full while others fill, so each round fixes at least one for good.
    """
    caps = dict.fromkeys(weights, Fraction(shards))
    fixed: dict[NodeId, Fraction] = {}
    while True:
        free = {node: weight for node, weight in weights.items() if node not in fixed}
        shares = fixed | _fill(free, caps, total - sum(fixed.values()))
        sums = dict.fromkeys(zone_max, Fraction(0))
        for node in free:
            sums[zone_of[node]] += shares[node]
        full = [zone for zone, most in zone_max.items() if sums[zone] > most * shards]
        if not full:
            return {node: shares[node] for node in weights}
        for zone in full:
            members = {node: weight for node, weight in free.items() if zone_of[node] == zone}
            fixed |= _fill(members, caps, Fraction(zone_max[zone] * shards))


def _fill(
    weights: dict[NodeId, Fraction], caps: dict[NodeId, Fraction], total: Fraction
) -> dict[NodeId, Fraction]:
    """`total` in proportion to `weights`, nobody above its cap."""
    shares: dict[NodeId, Fraction] = {}
    free = weights
    while free:
        level = (total - sum(shares.values())) / sum(free.values())
        full = [node for node, weight in free.items() if weight * level > caps[node]]
        if not full:
            return shares | {node: weight * level for node, weight in free.items()}
        shares |= {node: caps[node] for node in full}
        free = {node: weight for node, weight in free.items() if node not in shares}
    return shares
