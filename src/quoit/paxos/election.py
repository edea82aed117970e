"""Phase 1: who leads (*Paxos Made Simple*, section 2.2 and 3), once for all open instances.

Before a candidate takes a ballot it asks whether it would get the promises, which disturbs nobody (as
Raft's pre-vote does), so a replica that was cut off does not depose a working leader, and ballots do not
climb. An acceptor that heard a leader within the last T promises nothing to others: leases and peace
both rest on that. Proposers that fail wait for a randomly drawn time.
"""

from quoit.base.ids import Index, NodeId, Term
from quoit.paxos import replication
from quoit.paxos.core import CANDIDATE, FOLLOWER, LEADER, PRE_CANDIDATE, Core
from quoit.paxos.messages import Ask, AskReply, Beat, Prepare, Promise, TakeOver
from quoit.paxos.progress import Follower
from quoit.paxos.values import GAP, Chain, carry, kind_of, node_of, round_of
from quoit.quorum.agreement import CONFIG, Entry
from quoit.quorum.lease import Lease
from quoit.quorum.majority import quorum_size
from quoit.quorum.read_index import ReadIndex
from quoit.quorum.rounds import Rounds

__all__ = [
    "ask", "check_contact", "entries_above", "on_ask", "on_ask_reply", "on_prepare", "on_promise",
    "on_take_over", "own_promise", "refuses",
]  # fmt: skip

_UNLIMITED = 1 << 62


def _may_campaign(core: Core) -> bool:
    return (
        not core.damaged
        and not core.suspended
        and core.id in core.members.voters
        # Else a change of members may wait among what is chosen.
        and core.applying_index == core.commit_index
    )


def ask(core: Core, now_us: int) -> None:
    """The pre-phase: ask whether an election could be won, without disturbing anyone."""
    core.reset_election(now_us)
    core.leader = 0
    core.asked_us = now_us
    core.refused = False
    if not _may_campaign(core):
        core.role = FOLLOWER
        return
    core.role = PRE_CANDIDATE
    core.votes = {core.id: Promise(core.next_ballot(), True, 0, [])}
    core.trace("pre_candidate", node=core.id, term=core.term)
    message = Ask(core.next_ballot(), core.commit_index)
    for peer in core.peers:
        core.send(peer, message)
    consider(core, now_us)


def consider(core: Core, now_us: int) -> None:
    """Go on to phase 1 if enough replicas would promise. Where less than a majority is enough, the
    others are given half a time-out to say that they have a leader."""
    granted = _granted(core)
    size = core.quorums
    patient = now_us - core.asked_us >= core.config.election_timeout_us // 2
    if granted >= max(size.elect, quorum_size(size.voters)) or (
        granted >= size.elect and patient and not core.refused
    ):
        _campaign(core, now_us, transfer=False)


def _granted(core: Core) -> int:
    voters = core.members.voters
    return sum(1 for voter, promise in core.votes.items() if promise.granted and voter in voters)


def _campaign(core: Core, now_us: int, *, transfer: bool) -> None:
    core.role = CANDIDATE
    core.leader = 0
    core.promise(core.next_ballot())
    core.reset_election(now_us)
    core.votes = {}
    core.trace("candidate", node=core.id, term=core.term)
    message = Prepare(core.term, core.commit_index, transfer)
    for peer in core.peers:
        # The ballot is durable before anybody hears of it: it is never made twice.
        core.send_after_persist(peer, message)


def own_promise(core: Core) -> None:
    """The own promise is durable: it counts now."""
    if core.role == CANDIDATE and core.durable_term >= core.term and core.id not in core.votes:
        core.votes[core.id] = Promise(core.term, True, core.commit_index, [])
        _count(core)


def _count(core: Core) -> None:
    if core.id in core.votes and _granted(core) >= core.quorums.elect:
        _become_leader(core)
        return
    voters = core.members.voters
    against = sum(1 for one, vote in core.votes.items() if not vote.granted and one in voters)
    if against > len(voters) - core.quorums.elect:
        core.become_follower(core.term, 0, core.now_us)


def entries_above(core: Core, low: Index, high: Index, bytes_max: int) -> list[Entry]:
    """What is accepted in instances low..high, without gaps, up to about `bytes_max` bytes."""
    found: list[Entry] = []
    total = 0
    while low <= high and total <= bytes_max:
        part = core.log.slice(low, high + 1, bytes_max)
        if not part:
            break
        low = part[-1].index + 1
        total += sum(len(entry.data) for entry in part)
        found.extend(entry for entry in part if entry.kind != GAP)
    return found


