"""Elections: pre-vote, votes, when a vote must be refused, and when a leader gives up (Raft sections
5.2 and 5.4.1; thesis sections 9.6, pre-vote, 6.4.1, refusing votes while a leader is alive, and
6.2, check-quorum)."""

from quoit.base.ids import Index, NodeId, Term
from quoit.quorum.agreement import EMPTY
from quoit.quorum.lease import Lease
from quoit.quorum.majority import VoteResult, vote_result
from quoit.quorum.progress import Progress
from quoit.quorum.read_index import ReadIndex
from quoit.quorum.rounds import Rounds
from quoit.raft.core import CANDIDATE, LEADER, PRE_CANDIDATE, Core
from quoit.raft.messages import PreVote, PreVoteReply, RequestVote, RequestVoteReply, TimeoutNow
from quoit.raft.replication import append

__all__ = [
    "check_quorum", "on_pre_vote", "on_pre_vote_reply", "on_request_vote", "on_request_vote_reply",
    "on_timeout_now", "own_vote", "pre_campaign", "refuses_votes",
]  # fmt: skip


def _may_campaign(core: Core) -> bool:
    if core.damaged or core.suspended:
        return False
    # Whoever is to be removed may be the only one that has the entry which says so, and has to lead
    # until it is committed (thesis section 4.2.2).
    return core.id in core.members.voters or (
        len(core.configs) > 1 and core.id in core.configs[0][1].voters
    )


def pre_campaign(core: Core, now_us: int) -> None:
    """Ask whether an election could be won, without disturbing anyone."""
    core.reset_election(now_us)
    core.leader = 0
    if not _may_campaign(core):
        return
    core.role = PRE_CANDIDATE
    core.votes = {core.id: True} if core.id in core.members.voters else {}
    core.trace("pre_candidate", node=core.id, term=core.term)
    if core.alone:
        _campaign(core, now_us, transfer=False)
        return
    message = PreVote(core.term + 1, core.log.last_index, core.log.last_term)
    for peer in _voters(core):
        core.send(peer, message)


def _voters(core: Core) -> list[NodeId]:
    return [peer for peer in core.members.voters if peer != core.id]


def _campaign(core: Core, now_us: int, *, transfer: bool) -> None:
    core.role = CANDIDATE
    core.leader = 0
    core.promise(core.term + 1, core.id)
    core.reset_election(now_us)
    core.votes = {core.id: True} if core.id in core.members.voters else {}
    core.trace("candidate", node=core.id, term=core.term)
    if core.alone:
        if core.peers and core.durable_term < core.term:
            # Learners hear of its entries at once, so its vote is durable first: see `own_vote`.
            return
        # Its entries become durable after its vote, as writes are made in order, and not before
        # they are durable is anything committed.
        _become_leader(core, now_us)
        return
    message = RequestVote(core.term, core.log.last_index, core.log.last_term, transfer)
    for peer in _voters(core):
        # Votes can only come back after the own one, which they are added to, is durable.
        core.send_after_persist(peer, message)


def _become_leader(core: Core, now_us: int) -> None:
    config = core.config
    core.role = LEADER
    core.leader = core.id
    core.votes = {}
    core.term_start = core.log.last_index + 1
    core.progress = {
        peer: Progress(core.term_start, config.inflight_appends_max) for peer in core.peers
    }
    core.rounds = Rounds(now_us, config.election_timeout_us)
    core.lease = Lease(config.election_timeout_us, config.drift_ppm)
    core.reads = ReadIndex()
    core.count_voters()
    core.members_settled = True
    core.transfer_to = 0
    core.heartbeat_us = now_us + config.heartbeat_us
    core.trace("leader", node=core.id, term=core.term, first=core.term_start)
    # Raft section 8: an entry of the own term commits everything before it.
    append(core, b"", EMPTY, now_us)


