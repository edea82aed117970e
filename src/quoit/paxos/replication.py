"""Phase 2, the leader's side: accepts, acknowledgements, what is chosen, heartbeats.

Instances are accepted in any order by any follower; a follower that lacks some is sent them again, the
chosen ones among them, so catching up is phase 2 as well.
"""

from quoit.base.ids import Index, NodeId, Term
from quoit.paxos import transfer
from quoit.paxos.core import LEADER, Core
from quoit.paxos.messages import Accept, Accepted, Beat, BeatReply, TakeOver, TakeSnapshotReply
from quoit.paxos.progress import Follower
from quoit.paxos.values import Chain
from quoit.quorum.agreement import Entry
from quoit.quorum.majority import agreed_value, quorum_size
from quoit.quorum.progress import Mode

__all__ = [
    "append", "broadcast_heartbeat", "maybe_choose", "on_accepted", "on_beat_reply",
    "on_snapshot_reply", "replicate", "snapshot_done",
]  # fmt: skip

_REPLICATE, _SNAPSHOT = Mode.REPLICATE, Mode.SNAPSHOT


def append(core: Core, data: bytes, kind: int, now_us: int) -> Index:
    """Propose a value in the next instance and send it to whom flow control allows."""
    index = core.proposed + 1
    core.put(Entry(index, core.term, kind, data))
    core.proposed = index
    for peer, follower in core.followers.items():
        replicate(core, peer, follower, now_us)
    return index


def replicate(core: Core, peer: NodeId, follower: Follower, now_us: int) -> None:
    """Send what the follower lacks, as far as flow control allows."""
    log = core.log
    while follower.mode is _REPLICATE and len(follower.inflight) < follower.window:
        low = follower.next_index
        if low > core.proposed:
            return
        if low <= log.compacted_index:
            follower.need_snapshot()
            core.trace("snapshot_wanted", node=core.id, term=core.term, follower=peer)
            core.snapshot_wanted.append(peer)
            core.has_ready = True
            return
        entries = log.slice(low, core.proposed + 1, core.config.append_bytes_max)
        core.send(
            peer,
            Accept(
                core.term, core.commit_index, _heal(core, peer), core.rounds.at(now_us), entries
            ),
        )
        follower.sent(entries[-1].index, len(entries))


def _heal(core: Core, peer: NodeId) -> Index:
    """For a damaged follower: how far it has to come before it may be counted again; else 0. All
    whom a write quorum needs beside it have accepted that far in this ballot, so they have promised
    no higher one behind its back (acceptor.py)."""
    follower = core.followers[peer]
    if follower.voting:
        return 0
    others = [voter for voter in core.members.voters if voter != peer]
    reached = []
    for voter in others:
        if voter == core.id:
            reached.append(core.own_stable)
        elif voter in core.followers and core.followers[voter].voting:
            reached.append(core.followers[voter].match_index)
        else:
            reached.append(0)
    if not reached:
        return 0
    index = agreed_value(reached, min(core.quorums.write, len(others)))
    return index if index >= (core.term_start or core.settling) else 0


def maybe_choose(core: Core) -> None:
    """A value is chosen once a write quorum has accepted it in this ballot, durably."""
    voters = core.members.voters
    followers = core.followers
    voting = [one for peer, one in followers.items() if one.voting and peer in voters]
    matches = [one.match_index for one in voting]
    if core.id in voters:
        matches.append(core.own_stable)
    need = core.quorums.write
    if len(matches) < need:
        return
    index = agreed_value(matches, need)
    if any(one.beyond for one in voting):
        while index < core.proposed:
            count = sum(1 for one in voting if one.has(index + 1))
            count += core.id in voters and core.own_stable > index
            if count < need:
                break
            index += 1
    core.commit_to(min(index, core.proposed))


def heard(
    core: Core, sender: NodeId, term: Term, round_number: int, voting: bool, now_us: int
) -> Follower | None:
    """Take note of a follower's reply; None if it does not belong to this leadership. The newest
    round that enough have answered extends the lease and proves the reads that waited for it."""
    if term > core.term:
        core.become_follower(term, 0, now_us)
        return None
    if term != core.term or core.role != LEADER:
        return None
    follower = core.followers.get(sender)
    if follower is None:
        return None
    if not voting:
        if follower.voting:
            core.trace("distrust", node=core.id, term=term, follower=sender)
            follower.distrust(follower.next_index)
            follower.beyond.clear()
            follower.marked = (0, 0)
        return follower
    if not follower.voting:
        follower.voting = True
        # What it acknowledged before counts from now on.
        maybe_choose(core)
    if round_number > follower.round:
        follower.round = min(round_number, core.rounds.current)
        _count_rounds(core)
    return follower if core.role == LEADER else None


def _count_rounds(core: Core) -> None:
    voters, rounds = core.members.voters, core.rounds
    answered = [
        one.round if one.voting else 0 for peer, one in core.followers.items() if peer in voters
    ]
    if core.id in voters:
        answered.append(rounds.current)
    size = core.quorums
    if core.contact is not rounds and len(answered) >= quorum_size(size.voters):
        core.contact.quorum_reached(agreed_value(answered, quorum_size(size.voters)))
    if core.leaving:
        _maybe_leave(core)
        return
    if len(answered) < size.confirm:
        return
    if rounds.quorum_reached(agreed_value(answered, size.confirm)):
        core.lease.extend(rounds.contact_us)
        if core.reads.waiting:
            core.proven.extend(core.reads.proven(rounds.acknowledged))
            core.has_ready = True


