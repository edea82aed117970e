"""The ring: each shard's order of preference among the nodes.

Every node owns tokens on a ring of 64-bit positions, in proportion to its weight (Karger et al.,
*Consistent Hashing and Random Trees*, STOC 1997, section 4). A shard prefers the nodes in the order in
which it meets them clockwise from its own position. A node's tokens depend on its name and weight
alone, so nodes that come and go leave the order of the others as it was. Positions are BLAKE2b, not
`hash()`: they are the same in every process.
"""

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from hashlib import blake2b
from itertools import chain

import msgspec

from quoit.base.check import invariant
from quoit.base.ids import NodeId

__all__ = ["NodeInfo", "Preference", "Ring", "position"]

TOKENS_PER_WEIGHT = 256
WEIGHT_MAX = 64


class NodeInfo(msgspec.Struct, frozen=True):
    """A node as placement sees it.

    name    decides its tokens, so a node that changes its address keeps them
    zone    what fails together (rack, room, region); nodes without a name for it share one zone
    weight  share of the data in proportion to the other nodes'; 0 <= weight <= WEIGHT_MAX. A node of
            weight 0 is being drained: it holds nothing in a new placement
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

    nodes       by id, whatever order they were given in, without those of weight 0
    _positions  of all tokens, ascending
    _owners     node of each token
    """

    __slots__ = ("_owners", "_positions", "nodes")

    def __init__(self, nodes: Sequence[NodeInfo]) -> None:
        self.nodes = sorted(nodes, key=lambda node: node.id)
        for node in self.nodes:
            invariant(0 <= node.weight <= WEIGHT_MAX, "a node's weight is in its range", node=node)
        for one, other in zip(self.nodes, self.nodes[1:], strict=False):
            invariant(one.id != other.id, "node ids are unique", id=one.id)
        self.nodes = [node for node in self.nodes if node.weight]
        # One whole number per token sorts several times faster than a pair.
        tokens = sorted(
            position(f"{node.name}/{number}") << 32 | index
            for index, node in enumerate(self.nodes)
            for number in range(max(1, round(TOKENS_PER_WEIGHT * node.weight)))
        )
        ids = [node.id for node in self.nodes]
        self._positions = [token >> 32 for token in tokens]
        self._owners = [ids[token & 0xFFFFFFFF] for token in tokens]

    def clockwise(self, place: int) -> list[NodeId]:
        """All nodes in the order in which they are met clockwise from `place`."""
        return list(self.walk(place))

    def walk(self, place: int) -> Iterator[NodeId]:
        """The same one by one: the first few cost little, the last ones much."""
        start = bisect_left(self._positions, place)
        owners = self._owners
        met: set[NodeId] = set()
        for at in chain(range(start, len(owners)), range(start)):
            owner = owners[at]
            if owner not in met:
                met.add(owner)
                yield owner
                if len(met) == len(self.nodes):
                    return

    def tokens(self) -> list[tuple[int, NodeId]]:
        """Position and node of every token, in ring order."""
        return list(zip(self._positions, self._owners, strict=True))


class Preference:
    """One shard's order of preference, walked only as far as it is asked for.

    _walk   the rest of the order
    _ranks  place in the order of each node met so far. A dict, so it lists them in order
    """

    __slots__ = ("_ranks", "_walk")

    def __init__(self, order: Iterator[NodeId]) -> None:
        self._walk = order
        self._ranks: dict[NodeId, int] = {}

    def __iter__(self) -> Iterator[NodeId]:
        """All nodes, the most preferred first."""
        yield from list(self._ranks)
        for node in self._walk:
            self._ranks[node] = len(self._ranks)
            yield node

    def rank(self, node: NodeId) -> int:
        """How many nodes are preferred to this one."""
        while node not in self._ranks:
            self._ranks[next(self._walk)] = len(self._ranks)
        return self._ranks[node]
