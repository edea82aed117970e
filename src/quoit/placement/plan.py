"""What a change of nodes would do: the steps in a safe order, their bytes, and the least there could be.

A step first adds a replica, waits until it has caught up, and only then removes the one that it
replaces, so no shard goes below the replicas that it has. Shards that miss replicas (their node is gone)
come first, those that miss most before the others. The rest alternates between the nodes that receive, so
that none of them receives everything at once. The order follows from the arguments alone.
"""

from collections.abc import Mapping, Sequence

import msgspec

from quoit.base.check import invariant
from quoit.base.ids import NodeId, ShardId
from quoit.placement.moves import moves_between, moves_lost, moves_min
from quoit.placement.ring import NodeInfo
from quoit.placement.shard_map import ShardMap

__all__ = ["Plan", "Step", "plan", "revert"]


class Step(msgspec.Struct, frozen=True):
    """Add `add` to the shard, wait until it has caught up, then remove `remove`.

    add     0 if the shard only loses a replica
    remove  0 if the shard only gains one
    bytes   what is copied; 0 without `add`
    """

    shard: ShardId
    add: NodeId
    remove: NodeId
    bytes: int


class Plan(msgspec.Struct, frozen=True):
    """The way from one map to another.

    steps       in an order that never takes a replica before another has replaced it
    leaders     shard -> its new preferred leader, where that changes. Copies nothing
    copies      replicas to copy
    copies_min  no map with these nodes within their bounds copies fewer
    bytes       to copy
    bytes_min   no map with these nodes within their bounds copies less
    """

    before: ShardMap
    after: ShardMap
    steps: tuple[Step, ...]
    leaders: dict[ShardId, NodeId]
    copies: int
    copies_min: int
    bytes: int
    bytes_min: int


def plan(
    before: ShardMap,
    nodes: Sequence[NodeInfo],
    replication_factor: int,
    sizes: Mapping[ShardId, int],
) -> Plan:
    """The plan that brings `before` to `nodes` as they shall be.

    A node of weight 0 is drained: it gives away all it holds but is alive until then. A node that is
    not listed is gone: what it held is missing. `sizes` gives bytes of one replica by shard; a
    shard that is not in it counts as empty.
    """
    after = before.rebalance(nodes, replication_factor)
    alive = {node.id for node in nodes}
    least = moves_min(before, nodes, replication_factor)
    lost = moves_lost(before, nodes, replication_factor)
    forced = sum(count * sizes.get(shard, 0) for shard, count in lost.items())
    per_replica = sorted(
        sizes.get(shard.id, 0) for shard in before.shards for _ in range(replication_factor)
    )
    steps = _steps(before, after, alive, sizes)
    return Plan(
        before,
        after,
        steps,
        _leaders(before, after),
        sum(1 for step in steps if step.add),
        least,
        sum(step.bytes for step in steps),
        max(forced, sum(per_replica[:least])),
    )


def revert(
    done: Plan, current: ShardMap, alive: Sequence[NodeId], sizes: Mapping[ShardId, int]
) -> Plan:
    """The plan back to the map before `done`, from the one there is now (done wholly or in part).

    All nodes of the map before must be among `alive`. Copies and bytes are those that this way back
    needs, and also its minimum: the map at its end is given.
    """
    wanted = {node for shard in done.before.shards for node in shard.replicas}
    invariant(wanted <= set(alive), "the nodes to go back to are alive", gone=wanted - set(alive))
    after = ShardMap.of(done.before.shards, current.epoch + 1)
    steps = _steps(current, after, set(alive), sizes)
    copies = sum(1 for step in steps if step.add)
    size = sum(step.bytes for step in steps)
    return Plan(current, after, steps, _leaders(current, after), copies, copies, size, size)


def _leaders(before: ShardMap, after: ShardMap) -> dict[ShardId, NodeId]:
    pairs = zip(before.shards, after.shards, strict=True)
    return {new.id: new.replicas[0] for old, new in pairs if old.replicas[0] != new.replicas[0]}


def _steps(
    before: ShardMap, after: ShardMap, alive: set[NodeId], sizes: Mapping[ShardId, int]
) -> tuple[Step, ...]:
    """The moves in their order. Within a shard, the dead are replaced before the living."""
    adds: dict[ShardId, list[NodeId]] = {}
    removes: dict[ShardId, list[NodeId]] = {}
    for move in moves_between(before, after):
        adds.setdefault(move.shard, [])
        removes.setdefault(move.shard, [])
        if move.target:
            adds[move.shard].append(move.target)
        if move.source:
            removes[move.shard].append(move.source)
    keyed: list[tuple[tuple[int, int, int, ShardId], Step]] = []
    received: dict[NodeId, int] = {}
    for old, new in zip(before.shards, after.shards, strict=True):
        come = adds.get(new.id, [])
        gone = sorted(removes.get(new.id, []), key=lambda node: (node in alive, node))
        living = sum(node in alive for node in old.replicas)
        for number in range(max(len(come), len(gone))):
            add = come[number] if number < len(come) else 0
            remove = gone[number] if number < len(gone) else 0
            missing = max(0, len(new.replicas) - living) if add else 0
            living += bool(add) - (remove in alive)
            # The last: removals alone, once all that is to be added has been.
            turn = received.get(add, 0) if add else len(before.shards)
            received[add] = turn + 1
            step = Step(new.id, add, remove, sizes.get(new.id, 0) if add else 0)
            keyed.append(((-missing, turn, number, new.id), step))
    return tuple(step for _, step in sorted(keyed, key=lambda pair: pair[0]))
