"""Giving shards to nodes: from nothing, or from what is, moving as little as possible.

First every replica whose node is still there stays. Missing ones go to the first nodes in the ring's
order that have room. Then chains of hand-overs bring every node within its bounds, and choose the
preferred leaders in the same way. Everything follows from the arguments alone; the order in which nodes
are listed does not matter.
"""

from collections.abc import Sequence

from quoit.base.check import invariant
from quoit.base.ids import NodeId
from quoit.placement.chain import Chain, level
from quoit.placement.leaders import choose_leaders
from quoit.placement.ring import NodeInfo, Preference, Ring, position
from quoit.placement.shares import Shares

__all__ = ["assign"]

Replicas = tuple[NodeId, ...]


def assign(
    names: Sequence[str],
    nodes: Sequence[NodeInfo],
    replication_factor: int,
    previous: Sequence[Replicas] | None = None,
) -> list[Replicas]:
    """The replicas of each named shard, the preferred leader first.

    `previous` is what each shard has now; without it, all is placed anew.
    """
    before = [()] * len(names) if previous is None else previous
    invariant(len(before) == len(names), "a previous placement for each shard")
    shares = Shares.of(nodes, len(names), replication_factor)
    ring = Ring(nodes)
    orders = [Preference(ring.walk(position(name))) for name in names]
    placing = _Placing(shares, orders, before, replication_factor)
    placing.keep()
    placing.fill()
    placing.level()
    return choose_leaders(shares.leaders, before, placing.replicas)


