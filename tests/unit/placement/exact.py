"""The slow twin: the least number of copies by which a map can be brought within its bounds, as a
flow of least cost (successive shortest paths by Bellman and Ford, each path found anew)."""

from collections.abc import Hashable, Sequence

from quoit.placement.ring import NodeInfo
from quoit.placement.shard_map import ShardMap
from quoit.placement.shares import Shares

Vertex = Hashable
SOURCE, SINK = "source", "sink"
LOW_FIRST = -10_000
"""Cost of a unit below a node's low bound: paid before anything else is."""


class Flow:
    """A network with whole capacities and costs."""

    def __init__(self) -> None:
        self.arcs: list[list[int]] = []
        self.ends: list[tuple[Vertex, Vertex]] = []
        self.leaving: dict[Vertex, list[int]] = {SOURCE: [], SINK: []}

    def add(self, tail: Vertex, head: Vertex, capacity: int, cost: int) -> None:
        for begin, end, room, price in ((tail, head, capacity, cost), (head, tail, 0, -cost)):
            self.leaving.setdefault(begin, []).append(len(self.arcs))
            self.arcs.append([room, price])
            self.ends.append((begin, end))

    def solve(self) -> tuple[int, int]:
        """The greatest flow and its least cost."""
        flow = cost = 0
        while (arrived := self._cheapest()) is not None:
            vertex: Vertex = SINK
            while vertex != SOURCE:
                arc = arrived[vertex]
                self.arcs[arc][0] -= 1
                self.arcs[arc ^ 1][0] += 1
                cost += self.arcs[arc][1]
                vertex = self.ends[arc][0]
            flow += 1
        return flow, cost

    def _cheapest(self) -> dict[Vertex, int] | None:
        distance: dict[Vertex, int] = {SOURCE: 0}
        arrived: dict[Vertex, int] = {}
        waiting: list[Vertex] = [SOURCE]
        for vertex in waiting:
            for arc in self.leaving[vertex]:
                head = self.ends[arc][1]
                length = distance[vertex] + self.arcs[arc][1]
                if self.arcs[arc][0] > 0 and (head not in distance or length < distance[head]):
                    distance[head], arrived[head] = length, arc
                    waiting.append(head)
        return arrived if SINK in distance else None


def copies_least(before: ShardMap, nodes: Sequence[NodeInfo], replication_factor: int) -> int:
    """The least number of replicas to copy, by every rule that the placement keeps."""
    shares = Shares.of(nodes, len(before.shards), replication_factor)
    flow = Flow()
    for shard in before.shards:
        flow.add(SOURCE, ("shard", shard.id), replication_factor, 0)
        for zone, most in shares.zone_max.items():
            flow.add(("shard", shard.id), ("zone", shard.id, zone), most, 0)
        for node, zone in shares.zone_of.items():
            flow.add(("zone", shard.id, zone), ("node", node), 1, node not in shard.replicas)
    for node in shares.zone_of:
        low, high = shares.replicas.low[node], shares.replicas.high[node]
        flow.add(("node", node), SINK, low, LOW_FIRST)
        flow.add(("node", node), SINK, high - low, 0)
    units, cost = flow.solve()
    assert units == len(before.shards) * replication_factor
    return cost - LOW_FIRST * sum(shares.replicas.low.values())
