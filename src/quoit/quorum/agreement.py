"""The interface that every agreement core (raft.Raft, paxos.Paxos) implements.

A core is a value machine for one shard: inputs are method calls with values, outputs are collected
in a `Ready`. It never reads a clock, draws randomness or touches a disk or socket by itself.

The shell's duties, in order, for each `Ready`:
 1. send `messages` at once;
 2. write `hard_state` and `entries` in ONE log write and sync it; then call `persisted` and only
    then send `messages_after_persist`;
 3. apply `committed` in order, then answer the clients;
 4. answer the reads in `reads` once `index` is applied.
`ready()` may be called again before an earlier write is persisted; writes are persisted in order.
"""

from typing import Any, Protocol

import msgspec

from quoit.base.ids import Index, NodeId, Term
from quoit.quorum.members import Members

__all__ = [
    "CONFIG",
    "DIGEST",
    "EFFECTS",
    "EMPTY",
    "Agreement",
    "Entry",
    "EntryReader",
    "HardState",
    "Ready",
    "SnapshotMeta",
]

EFFECTS = 0
"""An entry whose data are the effects of one batch of commands."""
EMPTY = 1
"""A new leader's first entry; it changes nothing."""
CONFIG = 2
"""A change of membership; the data are `members.encode_members` of the new ones."""

DIGEST = 3
"""Nothing changes; replicas digest their data at this index and compare (node/digests.py)."""


