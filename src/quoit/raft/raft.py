"""One Raft replica as a value machine: dispatch, time, proposals, reads, and the Ready.

Follows Ongaro and Ousterhout, *In Search of an Understandable Consensus Algorithm* (extended
version) and Ongaro's thesis, *Consensus: Bridging Theory and Practice*. The mechanisms are functions
over the `Core`: election.py, replication.py (leader), follower.py, snapshot.py, transfer.py; and
small classes: log.py, progress.py, rounds.py, lease.py, read_index.py.

Deviation: messages carry round numbers, so that a lease and a read's proof count from when a message
was sent. Deviation: a replica whose disk lost synced data takes part without being counted.
"""

from collections.abc import Callable
from typing import Any

from quoit.base.check import invariant
from quoit.base.errors import NotLeader
from quoit.base.ids import Index, NodeId, Term
from quoit.quorum.agreement import EFFECTS, Entry, HardState, Ready, SnapshotMeta
from quoit.quorum.members import Members
from quoit.raft import election, follower, membership, replication, snapshot, transfer
from quoit.raft import messages as m
from quoit.raft.core import CANDIDATE, FOLLOWER, LEADER, PRE_CANDIDATE, Core

_CLOSE_ENTRIES = 64

__all__ = ["CANDIDATE", "FOLLOWER", "LEADER", "PRE_CANDIDATE", "Raft"]

_UNLIMITED = 1 << 62


