"""Consistent hashing with virtual nodes and bounded loads.

Every node owns tokens on a ring of 64-bit positions, in proportion to its weight (Karger et al.,
*Consistent Hashing and Random Trees*, 1997). A shard's replicas are the first distinct nodes
clockwise from the shard's own position, skipping nodes that hold their fair share already
(Mirrokni, Thorup and Zadimoghaddam, *Consistent Hashing with Bounded Loads*, 2018) and, while there
are enough of them, zones that are taken. Everything follows from the arguments alone.
"""

from bisect import bisect_left
from hashlib import blake2b

import msgspec

from quoit.base.check import invariant
from quoit.base.ids import NodeId

__all__ = ["NodeInfo", "Ring", "assign"]

TOKENS_PER_WEIGHT = 256


class NodeInfo(msgspec.Struct, frozen=True):
    """A node as placement sees it. The name, not the address, decides its tokens."""

    id: NodeId
    name: str
    zone: str = ""
    weight: float = 1.0


def position(text: str) -> int:
    """A stable 64-bit position on the ring."""
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "big")


class Ring:
    """Tokens of all nodes in ring order."""

    __slots__ = ("_owners", "_positions", "nodes")

    def __init__(self, nodes: list[NodeInfo]) -> None:
        invariant(len({node.id for node in nodes}) == len(nodes), "node ids are unique")
        self.nodes = sorted(nodes, key=lambda node: node.id)
        tokens = sorted(
            (position(f"{node.name}/{number}"), node.id)
            for node in self.nodes
            for number in range(max(1, round(TOKENS_PER_WEIGHT * node.weight)))
        )
        self._positions = [place for place, _ in tokens]
        self._owners = [owner for _, owner in tokens]

    def clockwise(self, place: int) -> list[NodeId]:
        """All nodes in the order in which they are met clockwise from `place`."""
        start = bisect_left(self._positions, place)
        order: dict[NodeId, None] = {}
        count = len(self._owners)
        for step in range(count):
            order.setdefault(self._owners[(start + step) % count])
            if len(order) == len(self.nodes):
                break
        return list(order)


def assign(
    names: list[str], nodes: list[NodeInfo], replication_factor: int
) -> list[tuple[NodeId, ...]]:
    """The replicas of each named shard, the preferred leader first.

    No node holds more than its weighted share rounded up; leaders are bounded in the same way.
    """
    invariant(0 < replication_factor <= len(nodes), "more replicas than nodes")
    ring = Ring(nodes)
    by_id = {node.id: node for node in ring.nodes}
    total_weight = sum(node.weight for node in ring.nodes)
    replicas_total = len(names) * replication_factor

    def bound(total: int, node: NodeId) -> int:
        share = total * by_id[node].weight / total_weight
        return int(share) if share == int(share) else int(share) + 1

    held = dict.fromkeys(by_id, 0)
    leading = dict.fromkeys(by_id, 0)
    placed: list[tuple[NodeId, ...]] = []
    zones_count = len({node.zone for node in ring.nodes})
    for name in names:
        order = ring.clockwise(position(name))
        chosen: list[NodeId] = []
        # Each pass relaxes a rule: first the bound and the zones, then the zones only, then none.
        for bounded, zoned in ((True, True), (False, True), (True, False), (False, False)):
            for node in order:
                if len(chosen) == replication_factor:
                    break
                if node in chosen or (bounded and held[node] >= bound(replicas_total, node)):
                    continue
                taken = {by_id[other].zone for other in chosen}
                if zoned and by_id[node].zone in taken and len(taken) < zones_count:
                    continue
                chosen.append(node)
                held[node] += 1
        leader = min(
            chosen,
            key=lambda node: (leading[node] >= bound(len(names), node), chosen.index(node)),
        )
        leading[leader] += 1
        placed.append((leader, *(node for node in chosen if node != leader)))
    return placed
