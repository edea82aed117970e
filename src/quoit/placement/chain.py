"""Levelling loads by chains of hand-overs, the cheapest first.

Where a node is above its bounds and another below, one hand-over between them may be impossible (the
other holds all of those shards already, or its zone does), but a chain is not: a to b of one shard,
b to c of another. Such a chain is an augmenting path in a network; taking the cheapest first keeps the sum
cheap (Edmonds and Karp, *Theoretical Improvements in Algorithmic Efficiency for Network Flow
Problems*, JACM 1972, part 1). Handing over again what is being handed over anyway is free, and so is
handing over to who had it before.

Deviation: undoing a hand-over counts as free, not as a gain, so the sum need not be the least
possible. The tests compare it with an exact solution.
"""

from collections.abc import Callable, Sequence
from typing import TypeAlias

from quoit.base.errors import InvariantViolated
from quoit.base.ids import NodeId
from quoit.placement.shares import Bounds

__all__ = ["Chain", "Handover", "Reachable", "level"]

Chain: TypeAlias = list[tuple[int, NodeId, NodeId]]
"""Hand-overs (number of the shard, from, to), each beginning where the one before ends."""

Handover: TypeAlias = Callable[[NodeId, NodeId, Chain, bool], int | None]
"""The best shard to hand over from one node to another after a chain; None if there is none. The
last argument asks for free ones only."""

Reachable: TypeAlias = Callable[[NodeId, set[NodeId], Chain, bool], set[NodeId]]
"""Of the given nodes, those for which `Handover` would find a shard from the first node."""


def level(
    bounds: Bounds,
    load: Callable[[NodeId], int],
    reachable: Reachable,
    handover: Handover,
    apply: Callable[[Chain], None],
) -> None:
    """Apply chains until all loads are within `bounds`, or no chain brings them nearer."""
    nodes = list(bounds.low)
    while True:
        above = {node: load(node) - bounds.high[node] for node in nodes}
        below = {node: bounds.low[node] - load(node) for node in nodes}
        over = _most(nodes, above, 1)
        under = _most(nodes, below, 1)
        if not over and not under:
            return
        spare = [node for node in nodes if below[node] < 0]
        room = [node for node in nodes if above[node] < 0]
        # From where it is too much to where it is too little, else mend one side only.
        for starts, goals in ((over, under), (over, room), (spare, under)):
            chain = (
                _cheapest(nodes, starts, goals, reachable, handover) if starts and goals else None
            )
            if chain is not None:
                apply(chain)
                break
        else:
            return


def _most(nodes: Sequence[NodeId], excess: dict[NodeId, int], least: int) -> list[NodeId]:
    """The nodes with at least that excess, the greatest first."""
    found = [node for node in nodes if excess[node] >= least]
    return sorted(found, key=lambda node: (-excess[node], node))


def _cheapest(
    nodes: Sequence[NodeId],
    starts: list[NodeId],
    goals: list[NodeId],
    reachable: Reachable,
    handover: Handover,
) -> Chain | None:
    """A chain from any of `starts` to any of `goals` with the fewest hand-overs that are not free."""
    reached: dict[NodeId, Chain] = {start: [] for start in starts}
    unreached = set(nodes).difference(starts)
    steps: dict[
        NodeId, tuple[NodeId, bool]
    ] = {}  # how a node was reached, before its chain is made
    frontier = list(starts)

    def chain_to(node: NodeId) -> Chain:
        """Made when it is needed: most nodes that are reached are never handed on from."""
        if node not in reached:
            source, free = steps[node]
            so_far = reached[source]
            shard = handover(source, node, so_far, free)
            if shard is None:
                raise InvariantViolated("what is reachable can be handed over")
            reached[node] = [*so_far, (shard, source, node)]
        return reached[node]

    def expand(source: NodeId, free: bool) -> tuple[NodeId | None, list[NodeId]]:
        """The first goal that is reached from there, or all nodes that are."""
        found = reachable(source, unreached, chain_to(source), free) if unreached else set()
        steps.update(dict.fromkeys(found, (source, free)))
        unreached.difference_update(found)
        goal = next((goal for goal in goals if goal in found), None) if found else None
        return goal, sorted(found)

    while frontier:
        for source in frontier:  # grows: what is reached for free belongs to the same step
            goal, found = expand(source, True)
            if goal is not None:
                return chain_to(goal)
            frontier += found
        ahead: list[NodeId] = []
        for source in frontier:
            goal, found = expand(source, False)
            if goal is not None:
                return chain_to(goal)
            ahead += found
        frontier = ahead
    return None
