"""Changes to the cluster's record: what may be changed, and when it may not.

`change_cluster(state, change, now_ms)` gives the next state, or raises Refused with a reason for people.
It is run once, by the leader of the meta shard; a change that would leave everything as it is gives the
same state. Who decides by what it saw (the rebalancer) names the version that it saw in `Guarded`: if
there has been another change since, it is refused, and looks again.
"""

from collections.abc import Callable
from typing import Any

import msgspec

from quoit.node.cluster.fields import unfit_node, unfit_weight, unfit_zone
from quoit.node.cluster.state import (
    DEAD,
    DECOMMISSIONING,
    DRAINING,
    GONE,
    HOLDERS,
    JOBS_MAX,
    JOINING,
    LIVE,
    REMOVED,
    ClusterState,
    Job,
    NodeRecord,
    Settings,
    Split,
)
from quoit.placement.shard_map import ShardRange

__all__ = [
    "AddToken", "BeginJob", "BeginSplit", "Change", "EndJob", "EndSplit", "Found", "Guarded", "Join",
    "NodeSeen", "NotYet", "Plain", "PlaceShards", "Progress", "Refused", "STALE", "SetNode", "SetSettings",
    "SetState", "change_cluster", "decode_change", "encode_change",
]  # fmt: skip

STALE = "the cluster is at version "
"""How the refusal of a Guarded change begins: whoever made it looks again, and makes another."""
_LOG_MAX = 200
_TOKENS_MAX = 100


class Refused(Exception):
    """The change does not fit the state; the message says why and what to do."""


class NotYet(Refused):
    """It will fit soon: ask again."""


class Found(msgspec.Struct, frozen=True, tag="found"):
    """The first record of a cluster: its founders and their shards. Refused if there is one."""

    nodes: tuple[NodeRecord, ...]
    shards: tuple[ShardRange, ...]
    settings: Settings


class Join(msgspec.Struct, frozen=True, tag="join"):
    """A node wants in: `node.id` 0 gets the next free number. `token`: SHA-256 of the one that it showed,
    hexadecimal, or "" where none is needed (the caller decides that)."""

    node: NodeRecord
    token: str = ""


class NodeSeen(msgspec.Struct, frozen=True, tag="seen"):
    """A node is connected and says this of itself: name, addresses, version, zone and weight at its start.
    What is joining becomes live, and what was dead becomes live, empty-handed."""

    node: NodeRecord


class SetState(msgspec.Struct, frozen=True, tag="state"):
    """A node comes into another state."""

    node: int
    state: str


class SetNode(msgspec.Struct, frozen=True, tag="node"):
    """Another zone or weight; None leaves it."""

    node: int
    zone: str | None = None
    weight: float | None = None


class PlaceShards(msgspec.Struct, frozen=True, tag="place"):
    """Where the replicas are to be; adopts what was found if nothing was planned. placed_for: see
    ClusterState; "" leaves it."""

    shards: tuple[ShardRange, ...]
    placed_for: str = ""


class BeginJob(msgspec.Struct, frozen=True, tag="begin"):
    """A job begins (its id and times are given here). shards: the placement that it works for;
    placed_for: see ClusterState."""

    job: Job
    shards: tuple[ShardRange, ...] = ()
    placed_for: str = ""


class Progress(msgspec.Struct, frozen=True, tag="progress"):
    """Steps of a job are finished; lines for its log."""

    job: int
    done: tuple[int, ...] = ()
    moved: int = 0
    log: tuple[str, ...] = ()


class EndJob(msgspec.Struct, frozen=True, tag="end"):
    """A job is over. shards: where the replicas are now, if not where it wanted them."""

    job: int
    state: str
    reason: str = ""
    shards: tuple[ShardRange, ...] = ()


class BeginSplit(msgspec.Struct, frozen=True, tag="split"):
    """Split a shard; its child gets the next free id. at: the first slot of the child; 0: the middle."""

    shard: int
    at: int = 0


class EndSplit(msgspec.Struct, frozen=True, tag="split-end"):
    """The shard's log has it (done), or it will not be."""

    shard: int
    done: bool


