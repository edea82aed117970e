"""Log replication, the follower's side (Raft section 5.3): what is accepted, replaced, committed."""

from quoit.base.check import invariant
from quoit.base.errors import Corruption, InvariantViolated
from quoit.base.ids import NodeId
from quoit.quorum.agreement import CONFIG, Entry
from quoit.quorum.members import decode_members
from quoit.raft.core import Core
from quoit.raft.messages import AppendEntries, AppendEntriesReply, Heartbeat, HeartbeatReply

__all__ = ["on_append", "on_heartbeat"]


def on_append(core: Core, sender: NodeId, message: AppendEntries, now_us: int) -> None:
    """Append what is missing and say how far the log matches. The reply is sent when all of it is
    durable; entries that came before are then durable too, since writes are made in order."""
    entries = message.entries
    prev = message.prev_index
    last_new = prev + len(entries)
    if entries and (entries[0].index != prev + 1 or entries[-1].index != last_new):
        core.trace("malformed_append", node=core.id, sender=sender, prev=prev)
        return
    for entry in entries:
        if entry.kind == CONFIG and not _readable(entry):
            core.trace("malformed_append", node=core.id, sender=sender, prev=entry.index)
            return
    if not core.follow(sender, message.term, now_us):
        reply = AppendEntriesReply(core.term, message.round, False, 0, 0, 0, not core.damaged)
        core.send_after_persist(sender, reply)
        return
    log = core.log
    ok = True
    match_index = last_new
    hint_index = hint_term = 0
    if last_new <= core.commit_index and prev < core.commit_index:
        # Late: all of it is committed here, and what is committed is never touched.
        match_index = core.commit_index
    elif prev < log.compacted_index or log.term(prev) == message.prev_term:
        _accept(core, entries)
        core.commit_to(min(message.commit, last_new))
    else:
        ok = False
        match_index = prev
        hint_index, hint_term = log.conflict_hint(prev - 1, message.prev_term)
    reply = AppendEntriesReply(
        core.term, message.round, ok, match_index, hint_index, hint_term, not core.damaged
    )
    core.send_after_persist(sender, reply)


def _readable(entry: Entry) -> bool:
    """Nothing of an append is taken whose members cannot be read."""
    try:
        decode_members(entry.data)
    except (Corruption, InvariantViolated):
        return False
    return True


def _accept(core: Core, entries: list[Entry]) -> None:
    """Add the entries that are missing; replace a suffix only from where it differs. A short or late
    append whose entries match changes nothing (Raft section 5.3: "if an existing entry conflicts")."""
    log = core.log
    missing = 0
    for entry in entries:
        if entry.index > log.compacted_index and log.term(entry.index) != entry.term:
            break
        missing += 1
    else:
        return
    first = entries[missing].index
    if first <= log.last_index:
        _truncate(core, first)
    for entry in entries[missing:] if missing else entries:
        log.append(entry)
        if entry.kind == CONFIG:
            core.add_config(entry)
    core.has_ready = True


def _truncate(core: Core, index: int) -> None:
    invariant(
        index > core.commit_index,
        "a committed entry would be replaced",
        node=core.id, index=index, commit=core.commit_index,
    )  # fmt: skip
    core.trace("truncate", node=core.id, index=index, last=core.log.last_index)
    core.log.truncate(index)
    core.drop_configs(index)
    core.handed_index = min(core.handed_index, index - 1)
    core.stable_index = min(core.stable_index, index - 1)


def on_heartbeat(core: Core, sender: NodeId, message: Heartbeat, now_us: int) -> None:
    """The leader is alive. A damaged replica may have lost what the leader knows it to have, so it
    learns what is committed from appends alone, whose entries it can compare."""
    current = core.follow(sender, message.term, now_us)
    if current and not core.damaged:
        core.commit_to(min(message.commit, core.log.last_index))
    reply = HeartbeatReply(core.term, message.round, not core.damaged)
    if core.term == core.durable_term:
        # Nothing in it waits for the disk: a slow disk must not cost the leader its lease.
        core.send(sender, reply)
    else:
        core.send_after_persist(sender, reply)