def own_vote(core: Core, now_us: int) -> None:
    """The own vote is durable, and no other is needed."""
    if core.role == CANDIDATE and core.alone and core.durable_term == core.term:
        _become_leader(core, now_us)


def check_quorum(core: Core, now_us: int) -> None:
    """A leader that a quorum does not answer is none. Counted from when the newest answered round
    was sent, so that answers which were under way for long do not keep it in office."""
    if not core.alone and now_us - core.rounds.contact_us > 2 * core.config.election_timeout_us:
        core.trace("quorum_lost", node=core.id, term=core.term)
        core.become_follower(core.term, 0, now_us)


def refuses_votes(core: Core, now_us: int) -> bool:
    """A leader may hold a lease that counts on this replica, or the replica is not to be trusted."""
    if core.damaged or now_us < core.refuse_until_us:
        return True
    contact_us = core.rounds.contact_us if core.role == LEADER else core.contact_us
    return now_us - contact_us < core.config.election_timeout_us


def _up_to_date(core: Core, last_index: Index, last_term: Term) -> bool:
    """Raft section 5.4.1: the later last term wins, then the longer log."""
    return (last_term, last_index) >= (core.log.last_term, core.log.last_index)


def on_pre_vote(core: Core, sender: NodeId, message: PreVote, now_us: int) -> None:
    """Would this replica vote so? Nothing here changes, not even the term."""
    granted = (
        message.term > core.term
        and not refuses_votes(core, now_us)
        and _up_to_date(core, message.last_index, message.last_term)
    )
    term = message.term if granted else core.term
    core.send_after_persist(sender, PreVoteReply(term, granted))


def on_pre_vote_reply(core: Core, sender: NodeId, message: PreVoteReply, now_us: int) -> None:
    """Campaign once a quorum would vote for this replica."""
    if not message.granted and message.term > core.term:
        core.become_follower(message.term, 0, now_us)
        return
    if core.role != PRE_CANDIDATE or (message.granted and message.term != core.term + 1):
        return
    if sender not in core.members.voters:
        return
    core.votes[sender] = message.granted
    if vote_result(core.votes, len(core.members.voters)) is VoteResult.WON:
        _campaign(core, now_us, transfer=False)


def on_request_vote(core: Core, sender: NodeId, message: RequestVote, now_us: int) -> None:
    """Vote, at most once per term, for a replica whose log is not behind the own one."""
    if refuses_votes(core, now_us) and (core.damaged or not message.transfer):
        # Not even the term is adopted: a cut-off replica must not depose a working leader.
        core.trace("vote_refused", node=core.id, term=message.term, sender=sender)
        return
    if message.term > core.term:
        core.become_follower(message.term, 0, now_us)
    granted = (
        message.term == core.term
        and core.vote in (0, sender)
        and _up_to_date(core, message.last_index, message.last_term)
    )
    if granted:
        core.promise(core.term, sender)
        core.reset_election(now_us)
    core.send_after_persist(sender, RequestVoteReply(core.term, granted))


def on_request_vote_reply(
    core: Core, sender: NodeId, message: RequestVoteReply, now_us: int
) -> None:
    """Lead once a quorum voted for this replica."""
    if message.term > core.term:
        core.become_follower(message.term, 0, now_us)
        return
    if core.role != CANDIDATE or message.term != core.term:
        return
    if sender not in core.members.voters:
        return
    core.votes[sender] = message.granted
    result = vote_result(core.votes, len(core.members.voters))
    if result is VoteResult.WON:
        _become_leader(core, now_us)
    elif result is VoteResult.LOST:
        core.become_follower(core.term, 0, now_us)


def on_timeout_now(core: Core, sender: NodeId, message: TimeoutNow, now_us: int) -> None:
    """The leader of this term hands over: campaign at once, without pre-vote."""
    if message.term == core.term and sender == core.leader and _may_campaign(core):
        _campaign(core, now_us, transfer=True)