class SetSettings(msgspec.Struct, frozen=True, tag="settings"):
    """All settings of the cluster."""

    settings: Settings


class AddToken(msgspec.Struct, frozen=True, tag="token"):
    """A node that shows the token with this SHA-256 may join until then."""

    digest: str
    until_ms: int


Plain = (
    Found | Join | NodeSeen | SetState | SetNode | PlaceShards | BeginJob | Progress | EndJob
    | BeginSplit | EndSplit | SetSettings | AddToken
)  # fmt: skip


class Guarded(msgspec.Struct, frozen=True, tag="guarded"):
    """`change`, if the state still has this version."""

    version: int
    change: Plain


Change = Plain | Guarded

encode_change = msgspec.msgpack.Encoder().encode
_decode: Callable[[bytes], Change] = msgspec.msgpack.Decoder(Change).decode


def decode_change(data: bytes) -> Change:
    """The change in `data`; msgspec.MsgspecError if it is none."""
    return _decode(data)


def change_cluster(state: ClusterState, change: Change, now_ms: int) -> ClusterState:
    """The next state; `state` itself if nothing changes. Refused: nothing is changed."""
    if isinstance(change, Guarded):
        if change.version != state.version:
            raise Refused(f"{STALE}{state.version}, not {change.version}")
        change = change.change
    if not state.nodes and not isinstance(change, Found):
        raise NotYet("the cluster has no record yet; try again in a second")
    after = _CHANGES[type(change)](state, change, now_ms)
    if after == state:
        return state
    return msgspec.structs.replace(after, version=state.version + 1)


_replace = msgspec.structs.replace


def _found(state: ClusterState, change: Found, now_ms: int) -> ClusterState:
    if state.nodes:
        raise Refused("the cluster has a record already")
    nodes = tuple(_replace(node, since_ms=now_ms) for node in change.nodes)
    return _replace(
        state, nodes=nodes, shards=change.shards, settings=change.settings,
        next_shard=max(shard.id for shard in change.shards) + 1,
    )  # fmt: skip


def _join(state: ClusterState, change: Join, now_ms: int) -> ClusterState:
    asked = change.node
    if wrong := unfit_node(asked):
        raise Refused(wrong)
    if change.token:
        until = state.tokens.get(change.token)
        if until is None or until < now_ms:
            raise Refused(
                "this join token is not known or has ended; make one with: quoit node token"
            )
    again = next(
        (node for node in state.nodes if node.state == JOINING and node.name == asked.name), None
    )
    number = asked.id or (again.id if again is not None else state.nodes[-1].id + 1)
    there = state.node(number)
    if there is not None:
        if there.state == JOINING and there.name == asked.name:
            return _with_node(state, _replace(asked, id=number, since_ms=there.since_ms))
        raise Refused(f"number {number} belongs to {there.name}, which is {there.state}")
    name = asked.name or f"n{number}"
    same = next((node for node in state.nodes if node.name == name), None)
    if same is not None and same.state != REMOVED:
        raise Refused(f"node {same.id} is called {name} already; give --name another one")
    node = _replace(asked, id=number, name=name, state=JOINING, since_ms=now_ms)
    return _replace(state, nodes=tuple(sorted((*state.nodes, node), key=lambda one: one.id)))


def _seen(state: ClusterState, change: NodeSeen, now_ms: int) -> ClusterState:
    said = change.node
    known = state.node(said.id)
    if known is None:
        taken = {node.name for node in state.nodes}
        name = said.name if said.name not in taken else f"{said.name}-{said.id}"
        node = _replace(said, name=name, state=LIVE, since_ms=now_ms)
        return _replace(state, nodes=tuple(sorted((*state.nodes, node), key=lambda one: one.id)))
    if known.state == REMOVED:
        raise Refused(f"node {said.id} was removed; start it with an empty directory to join anew")
    comes = known.state in (JOINING, DEAD)
    node = _replace(
        known, host=said.host, peer_port=said.peer_port, resp_port=said.resp_port,
        admin_port=said.admin_port, version=said.version or known.version,
        state=LIVE if comes else known.state, since_ms=now_ms if comes else known.since_ms,
    )  # fmt: skip
    return _with_node(state, node)