def _within(core: Core, sender: NodeId, index: Index) -> Index | None:
    """What a follower says to have, as far as this leader has proposed. More than that is a fault,
    unless the leader was elected by members that are some no longer: then all that it proposes is
    chosen there already."""
    if index <= core.proposed:
        return index
    if core.settling or core.leaving:
        return core.proposed
    core.trace("match_beyond_log", node=core.id, sender=sender, index=index)
    return None


def _maybe_leave(core: Core) -> None:
    """A removed leader goes once a write quorum of those who stay know of the change: else they might
    need it to learn that the change was chosen."""
    index = core.commit_index
    ready = [
        peer
        for peer, one in core.followers.items()
        if peer in core.members.voters and one.round >= core.leaving and one.match_index >= index
    ]
    if len(ready) >= core.quorums.write:
        core.trace("removed", node=core.id, term=core.term)
        core.send(ready[0], TakeOver(core.term))
        core.become_follower(core.term, 0, core.now_us)


def on_accepted(core: Core, sender: NodeId, message: Accepted, now_us: int) -> None:
    """A follower accepted instances durably, or has promised a higher ballot."""
    follower = heard(core, sender, message.term, message.round, message.voting, now_us)
    if follower is None or not message.ok:
        return
    if follower.mode is _SNAPSHOT and message.match < core.log.compacted_index:
        return
    match = _within(core, sender, message.match)
    if match is None or message.last > core.proposed:
        return
    if follower.accepted(message.first, message.last, match):
        maybe_choose(core)
    if core.transfer_to == sender:
        transfer.hand_over(core)
    replicate(core, sender, follower, now_us)


def broadcast_heartbeat(core: Core, round_number: int, now_us: int) -> None:
    """Tell every follower that the leader is alive, whatever else is under way to it."""
    core.heartbeat_us = now_us + core.config.heartbeat_us
    if core.contact is not core.rounds:
        core.contact.note(round_number, now_us)
    for peer, follower in core.followers.items():
        follower.mark(round_number)
        core.send(peer, Beat(core.term, round_number, core.commit_index, _heal(core, peer)))


def on_beat_reply(core: Core, sender: NodeId, message: BeatReply, now_us: int) -> None:
    """The follower is alive, and says what it has."""
    follower = heard(core, sender, message.term, message.round, message.voting, now_us)
    if follower is None or follower.mode is _SNAPSHOT:
        return
    received = _within(core, sender, message.received)
    if received is None:
        return
    match = min(received, message.match)
    follower.answered(message.round, received)
    if follower.mode is not _REPLICATE:
        follower.match_index = min(follower.match_index, received)
        follower.matched(match)
        follower.next_index = received + 1
        maybe_choose(core)
    elif follower.matched(match):
        maybe_choose(core)
    if core.transfer_to == sender:
        transfer.hand_over(core)
    replicate(core, sender, follower, now_us)
    caught_up = message.match >= core.proposed and core.own_stable >= core.proposed
    if core.transfer_to or core.config_pending or core.leaving or not core.term_start:
        return
    if not follower.voting and caught_up:
        # It has all there is, and may owe instances that nobody else ever got: it heals only beyond
        # them. Where no client writes, empty entries bring it there.
        for _ in range(follower.more_empties()):
            _append_empty(core, now_us)
    elif core.config.quorum == "all" and message.last < core.proposed + core.config.gap_max:
        # What it holds above was proposed by an older leader and is not chosen, or this one would
        # have it. That is not clear to the follower before these instances are decided, and until
        # then it serves no reads.
        while core.proposed < message.last:
            _append_empty(core, now_us)


def _append_empty(core: Core, now_us: int) -> None:
    entry = Chain.first(core.proposed + 1, core.term)
    append(core, entry.data, entry.kind, now_us)


def on_snapshot_reply(core: Core, sender: NodeId, message: TakeSnapshotReply, now_us: int) -> None:
    """The follower's state reaches match, durably: go on behind it."""
    known = core.followers.get(sender)
    voting = known is None or known.voting
    follower = heard(core, sender, message.term, 0, voting, now_us)
    if follower is None or message.match > core.proposed:
        return
    if follower.mode is _SNAPSHOT and message.match < core.log.compacted_index:
        return
    if follower.matched(message.match):
        maybe_choose(core)
    replicate(core, sender, follower, now_us)


def snapshot_done(core: Core, peer: NodeId, index: Index, ok: bool, now_us: int) -> None:
    """The node's transfer of the snapshot at `index` ended; after a failure the answer to the next
    heartbeat starts a new attempt."""
    follower = core.followers.get(peer)
    if follower is None or follower.mode is not _SNAPSHOT:
        return
    follower.snapshot_ended(index if ok else 0)
    follower.marked = (0, 0)