class Raft(Core):
    """See quorum.agreement.Agreement for the contract, core.Core for the state."""

    __slots__ = ()

    # What it is

    @property
    def is_leader(self) -> bool:
        """This replica leads, in its own view."""
        return self.role == LEADER

    @property
    def members_durable(self) -> bool:
        """It goes by the newest entry that names members, once that is on disk."""
        index = self.configs[-1][0]
        return self.stable_index >= index or self.log.compacted_index >= index

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
        return self.log.cache_bytes * len(self.log.terms) // cached if cached else 0

    def can_serve(self) -> bool:
        """Leader, and an entry of its own term is committed."""
        return self.role == LEADER and self.commit_index >= self.term_start

    def lease_valid(self, now_us: int) -> bool:
        """Nobody else can have been elected by now, and this replica knows all that was committed."""
        if not self.can_serve():
            return False
        if self.alone:
            return True
        return self.config.lease_enabled and self.lease.valid(now_us)

    def most_advanced(self, among: list[NodeId]) -> NodeId:
        """Leader: of the nodes `among`, the follower whose log reaches furthest."""
        voters = self.members.voters
        return max(
            among,
            key=lambda peer: (
                peer in voters,
                self.progress[peer].match_index if peer in self.progress else -1,
                -peer,
            ),
        )

    def keeps_up(self, peer: NodeId) -> bool:
        """Leader: `peer` has all but the newest entries, so a transfer to it would be short."""
        progress = self.progress.get(peer)
        if progress is None:
            return False
        return progress.voting and self.last_index - progress.match_index <= _CLOSE_ENTRIES

    def reached(self, peer: NodeId) -> Index:
        """Leader: how far `peer`'s log is known to go, durably; 0 if nothing is known."""
        progress = self.progress.get(peer)
        return progress.match_index if progress is not None else 0

    def accepts_snapshot(self, term: Term, index: Index) -> bool:
        """A snapshot of `index` from a leader of `term` would bring this replica forward."""
        return snapshot.accepts(self, term, index)

    # Inputs

    def takes_proposals(self) -> bool:
        """Leader, and leadership is not being handed over."""
        return self.role == LEADER and not self.transfer_to

    def change(self, members: Members, now_us: int) -> Index:
        """Propose other members as leader: at most one voter more or less (membership.py)."""
        return membership.change(self, members, now_us)

    def install(self, sender: NodeId, term: Term, meta: SnapshotMeta, now_us: int) -> None:
        """The snapshot's data are in the engine: the log starts over behind it."""
        self.step(sender, m.InstallSnapshot(term, meta), now_us)

    def step(self, sender: NodeId, message: Any, now_us: int) -> None:
        """A peer's message."""
        handler = _HANDLERS.get(type(message))
        # Whoever sends: this replica's list of members may be older than the sender's.
        if handler is None or sender == self.id:
            self.trace("foreign_message", node=self.id, sender=sender)
            return
        handler(self, sender, message, now_us)

    def tick(self, now_us: int) -> None:
        """Time passed."""
        if self.role != LEADER:
            election.own_vote(self, now_us)
            if self.role != LEADER and now_us >= self.election_us:
                election.pre_campaign(self, now_us)
            return
        election.check_quorum(self, now_us)
        transfer.expire(self, now_us)
        if not self.members_settled and self.role == LEADER:
            membership.settle(self, now_us)
        if self.role == LEADER and now_us >= self.heartbeat_us:
            replication.broadcast_heartbeat(self, self.rounds.start(now_us), now_us)

    def next_deadline_us(self) -> int:
        """When `tick` next has something to do."""
        return self.heartbeat_us if self.role == LEADER else self.election_us

    def campaign_soon(self, at_us: int) -> None:
        """Look for votes at `at_us` if there is no leader: for the preferred replica of a shard that
        never ran before."""
        if not self.leader and self.role != LEADER:
            self.election_us = min(self.election_us, max(at_us, self.refuse_until_us))

    def propose(self, data: bytes, now_us: int, kind: int = EFFECTS) -> tuple[Index, Term]:
        """Append to the log as leader. NotLeader: proven not proposed."""
        if self.role != LEADER:
            raise NotLeader(self.leader)
        if self.transfer_to:
            raise NotLeader(self.transfer_to)
        return replication.append(self, data, kind, now_us), self.term

    def persisted(self, index: Index, term: Term) -> None:
        """The own log is durable up to `index`, whose entry then had `term`. Of no consequence if
        the entry was replaced since."""
        # Writes are made in order, and the term was promised before it was used.
        if term > self.durable_term:
            self.durable_term = term
        if self.stable_index < index <= self.handed_index and self.log.term(index) == term:
            self.stable_index = index
            if self.role == LEADER:
                replication.maybe_commit(self)

    def promised(self, hard_state: HardState) -> None:
        """`hard_state` is durable."""
        self.durable_term = max(self.durable_term, hard_state.term)

    def applied_to(self, index: Index) -> None:
        """Entries up to `index` were applied."""
        self.applied_index = index
        self.log.evict(min(index, self.stable_index))

    def read(self, read_id: int, now_us: int) -> None:
        """Ask for proof that the state is current; answered in Ready.reads or reads_failed."""
        if self.role == LEADER:
            self.reads.ask(read_id, now_us)
        else:
            self.reads_failed.append(read_id)
        self.has_ready = True

    def transfer(self, to: NodeId, now_us: int) -> None:
        """Hand leadership over. Revokes the lease for the rest of the term first."""
        transfer.begin(self, to, now_us)

    def snapshot_done(self, to: NodeId, index: Index, ok: bool, now_us: int) -> None:
        """The transfer of the snapshot at `index` ended. After a failure it is tried again later."""
        if snapshot.done(self, to, index, ok):
            replication.replicate(self, to, self.progress[to], now_us)

    def compact(self, index: Index) -> None:
        """Forget entries up to `index`, which the engine holds durably. The caller may tell the log
        on disk so with its next write: that comes after the entries themselves."""
        index = min(index, self.applied_index)
        if index > self.log.compacted_index:
            term = self.log.term(index)
            invariant(term is not None, "compaction of an unknown entry", index=index)
            self.log.compact(index, term or 0)

    # Output

    def ready(self) -> Ready | None:
        """Effects since the last call; None when there are none."""
        if not self.has_ready:
            return None
        if self.reads.pending and self.can_serve():
            self._begin_reads()
        log = self.log
        entries: list[Entry] = []
        if self.handed_index < log.last_index:
            entries = log.slice(self.handed_index + 1, log.last_index + 1, _UNLIMITED)
            self.handed_index = log.last_index
        committed: list[Entry] = []
        if self.applying_index < self.commit_index:
            low, high = self.applying_index + 1, self.commit_index + 1
            committed = log.slice(low, high, self.config.committed_bytes_max)
            self.applying_index += len(committed)
        hard_state = HardState(self.term, self.vote) if self.hard_dirty else None
        self.hard_dirty = False
        ready = Ready(
            hard_state, entries, self.snapshot, self.messages, self.after, committed,
            self.proven, self.reads_failed, self.snapshot_wanted,
        )  # fmt: skip
        self.messages, self.after = [], []
        if self.proven or self.reads_failed:
            self.proven, self.reads_failed = [], []
        if self.snapshot_wanted:
            self.snapshot_wanted = []
        self.snapshot = None
        self.has_ready = self.applying_index < self.commit_index
        return ready

    def _begin_reads(self) -> None:
        """One round for all waiting reads, or none if nobody else has a say."""
        reads, rounds = self.reads, self.rounds
        if self.alone:
            # Also for reads that wait for those who were removed.
            rounds.quorum_reached(rounds.current)
            reads.begin(rounds.acknowledged, self.commit_index)
            self.proven.extend(reads.proven(rounds.acknowledged))
            return
        # The present is not before either of these, and a start that is too early only shortens
        # the lease.
        now_us = max(reads.pending_us, rounds.current_us)
        # A round of its own: only what is answered after the read arrived can prove it.
        round_number = rounds.start(now_us)
        reads.begin(round_number, self.commit_index)
        replication.broadcast_heartbeat(self, round_number, now_us)

    def check(self) -> None:
        """Assert every invariant; the simulator calls this after each step."""
        log = self.log
        last = log.last_index
        log.check()
        invariant(not log.terms or log.compacted_term <= log.terms[0], "terms never fall")
        invariant(log.compacted_index <= self.applied_index, "compacted before applied")
        invariant(self.applied_index <= self.applying_index, "applied before handed out")
        invariant(self.applying_index <= self.commit_index, "handed out before committed")
        invariant(self.commit_index <= last, "committed beyond the log")
        invariant(self.stable_index <= self.handed_index, "durable before handed out")
        invariant(self.handed_index <= last, "handed out beyond the log")
        invariant(log.last_term <= self.term, "an entry of a future term")
        invariant(self.durable_term <= self.term, "a future term is durable")
        invariant(
            self.role != LEADER or self.leader == self.id, "a leader follows", leader=self.leader
        )
        invariant(self.role not in (CANDIDATE, LEADER) or self.vote == self.id, "votes for itself")
        invariant(not self.damaged or self.role in (FOLLOWER,), "damaged, and yet it campaigns")
        invariant(
            self.role == LEADER or not self.progress, "only a leader follows others' progress"
        )
        for progress in self.progress.values():
            progress.check()
            invariant(progress.match_index <= last, "match beyond the leader's log")
            invariant(progress.round <= self.rounds.current, "an answer to an unsent round")
        if self.role == LEADER:
            invariant(log.term(self.term_start) in (self.term, None), "first entry of the term")
            invariant(self.term_start <= last, "a leader has an entry of its own")


_HANDLERS: dict[type, Callable[[Core, NodeId, Any, int], None]] = {
    m.AppendEntries: follower.on_append,
    m.AppendEntriesReply: replication.on_append_reply,
    m.Heartbeat: follower.on_heartbeat,
    m.HeartbeatReply: replication.on_heartbeat_reply,
    m.PreVote: election.on_pre_vote,
    m.PreVoteReply: election.on_pre_vote_reply,
    m.RequestVote: election.on_request_vote,
    m.RequestVoteReply: election.on_request_vote_reply,
    m.TimeoutNow: election.on_timeout_now,
    m.InstallSnapshot: snapshot.on_install,
    m.InstallSnapshotReply: replication.on_snapshot_reply,
}