class _Placing:
    """A placement while it is made. Shards are numbered 0, 1, 2...

    shares    what each node should hold
    orders    each shard's nodes in order of preference
    members   zone -> its nodes
    before    each shard's replicas in the previous placement
    factor    replicas that each shard shall have
    replicas  each shard's replicas now. Invariant: distinct, and no zone above its maximum
    held      node -> its shards. Invariant: mirrors `replicas`
    fresh     node -> those of its shards that it did not have before, so moving them on is free
    vacated   node -> shards that it had before and has no longer, so giving them back is free
    """

    __slots__ = (
        "before",
        "factor",
        "fresh",
        "held",
        "members",
        "orders",
        "replicas",
        "shares",
        "vacated",
    )

    def __init__(
        self,
        shares: Shares,
        orders: Sequence[Preference],
        before: Sequence[Replicas],
        factor: int,
    ) -> None:
        self.shares = shares
        self.orders = orders
        self.members: dict[str, set[NodeId]] = {zone: set() for zone in shares.zone_max}
        for node, zone in shares.zone_of.items():
            self.members[zone].add(node)
        self.before = before
        self.factor = factor
        self.replicas: list[list[NodeId]] = [[] for _ in orders]
        self.held: dict[NodeId, dict[int, None]] = {node: {} for node in shares.zone_of}
        self.fresh: dict[NodeId, dict[int, None]] = {node: {} for node in shares.zone_of}
        self.vacated: dict[NodeId, dict[int, None]] = {node: {} for node in shares.zone_of}

    def keep(self) -> None:
        """Take over what may stay; of what is too much, the fullest nodes' replicas go."""
        for shard, previous in enumerate(self.before):
            for node in previous:
                if node in self.held:
                    self._add(shard, node)
        for shard, replicas in enumerate(self.replicas):
            while surplus := self._surplus(shard):
                high = self.shares.replicas.high
                last = {node: -place for place, node in enumerate(replicas)}
                self._remove(
                    shard,
                    min(surplus, key=lambda n: (high[n] - len(self.held[n]), last[n])),
                )

    def _surplus(self, shard: int) -> list[NodeId]:
        """Replicas one of which must go: those of a zone that has too many, or any."""
        replicas = self.replicas[shard]
        zone_of, zone_max = self.shares.zone_of, self.shares.zone_max
        zones = [zone_of[node] for node in replicas]
        for zone in zones:
            if zones.count(zone) > zone_max[zone]:
                return [node for node in replicas if zone_of[node] == zone]
        return list(replicas) if len(replicas) > self.factor else []

    def fill(self) -> None:
        """Give each shard the replicas it misses, by its order of preference.

        A node takes replicas up to its high bound as long as enough will be left for those below
        their low bound, which saves chains later. A shard that finds no such node overfills its
        first choice; `level` mends that, because it can hand over something else.
        """
        low, high = self.shares.replicas.low, self.shares.replicas.high
        missing = sum(self.factor - len(replicas) for replicas in self.replicas)
        reserved = sum(max(0, low[node] - len(held)) for node, held in self.held.items())
        for shard, replicas in enumerate(self.replicas):
            while len(replicas) < self.factor:
                node = self._first_choice(shard, high if missing > reserved else low)
                reserved -= len(self.held[node]) < low[node]
                missing -= 1
                self._add(shard, node)

    def _first_choice(self, shard: int, bound: dict[NodeId, int]) -> NodeId:
        """The most preferred node that the rules allow: below `bound`, else below its high bound, else
        any."""
        high = self.shares.replicas.high
        below_high = allowed = 0
        for node in self.orders[shard]:
            held = len(self.held[node])
            if held >= bound[node] and (below_high or (allowed and held >= high[node])):
                continue
            if not self._fits(shard, node):
                continue
            if held < bound[node]:
                return node
            if held < high[node]:
                below_high = node
            allowed = allowed or node
        return below_high or allowed

    def level(self) -> None:
        """Bring all nodes within their bounds."""
        level(
            self.shares.replicas,
            lambda node: len(self.held[node]),
            self._reachable,
            self._handover,
            self._apply,
        )

    def _reachable(
        self, source: NodeId, among: set[NodeId], chain: Chain, free: bool
    ) -> set[NodeId]:
        """Those for which `_handover` finds a shard; whole zones at a time, which is what makes large
        clusters fast."""
        zone_of, members = self.shares.zone_of, self.members
        zone = zone_of[source]
        crossing = {shard for shard, a, b in chain if zone_of[a] != zone_of[b]}
        left = set(among)
        if free:
            for shard in self.held[source]:
                for node in self.before[shard]:
                    if node in left and shard in self.vacated[node]:
                        if zone_of[node] == zone or (
                            shard not in crossing and self._fits(shard, node)
                        ):
                            left.discard(node)
        for shard in self.fresh[source] if free else self.held[source]:
            if not left:
                break
            replicas = self.replicas[shard]
            if shard in crossing:
                left -= (left & members[zone]).difference(replicas)
                continue
            zones = [zone_of[node] for node in replicas]
            most = self.shares.zone_max
            kept = left.intersection(replicas)
            for one in dict.fromkeys(zones):
                if one != zone and zones.count(one) >= most[one]:
                    kept |= left & members[one]
            left = kept
        return among - left

    def _handover(self, source: NodeId, target: NodeId, chain: Chain, free: bool) -> int | None:
        """The shard to hand over: rather where the source only follows, rather one that prefers the
        target."""
        zone_of = self.shares.zone_of
        same_zone = zone_of[source] == zone_of[target]
        crossing = [shard for shard, a, b in chain if zone_of[a] != zone_of[b]]
        best: tuple[bool, int, int] | None = None
        held = self.held[source]
        vacated = [shard for shard in self.vacated[target] if shard in held]
        for shard in (*self.fresh[source], *vacated) if free else held:
            if shard in self.held[target]:
                continue
            # Two hand-overs of one shard in one chain are each right, but not both, if both cross.
            if not same_zone and (shard in crossing or not self._fits(shard, target)):
                continue
            leads = self.before[shard][:1] == (source,)
            key = (leads, self.orders[shard].rank(target), shard)
            if best is None or key < best:
                best = key
        return None if best is None else best[-1]

    def _apply(self, chain: Chain) -> None:
        for shard, source, target in chain:
            self._remove(shard, source)
            self._add(shard, target)

    def _fits(self, shard: int, node: NodeId) -> bool:
        """Whether the shard may have one more replica there, by node and by zone."""
        zone_of = self.shares.zone_of
        zone = zone_of[node]
        taken = 0
        for other in self.replicas[shard]:
            if other == node:
                return False
            taken += zone_of[other] == zone
        return taken < self.shares.zone_max[zone]

    def _add(self, shard: int, node: NodeId) -> None:
        self.replicas[shard].append(node)
        self.held[node][shard] = None
        if node in self.before[shard]:
            self.vacated[node].pop(shard, None)
        else:
            self.fresh[node][shard] = None

    def _remove(self, shard: int, node: NodeId) -> None:
        self.replicas[shard].remove(node)
        del self.held[node][shard]
        if node in self.before[shard]:
            self.vacated[node][shard] = None
        else:
            del self.fresh[node][shard]
