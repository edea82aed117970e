"""The rebalancer's decisions: from what shall be and what is, the next change and the next requests.

Nothing is remembered here, and nothing needs to be: a step is done when the members say so, a job ends
when its steps are done, a plan is due when it was made for other nodes than there are. So a leader of the
meta shard that has just begun decides as the one before it would have.
"""

from functools import lru_cache

import msgspec

from quoit.node.cluster.changes import (
    Change,
    EndJob,
    Guarded,
    PlaceShards,
    Plain,
    Progress,
    SetState,
)
from quoit.node.cluster.messages import Ask
from quoit.node.cluster.observed import (
    Observed,
    ShardSeen,
    actual,
    fingerprint,
    is_done,
    members_now,
    request_for,
)
from quoit.node.cluster.planning import begin_plan, begin_revert, kept, preview
from quoit.node.cluster.state import (
    DEAD,
    DECOMMISSIONING,
    HOLDERS,
    LIVE,
    META_SHARD,
    REMOVED,
    ClusterState,
    Job,
    holders,
)
from quoit.placement.assign import assign
from quoit.placement.plan import Step
from quoit.placement.ring import NodeInfo
from quoit.placement.shard_map import ShardRange, shard_name
from quoit.quorum.members import Members

__all__ = [
    "KINDS", "Decision", "begin_plan", "begin_revert", "decide", "kept", "preferred_leader", "preview",
]  # fmt: skip

KINDS = ("rebalance", "decommission", "rebuild", "revert")
"""Jobs that are done here; others (split, merge) are somebody else's."""
HOT_US = 10_000_000
"""A node must have been saturated for so long before a leadership moves away."""
_QUIET_US = 5_000_000
"""Members that somebody changed by hand are taken over after so long."""
_PROGRESS_BYTES = 16 * 1024 * 1024


class Decision(msgspec.Struct):
    """What is to be done now. `why`: what holds up the job or the plan, for people; `cooled`: the shard
    that the change takes from a hot leader, -1 for none."""

    change: Change | None = None
    requests: list[Ask] = []
    why: list[str] = []
    cooled: int = -1

    def propose(self, state: ClusterState, change: Plain) -> None:
        """One change at a time, and only to the state that was looked at."""
        if self.change is None:
            self.change = Guarded(state.version, change)


def decide(state: ClusterState, seen: Observed) -> Decision:
    """The next change, if any, and the operations to ask for."""
    out = Decision(None, [], [])
    if not state.nodes:
        return out
    _declare_dead(state, seen, out)
    if not seen.complete:
        out.why.append("some shards' leaders have not told their members yet")
        return out
    _tend_meta(state, seen, out)
    job = state.running()
    if job is None:
        _idle(state, seen, out)
    elif job.kind in KINDS:
        _work(state, seen, job, out)
    _cool(state, seen, out)
    return out


def preferred_leader(state: ClusterState, shard: int, members: Members, up: set[int]) -> int:
    """Who should lead the shard: the first of its replicas that votes, is `up`, and may lead by its state;
    if there is none, the first such voter, then the first voter. The meta shard's order is its
    members'."""
    recorded = state.shard(shard)
    order = (*(recorded.replicas if recorded is not None else ()), *members.voters)
    barred = {node.id for node in state.nodes if node.state != LIVE}
    for node in order:
        if node in members.voters and node in up and node not in barred:
            return node
    return next((node for node in members.voters if node not in barred), members.voters[0])


# Nodes


def _declare_dead(state: ClusterState, seen: Observed, out: Decision) -> None:
    """Unreachable is not dead: only after dead_after_s, and only while most nodes are there, or it is
    rather this one that is cut off."""
    holding = [node for node in state.nodes if node.state in HOLDERS]
    there = sum(node.id in seen.connected for node in holding)
    if 2 * there < len(holding) or len(holding) < 2:
        return
    for node in holding:
        away = seen.away_us.get(node.id, 0)
        if node.id not in seen.connected and away >= state.settings.dead_after_s * 1_000_000:
            out.propose(state, SetState(node.id, DEAD))
            return


def _remove_empty(state: ClusterState, seen: Observed, out: Decision) -> None:
    """A decommissioned node that holds nothing any more is removed."""
    going = [node.id for node in state.nodes if node.state == DECOMMISSIONING]
    if not going or META_SHARD not in seen.shards:
        return
    occupied = {node for told in seen.shards.values() for node in told.members.everyone}
    occupied |= {node for shard in state.shards for node in shard.replicas}
    occupied |= {node for ask in seen.under_way().values() for node in (ask.node, ask.source)}
    for node in going:
        if node not in occupied:
            out.propose(state, SetState(node, REMOVED))
            return


# Without a job


