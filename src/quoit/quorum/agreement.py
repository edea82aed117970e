"""The interface that every agreement core (Raft now, Multi-Paxos later) implements.

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

__all__ = [
    "CONFIG",
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
"""A change of membership (issue 3)."""


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
    voters: tuple[NodeId, ...]


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


class Agreement(Protocol):
    """One replica's part in keeping one shard's log."""

    term: Term
    leader: NodeId
    """0 when unknown."""
    commit_index: Index
    last_index: Index

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

    def persisted(self, index: Index, term: Term) -> None:
        """Own log is durable up to `index`, whose entry then had `term`."""
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

    def ready(self) -> Ready | None:
        """Effects since the last call; None when there are none."""
        ...
