"""What every mechanism of the Raft core works on: a replica's state, its outputs, and how it becomes
a follower. The mechanisms are functions over a `Core`, one a file."""

from typing import Any

from quoit.base.check import invariant
from quoit.base.ids import Index, NodeId, Term
from quoit.base.seams import Rng, Trace
from quoit.quorum.agreement import CONFIG, Entry, EntryReader, HardState, SnapshotMeta
from quoit.quorum.entry_log import EntryLog
from quoit.quorum.lease import Lease
from quoit.quorum.majority import quorum_size
from quoit.quorum.members import Members, decode_members
from quoit.quorum.progress import Progress
from quoit.quorum.read_index import ReadIndex
from quoit.quorum.rounds import Rounds
from quoit.raft.config import RaftConfig

__all__ = ["CANDIDATE", "FOLLOWER", "LEADER", "PRE_CANDIDATE", "Core"]

FOLLOWER = "follower"
PRE_CANDIDATE = "pre-candidate"
CANDIDATE = "candidate"
LEADER = "leader"


class Core:
    """State of one replica (figure 2 of the Raft paper).

    Promises
    term, vote      what was promised; Invariant: term never falls, one vote per term; durable
                    before any message that depends on it leaves
    durable_term    a term that is known to be on disk; Invariant: <= term
    role, leader    what this replica is, and whom it takes for the leader of `term` (0: unknown)

    Log. Invariant: compacted <= applied <= applying <= commit <= last, stable <= handed <= last
    commit_index    entries up to here are agreed on
    applying_index  entries up to here were handed out to be applied
    applied_index   entries up to here were applied
    handed_index    entries up to here were handed out to be written
    stable_index    entries up to here are durable here

    Members
    configs         (index, members): the newest committed change, then those that are not committed;
                    members, peers, quorum: of the newest of them

    Time
    contact_us      when a leader of this term was last heard, as follower
    election_us     campaign at this time unless a leader is heard before
    patience_us     the drawn time-out, T <= patience_us < 2T, renewed with each change of role
    refuse_until_us no vote before this: the replica restarted and may have supported a lease

    Trust
    damaged         its disk lost what was synced: it may not vote, campaign or be counted until a
                    leader of a term >= must_term has brought its commit index to must_reach
    suspended       the node's disk hangs: do not campaign (set by the node)

    Leader (made anew with each leadership)
    term_start      index of its own first entry
    counted         the progress of those followers that have a vote
    members_settled no committed change of members waits to be carried out (membership.py)
    progress        per follower; rounds, lease, reads: see those files
    heartbeat_us    the next heartbeat
    transfer_*      see transfer.py
    """

    __slots__ = (
        "after", "applied_index", "applying_index", "commit_index", "config", "configs", "contact_us",
        "counted", "damaged", "durable_term", "election_us", "handed_index", "hard_dirty", "has_ready",
        "heartbeat_us", "id", "leader", "lease", "log", "members", "members_settled", "messages",
        "must_reach", "must_term",
        "patience_us", "peers", "progress", "proven", "quorum", "reads", "reads_failed",
        "refuse_until_us", "rng", "role", "rounds", "snapshot", "snapshot_wanted", "stable_index",
        "suspended", "term", "term_start", "trace", "transfer_deadline_us", "transfer_sent",
        "transfer_to", "vote", "votes",
    )  # fmt: skip

    def __init__(
        self,
        config: RaftConfig,
        *,
        members: Members,
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
        """What the disk remembered: `entries` follow the compacted point `first`; the engine holds the
        state at `applied`, when the shard had these `members`. `fresh`: this replica never ran
        before, so it owes nobody anything."""
        self.config = config
        self.id: NodeId = config.node_id
        self.rng = rng
        self.trace = trace
        self.log = EntryLog(entries, first, reader, config.cache_bytes_max)

        self.term: Term = hard_state.term
        self.vote: NodeId = hard_state.vote
        self.durable_term = self.term
        self.role = FOLLOWER
        self.leader: NodeId = 0
        self.votes: dict[NodeId, bool] = {}

        # What was applied was committed; all else that was committed is learnt from a leader.
        self.commit_index: Index = max(applied, first[0])
        self.applied_index: Index = self.commit_index
        self.applying_index: Index = self.commit_index
        self.handed_index: Index = self.log.last_index
        self.stable_index: Index = self.log.last_index

        self.damaged = damaged
        self.must_reach = must_reach
        self.must_term = must_term
        self.suspended = False

        timeout = config.election_timeout_us
        self.contact_us = now_us - timeout
        self.refuse_until_us = now_us if fresh else now_us + timeout

        self.configs: list[tuple[Index, Members]] = [(self.commit_index, members)]
        self.counted: list[Progress] = []
        self.members_settled = True
        self.term_start: Index = 0
        self.progress: dict[NodeId, Progress] = {}
        self.heartbeat_us = 0
        self.rounds = Rounds(now_us, timeout)
        self.lease = Lease(timeout, config.drift_ppm)
        self.reads = ReadIndex()
        self.transfer_to: NodeId = 0
        self.transfer_deadline_us = 0
        self.transfer_sent = False

        self.has_ready = False
        self.hard_dirty = False
        self.messages: list[tuple[NodeId, Any]] = []
        self.after: list[tuple[NodeId, Any]] = []
        self.proven: list[tuple[int, Index]] = []
        self.reads_failed: list[int] = []
        self.snapshot: SnapshotMeta | None = None
        self.snapshot_wanted: list[NodeId] = []

        self.patience_us = timeout
        self.election_us = 0
        self.set_members(members)
        for entry in entries:
            if entry.kind == CONFIG and entry.index > self.commit_index:
                self.add_config(entry)
        self.reset_election(now_us)
        invariant(self.commit_index <= self.log.last_index, "applied beyond the log", first=first)

    # Outputs

    def send(self, to: NodeId, message: Any) -> None:
        """Send at once: nothing in it depends on what is not durable yet."""
        self.messages.append((to, message))
        self.has_ready = True

    def send_after_persist(self, to: NodeId, message: Any) -> None:
        """Send when all that was promised and appended until now is durable."""
        self.after.append((to, message))
        self.has_ready = True

    # Members

    def set_members(self, members: Members) -> None:
        """These take part from now on. Those that a leader drops stay in `progress` until the change
        is committed, so that they can learn of it."""
        members.check()
        self.members = members
        self.peers = [peer for peer in members.everyone if peer != self.id]
        self.quorum = quorum_size(len(members.voters))
        if self.role == LEADER:
            window = self.config.inflight_appends_max
            for peer in self.peers:
                if peer not in self.progress:
                    self.progress[peer] = Progress(self.log.last_index + 1, window)
        self.count_voters()

    def count_voters(self) -> None:
        """Leader: whose answers count, beside its own."""
        voters = self.members.voters
        self.counted = [one for peer, one in self.progress.items() if peer in voters]

    @property
    def alone(self) -> bool:
        """No other replica has a vote."""
        return self.members.voters == (self.id,)

    def add_config(self, entry: Entry) -> None:
        """A CONFIG entry was appended: it counts from now on."""
        self.configs.append((entry.index, decode_members(entry.data)))
        self.set_members(self.configs[-1][1])

    def drop_configs(self, index: Index) -> None:
        """The entries from `index` on are truncated."""
        if self.configs[-1][0] >= index:
            self.configs = [one for one in self.configs if one[0] < index]
            self.set_members(self.configs[-1][1])

    # Transitions that every mechanism needs

    def reset_election(self, now_us: int) -> None:
        """Wait for a newly drawn time (Raft section 5.2: random, so that one candidate is first)."""
        timeout = self.config.election_timeout_us
        self.patience_us = self.rng.randrange(timeout, 2 * timeout)
        self.election_us = now_us + self.patience_us

    def promise(self, term: Term, vote: NodeId) -> None:
        """Adopt `term`, having voted for `vote` in it (0: nobody yet)."""
        invariant(term >= self.term, "the term never falls", term=term, now=self.term)
        if term == self.term:
            if vote == self.vote:
                return
            invariant(self.vote == 0, "one vote per term", term=term, vote=self.vote, new=vote)
        self.term = term
        self.vote = vote
        self.hard_dirty = True
        self.has_ready = True

    def become_follower(self, term: Term, leader: NodeId, now_us: int) -> None:
        """Follow `leader` (0: unknown) in `term`; reads that wait here must be asked elsewhere."""
        if term > self.term:
            self.promise(term, 0)
        if self.role != FOLLOWER or self.leader != leader:
            self.trace("follower", node=self.id, term=term, leader=leader)
        failed = self.reads.abandon()
        if failed:
            self.reads_failed.extend(failed)
            self.has_ready = True
        self.role = FOLLOWER
        self.leader = leader
        self.votes = {}
        self.progress = {}
        self.counted = []
        self.members_settled = True
        self.transfer_to = 0
        self.reset_election(now_us)

    def follow(self, sender: NodeId, term: Term, now_us: int) -> bool:
        """A leader's message came: follow it, if its term is current."""
        if term < self.term:
            return False
        if term > self.term or self.leader != sender or self.role != FOLLOWER:
            invariant(
                self.role != LEADER or term > self.term,
                "one leader per term",
                term=term, me=self.id, other=sender,
            )  # fmt: skip
            self.become_follower(term, sender, now_us)
        self.election_us = now_us + self.patience_us
        self.contact_us = now_us
        return True

    def commit_to(self, index: Index) -> None:
        """Entries up to `index` are agreed on."""
        if index > self.commit_index:
            invariant(index <= self.log.last_index, "commit beyond the log", index=index)
            self.commit_index = index
            self.has_ready = True
            if len(self.configs) > 1 and index >= self.configs[1][0]:
                self._commit_configs()
            if self.damaged:
                self.check_healed()

    def _commit_configs(self) -> None:
        while len(self.configs) > 1 and self.configs[1][0] <= self.commit_index:
            self.configs.pop(0)
            voters = len(self.configs[0][1].voters)
            self.trace("members", node=self.id, index=self.configs[0][0], voters=voters)
        if self.role == LEADER:
            # At the next tick: see membership.settle.
            self.members_settled = False
            self.heartbeat_us = 0

    def check_healed(self) -> None:
        """A damaged replica is whole again once a leader has brought it past all that it may have
        acknowledged, and as far as an entry of that leader's own term: a leader that commits such
        an entry, without counting this replica, is a current one."""
        if (
            self.term >= self.must_term
            and self.commit_index >= self.must_reach
            and self.log.term(self.commit_index) == self.term
        ):
            self.damaged = False
            self.trace("healed", node=self.id, term=self.term, commit=self.commit_index)