def _become_leader(core: Core) -> None:
    """Propose again what may have been chosen: for each open instance the value of the highest ballot
    among the promises (*Paxos Made Simple*, section 2.2, rule P2c), nothing where there is none."""
    config, now_us = core.config, core.now_us
    promises = core.votes
    best: dict[Index, tuple[Term, Entry]] = {}
    commit = core.commit_index
    for entry in entries_above(core, commit + 1, core.log.last_index, _UNLIMITED):
        best[entry.index] = (entry.term, entry)
    for promise in promises.values():
        for entry in promise.entries:
            rank = _UNLIMITED if entry.index <= promise.commit else entry.term
            known = best.get(entry.index)
            if entry.index > commit and (known is None or rank > known[0]):
                best[entry.index] = (rank, entry)
    core.role = LEADER
    core.leader = core.id
    core.votes = {}
    core.settling = core.config_pending = core.transfer_to = core.leaving = 0
    core.own_stable = commit
    last = max(best, default=commit)
    for index in range(commit + 1, last + 1):
        found = best.get(index)
        core.put(carry(found[1], core.term) if found else Chain.first(index, core.term))
        if found is not None and kind_of(found[1]) == CONFIG:
            # What comes after it is up to the new members.
            core.settling = last = index
            break
    if not core.settling:
        last += 1
        # What lies above is beaten: no quorum can have accepted it.
        core.put(Chain.first(last, core.term))
    core.term_start = 0 if core.settling else last
    core.proposed = last
    core.followers = {peer: Follower(last + 1, config.inflight_accepts_max) for peer in core.peers}
    timeout = config.election_timeout_us
    core.rounds = Rounds(now_us, timeout)
    sizes = core.quorums
    same = sizes.confirm == min(sizes.confirm, quorum_size(sizes.voters))
    core.contact = core.rounds if same else Rounds(now_us, timeout)
    core.lease = Lease(timeout, config.drift_ppm)
    core.reads = ReadIndex()
    core.trace("leader", node=core.id, term=core.term, first=last)
    for peer, promise in promises.items():
        follower = core.followers.get(peer)
        if follower is not None and promise.granted:
            # It promised this ballot, so all that it has of it is what it knows to be chosen.
            follower.matched(min(promise.commit, commit))
    replication.broadcast_heartbeat(core, core.rounds.start(now_us), now_us)
    for peer, follower in core.followers.items():
        replication.replicate(core, peer, follower, now_us)


def check_contact(core: Core, now_us: int) -> None:
    """A leader that too few answer is none. Counted from when the newest answered round was sent."""
    alone = len(core.members.voters) == 1 and core.id in core.members.voters
    if not alone and now_us - core.contact.contact_us > 2 * core.config.election_timeout_us:
        core.trace("quorum_lost", node=core.id, term=core.term)
        core.become_follower(core.term, 0, now_us)


def refuses(core: Core, sender: NodeId, now_us: int) -> bool:
    """A leader may hold a lease that counts on this replica, or the replica is not to be trusted. The
    leader itself may ask for a higher ballot: its lease ended with its leadership."""
    if core.damaged or now_us < core.refuse_until_us:
        return True
    if core.role != LEADER and core.leader == sender:
        return False
    contact_us = core.contact.contact_us if core.role == LEADER else core.contact_us
    return now_us - contact_us < core.config.election_timeout_us


def _could_promise(core: Core, sender: NodeId, commit: Index) -> list[Entry] | None:
    """What a promise would have to say; None if it cannot be given: the candidate lacks what is
    compacted here, or too much, or is no voter by a newer list of members than its own."""
    if commit < core.log.compacted_index:
        return None
    if sender not in core.members.voters and commit <= core.commit_index:
        return None
    bytes_max = core.config.promise_bytes_max
    chosen = entries_above(core, commit + 1, core.commit_index, bytes_max)
    if chosen and chosen[-1].index < core.commit_index:
        return None
    low = max(commit, core.commit_index) + 1
    return chosen + entries_above(core, low, core.log.last_index, _UNLIMITED)


def on_ask(core: Core, sender: NodeId, message: Ask, now_us: int) -> None:
    """Would this replica promise so? Nothing changes here."""
    granted = (
        message.term > core.term
        and not refuses(core, sender, now_us)
        and _could_promise(core, sender, message.commit) is not None
    )
    core.send_after_persist(sender, AskReply(message.term if granted else core.term, granted))
    removed = core.id not in core.members.voters and node_of(core.term) == core.id
    if removed and core.role == FOLLOWER and message.commit < core.commit_index:
        # This replica chose, as the leader of this ballot, that it is a member no more, and left
        # before the others had heard.
        core.send_after_persist(sender, Beat(core.term, 0, core.commit_index, 0))


def on_ask_reply(core: Core, sender: NodeId, message: AskReply, now_us: int) -> None:
    """Campaign once enough replicas would promise."""
    if not message.granted:
        core.round_seen = max(core.round_seen, round_of(message.term))
        core.refused = True
        return
    if core.role != PRE_CANDIDATE or message.term != core.next_ballot():
        return
    core.votes[sender] = Promise(message.term, True, 0, [])
    consider(core, now_us)


def on_prepare(core: Core, sender: NodeId, message: Prepare, now_us: int) -> None:
    """Promise, if the ballot is above all that were promised (*Paxos Made Simple*, section 2.2, rule P1a)."""
    if refuses(core, sender, now_us) and (core.damaged or not message.transfer):
        core.trace("vote_refused", node=core.id, term=message.term, sender=sender)
        return
    again = message.term == core.term and core.role == FOLLOWER and not core.leader
    fits = message.term > core.term or (again and node_of(message.term) == sender)
    entries = _could_promise(core, sender, message.commit) if fits else None
    if entries is None:
        core.send_after_persist(sender, Promise(core.term, False, core.commit_index, []))
        return
    core.become_follower(message.term, 0, now_us)
    core.send_after_persist(sender, Promise(core.term, True, core.commit_index, entries))


def on_promise(core: Core, sender: NodeId, message: Promise, now_us: int) -> None:
    """Lead once an election quorum has promised."""
    if not message.granted and message.term > core.term:
        core.round_seen = max(core.round_seen, round_of(message.term))
    if core.role != CANDIDATE or (message.granted and message.term != core.term):
        return
    if message.term > core.term:
        # A higher ballot is out: this one cannot win any more.
        core.become_follower(core.term, 0, now_us)
        return
    core.votes[sender] = message
    _count(core)


def on_take_over(core: Core, sender: NodeId, message: TakeOver, now_us: int) -> None:
    """The leader of this ballot hands over: campaign at once, without asking first."""
    if message.term == core.term and sender == core.leader and _may_campaign(core):
        _campaign(core, now_us, transfer=True)
