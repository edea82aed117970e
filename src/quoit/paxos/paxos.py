"""One Paxos replica as a value machine: dispatch, time, proposals, reads, and the Ready.

The mechanisms are functions over the `Core`: election.py (phase 1), replication.py and acceptor.py
(phase 2), transfer.py; and values.py (ballots, what an instance holds, what counts). The package's
docstring names the papers.
"""

from collections.abc import Callable
from typing import Any

from quoit.base.check import invariant
from quoit.base.errors import BadRequest, NotLeader
from quoit.base.ids import Index, NodeId, Term
from quoit.paxos import acceptor, election, replication, transfer
from quoit.paxos import messages as m
from quoit.paxos.core import CANDIDATE, FOLLOWER, LEADER, PRE_CANDIDATE, Core
from quoit.paxos.progress import Follower
from quoit.paxos.values import GAP, node_of
from quoit.quorum.agreement import CONFIG, EFFECTS, Entry, HardState, Ready, SnapshotMeta
from quoit.quorum.members import Members, decode_members, encode_members

__all__ = ["CANDIDATE", "FOLLOWER", "LEADER", "PRE_CANDIDATE", "Paxos"]

_CLOSE_ENTRIES = 64
_UNLIMITED = 1 << 62


class Paxos(Core):
    """See quorum.agreement.Agreement for the contract, core.Core for the state."""

    __slots__ = ()

    # What it is

    @property
    def is_leader(self) -> bool:
        """This replica leads, in its own view."""
        return self.role == LEADER

    @property
    def members_durable(self) -> bool:
        """It is on disk that the change which made them was chosen."""
        return not self.config_index or self.stable_index >= self.config_index

    @property
    def last_index(self) -> Index:
        """Index of the newest entry."""
        return self.log.last_index

    @property
    def first_index(self) -> Index:
        """Index of the oldest entry that is still in the log."""
        return self.log.compacted_index + 1

    def term_at(self, index: Index) -> Term | None:
        """Origin of the entry at `index` (values.py); 0 if it had no effect, None if it is not in
        the log."""
        term: Term | None = self.log.term(index)
        return term if term is None else self.origins.get(index, term)

    def log_bytes(self) -> int:
        """Size of the log's data, estimated from what is in memory."""
        cached = len(self.log.cache)
        return self.log.cache_bytes * len(self.log.terms) // cached if cached else 0

    def can_serve(self) -> bool:
        """Leader, and the first instance of its ballot is chosen, so everything before it is."""
        leads = self.role == LEADER and not self.leaving
        return leads and 0 < self.term_start <= self.commit_index

    def takes_proposals(self) -> bool:
        """Leader, and nothing is under way behind which proposals have to wait."""
        return (
            self.role == LEADER
            and not self.transfer_to
            and not self.settling
            and not self.config_pending
            and not self.leaving
        )

    def lease_valid(self, now_us: int) -> bool:
        """A read of the applied state is linearizable now. Where every replica accepts each write,
        nothing can be chosen behind this one's back, so it needs no lease, nor leadership."""
        if not self.can_serve():
            return self.readable()
        if self.quorums.confirm == 1 or self.config.quorum == "all":
            return True
        return self.config.lease_enabled and self.lease.valid(now_us)

    def readable(self) -> bool:
        """Any replica, where every replica accepts each write: it holds no instance that may or may
        not be chosen, so whatever was acknowledged is applied here."""
        return (
            self.config.quorum == "all"
            and not self.damaged
            and self.applied_index == self.log.last_index
            and self.id in self.members.voters
        )

    def most_advanced(self, among: list[NodeId]) -> NodeId:
        """Leader: of the nodes `among`, the follower that has most; voters before learners."""
        voters = self.members.voters
        return max(
            among,
            key=lambda peer: (
                peer in voters,
                self.followers[peer].match_index if peer in self.followers else -1,
                -peer,
            ),
        )

    def keeps_up(self, peer: NodeId) -> bool:
        """Leader: `peer` has all but the newest entries."""
        follower = self.followers.get(peer)
        if follower is None:
            return False
        return follower.voting and self.proposed - follower.match_index <= _CLOSE_ENTRIES

    def reached(self, peer: NodeId) -> Index:
        """Leader: how far `peer`'s log is known to go, durably; 0 if nothing is known."""
        follower = self.followers.get(peer)
        return follower.match_index if follower is not None else 0

    def accepts_snapshot(self, term: Term, index: Index) -> bool:
        """A snapshot of `index` from a leader of `term` would bring this replica forward."""
        return acceptor.accepts_snapshot(self, term, index)

    # Inputs

    def step(self, sender: NodeId, message: Any, now_us: int) -> None:
        """A peer's message. Who is a member is judged where it matters: the sender's list may be newer
        than this replica's, or older."""
        self.now_us = max(self.now_us, now_us)
        handler = _HANDLERS.get(type(message))
        if handler is None or sender == self.id:
            self.trace("foreign_message", node=self.id, sender=sender)
            return
        handler(self, sender, message, now_us)

    def tick(self, now_us: int) -> None:
        """Time passed."""
        self.now_us = max(self.now_us, now_us)
        if self.role != LEADER:
            if now_us >= self.election_us:
                election.ask(self, now_us)
            if self.role == PRE_CANDIDATE:
                election.consider(self, now_us)
            return
        election.check_contact(self, now_us)
        transfer.expire(self, now_us)
        if self.role == LEADER and now_us >= self.heartbeat_us:
            replication.broadcast_heartbeat(self, self.rounds.start(now_us), now_us)

    def next_deadline_us(self) -> int:
        """When `tick` next has something to do."""
        if self.role == LEADER:
            return self.heartbeat_us
        if self.role == PRE_CANDIDATE:
            patient_us = self.asked_us + self.config.election_timeout_us // 2
            return min(self.election_us, max(patient_us, self.now_us + 1))
        return self.election_us

    def campaign_soon(self, at_us: int) -> None:
        """Look for promises at `at_us` if there is no leader."""
        if not self.leader and self.role != LEADER:
            self.election_us = min(self.election_us, max(at_us, self.refuse_until_us))

    def propose(self, data: bytes, now_us: int, kind: int = EFFECTS) -> tuple[Index, Term]:
        """Propose in the next instance as leader. NotLeader: proven not proposed."""
        if not self.takes_proposals():
            raise NotLeader(self.transfer_to or (self.leader if self.role != LEADER else 0))
        self.now_us = max(self.now_us, now_us)
        return replication.append(self, data, kind, now_us), self.term

    def change(self, members: Members, now_us: int) -> Index:
        """Propose other members: the old ones choose the entry, and until it is applied nothing comes
        after it, so the next instance is the new ones' (*Paxos Made Simple*, section 3, with alpha = 1)."""
        if self.role != LEADER:
            raise NotLeader(self.leader)
        if not self.takes_proposals():
            raise BadRequest("a change of members or of the leader is under way; try again soon")
        if not self.can_serve():
            raise BadRequest(
                "this leader is new and does not know all that was agreed on; try again"
            )
        members.check()
        self.now_us = max(self.now_us, now_us)
        # First, so that nothing is sent as if more could follow.
        self.config_pending = self.proposed + 1
        return replication.append(self, encode_members(members), CONFIG, now_us)

    def persisted(self, index: Index, term: Term) -> None:
        """The oldest write with entries that was under way is durable; its last entry was at `index`."""
        ballot, _, last = self.writes.popleft()
        invariant(last == index, "writes become durable in order", index=index, last=last)
        lowest = min((first for _, first, _ in self.writes), default=self.dirty)
        self.stable_index = min(last, lowest - 1, self.dirty - 1, self.log.last_index)
        if self.role == LEADER and ballot == self.term:
            self.own_stable = min(last, self.proposed)
            replication.maybe_choose(self)

    def promised(self, hard_state: HardState) -> None:
        """`hard_state` is durable."""
        self.durable_term = max(self.durable_term, hard_state.term)
        election.own_promise(self)

    def applied_to(self, index: Index) -> None:
        """Entries up to `index` were applied."""
        self.applied_index = index
        self.log.evict(min(index, self.stable_index))

    def read(self, read_id: int, now_us: int) -> None:
        """Ask for proof that the state is current; answered in Ready.reads or reads_failed."""
        self.now_us = max(self.now_us, now_us)
        if self.role == LEADER:
            self.reads.ask(read_id, now_us)
        else:
            self.reads_failed.append(read_id)
        self.has_ready = True

    def transfer(self, to: NodeId, now_us: int) -> None:
        """Hand leadership over. Revokes the lease for the rest of the ballot first."""
        if self.takes_proposals():
            transfer.begin(self, to, now_us)

    def install(self, sender: NodeId, term: Term, meta: SnapshotMeta, now_us: int) -> None:
        """The snapshot's data are in the engine: the log starts over behind it."""
        self.step(sender, m.TakeSnapshot(term, meta), now_us)

    def snapshot_done(self, to: NodeId, index: Index, ok: bool, now_us: int) -> None:
        """The transfer of the snapshot at `index` ended. After a failure it is tried again later."""
        replication.snapshot_done(self, to, index, ok, now_us)

    def compact(self, index: Index) -> None:
        """Forget entries up to `index`, which the engine holds durably."""
        index = min(index, self.applied_index)
        if index > self.log.compacted_index:
            term = self.term_at(index)
            invariant(term is not None, "compaction of an unknown entry", index=index)
            self.log.compact(index, term or 0)
            if self.origins:
                self.origins = {at: one for at, one in self.origins.items() if at > index}

    # Outputs

    def ready(self) -> Ready | None:
        """Effects since the last call; None when there are none."""
        if not self.has_ready:
            return None
        if self.reads.pending and self.can_serve():
            self._begin_reads()
        committed = self._hand_out()
        log = self.log
        entries: list[Entry] = []
        if self.dirty <= log.last_index:
            entries = log.slice(self.dirty, log.last_index + 1, _UNLIMITED)
            own = self.term if self.role == LEADER else 0
            self.writes.append((own, self.dirty, log.last_index))
            self.dirty = log.last_index + 1
        hard_state = HardState(self.term, 0) if self.hard_dirty else None
        self.hard_dirty = False
        ready = Ready(
            hard_state, entries, self.snapshot, self.messages, self.after, committed,
            self.proven, self.reads_failed, self.snapshot_wanted,
            self.commit_index if entries else 0,
        )  # fmt: skip
        self.messages, self.after = [], []
        if self.proven or self.reads_failed:
            self.proven, self.reads_failed = [], []
        if self.snapshot_wanted:
            self.snapshot_wanted = []
        self.snapshot = None
        self.has_ready = self.applying_index < self.commit_index
        return ready

    def _hand_out(self) -> list[Entry]:
        """The next chosen entries, as they are to be applied."""
        if self.applying_index >= self.commit_index:
            return []
        low, high = self.applying_index + 1, self.commit_index + 1
        chosen = self.log.slice(low, high, self.config.committed_bytes_max)
        chain, found = self.chain, []
        for entry in chosen:
            invariant(entry.kind != GAP, "an instance without a value is applied", at=entry.index)
            given = chain.follow(entry)
            if not given.term:
                self.trace("void", node=self.id, index=entry.index)
            if given.term != entry.term:
                self.origins[entry.index] = given.term
            found.append(given)
            self.applying_index = entry.index
            if given.kind == CONFIG:
                self._reconfigure(given)
            if entry.index == self.settling:
                # It is settled who decides on what comes after it: ask them.
                self.trace("settled", node=self.id, term=self.term, index=entry.index)
                self.become_follower(self.term, 0, self.now_us)
                self.campaign_soon(self.now_us)
        return found

    def _reconfigure(self, entry: Entry) -> None:
        members = decode_members(entry.data)
        self.set_members(members)
        self.trace("members", node=self.id, index=entry.index, voters=len(members.voters))
        # Written again, with the mark that it is chosen: who is removed may forget the shard once this
        # replica says so, and then nobody may have to choose it again.
        self.config_index = entry.index
        self.dirty = min(self.dirty, entry.index)
        self.stable_index = min(self.stable_index, self.dirty - 1)
        if self.role != LEADER:
            return
        if entry.index == self.config_pending:
            self.config_pending = 0
        # Also those that leave: they learn from this that they may go.
        replication.broadcast_heartbeat(self, self.rounds.start(self.now_us), self.now_us)
        old = self.followers
        window = self.config.inflight_accepts_max
        self.followers = {
            peer: old.get(peer) or Follower(self.proposed + 1, window) for peer in self.peers
        }
        if self.id not in members.voters:
            self.leaving = self.rounds.current

    def _begin_reads(self) -> None:
        """One round for all waiting reads, or none if nobody else can have chosen anything."""
        reads, rounds = self.reads, self.rounds
        if self.config.quorum == "all" or self.quorums.confirm == 1:
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
        invariant(log.compacted_index <= self.applied_index, "compacted before applied")
        invariant(self.applied_index <= self.applying_index, "applied before handed out")
        invariant(self.applying_index <= self.commit_index, "handed out before chosen")
        invariant(self.commit_index <= last, "chosen beyond the log")
        invariant(self.stable_index < self.dirty <= last + 1, "durable before handed out")
        invariant(self.durable_term <= self.term, "a future ballot is durable")
        leads = self.role == LEADER
        invariant(not leads or node_of(self.term) == self.id, "a leader has its own ballot")
        invariant(not leads or self.leader == self.id, "a leader follows", leader=self.leader)
        invariant(not leads or self.durable_term == self.term, "leads by a ballot that may be lost")
        invariant(not self.damaged or self.role == FOLLOWER, "damaged, and yet it campaigns")
        invariant(leads or not self.followers, "followers of a leader")
        for follower in self.followers.values():
            follower.check()
            invariant(follower.match_index <= last, "match beyond the leader's log")
        if leads:
            invariant(self.proposed <= last, "proposed, and not in the log")
            invariant(self.own_stable <= self.proposed, "durable before proposed")
        else:
            invariant(self.received >= self.commit_index, "chosen, and not received")


_HANDLERS: dict[type, Callable[[Core, NodeId, Any, int], None]] = {
    m.Ask: election.on_ask,
    m.AskReply: election.on_ask_reply,
    m.Prepare: election.on_prepare,
    m.Promise: election.on_promise,
    m.Accept: acceptor.on_accept,
    m.Accepted: replication.on_accepted,
    m.Beat: acceptor.on_beat,
    m.BeatReply: replication.on_beat_reply,
    m.TakeOver: election.on_take_over,
    m.TakeSnapshot: acceptor.install,
    m.TakeSnapshotReply: replication.on_snapshot_reply,
}
