"""Elections: pre-vote, votes, and when a vote must be refused (Raft section 5.2 and 5.4.1; thesis
sections 9.6, pre-vote, and 6.4.1, refusing votes while a leader is alive)."""

from quoit.base.ids import Index, NodeId, Term
from quoit.quorum.agreement import EMPTY
from quoit.raft.core import CANDIDATE, LEADER, PRE_CANDIDATE, Core
from quoit.raft.messages import PreVote, PreVoteReply, RequestVote, RequestVoteReply, TimeoutNow
from quoit.raft.progress import Progress
from quoit.raft.rounds import Rounds

__all__ = ["Election"]


class Election(Core):
    """The part of a replica that decides who leads."""

    def campaign_soon(self, at_us: int) -> None:
        """Look for votes at `at_us` if there is no leader: used by the preferred replica at start."""
        if not self.leader and self.role != LEADER:
            self.election_us = min(self.election_us, at_us)

    def _may_campaign(self) -> bool:
        return not self.damaged and not self.suspended

    def _pre_campaign(self, now_us: int) -> None:
        """Ask whether an election could be won, without disturbing anyone."""
        self._reset_election(now_us)
        if not self._may_campaign():
            return
        self.role = PRE_CANDIDATE
        self.leader = 0
        self.has_ready = True
        self.votes = {self.id: True}
        self.trace("pre_candidate", term=self.term)
        if self._won():
            self._campaign(now_us, transfer=False)
            return
        message = PreVote(self.term + 1, self.log.last_index, self.log.last_term)
        for peer in self.peers:
            self._send(peer, message)

    def _campaign(self, now_us: int, *, transfer: bool) -> None:
        self.role = CANDIDATE
        self.leader = 0
        self._promise(self.term + 1, self.id)
        self._reset_election(now_us)
        self.votes = {self.id: True}
        self.trace("candidate", term=self.term)
        if self._won():
            self._become_leader(now_us)
            return
        message = RequestVote(self.term, self.log.last_index, self.log.last_term, transfer)
        for peer in self.peers:
            # The own vote must be durable before others can add theirs to it.
            self._send_after_persist(peer, message)

    def _won(self) -> bool:
        return sum(self.votes.values()) >= self.quorum

    def _lost(self) -> bool:
        return len(self.votes) - sum(self.votes.values()) > len(self.config.voters) - self.quorum

    def _become_leader(self, now_us: int) -> None:
        self.role = LEADER
        self.leader = self.id
        self.votes = {}
        config = self.config
        next_index = self.log.last_index + 1
        self.progress = {
            peer: Progress(next_index, config.inflight_appends_max, now_us) for peer in self.peers
        }
        self.rounds = Rounds(self.lease_us, now_us)
        self.transfer_to = 0
        self.heartbeat_us = now_us + config.heartbeat_us
        self.term_start = next_index
        self.trace("leader", term=self.term, first=next_index)
        # Raft section 8: an entry of the own term commits everything before it.
        self._append(b"", EMPTY, now_us)

    def _append(self, data: bytes, kind: int, now_us: int) -> Index:
        raise NotImplementedError

    def _refuses_votes(self, now_us: int) -> bool:
        """A leader may hold a lease that counts on this replica."""
        if self.damaged or now_us < self.refuse_until_us:
            return True
        contact = self.rounds.contact_us if self.role == LEADER else self.contact_us
        return now_us - contact < self.config.election_timeout_us

    def _up_to_date(self, last_index: Index, last_term: Term) -> bool:
        """Raft section 5.4.1: the later last term wins, then the longer log."""
        return (last_term, last_index) >= (self.log.last_term, self.log.last_index)

    def _on_pre_vote(self, sender: NodeId, message: PreVote, now_us: int) -> None:
        granted = (
            message.term > self.term
            and not self._refuses_votes(now_us)
            and self._up_to_date(message.last_index, message.last_term)
        )
        term = message.term if granted else self.term
        self._send_after_persist(sender, PreVoteReply(term, granted))

    def _on_pre_vote_reply(self, sender: NodeId, message: PreVoteReply, now_us: int) -> None:
        if not message.granted and message.term > self.term:
            self._become_follower(message.term, 0, now_us)
            return
        if self.role != PRE_CANDIDATE or (message.granted and message.term != self.term + 1):
            return
        self.votes[sender] = message.granted
        if self._won():
            self._campaign(now_us, transfer=False)

    def _on_request_vote(self, sender: NodeId, message: RequestVote, now_us: int) -> None:
        if self._refuses_votes(now_us) and (not message.transfer or self.damaged):
            # Not even the term is adopted: a cut-off replica must not depose a working leader.
            self.trace("vote_refused", term=message.term, sender=sender)
            return
        if message.term > self.term:
            self._become_follower(message.term, 0, now_us)
        granted = (
            message.term == self.term
            and self.vote in (0, sender)
            and self._up_to_date(message.last_index, message.last_term)
        )
        if granted:
            self._promise(self.term, sender)
            self._reset_election(now_us)
        self._send_after_persist(sender, RequestVoteReply(self.term, granted))

    def _on_request_vote_reply(
        self, sender: NodeId, message: RequestVoteReply, now_us: int
    ) -> None:
        if message.term > self.term:
            self._become_follower(message.term, 0, now_us)
            return
        if self.role != CANDIDATE or message.term != self.term:
            return
        self.votes[sender] = message.granted
        if self._won():
            self._become_leader(now_us)
        elif self._lost():
            self._become_follower(self.term, 0, now_us)

    def _on_timeout_now(self, sender: NodeId, message: TimeoutNow, now_us: int) -> None:
        if message.term == self.term and self.role != LEADER and self._may_campaign():
            self._campaign(now_us, transfer=True)