class Entry(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One position of a shard's log."""

    index: Index
    term: Term
    kind: int
    data: bytes


class HardState(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What a replica promised. Invariant: term never falls; vote changes only when term rises or
    from 0. Must be durable before any message that depends on it leaves."""

    term: Term = 0
    vote: NodeId = 0


class SnapshotMeta(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What a snapshot stands for: all entries up to `index`, the last of which had `term`."""

    index: Index
    term: Term
    members: Members


class EntryReader(Protocol):
    """Reads old entries back from the log when the core no longer holds them in memory."""

    def entries(self, low: Index, high: Index, bytes_max: int) -> list[Entry]:
        """Entries low..high-1, at least one, then up to `bytes_max` bytes. Corruption if damaged."""
        ...


class Ready(msgspec.Struct, gc=False):
    """Required effects, grouped by ordering duty (see the module's docstring)."""

    hard_state: HardState | None
    entries: list[Entry]
    """To append; entries[0].index may be <= the last index: then the suffix from there is replaced."""
    snapshot: SnapshotMeta | None
    """Follower: forget the whole log; it now starts after `index`. Persist with this write; the
    snapshot's data were installed before the core was told of it."""
    messages: list[tuple[NodeId, Any]]
    """(to, message): may leave now."""
    messages_after_persist: list[tuple[NodeId, Any]]
    """(to, message): may leave only after this write is durable."""
    committed: list[Entry]
    """To apply, in order, exactly once."""
    reads: list[tuple[int, Index]]
    """(read id, index): that read is safe once `index` is applied."""
    reads_failed: list[int]
    """Read ids that must be asked of another leader; nothing was proven."""
    snapshot_wanted: list[NodeId]
    """Leader: these followers need entries that were compacted; send them a snapshot."""
    chosen: Index = 0
    """Paxos: with `entries`, make durable that instances up to here are chosen and are in the log."""


class Agreement(Protocol):
    """One replica's part in keeping one shard's log."""

    term: Term
    """Raft's term; Paxos' ballot."""
    role: str
    """leader, follower, learner, candidate, pre-candidate: for people."""
    leader: NodeId
    """0 when unknown."""
    commit_index: Index
    has_ready: bool
    """`ready` has something to say."""
    damaged: bool
    """Its disk lost what was synced: it takes part without being counted, until it is healed."""
    suspended: bool
    """The node's disk hangs: do not campaign (set by the node)."""
    transfer_to: NodeId
    """Leadership is being handed to this node; 0: it is not."""
    members: Members
    """As this core goes by them now: Raft from the newest entry on, Paxos from the newest applied.
    Replaced by a new value with each change."""

    @property
    def members_durable(self) -> bool:
        """A crash would not make this replica go by older members."""
        ...

    @property
    def last_index(self) -> Index:
        """Index of the newest entry."""
        ...

    @property
    def first_index(self) -> Index:
        """Index of the oldest entry that is still in the log."""
        ...

    @property
    def is_leader(self) -> bool:
        """This replica leads, in its own view."""
        ...

    def step(self, sender: NodeId, message: Any, now_us: int) -> None:
        """A peer's message. Stale or foreign messages are dropped and traced; never raises."""
        ...

    def tick(self, now_us: int) -> None:
        """Time passed: elections, heartbeats, leases, time-outs."""
        ...

    def next_deadline_us(self) -> int:
        """When `tick` next has something to do."""
        ...

    def propose(self, data: bytes, now_us: int, kind: int = EFFECTS) -> tuple[Index, Term]:
        """Append to the log as leader. NotLeader: proven not proposed."""
        ...

    def takes_proposals(self) -> bool:
        """Leader, and nothing is under way (a transfer, with Paxos a change of members) behind which
        proposals have to wait."""
        ...

    def change(self, members: Members, now_us: int) -> Index:
        """Propose other members as leader; the entry's index. NotLeader: proven not proposed.
        BadRequest: not now (an earlier change is under way, no entry of this term is committed), or
        not in one step; nothing was proposed."""
        ...

    def persisted(self, index: Index, term: Term) -> None:
        """A write that had entries is durable; the last of them was (index, term). Called once for
        each Ready with entries, in their order."""
        ...

    def promised(self, hard_state: HardState) -> None:
        """`hard_state` is durable."""
        ...

    def applied_to(self, index: Index) -> None:
        """Entries up to `index` were applied."""
        ...

    def term_at(self, index: Index) -> Term | None:
        """The term (ballot) in which the entry at `index` was first proposed: with the index it names
        the entry. None if it is not in the log."""
        ...

    def read(self, read_id: int, now_us: int) -> None:
        """Ask for proof that the state is current; answered in Ready.reads or reads_failed."""
        ...

    def lease_valid(self, now_us: int) -> bool:
        """A local read of the applied state is linearizable now, without asking anyone."""
        ...

    def can_serve(self) -> bool:
        """Leader, and an entry of its own term is committed (the shell also checks: applied)."""
        ...

    def transfer(self, to: NodeId, now_us: int) -> None:
        """Hand leadership over. Revokes the lease for the rest of the term first."""
        ...

    def compact(self, index: Index) -> None:
        """Entries up to `index` are in a durable snapshot or engine; forget them."""
        ...

    def campaign_soon(self, at_us: int) -> None:
        """Look for votes at `at_us` if there is no leader."""
        ...

    def most_advanced(self, among: list[NodeId]) -> NodeId:
        """Leader: of the nodes `among`, the voter whose log reaches furthest."""
        ...

    def keeps_up(self, peer: NodeId) -> bool:
        """Leader: `peer` (a voter or a learner) has all but the newest entries."""
        ...

    def reached(self, peer: NodeId) -> Index:
        """Leader: how far `peer`'s log is known to go, durably; 0 if nothing is known."""
        ...

    def accepts_snapshot(self, term: Term, index: Index) -> bool:
        """A snapshot of `index` from a leader of `term` would bring this replica forward."""
        ...

    def install(self, sender: NodeId, term: Term, meta: SnapshotMeta, now_us: int) -> None:
        """The snapshot's data are in the engine: the log starts over behind it."""
        ...

    def snapshot_done(self, to: NodeId, index: Index, ok: bool, now_us: int) -> None:
        """Leader: the transfer of the snapshot at `index` ended."""
        ...

    def log_bytes(self) -> int:
        """Size of the log's data, roughly."""
        ...

    def check(self) -> None:
        """Assert every invariant; the simulator calls this after each step."""
        ...

    def ready(self) -> Ready | None:
        """Effects since the last call; None when there are none."""
        ...
