"""Log replication, the leader's side: appends, acknowledgements, commitment, heartbeats (Raft
sections 5.3 and 5.4.2; pipelining and the modes of a follower as in thesis section 10.2.1)."""

from quoit.base.ids import Index, NodeId, Term
from quoit.quorum.agreement import CONFIG, EMPTY, Entry
from quoit.quorum.majority import agreed_value
from quoit.quorum.progress import Mode, Progress
from quoit.raft import snapshot, transfer
from quoit.raft.core import LEADER, Core
from quoit.raft.messages import (
    AppendEntries,
    AppendEntriesReply,
    Heartbeat,
    HeartbeatReply,
    InstallSnapshotReply,
)

__all__ = [
    "append", "broadcast_heartbeat", "heard", "maybe_commit", "on_append_reply",
    "on_heartbeat_reply", "on_snapshot_reply", "replicate",
]  # fmt: skip

_REPLICATE, _SNAPSHOT = Mode.REPLICATE, Mode.SNAPSHOT


def append(core: Core, data: bytes, kind: int, now_us: int) -> Index:
    """Add an entry of the own term and send it to whom flow control allows."""
    log = core.log
    index = log.last_index + 1
    entry = Entry(index, core.term, kind, data)
    log.append(entry)
    core.has_ready = True
    if kind == CONFIG:
        core.add_config(entry)
    for peer, progress in core.progress.items():
        replicate(core, peer, progress, now_us)
    return index


def replicate(core: Core, peer: NodeId, progress: Progress, now_us: int) -> None:
    """Send what the follower lacks, as far as flow control allows."""
    log = core.log
    bytes_max = core.config.append_bytes_max
    while progress.may_send():
        next_index = progress.next_index
        last_index = log.last_index
        if next_index > last_index and progress.mode is _REPLICATE:
            return
        prev_term = log.term(next_index - 1)
        if prev_term is None:
            snapshot.want(core, peer, progress)
            return
        entries = log.slice(next_index, last_index + 1, bytes_max)
        _send_append(core, peer, progress, prev_term, entries, now_us)


def _probe(core: Core, peer: NodeId, progress: Progress, now_us: int) -> None:
    """Ask whether the logs match below next_index, without entries: it is asked again and again."""
    prev_term = core.log.term(progress.next_index - 1)
    if prev_term is None:
        snapshot.want(core, peer, progress)
    else:
        _send_append(core, peer, progress, prev_term, [], now_us)


def _send_append(
    core: Core,
    peer: NodeId,
    progress: Progress,
    prev_term: Term,
    entries: list[Entry],
    now_us: int,
) -> None:
    prev = progress.next_index - 1
    message = AppendEntries(
        core.term, prev, prev_term, core.commit_index, core.rounds.at(now_us), entries
    )
    progress.sent(prev + len(entries), len(entries))
    core.messages.append((peer, message))
    core.has_ready = True


def on_append_reply(core: Core, sender: NodeId, message: AppendEntriesReply, now_us: int) -> None:
    """A follower says how far it matches, durably, or that it does not."""
    progress = heard(core, sender, message.term, message.round, message.voting, now_us)
    if progress is None:
        return
    if message.ok:
        if progress.mode is _SNAPSHOT and message.match_index < core.log.compacted_index:
            return
        if message.match_index > core.log.last_index:
            core.trace("match_beyond_log", node=core.id, sender=sender, index=message.match_index)
            return
        if progress.matched(message.match_index):
            maybe_commit(core)
        if core.transfer_to == sender:
            transfer.hand_over(core)
    elif not progress.rejected(
        message.match_index, _back_to(core, message.hint_index, message.hint_term)
    ):
        return
    replicate(core, sender, progress, now_us)


def _back_to(core: Core, hint_index: Index, hint_term: Term) -> Index:
    """Where the logs may agree, given that the follower has `hint_term` at `hint_index` and says
    that nothing above can match."""
    if hint_index < core.log.compacted_index:
        return hint_index
    return core.log.conflict_hint(hint_index, hint_term)[0]


