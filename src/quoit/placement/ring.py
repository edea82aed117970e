"""The ring: each shard's order of preference among the nodes.

Every node owns tokens on a ring of 64-bit positions, in proportion to its weight (Karger et al.,
*Consistent Hashing and Random Trees*, STOC 1997, section 4). A shard prefers the nodes in the order in
which it meets them clockwise from its own position. A node's tokens depend on its name and weight
alone, so nodes that come and go leave the order of the others as it was. Positions are BLAKE2b, not
`hash()`: they are the same in every process.
"""

from bisect import bisect_left
from collections.abc import Sequence
from hashlib import blake2b

import msgspec

from quoit.base.check import invariant
from quoit.base.ids import NodeId

__all__ = ["NodeInfo", "Ring", "position"]

TOKENS_PER_WEIGHT = 256
WEIGHT_MAX = 64


class NodeInfo(msgspec.Struct, frozen=True):
    """A node as placement sees it.

    name    decides its tokens, so a node that changes its address keeps them
    zone    what fails together (rack, room, region); nodes without a name for it share one zone
    weight  share of the data in proportion to the other nodes'; 0 < weight <= WEIGHT_MAX
    """

    id: NodeId
    name: str
    zone: str = ""
    weight: float = 1.0


def position(text: str) -> int:
    """A stable 64-bit position on the ring."""
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "big")


class Ring:
    """Tokens of all nodes in ring order.

    nodes       by id, whatever order they were given in
    _positions  of all tokens, ascending
    _owners     node of each token
    """

    __slots__ = ("_owners", "_positions", "nodes")

    def __init__(self, nodes: Sequence[NodeInfo]) -> None:
        self.nodes = sorted(nodes, key=lambda node: node.id)
        for node in self.nodes:
            invariant(0 < node.weight <= WEIGHT_MAX, "a node's weight is in its range", node=node)
        for one, other in zip(self.nodes, self.nodes[1:], strict=False):
            invariant(one.id != other.id, "node ids are unique", id=one.id)
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
        for owners in (self._owners[start:], self._owners[:start]):
            for owner in owners:
                if owner not in order:
                    order[owner] = None
                    if len(order) == len(self.nodes):
                        return list(order)
        return list(order)
