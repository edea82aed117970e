"""What the floors above know of storage: the engine's seam and what passes through the log."""

from collections.abc import Iterator
from typing import Protocol

import msgspec

from quoit.base.ids import Index, ShardId, Term
from quoit.quorum.agreement import Entry, HardState, SnapshotMeta

__all__ = ["Engine", "Group", "Recovery", "ShardRecovery", "ShardUpdate"]

Group = tuple[list[tuple[bytes, bytes]], dict[bytes, bytes | None]]
"""(ranges [low, high) to delete, then items to write; None deletes)."""


class Engine(Protocol):
    """The local ordered store of applied data. Every method may raise Corruption or DiskFault."""

    @property
    def full(self) -> bool:
        """So much is buffered that it should be settled and flushed."""
        ...

    def settle(self, records: int) -> bool:
        """Move up to so many buffered records into the store; True: what was buffered when the
        settling began is there, so that `flush` covers it. At once where nothing is buffered."""
        ...

    def get(self, key: bytes) -> bytes | None:
        """The value of `key`, None if there is none."""
        ...

    def write(self, groups: list[Group]) -> None:
        """Apply the groups in order, all or nothing. Survives a crash only after `flush`."""
        ...

    def scan(
        self, low: bytes, high: bytes, *, reverse: bool = False
    ) -> Iterator[tuple[bytes, bytes]]:
        """Pairs with low <= key < high in order, as they are when `scan` is called."""
        ...

    def flush(self) -> None:
        """Everything settled before survives a crash. Blocks: call it off the event loop."""
        ...

    def checkpoint(self, path: str) -> None:
        """A consistent copy in a new directory. Blocks."""
        ...

    def bytes_used(self) -> int:
        """Approximate size on disk and in memory."""
        ...

    def close(self) -> None:
        """Release everything. Idempotent."""
        ...


class ShardUpdate(msgspec.Struct, gc=False):
    """What one shard adds to the log in one write, in this order."""

    shard: ShardId
    hard_state: HardState | None
    entries: list[Entry]
    """entries[0].index may be <= the last index: the suffix from there is replaced."""
    reset: SnapshotMeta | None
    """Forget all entries first; the log starts over behind this point."""
    compacted: tuple[Index, Term] | None
    """Entries up to here are not needed any more."""
    healed: bool = False
    """The shard was damaged and its leader has brought it up to date."""
    damaged: tuple[Index, Term] | None = None
    """(must_reach, must_term): data that this shard had promised to keep were lost."""
    chosen: Index = 0
    """Paxos: with `entries`, those up to here are chosen."""


class ShardRecovery(msgspec.Struct):
    """What the log remembers of one shard."""

    shard: ShardId
    hard_state: HardState
    compacted: tuple[Index, Term]
    entries: list[Entry]
    damaged: bool = False
    """Something that was synced is missing: the replica must not vote, lead or acknowledge yet."""
    must_reach: Index = 0
    """The greatest index that it may have acknowledged."""
    must_term: Term = 0
    """The greatest term that it may have promised."""
    chosen: Index = 0
    """Paxos: entries up to here are known to be chosen."""

    @classmethod
    def empty(cls, shard: ShardId) -> "ShardRecovery":
        """A shard that the log knows nothing of."""
        return cls(shard, HardState(), (0, 0), [])


class Recovery(msgspec.Struct):
    """What `Log.open` found."""

    shards: dict[ShardId, ShardRecovery]
    damaged: bool = False
    """Synced records were found damaged at this start; all shards are flagged in `shards`."""
    torn_bytes: int = 0
    """Unsynced bytes at the end that were cut off."""
    notes: list[str] = []
    """What was found, in words, for the operator."""
    amnesia: bool = False
    """After damage, now or earlier: a shard that is not in `shards` may have been forgotten."""
    sequence: int = 0
    """Of the newest durable record, however much of it can still be read."""

    def find(self, shard: ShardId) -> ShardRecovery | None:
        """What is known of `shard`; None: nothing, and nothing was lost, so it is new here."""
        found = self.shards.get(shard)
        if found is None and self.amnesia:
            found = ShardRecovery.empty(shard)
            found.damaged = True
        return found