def _idle(state: ClusterState, seen: Observed, out: Decision) -> None:
    _remove_empty(state, seen, out)
    if out.change is not None or state.splits:
        return
    under_way = [shard for shard in seen.under_way() if shard != META_SHARD]
    due = fingerprint(state) != state.placed_for
    if due and (state.settings.rebalance or _leaving(state, seen)) and holders(state):
        if under_way:
            out.why.append(f"an operation on shard {under_way[0]} is under way")
        else:
            out.change = begin_plan(state, seen)
        return
    if under_way or seen.quiet_us < _QUIET_US:
        return
    found = actual(state, seen)
    if any(set(one.replicas) != set(other.replicas) for one, other in _pairs(found, state.shards)):
        out.propose(state, PlaceShards(found))
        return
    for shard in state.shards:
        told = seen.shards.get(shard.id)
        for node in told.members.learners if told is not None else ():
            if told is not None and not _held_up(shard.id, told, seen, out):
                ask = Ask("remove-replica", shard.id, node, 0, told.index)
                out.requests.append(ask)
                return


def _pairs(
    one: tuple[ShardRange, ...], other: tuple[ShardRange, ...]
) -> list[tuple[ShardRange, ShardRange]]:
    return list(zip(one, other, strict=True))


def _leaving(state: ClusterState, seen: Observed) -> bool:
    """A node holds replicas that somebody has told to go: that was asked for."""
    leaving = {node.id for node in state.nodes if node.state == DECOMMISSIONING}
    return any(leaving & set(members_now(shard, seen).voters) for shard in state.shards)


# A job


def _work(state: ClusterState, seen: Observed, job: Job, out: Decision) -> None:
    left: list[tuple[int, Step]] = []
    done: list[tuple[int, Step]] = []
    finished = set(job.done)
    for number, step in enumerate(job.steps):
        if number not in finished:
            told = seen.shards.get(step.shard)
            ended = told is not None and is_done(step, told.members)
            (done if ended else left).append((number, step))
    moved = max(seen.moved, job.moved)
    if done:
        lines = tuple(_line(number, step, job) for number, step in done)
        out.propose(state, Progress(job.id, tuple(number for number, _ in done), moved, lines))
    elif not left:
        out.propose(state, EndJob(job.id, "done"))
    if fingerprint(state) != state.placed_for:
        _supersede(state, seen, job, out)
        return
    if moved - job.moved >= _PROGRESS_BYTES:
        out.propose(state, Progress(job.id, moved=moved))
    _begin_steps(state, seen, left, out)


def _supersede(state: ClusterState, seen: Observed, job: Job, out: Decision) -> None:
    """The nodes or shards have changed since the plan: what is under way ends, the rest is planned anew."""
    shards = {step.shard for step in job.steps} & seen.under_way().keys()
    if shards:
        out.why.append(f"superseded; waits for the operation on shard {min(shards)}")
        return
    reason = "superseded: the nodes or shards have changed; the rest is planned anew"
    out.propose(state, EndJob(job.id, "cancelled", reason, actual(state, seen)))


def _line(number: int, step: Step, job: Job) -> str:
    what = []
    if step.add:
        what.append(f"node {step.add} has a replica")
    if step.remove:
        what.append(f"node {step.remove} has none any more")
    return f"step {number + 1} of {len(job.steps)}: shard {step.shard}: {', '.join(what)}"


def _begin_steps(
    state: ClusterState, seen: Observed, left: list[tuple[int, Step]], out: Decision
) -> None:
    """Ask for what may begin now, in order: one at a time for each shard and each pair of nodes."""
    under_way = {
        shard: ask for shard, ask in seen.under_way().items() if shard != META_SHARD
    }  # fmt: skip
    pairs = {ask.pair for ask in under_way.values()}
    count = len(under_way)
    busy = {*under_way, *(split.shard for split in state.splits)}
    for _, step in left:
        if step.shard in busy:
            continue
        busy.add(step.shard)  # its later steps wait for this one
        if count >= state.settings.rebalance_moves:
            out.why.append(f"{count} operations are under way (rebalance_moves)")
            return
        told = seen.shards.get(step.shard)
        if told is None or step.shard in seen.silent:
            out.why.append(f"shard {step.shard} has no leader")
            continue
        ask = request_for(step, told)
        if ask.pair in pairs or _held_up(step.shard, told, seen, out):
            continue
        if _paused(state, seen, (told.leader, step.add, step.remove), out):
            continue
        if step.add and step.add not in seen.connected and ask.kind != "remove-replica":
            out.why.append(f"node {step.add} is not connected")
            continue
        if ask.kind == "remove-replica" and not _spare(state, seen, ask.node, told.members):
            out.why.append(f"shard {step.shard} has too few replicas that are there")
            continue
        out.requests.append(ask)
        pairs.add(ask.pair)
        count += 1


