"""What the leader of the meta shard sees of the cluster: what is, beside the record of what shall be."""

import msgspec

from quoit.node.cluster.messages import Ask, Load
from quoit.node.cluster.state import ClusterState, holders
from quoit.placement.plan import Step
from quoit.placement.shard_map import ShardRange
from quoit.quorum.members import Members

__all__ = [
    "Observed", "ShardSeen", "actual", "fingerprint", "is_done", "members_now",
    "request_for",
]  # fmt: skip


class ShardSeen(msgspec.Struct, frozen=True):
    """A shard as its leader told.

    index      of the entry that made these the members
    operation  what is being changed there now
    bytes      estimate of one replica
    ops        commands a second
    """

    members: Members
    index: int = 0
    leader: int = 0
    operation: Ask | None = None
    keys: int = 0
    bytes: int = 0
    ops: float = 0.0


class Observed(msgspec.Struct, frozen=True, kw_only=True):
    """One look at everything.

    complete   every shard was heard of, or nobody can have led it for long
    shards     shard -> what its leader told newest, the meta shard included
    silent     shards of which nobody has told anything for long: they have no leader
    loads      node -> how it is
    connected  nodes that this one is connected to, and itself
    away_us    node -> for how long it has been unreachable
    hot_us     node -> for how long it has been saturated
    asked      shard -> what this leader has asked for and not heard the end of
    waits      shard -> what the operation there waits for
    barred     shard -> why it is not asked again yet: the last attempt failed
    quiet_us   for how long no members have changed and nothing has been under way
    moved      bytes copied for the job under way
    cooled     shards whose preferred leader was changed a short while ago
    may_cool   the last change of a preferred leader is long enough ago
    """

    complete: bool = False
    shards: dict[int, ShardSeen] = {}
    silent: frozenset[int] = frozenset()
    loads: dict[int, Load] = {}
    connected: frozenset[int] = frozenset()
    away_us: dict[int, int] = {}
    hot_us: dict[int, int] = {}
    asked: dict[int, Ask] = {}
    waits: dict[int, str] = {}
    barred: dict[int, str] = {}
    quiet_us: int = 0
    moved: int = 0
    cooled: frozenset[int] = frozenset()
    may_cool: bool = False

    @property
    def sizes(self) -> dict[int, int]:
        """Shard -> bytes of one replica."""
        return {shard: seen.bytes for shard, seen in self.shards.items()}

    def under_way(self) -> dict[int, Ask]:
        """Shard -> what is being changed, whoever asked for it."""
        running = {
            shard: seen.operation
            for shard, seen in self.shards.items()
            if seen.operation is not None and shard not in self.silent
        }
        return running | self.asked


def members_now(shard: ShardRange, seen: Observed) -> Members:
    """Who keeps the shard; where it shall be if nobody has told."""
    told = seen.shards.get(shard.id)
    return told.members if told is not None else Members(shard.replicas)


def actual(state: ClusterState, seen: Observed) -> tuple[ShardRange, ...]:
    """The shards with those who vote in them now, in the recorded order of preference."""
    found = []
    for shard in state.shards:
        voters = members_now(shard, seen).voters
        order = [node for node in shard.replicas if node in voters]
        order += [node for node in voters if node not in order]
        found.append(ShardRange(shard.id, shard.slot_low, shard.slot_high, tuple(order)))
    return tuple(found)


def fingerprint(state: ClusterState) -> str:
    """What a plan is made for: the nodes that hold replicas, how many there are of each, the shards."""
    nodes = ",".join(f"{one.id}:{one.zone}:{one.weight:g}" for one in holders(state))
    ids = _ranges(sorted(shard.id for shard in state.shards))
    return f"factor={state.settings.replication_factor} nodes={nodes} shards={ids}"


def _ranges(ids: list[int]) -> str:
    """0-7,9: a thousand shards' ids are still short."""
    parts: list[list[int]] = []
    for one in ids:
        if parts and parts[-1][1] == one - 1:
            parts[-1][1] = one
        else:
            parts.append([one, one])
    return ",".join(f"{low}-{high}" if low != high else str(low) for low, high in parts)


def is_done(step: Step, members: Members) -> bool:
    """The members are as the step wants them: this, and no diary, says that it is finished."""
    added = not step.add or step.add in members.voters
    return added and (not step.remove or step.remove not in members.everyone)


def request_for(step: Step, told: ShardSeen) -> Ask:
    """What is left to ask for. The step is not done."""
    members, index = told.members, told.index
    if step.add and step.add not in members.voters:
        if step.remove and step.remove in members.everyone:
            return Ask("move", step.shard, step.add, step.remove, index)
        return Ask("add-replica", step.shard, step.add, 0, index)
    return Ask("remove-replica", step.shard, step.remove, 0, index)
