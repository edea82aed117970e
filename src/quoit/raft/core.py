"""What every part of the Raft core works on: its state, its outputs, and how it becomes a follower."""

from typing import Any

from quoit.base.check import invariant
from quoit.base.ids import Index, NodeId, Term
from quoit.base.seams import Rng, Trace
from quoit.quorum.agreement import Entry, EntryReader, HardState, SnapshotMeta
from quoit.raft.config import RaftConfig
from quoit.raft.log import RaftLog
from quoit.raft.progress import Progress
from quoit.raft.rounds import Rounds

__all__ = ["CANDIDATE", "FOLLOWER", "LEADER", "PRE_CANDIDATE", "Core"]

FOLLOWER = "follower"
PRE_CANDIDATE = "pre-candidate"
CANDIDATE = "candidate"
LEADER = "leader"


class Core:
    """State of one replica (figure 2 of the Raft paper).

    term, vote      what was promised; durable before any message that depends on it leaves
    durable_term    the term that is known to be on disk
    commit_index    entries up to here are agreed on; Invariant: applied <= commit <= last
    handed_index    entries up to here were handed out to be written
    stable_index    entries up to here are durable here; Invariant: stable <= handed <= last
    applying_index  entries up to here were handed out to be applied
    contact_us      when a leader of this term was last heard (as follower)
    refuse_until_us no vote before this: the replica restarted and may have supported a lease
    damaged         may not vote, campaign or be counted until brought past must_reach
    suspended       the node's disk hangs: do not campaign
    """

    def __init__(
        self,
        config: RaftConfig,
        *,
        hard_state: HardState,
        entries: list[Entry],
        first: tuple[Index, Term],
        applied: Index,
        rng: Rng,
        reader: EntryReader,
        trace: Trace,
        now_us: int,
        fresh: bool = True,
        damaged: bool = False,
        must_reach: Index = 0,
        must_term: Term = 0,
    ) -> None:
        self.config = config
        self.id: NodeId = config.node_id
        self.peers = [voter for voter in config.voters if voter != config.node_id]
        self.quorum = len(config.voters) // 2 + 1
        self.rng = rng
        self.trace = trace
        self.log = RaftLog(entries, first, reader, config.cache_bytes_max)
        self.term: Term = hard_state.term
        self.vote: NodeId = hard_state.vote
        self.durable_term = self.term
        self.role = FOLLOWER
        self.leader: NodeId = 0
        self.commit_index: Index = max(applied, first[0])
        self.applied_index: Index = self.commit_index
        self.applying_index: Index = self.commit_index
        self.handed_index: Index = self.log.last_index
        self.stable_index: Index = self.log.last_index
        self.damaged = damaged
        self.must_reach = must_reach
        self.must_term = must_term
        self.suspended = False
        self.progress: dict[NodeId, Progress] = {}
        self.votes: dict[NodeId, bool] = {}
        timeout = config.election_timeout_us
        # A bound on the clocks' rates of 2 x drift covers one fast and one slow clock.
        self.lease_us = timeout - timeout * 2 * config.drift_ppm // 1_000_000
        self.rounds = Rounds(self.lease_us, now_us)
        self.contact_us = now_us - timeout
        self.refuse_until_us = now_us if fresh else now_us + timeout
        self.transfer_to: NodeId = 0
        self.transfer_deadline_us = 0
        self.transfer_sent = False
        self.heartbeat_us = 0
        self.term_start: Index = 0
        self.has_ready = False
        self._hard_dirty = False
        self._messages: list[tuple[NodeId, Any]] = []
        self._after: list[tuple[NodeId, Any]] = []
        self._reads: list[tuple[int, Index]] = []
        self._reads_failed: list[int] = []
        self._snapshot: SnapshotMeta | None = None
        self._snapshot_wanted: list[NodeId] = []
        self.election_us = 0
        self._reset_election(now_us)

    # Outputs

    def _send(self, to: NodeId, message: Any) -> None:
        self._messages.append((to, message))
        self.has_ready = True

    def _send_after_persist(self, to: NodeId, message: Any) -> None:
        self._after.append((to, message))
        self.has_ready = True

    # Transitions that every part needs

    def _reset_election(self, now_us: int) -> None:
        timeout = self.config.election_timeout_us
        self.election_us = now_us + self.rng.randrange(timeout, 2 * timeout)

    def _promise(self, term: Term, vote: NodeId) -> None:
        invariant(term >= self.term, "the term never falls", term=term, now=self.term)
        if term == self.term and vote == self.vote:
            return
        if term == self.term:
            invariant(self.vote == 0, "one vote per term", term=term, vote=self.vote, new=vote)
        self.term = term
        self.vote = vote
        self._hard_dirty = True
        self.has_ready = True

    def _become_follower(self, term: Term, leader: NodeId, now_us: int) -> None:
        was_leader = self.role == LEADER
        if term > self.term:
            self._promise(term, 0)
        if self.role != FOLLOWER or self.leader != leader:
            self.trace("follower", term=term, leader=leader)
            self.has_ready = True
        self.role = FOLLOWER
        self.leader = leader
        self.votes = {}
        self.progress = {}
        self.transfer_to = 0
        self._reset_election(now_us)
        if was_leader:
            self._reads_failed.extend(self.rounds.abandon())
            self.has_ready = True

    def _commit_to(self, index: Index) -> None:
        if index > self.commit_index:
            invariant(index <= self.log.last_index, "commit beyond the log", index=index)
            self.commit_index = index
            self.has_ready = True
            if self.damaged:
                self._check_healed()

    def _check_healed(self) -> None:
        """A damaged replica is whole again when a leader that must be current (it committed an
        entry of its own term without this replica) has brought it past all it may have
        acknowledged."""
        if (
            self.term >= self.must_term
            and self.commit_index >= self.must_reach
            and self.log.term(self.commit_index) == self.term
        ):
            self.damaged = False
            self.trace("healed", term=self.term, commit=self.commit_index)