def _set_state(state: ClusterState, change: SetState, now_ms: int) -> ClusterState:
    node = _known(state, change.node)
    if node.state == change.state:
        return state
    if node.state == REMOVED:
        raise Refused(f"{node.name} was removed; it can only join anew, with an empty directory")
    others = [one for one in state.nodes if one.state in HOLDERS and one.id != node.id]
    if change.state in (DECOMMISSIONING, DEAD) and not others:
        raise Refused(f"{node.name} is the last node")
    if change.state in HOLDERS and node.state in (DEAD, JOINING):
        raise Refused(f"{node.name} is {node.state}; it is live as soon as it is connected")
    if change.state == DRAINING and node.state == DECOMMISSIONING:
        raise Refused(
            f"{node.name} is being decommissioned; stop that with: quoit node recommission {node.name}"
        )
    if change.state == REMOVED:
        holds = [shard.id for shard in state.shards if node.id in shard.replicas]
        if holds and node.state not in GONE:
            raise Refused(
                f"{node.name} keeps {len(holds)} shards; use: quoit node decommission {node.name}"
            )
    allowed = (LIVE, DRAINING, DECOMMISSIONING, DEAD, REMOVED)
    if change.state not in allowed:
        raise Refused(f"there is no state {change.state!r}; there are: {', '.join(allowed)}")
    return _with_node(state, _replace(node, state=change.state, since_ms=now_ms))


def _set_node(state: ClusterState, change: SetNode, now_ms: int) -> ClusterState:
    node = _known(state, change.node)
    weight = node.weight if change.weight is None else change.weight
    zone = node.zone if change.zone is None else change.zone
    if wrong := unfit_zone(zone) or unfit_weight(weight):
        raise Refused(wrong)
    return _with_node(state, _replace(node, zone=zone, weight=weight))


def _place(state: ClusterState, change: PlaceShards, now_ms: int) -> ClusterState:
    after = _placed(state, change.shards)
    return _replace(after, placed_for=change.placed_for or state.placed_for)


def _begin_job(state: ClusterState, change: BeginJob, now_ms: int) -> ClusterState:
    running = state.running()
    if running is not None:
        raise Refused(f"job {running.id} ({running.kind}) is under way; wait for it, or cancel it")
    job = _replace(
        change.job, id=state.next_job, begun_ms=now_ms, before=state.shards,
        log=tuple((now_ms, line) for _, line in change.job.log),
    )  # fmt: skip
    if not job.steps:
        ended = "done" if job.state == "running" else job.state
        job = _replace(job, state=ended, ended_ms=now_ms)
    after = _placed(state, change.shards) if change.shards else state
    jobs = _forget((*state.jobs, job))
    placed_for = change.placed_for or state.placed_for
    return _replace(after, jobs=jobs, next_job=state.next_job + 1, placed_for=placed_for)


def _progress(state: ClusterState, change: Progress, now_ms: int) -> ClusterState:
    job = _running(state, change.job)
    done = tuple(sorted({*job.done, *change.done}))
    log = (*job.log, *((now_ms, line) for line in change.log))[-_LOG_MAX:]
    return _with_job(state, _replace(job, done=done, moved=max(job.moved, change.moved), log=log))


def _end_job(state: ClusterState, change: EndJob, now_ms: int) -> ClusterState:
    job = _running(state, change.job)
    log = (*job.log, (now_ms, change.reason or change.state))[-_LOG_MAX:]
    ended = _replace(job, state=change.state, reason=change.reason, ended_ms=now_ms, log=log)
    after = _placed(state, change.shards) if change.shards else state
    return _with_job(after, ended)


def _begin_split(state: ClusterState, change: BeginSplit, now_ms: int) -> ClusterState:
    shard = state.shard(change.shard)
    if shard is None:
        raise Refused(f"there is no shard {change.shard}")
    if any(split.shard == shard.id for split in state.splits):
        raise Refused(f"shard {shard.id} is being split already")
    if len(state.shards) + len(state.splits) >= state.settings.shards_max:
        raise Refused(f"there are {len(state.shards)} shards; shards_max allows no more")
    at = change.at or (shard.slot_low + shard.slot_high + 1) // 2
    if not shard.slot_low < at <= shard.slot_high:
        raise Refused(
            f"shard {shard.id} has slots {shard.slot_low} to {shard.slot_high}; it can be split at "
            f"{shard.slot_low + 1} to {shard.slot_high}"
        )
    split = Split(shard.id, at, state.next_shard)
    return _replace(state, splits=(*state.splits, split), next_shard=state.next_shard + 1)


