"""One Raft replica as a value machine: dispatch, time, proposals, reads, and the Ready.

Follows Ongaro and Ousterhout, *In Search of an Understandable Consensus Algorithm* (extended version)
and Ongaro's thesis; the mechanisms live in election.py, replication.py, rounds.py (leases and reads),
progress.py and log.py.
"""

from typing import Any

from quoit.base.check import invariant
from quoit.base.errors import NotLeader
from quoit.base.ids import Index, NodeId, Term
from quoit.quorum.agreement import EFFECTS, HardState, Ready
from quoit.raft import messages as m
from quoit.raft.core import CANDIDATE, FOLLOWER, LEADER, PRE_CANDIDATE
from quoit.raft.replication import Replication

__all__ = ["CANDIDATE", "FOLLOWER", "LEADER", "PRE_CANDIDATE", "Raft"]


class Raft(Replication):
    """See quorum.agreement.Agreement for the contract."""

    # Properties

    @property
    def is_leader(self) -> bool:
        """This replica leads, in its own view."""
        return self.role == LEADER

    @property
    def last_index(self) -> Index:
        """Index of the newest entry."""
        return self.log.last_index

    @property
    def first_index(self) -> Index:
        """Index of the oldest entry that is still in the log."""
        return self.log.compacted_index + 1

    def term_at(self, index: Index) -> Term | None:
        """Term of the entry at `index`, None if it is not in the log."""
        return self.log.term(index)

    def log_bytes(self) -> int:
        """Size of the log's data, estimated from what is in memory."""
        cached = len(self.log.cache)
        average = self.log.cache_bytes // cached if cached else 0
        return average * len(self.log.terms)

    def can_serve(self) -> bool:
        """Leader, and an entry of its own term is committed."""
        return self.role == LEADER and self.commit_index >= self.term_start

    def lease_valid(self, now_us: int) -> bool:
        """Nobody else can have been elected before now, by the drift bound."""
        if self.role != LEADER or self.commit_index < self.term_start:
            return False
        if not self.peers:
            return True
        rounds = self.rounds
        return self.config.lease_enabled and not rounds.revoked and now_us < rounds.lease_until_us

    def most_advanced(self, among: list[NodeId]) -> NodeId:
        """Of the nodes `among`, the follower whose log reaches furthest."""
        return max(among, key=lambda peer: (self.progress[peer].match_index, -peer))

    # Inputs

    def step(self, sender: NodeId, message: Any, now_us: int) -> None:
        """A peer's message."""
        if sender not in self.peers:
            self.trace("foreign_message", sender=sender)
            return
        handler = _HANDLERS.get(type(message))
        if handler is not None:
            getattr(self, handler)(sender, message, now_us)

    def tick(self, now_us: int) -> None:
        """Time passed."""
        if self.role != LEADER:
            if now_us >= self.election_us:
                self._pre_campaign(now_us)
            return
        if now_us >= self.heartbeat_us:
            self._broadcast_heartbeat(self.rounds.start(now_us), now_us)
        if self.transfer_to and now_us >= self.transfer_deadline_us:
            self.trace("transfer_aborted", term=self.term, to=self.transfer_to)
            self.transfer_to = 0
        self._check_quorum(now_us)

    def _check_quorum(self, now_us: int) -> None:
        """A leader that a quorum does not answer is none (thesis section 6.2)."""
        if not self.peers:
            return
        heard = sorted((one.heard_us for one in self.progress.values()), reverse=True)
        if now_us - heard[self.quorum - 2] > 2 * self.config.election_timeout_us:
            self.trace("quorum_lost", term=self.term)
            self._become_follower(self.term, 0, now_us)

    def next_deadline_us(self) -> int:
        """When `tick` next has something to do."""
        return self.heartbeat_us if self.role == LEADER else self.election_us

    def propose(self, data: bytes, now_us: int, kind: int = EFFECTS) -> tuple[Index, Term]:
        """Append to the log as leader."""
        if self.role != LEADER or self.transfer_to:
            raise NotLeader(self.leader if self.role != LEADER else self.transfer_to)
        return self._append(data, kind, now_us), self.term

    def persisted(self, index: Index, term: Term) -> None:
        """The own log is durable up to `index`, whose entry then had `term`."""
        if index > self.stable_index and self.log.term(index) == term:
            self.stable_index = index
            if self.role == LEADER:
                self._maybe_commit()

    def promised(self, hard_state: HardState) -> None:
        """`hard_state` is durable."""
        self.durable_term = max(self.durable_term, hard_state.term)

    def applied_to(self, index: Index) -> None:
        """Entries up to `index` were applied."""
        self.applied_index = index
        self.log.evict(min(index, self.stable_index))

    def read(self, read_id: int, now_us: int) -> None:
        """Ask for proof that the state is current."""
        self.has_ready = True
        if self.role != LEADER:
            self._reads_failed.append(read_id)
            return
        self.rounds.pending.append(read_id)
        self._start_read_round(now_us)

    def _start_read_round(self, now_us: int) -> None:
        rounds = self.rounds
        if not rounds.pending or not self.can_serve():
            return
        ids, rounds.pending = rounds.pending, []
        if not self.peers:
            self._reads.extend((read_id, self.commit_index) for read_id in ids)
            return
        # A round of its own: only acknowledgements sent after the read arrived can prove it.
        round_number = rounds.start(now_us)
        rounds.waiting.append((round_number, self.commit_index, ids))
        self._broadcast_heartbeat(round_number, now_us)

    def transfer(self, to: NodeId, now_us: int) -> None:
        """Hand leadership over. A TimeoutNow may arrive arbitrarily late and override the lease's
        protection, so the lease is gone for the rest of the term, even if the transfer fails."""
        if self.role != LEADER or to not in self.progress:
            return
        self.rounds.revoked = True
        self.transfer_to = to
        self.transfer_sent = False
        self.transfer_deadline_us = now_us + self.config.election_timeout_us
        self._hand_over(to)

    def compact(self, index: Index) -> None:
        """Forget entries up to `index`, which the engine holds durably."""
        index = min(index, self.applied_index, self.stable_index)
        if index > self.log.compacted_index:
            term = self.log.term(index)
            invariant(term is not None, "compaction of an unknown entry", index=index)
            self.log.compact(index, term or 0)

    # Output

    def ready(self) -> Ready | None:
        """Effects since the last call; None when there are none."""
        if not self.has_ready:
            return None
        self.has_ready = False
        if self.rounds.pending and self.can_serve():
            self._start_read_round(self.rounds.current_us + 1)
            self.has_ready = False
        log = self.log
        entries = []
        if self.handed_index < log.last_index:
            entries = log.slice(self.handed_index + 1, log.last_index + 1, 1 << 62)
            self.handed_index = log.last_index
        committed = []
        while self.applying_index < self.commit_index:
            part = log.slice(self.applying_index + 1, self.commit_index + 1, 1 << 62)
            committed.extend(part)
            self.applying_index += len(part)
        hard_state = None
        if self._hard_dirty:
            hard_state = HardState(self.term, self.vote)
            self._hard_dirty = False
        ready = Ready(
            hard_state, entries, self._snapshot, self._messages, self._after, committed,
            self._reads, self._reads_failed, self._snapshot_wanted,
        )  # fmt: skip
        self._snapshot = None
        self._messages, self._after = [], []
        self._reads, self._reads_failed, self._snapshot_wanted = [], [], []
        return ready

    def check(self) -> None:
        """Assert every invariant."""
        last = self.log.last_index
        invariant(self.applied_index <= self.applying_index, "applied before handed out")
        invariant(self.applying_index <= self.commit_index, "handed out before committed")
        invariant(self.commit_index <= last, "committed beyond the log")
        invariant(self.stable_index <= self.handed_index <= last, "durable before handed out")
        invariant(self.log.compacted_index <= self.applied_index, "compacted before applied")
        for progress in self.progress.values():
            invariant(progress.match_index < progress.next_index, "next is behind match")
            invariant(progress.match_index <= last, "match beyond the leader's log")


_HANDLERS: dict[type, str] = {
    m.AppendEntries: "_on_append",
    m.AppendEntriesReply: "_on_append_reply",
    m.Heartbeat: "_on_heartbeat",
    m.HeartbeatReply: "_on_heartbeat_reply",
    m.PreVote: "_on_pre_vote",
    m.PreVoteReply: "_on_pre_vote_reply",
    m.RequestVote: "_on_request_vote",
    m.RequestVoteReply: "_on_request_vote_reply",
    m.TimeoutNow: "_on_timeout_now",
    m.InstallSnapshot: "_on_install_snapshot",
    m.InstallSnapshotReply: "_on_snapshot_reply",
}
