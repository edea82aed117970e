"""Phase 2, the acceptor's side (*Paxos Made Simple*, section 2.2, rule P1a), and learning what is chosen.

What is told to be chosen is taken as it is. What is proposed is accepted in the leader's ballot. The
commit index follows the leader's only as far as the log here holds this leader's values or known
chosen ones.

A damaged replica (*Paxos Made Live*, section 5.1) forgot promises or acceptances. It takes part
without being counted until a leader, of a ballot not below any that it may have promised, says that
all whom a write quorum needs beside it have accepted, in this ballot, up to `heal`, that is past
everything it may have accepted; and until it has all of that itself.
"""

from quoit.base.ids import Index, NodeId
from quoit.paxos.core import LEADER, Core
from quoit.paxos.messages import (
    Accept,
    Accepted,
    Beat,
    BeatReply,
    TakeSnapshot,
    TakeSnapshotReply,
)
from quoit.paxos.values import node_of, origin_of
from quoit.quorum.agreement import SnapshotMeta

__all__ = ["accepts_snapshot", "install", "on_accept", "on_beat"]


def on_accept(core: Core, sender: NodeId, message: Accept, now_us: int) -> None:
    """Accept what is not below the promise; the reply leaves when it is durable."""
    entries = message.entries
    if not entries or not _well_formed(core, sender, message):
        core.trace("malformed_accept", node=core.id, sender=sender)
        return
    first, last = entries[0].index, entries[-1].index
    if not core.follow(sender, message.term, now_us):
        reply = Accepted(core.term, message.round, False, first, last, 0, not core.damaged)
        core.send_after_persist(sender, reply)
        return
    log, known, commit = core.log, core.known, message.commit
    for entry in entries:
        index = entry.index
        if index <= core.commit_index:
            continue
        if index <= commit:
            known[index] = None
        held = log.term(index) if index <= log.last_index else None
        same = held and core.value(index) == origin_of(entry)
        if not same or (index > commit and held != message.term):
            core.put(entry)
    core.advance_received()
    core.commit_to(min(commit, core.received))
    if core.damaged:
        _check_healed(core, message.heal)
    core.send_after_persist(
        sender,
        Accepted(core.term, message.round, True, first, last, core.received, not core.damaged),
    )


def _well_formed(core: Core, sender: NodeId, message: Accept) -> bool:
    entries = message.entries
    first = entries[0].index
    if node_of(message.term) != sender or first < 1:
        return False
    if first > core.log.last_index + core.config.gap_max:
        return False
    if entries[-1].index != first + len(entries) - 1:
        return False
    for number, entry in enumerate(entries):
        open_instance = entry.index > message.commit
        if entry.index != first + number or (open_instance and entry.term != message.term):
            return False
    return True


def on_beat(core: Core, sender: NodeId, message: Beat, now_us: int) -> None:
    """The leader is alive."""
    if node_of(message.term) != sender:
        return
    if core.follow(sender, message.term, now_us):
        core.commit_to(min(message.commit, core.received))
        if core.damaged:
            _check_healed(core, message.heal)
        received, matched = core.received, core.matched
    else:
        received = matched = 0
    reply = BeatReply(
        core.term, message.round, received, matched, core.log.last_index, not core.damaged
    )
    if core.term == core.durable_term:
        # Nothing in it waits for the disk: a slow disk must not cost the leader its lease.
        core.send(sender, reply)
    else:
        core.send_after_persist(sender, reply)


def _check_healed(core: Core, heal: Index) -> None:
    if heal and core.term >= core.must_term and core.must_reach <= heal <= core.received:
        core.damaged = False
        core.has_ready = True
        core.trace("healed", node=core.id, term=core.term, commit=core.commit_index)


# Snapshots


def accepts_snapshot(core: Core, term: int, index: Index) -> bool:
    """A snapshot of `index` from a leader of `term` would bring this replica forward."""
    return term >= core.term and index > core.commit_index and core.role != LEADER


def install(core: Core, sender: NodeId, message: TakeSnapshot, now_us: int) -> None:
    """The node holds the data of this snapshot: the state at meta.index is applied. What is accepted
    above it stays."""
    meta = message.meta
    if core.follow(sender, message.term, now_us) and meta.index > core.commit_index:
        _start_over(core, meta)
        core.trace("snapshot_installed", node=core.id, term=core.term, index=meta.index)
    # A stale leader learns the newer ballot from this, a current one how far the replica is.
    core.send_after_persist(sender, TakeSnapshotReply(core.term, core.commit_index))


def _start_over(core: Core, meta: SnapshotMeta) -> None:
    log, index = core.log, meta.index
    rest = log.slice(index + 1, log.last_index + 1, 1 << 62)
    log.reset(index, meta.term)
    for entry in rest:
        log.append(entry)
    core.origins = {at: origin for at, origin in core.origins.items() if at > index}
    core.known = {at: None for at in core.known if at > index}
    core.chain.last = meta.term
    core.dirty = index + 1
    core.stable_index = 0  # until the reset itself is durable
    core.snapshot = meta
    core.has_ready = True
    core.applied_index = core.applying_index = core.commit_index = index
    core.set_members(meta.members)
    core.received = max(core.received, index)
    core.advance_received()
