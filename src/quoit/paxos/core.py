"""What every mechanism of the Paxos core works on: a replica's state, its outputs, and how it becomes a
follower. The mechanisms are functions over a `Core`, one a file."""

from collections import deque
from typing import Any

from quoit.base.check import invariant
from quoit.base.ids import Index, NodeId, Term
from quoit.base.seams import Rng, Trace
from quoit.paxos.config import PaxosConfig
from quoit.paxos.messages import Promise
from quoit.paxos.progress import Follower
from quoit.paxos.values import GAP, Chain, ballot, origin_of, round_of
from quoit.quorum.agreement import Entry, EntryReader, HardState, SnapshotMeta
from quoit.quorum.entry_log import EntryLog
from quoit.quorum.lease import Lease
from quoit.quorum.members import Members, quorums
from quoit.quorum.read_index import ReadIndex
from quoit.quorum.rounds import Rounds

__all__ = ["CANDIDATE", "FOLLOWER", "LEADER", "PRE_CANDIDATE", "Core"]

FOLLOWER = "follower"
PRE_CANDIDATE = "pre-candidate"
CANDIDATE = "candidate"
LEADER = "leader"


class Core:
    """State of one replica: proposer, acceptor and learner in one.

    Promises
    term            the greatest ballot promised; Invariant: never falls, durable before any message
                    that depends on it leaves
    durable_term    a ballot that is known to be promised on disk; Invariant: <= term
    round_seen      the greatest round heard of; the next ballot is above it
    role, leader    what this replica is, and whom it takes for the leader of `term` (0: unknown)

    Instances. Invariant: compacted <= applied <= applying <= commit <= last
    commit_index    instances up to here are chosen, and what is in the log there is what was chosen
    applying_index  entries up to here were handed out to be applied
    applied_index   entries up to here were applied
    log             what was accepted; an entry's term is the ballot of its acceptance
    origins         of instances in the log whose origin is not their entry's term (values.py)
    chain           which applied entries counted
    dirty           entries from here on must be handed out to be written; last + 1: none
    writes          (own ballot if leading, first, last) of each write under way
    stable_index    entries up to here are durable here

    Following `term`
    received        everything up to here is accepted in `term` or known to be chosen
    known           instances above it that are known to be chosen

    config_index    the newest change of members that was handed out here; 0: none since the start

    Time
    now_us          of the newest input
    contact_us      when a leader of this ballot was last heard, as follower
    election_us     campaign at this time unless a leader is heard before
    patience_us     the drawn time-out, T <= patience_us < 2T, renewed with each change of role
    refuse_until_us no promise before this: the replica restarted and may have supported a lease
    asked_us        when the pre-phase began

    Trust
    damaged         its disk lost what was synced: it may not promise, campaign or be counted until a
                    leader of a ballot >= must_term has brought it to must_reach (acceptor.py)
    suspended       the node's disk hangs: do not campaign (set by the node)

    Leader (made anew with each leadership)
    term_start      the first instance of its own ballot; 0 while `settling`
    proposed        the last instance it proposed in this ballot
    own_stable      its own acceptances are durable up to here
    settling        an older change of members that has to be chosen before anything after it is proposed
    config_pending  its own change of members, behind which nothing is proposed until it is applied
    leaving         it was removed, and goes once those who stay have answered this round; 0: it stays
    followers       per peer; rounds, contact, lease, reads: see those files
    heartbeat_us    the next heartbeat
    transfer_*      see transfer.py
    """

    __slots__ = (
        "after", "applied_index", "applying_index", "asked_us", "chain", "commit_index",
        "config", "config_index", "config_pending", "contact", "contact_us", "damaged", "dirty",
        "durable_term", "election_us", "followers", "hard_dirty", "has_ready", "heartbeat_us",
        "id", "known", "leader", "lease", "leaving", "log", "members", "messages", "must_reach",
        "must_term", "now_us", "origins", "own_stable", "patience_us", "peers", "proposed",
        "proven", "quorums", "reads", "reads_failed", "received", "refuse_until_us", "refused",
        "rng", "role", "round_seen", "rounds", "settling", "snapshot", "snapshot_wanted",
        "stable_index", "suspended", "term", "term_start", "trace", "transfer_deadline_us",
        "transfer_sent", "transfer_to", "votes", "writes",
    )  # fmt: skip

    def __init__(
        self,
        config: PaxosConfig,
        *,
        members: Members,
        hard_state: HardState,
        entries: list[Entry],
        first: tuple[Index, Term],
        applied: Index,
        applied_term: Term,
        chosen: Index,
        rng: Rng,
        reader: EntryReader,
        trace: Trace,
        now_us: int,
        fresh: bool = True,
        damaged: bool = False,
        must_reach: Index = 0,
        must_term: Term = 0,
    ) -> None:
        """What the disk remembered: `entries` follow the compacted point `first`, and those up to
        `chosen` are known to be chosen; the engine holds the state at `applied`, when the shard had
        these `members` and the chain ended in `applied_term`. `fresh`: this replica never ran
        before, so it owes nobody anything."""
        self.config = config
        self.id: NodeId = config.node_id
        self.rng = rng
        self.trace = trace
        self.log = EntryLog(entries, first, reader, config.cache_bytes_max)
        self.origins: dict[Index, Term] = {
            entry.index: origin_of(entry) for entry in entries if origin_of(entry) != entry.term
        }
        last = self.log.last_index

        self.term: Term = hard_state.term
        self.durable_term = self.term
        self.round_seen = round_of(self.term)
        self.role = FOLLOWER
        self.leader: NodeId = 0
        self.votes: dict[NodeId, Promise] = {}
        self.refused = False

        self.commit_index: Index = max(applied, first[0], min(chosen, last))
        self.applied_index: Index = max(applied, first[0])
        self.applying_index: Index = self.applied_index
        self.chain = Chain(applied_term)
        self.dirty: Index = last + 1
        self.writes: deque[tuple[Term, Index, Index]] = deque()
        self.stable_index: Index = last

        self.received: Index = self.commit_index
        self.known: dict[Index, None] = {}

        self.damaged = damaged
        self.must_reach = must_reach
        self.must_term = must_term
        self.suspended = False

        timeout = config.election_timeout_us
        self.now_us = now_us
        self.contact_us = now_us - timeout
        self.refuse_until_us = now_us if fresh else now_us + timeout
        self.asked_us = 0

        self.term_start: Index = 0
        self.proposed: Index = 0
        self.own_stable: Index = 0
        self.settling: Index = 0
        self.config_pending: Index = 0
        self.config_index: Index = 0
        self.leaving = 0
        self.followers: dict[NodeId, Follower] = {}
        self.heartbeat_us = 0
        self.rounds = Rounds(now_us, timeout)
        self.contact = self.rounds
        self.lease = Lease(timeout, config.drift_ppm)
        self.reads = ReadIndex()
        self.transfer_to: NodeId = 0
        self.transfer_deadline_us, self.transfer_sent = 0, False

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
        self.reset_election(now_us)
        self.has_ready = self.applying_index < self.commit_index
        invariant(self.commit_index <= last, "applied beyond the log", first=first)

    # Outputs

    def send(self, to: NodeId, message: Any) -> None:
        """Send at once: nothing in it depends on what is not durable yet."""
        self.messages.append((to, message))
        self.has_ready = True

    def send_after_persist(self, to: NodeId, message: Any) -> None:
        """Send when all that was promised and accepted until now is durable."""
        self.after.append((to, message))
        self.has_ready = True

    # Instances

    @property
    def matched(self) -> Index:
        """As `received`, durably."""
        return min(self.received, self.stable_index)

    def value(self, index: Index) -> Term:
        """Origin of what is accepted in the instance; 0 if nothing is."""
        return self.origins.get(index) or self.log.term(index) or 0

    def put(self, entry: Entry) -> None:
        """Accept `entry`, in place of whatever its instance held. Instances between the last and
        this one become gaps."""
        log = self.log
        index = entry.index
        invariant(index > self.commit_index, "a chosen instance is accepted again", index=index)
        while log.last_index + 1 < index:
            self.dirty = min(self.dirty, log.last_index + 1)
            log.append(Entry(log.last_index + 1, 0, GAP, b""))
        if index > log.last_index:
            log.append(entry)
        else:
            log.replace(entry)
        origin = origin_of(entry)
        if origin != entry.term:
            self.origins[index] = origin
        else:
            self.origins.pop(index, None)
        self.dirty = min(self.dirty, index)
        self.stable_index = min(self.stable_index, self.dirty - 1)
        self.has_ready = True

    def advance_received(self) -> None:
        """Move `received` over what is accepted in this ballot or known to be chosen."""
        log, known = self.log, self.known
        index, last = self.received, log.last_index
        while index < last and (index + 1 in known or log.term(index + 1) == self.term):
            index += 1
            known.pop(index, None)
        self.received = index

    def commit_to(self, index: Index) -> None:
        """Instances up to `index` are chosen, and hold here what was chosen."""
        if index > self.commit_index:
            invariant(index <= self.log.last_index, "commit beyond the log", index=index)
            self.commit_index = index
            self.has_ready = True

    # Transitions that every mechanism needs

    def set_members(self, members: Members) -> None:
        """These take part from now on."""
        members.check()
        self.members = members
        self.peers = [peer for peer in members.everyone if peer != self.id]
        self.quorums = quorums(self.config.quorum, len(members.voters))

    def reset_election(self, now_us: int) -> None:
        """Wait for a newly drawn time, so that of several proposers one is first and gets through
        (*Paxos Made Simple*, section 2.4: a distinguished proposer, lest they duel for ever)."""
        timeout = self.config.election_timeout_us
        self.patience_us = self.rng.randrange(timeout, 2 * timeout)
        self.election_us = now_us + self.patience_us

    def next_ballot(self) -> Term:
        """Above everything that was promised here or heard of."""
        return ballot(self.round_seen + 1, self.id)

    def promise(self, term: Term) -> None:
        """Accept nothing below `term` any more."""
        invariant(term >= self.term, "a promise is for ever", term=term, now=self.term)
        if term > self.term:
            self.term = term
            self.round_seen = max(self.round_seen, round_of(term))
            self.hard_dirty = True
            self.has_ready = True

    def become_follower(self, term: Term, leader: NodeId, now_us: int) -> None:
        """Follow `leader` (0: unknown) in `term`; reads that wait here must be asked elsewhere."""
        news = term > self.term or self.role != FOLLOWER or self.leader != leader
        self.promise(term)
        if news:
            self.trace("follower", node=self.id, term=term, leader=leader)
            self.received = self.commit_index
            self.known.clear()
        failed = self.reads.abandon()
        if failed:
            self.reads_failed.extend(failed)
            self.has_ready = True
        self.role = FOLLOWER
        self.leader = leader
        self.votes = {}
        self.followers = {}
        self.transfer_to = 0
        self.settling = self.config_pending = self.leaving = 0
        self.reset_election(now_us)
        if news:
            self.advance_received()

    def follow(self, sender: NodeId, term: Term, now_us: int) -> bool:
        """A leader's message came: follow it, if its ballot is not below what was promised."""
        if term < self.term:
            return False
        if term > self.term or self.leader != sender or self.role != FOLLOWER:
            invariant(
                self.role != LEADER or term > self.term,
                "one leader per ballot",
                term=term, me=self.id, other=sender,
            )  # fmt: skip
            self.become_follower(term, sender, now_us)
        self.election_us = now_us + self.patience_us
        self.contact_us = now_us
        return True