def _end_split(state: ClusterState, change: EndSplit, now_ms: int) -> ClusterState:
    split = next((one for one in state.splits if one.shard == change.shard), None)
    if split is None:
        return state
    rest = tuple(one for one in state.splits if one is not split)
    after = _replace(state, splits=rest)
    if not change.done:
        return after
    shards: list[ShardRange] = []
    for shard in state.shards:
        if shard.id == split.shard:
            shards.append(ShardRange(shard.id, shard.slot_low, split.at - 1, shard.replicas))
            shard = ShardRange(split.child, split.at, shard.slot_high, shard.replicas)
        shards.append(shard)
    # Not by _placed: that is for other places of the same shards.
    return _replace(after, shards=tuple(shards), epoch=state.epoch + 1)


def _set_settings(state: ClusterState, change: SetSettings, now_ms: int) -> ClusterState:
    wanted = change.settings
    if not 1 <= wanted.replication_factor <= 9:
        raise Refused("replication_factor is 1 to 9")
    for name in wanted.__struct_fields__:
        value = getattr(wanted, name)
        if not isinstance(value, bool) and value < 1:
            raise Refused(f"{name} is 1 or more, not {value}")
    return _replace(state, settings=wanted)


def _add_token(state: ClusterState, change: AddToken, now_ms: int) -> ClusterState:
    alive = {digest: until for digest, until in state.tokens.items() if until >= now_ms}
    if len(alive) >= _TOKENS_MAX:
        raise Refused(f"there are {len(alive)} join tokens already; wait until some have ended")
    return _replace(state, tokens={**alive, change.digest: change.until_ms})


_CHANGES: dict[type, Callable[[ClusterState, Any, int], ClusterState]] = {
    Found: _found, Join: _join, NodeSeen: _seen, SetState: _set_state, SetNode: _set_node,
    PlaceShards: _place, BeginJob: _begin_job, Progress: _progress, EndJob: _end_job,
    BeginSplit: _begin_split, EndSplit: _end_split, SetSettings: _set_settings, AddToken: _add_token,
}  # fmt: skip


def _known(state: ClusterState, number: int) -> NodeRecord:
    node = state.node(number)
    if node is None:
        raise Refused(f"there is no node {number}")
    return node


def _running(state: ClusterState, number: int) -> Job:
    job = state.job(number)
    if job is None:
        raise Refused(f"there is no job {number}")
    if job.state != "running":
        raise Refused(f"job {number} is {job.state}")
    return job


def _with_node(state: ClusterState, node: NodeRecord) -> ClusterState:
    return _replace(state, nodes=tuple(node if one.id == node.id else one for one in state.nodes))


def _with_job(state: ClusterState, job: Job) -> ClusterState:
    jobs = tuple(job if one.id == job.id else one for one in state.jobs)
    return _replace(state, jobs=jobs)


def _forget(jobs: tuple[Job, ...]) -> tuple[Job, ...]:
    """Only the newest; only the newest finished one may be gone back on."""
    kept = jobs[-JOBS_MAX:]
    finished = [job.id for job in kept[:-1] if job.before and job.state != "running"][:-1]
    return tuple(_replace(job, before=()) if job.id in finished else job for job in kept)


def _slots(shard: ShardRange) -> tuple[int, int, int]:
    return shard.id, shard.slot_low, shard.slot_high


def _placed(state: ClusterState, shards: tuple[ShardRange, ...]) -> ClusterState:
    if [_slots(one) for one in shards] != [_slots(one) for one in state.shards]:
        raise Refused("the placement was made for other shards than there are now")
    if shards == state.shards:
        return state
    return _replace(state, shards=shards, epoch=state.epoch + 1)