def heard(
    core: Core, sender: NodeId, term: Term, round_number: int, voting: bool, now_us: int
) -> Progress | None:
    """Take note of a follower's reply; None if it does not belong to this leadership. The newest
    round that a quorum has answered extends the lease and proves the reads that waited for it."""
    if term > core.term:
        core.become_follower(term, 0, now_us)
        return None
    if term != core.term or core.role != LEADER:
        return None
    progress = core.progress.get(sender)
    if progress is None:
        return None
    if not voting:
        if progress.voting:
            core.trace("distrust", node=core.id, term=term, follower=sender)
            progress.distrust(core.log.last_index + 1)
        return progress
    if not progress.voting:
        progress.voting = True
        # What it acknowledged before counts from now on.
        maybe_commit(core)
    if round_number > progress.round:
        rounds = core.rounds
        progress.round = min(round_number, rounds.current)
        answered = [one.round if one.voting else 0 for one in core.counted]
        if core.id in core.members.voters:
            answered.append(rounds.current)
        if rounds.quorum_reached(agreed_value(answered, core.quorum)):
            core.lease.extend(rounds.contact_us)
            if core.reads.waiting:
                core.proven.extend(core.reads.proven(rounds.acknowledged))
                core.has_ready = True
    return progress


def maybe_commit(core: Core) -> None:
    """Advance the commit index to what a quorum holds durably, this replica among them or not."""
    matches = [one.match_index if one.voting else 0 for one in core.counted]
    if core.id in core.members.voters:
        matches.append(core.stable_index)
    index = agreed_value(matches, core.quorum)
    # Raft section 5.4.2, figure 8: only an entry of the own term is committed by counting.
    if index > core.commit_index and core.log.term(index) == core.term:
        core.commit_to(index)


def broadcast_heartbeat(core: Core, round_number: int, now_us: int) -> None:
    """Tell every follower that the leader is alive, whatever else is under way to it."""
    core.heartbeat_us = now_us + core.config.heartbeat_us
    for peer, progress in core.progress.items():
        # No more than the follower is known to have: it may hold others' entries above.
        commit = min(progress.match_index, core.commit_index)
        core.send(peer, Heartbeat(core.term, round_number, commit))


def on_heartbeat_reply(core: Core, sender: NodeId, message: HeartbeatReply, now_us: int) -> None:
    """The follower is alive. If it is behind, an append or its reply may have been lost."""
    progress = heard(core, sender, message.term, message.round, message.voting, now_us)
    if progress is None or progress.mode is _SNAPSHOT:
        return
    if progress.match_index >= core.log.last_index and progress.voting:
        return
    progress.unanswered()
    if progress.mode is _REPLICATE and progress.next_index <= core.log.last_index:
        replicate(core, sender, progress, now_us)
    else:
        # A rejection starts the search for what arrived. A damaged follower is always asked, since
        # it learns from appends alone how far it may trust its log.
        _probe(core, sender, progress, now_us)
    caught_up = progress.match_index == core.log.last_index == core.commit_index
    if caught_up and not progress.voting and not core.transfer_to:
        # It has all there is, and may owe entries that nobody else ever got: it heals only beyond
        # them. Where no client writes, empty entries bring it there.
        for _ in range(progress.more_empties()):
            append(core, b"", EMPTY, now_us)


def on_snapshot_reply(
    core: Core, sender: NodeId, message: InstallSnapshotReply, now_us: int
) -> None:
    """The follower's state reaches match_index, durably: go on behind it."""
    known = core.progress.get(sender)
    voting = known is None or known.voting
    progress = heard(core, sender, message.term, 0, voting, now_us)
    if progress is None or message.match_index > core.log.last_index:
        return
    if progress.mode is _SNAPSHOT and message.match_index < core.log.compacted_index:
        return
    if progress.matched(message.match_index):
        maybe_commit(core)
    replicate(core, sender, progress, now_us)