def _held_up(shard: int, told: ShardSeen, seen: Observed, out: Decision) -> bool:
    """Nobody can be asked now."""
    reason = seen.barred.get(shard, "")
    if not reason and told.leader not in seen.connected:
        reason = f"node {told.leader}, its leader, is not connected"
    if reason:
        out.why.append(f"shard {shard}: {reason}")
    return bool(reason)


def _paused(
    state: ClusterState, seen: Observed, nodes: tuple[int, ...], out: Decision
) -> bool:  # fmt: skip
    """A node that would take part is slow already."""
    limit = state.settings.rebalance_latency_ms * 1000
    for node in nodes:
        load = seen.loads.get(node)
        if node in seen.connected and load is not None and load.worst_us > limit:
            what = "log syncs" if load.sync_us >= load.lag_us else "turns"
            took = load.worst_us // 1000
            out.why.append(
                f"paused: node {node}'s {what} take {took} ms (rebalance_latency_ms is {limit // 1000})"
            )
            return True
    return False


def _spare(state: ClusterState, seen: Observed, node: int, members: Members) -> bool:
    """The replica on `node` can go without leaving fewer that are there than there shall be."""
    if node not in seen.connected or node in members.learners:
        return True
    there = sum(one in seen.connected for one in members.voters if one != node)
    return there >= min(state.settings.replication_factor, len(holders(state)))


# The meta shard


@lru_cache(maxsize=16)
def _meta_target(
    nodes: tuple[NodeInfo, ...], factor: int, voters: tuple[int, ...]
) -> tuple[int, ...]:
    return assign([shard_name(META_SHARD)], nodes, factor, [voters])[0]


def _tend_meta(state: ClusterState, seen: Observed, out: Decision) -> None:
    """The record's own shard: one change at a time towards as many replicas as there shall be."""
    told = seen.shards.get(META_SHARD)
    # Weights are about data; a heavy node is no reason to move the record.
    nodes = tuple(msgspec.structs.replace(node, weight=1.0) for node in holders(state))
    if told is None or not nodes or META_SHARD in seen.under_way():
        return
    factor = state.settings.replication_factor
    voters = told.members.voters
    target = _meta_target(nodes, min(factor, len(nodes)), voters)
    come = [node for node in target if node not in voters]
    gone = sorted(
        (node for node in voters if node not in target), key=lambda one: one in seen.connected
    )
    gone += [node for node in told.members.learners if node not in target]
    if not come and not gone:
        return
    step = Step(META_SHARD, come[0] if come else 0, gone[0] if gone else 0, 0)
    if not come and gone[0] in voters:
        if len(voters) <= factor or not _spare(state, seen, gone[0], told.members):
            return
    if _held_up(META_SHARD, told, seen, out):
        return
    if step.add and step.add not in seen.connected:
        return
    out.requests.append(request_for(step, told))


# Hot leaders


def _cool(state: ClusterState, seen: Observed, out: Decision) -> None:
    """Move the preferred leadership of the busiest shard away from a saturated node, to a replica
    whose node is well below the limit. Only one, then see whether that was enough."""
    if out.change is not None or not seen.may_cool:
        return
    limit = state.settings.rebalance_latency_ms * 1000
    live = {node.id for node in state.nodes if node.state == LIVE}
    leads: dict[int, float] = dict.fromkeys(live, 0.0)
    for told in seen.shards.values():
        leads[told.leader] = leads.get(told.leader, 0.0) + told.ops
    fine = {
        node
        for node in live & seen.connected
        if (load := seen.loads.get(node)) is not None and 2 * load.worst_us < limit
    }
    for hot, since in sorted(seen.hot_us.items(), key=lambda pair: -pair[1]):
        if since < HOT_US:
            continue
        led = [
            shard
            for shard in state.shards
            if (heard := seen.shards.get(shard.id)) is not None
            and heard.leader == hot
            and shard.id not in seen.cooled
            and heard.operation is None
        ]
        for shard in sorted(led, key=lambda one: -seen.shards[one.id].ops):
            voters = seen.shards[shard.id].members.voters
            heirs = [node for node in shard.replicas if node in fine and node in voters]
            if heirs:
                heir = min(heirs, key=lambda node: (leads[node], node))
                out.cooled = shard.id
                out.propose(state, PlaceShards(_preferring(state.shards, shard.id, heir)))
                return


def _preferring(
    shards: tuple[ShardRange, ...], which: int, leader: int
) -> tuple[ShardRange, ...]:  # fmt: skip
    def order(shard: ShardRange) -> ShardRange:
        if shard.id != which:
            return shard
        rest = tuple(node for node in shard.replicas if node != leader)
        return ShardRange(shard.id, shard.slot_low, shard.slot_high, (leader, *rest))

    return tuple(order(shard) for shard in shards)
