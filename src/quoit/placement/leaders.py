"""Which of a shard's replicas should lead it.

A preferred leader that still holds its shard stays; the others are the first replica whose node leads
less than its share rounded up. Chains of hand-overs do the rest: leading costs no move of data.
"""

from collections.abc import Sequence

from quoit.base.ids import NodeId
from quoit.placement.chain import Chain, level
from quoit.placement.shares import Bounds

__all__ = ["choose_leaders"]


def choose_leaders(
    bounds: Bounds, before: Sequence[Sequence[NodeId]], placed: Sequence[Sequence[NodeId]]
) -> list[tuple[NodeId, ...]]:
    """The replicas in `placed`, each shard's preferred leader first."""
    leads: dict[NodeId, dict[int, None]] = {node: {} for node in bounds.high}
    orphans = []
    for shard, replicas in enumerate(placed):
        was = before[shard][:1]
        if was and was[0] in replicas:
            leads[was[0]][shard] = None
        else:
            orphans.append(shard)
    for shard in orphans:
        with_room = [n for n in placed[shard] if len(leads[n]) < bounds.high[n]]
        leads[(with_room or placed[shard])[0]][shard] = None

    def handover(source: NodeId, target: NodeId, chain: Chain, free: bool) -> int | None:
        # Rather to a replica that was there before: a new one must catch up first.
        found = [
            shard
            for shard in leads[source]
            if target in placed[shard] and not (free and source in before[shard][:1])
        ]
        return min(found, key=lambda shard: (target not in before[shard], shard), default=None)

    def reachable(source: NodeId, among: set[NodeId], chain: Chain, free: bool) -> set[NodeId]:
        return {
            target
            for shard in leads[source]
            if not (free and source in before[shard][:1])
            for target in placed[shard]
            if target in among
        }

    def apply(chain: Chain) -> None:
        for shard, source, target in chain:
            del leads[source][shard]
            leads[target][shard] = None

    level(bounds, lambda node: len(leads[node]), reachable, handover, apply)
    leader_of = {shard: node for node, shards in leads.items() for shard in shards}
    return [
        (leader_of[shard], *(node for node in replicas if node != leader_of[shard]))
        for shard, replicas in enumerate(placed)
    ]
