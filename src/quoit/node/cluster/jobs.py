"""A job as people see it: how far it is, how fast, how long it will take, and what limits it."""

from collections.abc import Sequence

import msgspec

from quoit.node.cluster.messages import Ask
from quoit.node.cluster.observed import Observed
from quoit.node.cluster.state import ClusterState, Job, Settings

__all__ = ["JobView", "job_view"]


class JobView(msgspec.Struct, frozen=True, kw_only=True):
    """One job.

    node       name of the node it is about; "" for none
    steps, done        how many there are, and are finished
    moved      bytes copied so far; over: moved / bytes_min, 0 where nothing must be moved
    rate       bytes a second since it began
    eta_s      seconds that are left at this rate; -1: not known
    now        what is being done
    limited_by what it waits for, or what bounds its speed; "" if it has ended
    log        Unix time in ms, what happened
    """

    id: int
    kind: str
    state: str
    node: str
    steps: int
    done: int
    copies: int
    copies_min: int
    bytes: int
    bytes_min: int
    moved: int
    over: float
    rate: float
    eta_s: int
    begun_ms: int
    ended_ms: int
    reason: str
    now: list[str]
    limited_by: list[str]
    log: list[tuple[int, str]]


def job_view(
    state: ClusterState,
    job: Job,
    now_ms: int,
    seen: Observed | None = None,
    why: Sequence[str] = (),
) -> JobView:
    """The job. `seen` and `why` are the rebalancer's, where it works; elsewhere only what is recorded
    is shown."""
    running = job.state == "running"
    moved = max(job.moved, seen.moved) if running and seen is not None else job.moved
    seconds = max(0.001, ((now_ms if running else job.ended_ms) - job.begun_ms) / 1000)
    node = state.node(job.node)
    current = [(shard, ask) for shard, ask in seen.under_way().items()] if seen is not None else []
    shards = {step.shard for step in job.steps}
    mine = [(shard, ask) for shard, ask in current if running and shard in shards]
    waits = seen.waits if seen is not None else {}
    return JobView(
        id=job.id,
        kind=job.kind,
        state=job.state,
        node=node.name if node is not None else "",
        steps=len(job.steps),
        done=len(job.done),
        copies=job.copies,
        copies_min=job.copies_min,
        bytes=job.bytes,
        bytes_min=job.bytes_min,
        moved=moved,
        over=moved / job.bytes_min if job.bytes_min else 0.0,
        rate=moved / seconds,
        eta_s=_eta(job, moved, seconds) if running else 0,
        begun_ms=job.begun_ms,
        ended_ms=job.ended_ms,
        reason=job.reason,
        now=[_doing(ask, waits.get(shard, "")) for shard, ask in mine],
        limited_by=_limits(state.settings, list(why), mine) if running else [],
        log=list(job.log),
    )


def _eta(job: Job, moved: int, seconds: float) -> int:
    """By bytes where there are bytes left to copy, else by steps."""
    left = job.bytes - moved
    if left > 0 and moved > 0:
        return round(left * seconds / moved)
    if job.done:
        return round((len(job.steps) - len(job.done)) * seconds / len(job.done))
    return -1


def _doing(ask: Ask, waits: str) -> str:
    what = {
        "move": f"shard {ask.shard}: node {ask.source} -> node {ask.node}",
        "add-replica": f"shard {ask.shard}: a replica on node {ask.node}",
        "remove-replica": f"shard {ask.shard}: no replica on node {ask.node} any more",
        "leader": f"shard {ask.shard}: node {ask.node} is to lead",
    }.get(ask.kind, f"shard {ask.shard}: {ask.kind}")
    return f"{what}, waits for {waits}" if waits else what


def _limits(settings: Settings, why: list[str], mine: list[tuple[int, Ask]]) -> list[str]:
    if any(ask.kind != "remove-replica" for _, ask in mine):
        why.append(f"rebalance_bytes_per_s is {settings.rebalance_bytes_per_s} for each node")
    return why
