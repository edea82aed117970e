"""Plans for the cluster as it is: what a job would do, made from the members that there are."""

import msgspec

from quoit.node.cluster.changes import BeginJob, Change, Guarded, NotYet, PlaceShards, Refused
from quoit.node.cluster.observed import Observed, actual, fingerprint, members_now
from quoit.node.cluster.state import (
    DEAD,
    DECOMMISSIONING,
    ClusterState,
    Job,
    holders,
)
from quoit.placement.plan import Plan, Step, plan, revert
from quoit.placement.shard_map import ShardMap, ShardRange

__all__ = ["begin_plan", "begin_revert", "kept", "preview"]


def preview(state: ClusterState, seen: Observed) -> Plan:
    """What would be done now. Refused: nothing can be planned, and why.

    No plan takes a replica away, be its node dead, if the shard would have fewer than the replication
    factor and no other node takes its place: with two nodes left of three, the third one's replicas
    stay on the list until there is another node, or the factor is lowered.
    """
    _ready(state, seen)
    nodes = holders(state)
    if not nodes:
        raise Refused("no node can hold replicas: none is live")
    factor = state.settings.replication_factor
    before = ShardMap.of(actual(state, seen), state.epoch)
    found = plan(before, nodes, min(factor, len(nodes)), seen.sizes)
    return _with_learners(_without_losses(found, factor), state, seen)


def begin_plan(state: ClusterState, seen: Observed) -> Change:
    """The change that begins what `preview` shows, or only records that there is nothing to do.
    Refused: a job is under way, or nothing can be planned."""
    _idle(state)
    found = preview(state, seen)
    placed_for = fingerprint(state)
    stay = kept(state, found.after)
    if not found.steps and not stay:
        return Guarded(state.version, PlaceShards(found.after.shards, placed_for))
    kind, node = _kind(state, found.before)
    job = _job(kind, node, found)
    if stay:
        job = msgspec.structs.replace(job, log=(*job.log, (0, stay)))
    if stay and not found.steps:
        job = msgspec.structs.replace(job, state="failed", reason=stay)
    return Guarded(state.version, BeginJob(job, found.after.shards, placed_for))


def begin_revert(state: ClusterState, seen: Observed, job: int = 0) -> Change:
    """The change that begins the way back to the shards before `job` (0: the newest one that can be
    gone back on). Refused: there is no such job, its nodes are gone, or shards were split since."""
    _idle(state)
    _ready(state, seen)
    done = state.job(job) if job else _newest(state)
    if done is None:
        raise Refused(f"there is no job {job}" if job else "there is no job to go back on")
    if not done.before:
        raise Refused(f"job {done.id} is too old to go back on: only the newest one can be")
    here = {node.id: node for node in holders(state)}
    gone = sorted({node for shard in done.before for node in shard.replicas} - here.keys())
    if gone:
        names = ", ".join(_name(state, node) for node in gone)
        raise Refused(f"the shards were on {names} before job {done.id}, which cannot hold any now")
    if [_slots(shard) for shard in done.before] != [_slots(shard) for shard in state.shards]:
        raise Refused(f"shards were split since job {done.id}; use: quoit ring plan")
    current = ShardMap.of(actual(state, seen), state.epoch)
    before = ShardMap.of(done.before)
    back = revert(
        Plan(before, current, (), {}, 0, 0, 0, 0), current, sorted(here), seen.sizes
    )  # fmt: skip
    back = _with_learners(back, state, seen)
    what = _job("revert", done.node, back)
    return Guarded(state.version, BeginJob(what, back.after.shards, fingerprint(state)))


def kept(state: ClusterState, after: ShardMap) -> str:
    """What stays where it should not, for people; "" if nothing does."""
    nodes = holders(state)
    allowed = {node.id for node in nodes}
    left: dict[int, int] = {}
    for shard in after.shards:
        for node in shard.replicas:
            if node not in allowed:
                left[node] = left.get(node, 0) + 1
    if not left:
        return ""
    named = ", ".join(f"{_name(state, node)} ({left[node]} shards)" for node in sorted(left))
    factor = state.settings.replication_factor
    return (
        f"replicas stay on {named}: {len(nodes)} other nodes cannot hold {factor} of each shard; "
        f"add a node, or lower replication_factor"
    )


def _slots(shard: ShardRange) -> tuple[int, int, int]:
    return shard.id, shard.slot_low, shard.slot_high


def _name(state: ClusterState, number: int) -> str:
    node = state.node(number)
    return node.name if node is not None else f"node {number}"


def _idle(state: ClusterState) -> None:
    running = state.running()
    if running is not None:
        raise Refused(f"job {running.id} ({running.kind}) is under way; wait for it, or cancel it")


def _ready(state: ClusterState, seen: Observed) -> None:
    if not seen.complete:
        raise NotYet("the leaders of some shards have not told their members yet; try again soon")


def _newest(state: ClusterState) -> Job | None:
    return next((job for job in reversed(state.jobs) if job.before and job.steps), None)


def _kind(state: ClusterState, before: ShardMap) -> tuple[str, int]:
    """What the job is about: the first node that holds something and shall not."""
    holding = {node for shard in before.shards for node in shard.replicas}
    for kind, why in (("decommission", DECOMMISSIONING), ("rebuild", DEAD)):
        for node in state.nodes:
            if node.state == why and node.id in holding:
                return kind, node.id
    return "rebalance", 0


def _job(kind: str, node: int, found: Plan) -> Job:
    text = (
        f"{kind}: {len(found.steps)} steps, {found.copies} copies (at least {found.copies_min}), "
        f"{found.bytes} bytes (at least {found.bytes_min})"
    )
    return Job(
        id=0, kind=kind, node=node, steps=found.steps, copies=found.copies,
        copies_min=found.copies_min, bytes=found.bytes, bytes_min=found.bytes_min, log=((0, text),),
    )  # fmt: skip


def _without_losses(found: Plan, factor: int) -> Plan:
    """The plan without steps that only take away what is needed to have `factor` replicas."""
    count = {shard.id: len(shard.replicas) for shard in found.before.shards}
    stay: dict[int, list[int]] = {}
    steps = []
    for step in found.steps:
        if step.remove and not step.add and count[step.shard] <= factor:
            stay.setdefault(step.shard, []).append(step.remove)
            continue
        count[step.shard] += bool(step.add) - bool(step.remove)
        steps.append(step)
    if not stay:
        return found
    shards = tuple(
        ShardRange(
            one.id, one.slot_low, one.slot_high, (*one.replicas, *stay.get(one.id, ()))
        )
        for one in found.after.shards
    )  # fmt: skip
    after = ShardMap.of(shards, found.after.epoch)
    return msgspec.structs.replace(found, steps=tuple(steps), after=after)


def _with_learners(found: Plan, state: ClusterState, seen: Observed) -> Plan:
    """Learners that an interrupted operation left behind, and which are not to stay, go first."""
    wanted = {shard.id: shard.replicas for shard in found.after.shards}
    gone = [
        Step(shard.id, 0, node, 0)
        for shard in state.shards
        for node in members_now(shard, seen).learners
        if node not in wanted[shard.id]
    ]
    return msgspec.structs.replace(found, steps=(*gone, *found.steps)) if gone else found
