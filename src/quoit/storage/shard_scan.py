"""One shard's part of the log while the log is read."""

from array import array

from quoit.base.ids import Index, ShardId, Term
from quoit.quorum.agreement import Entry, HardState
from quoit.storage import log_format as form
from quoit.storage.api import ShardRecovery

__all__ = ["ShardScan"]


class ShardScan:
    """Takes items in the order in which they were written.

    base       entries[0] has index base + 1
    compacted  the point up to which entries are not needed
    chosen     entries up to here are known to be chosen (Paxos)
    locations  segment << 32 | offset of each entry's item; Invariant: as many as entries
    damaged    synced data were lost: must_reach and must_term say what may have been promised
    """

    __slots__ = (
        "base", "chosen", "compacted", "damaged", "entries", "hard_state", "locations", "must_reach",
        "must_term",
    )  # fmt: skip

    def __init__(self) -> None:
        self.hard_state = HardState()
        self.base: Index = 0
        self.compacted: tuple[Index, Term] = (0, 0)
        self.chosen: Index = 0
        self.entries: list[Entry] = []
        self.locations = array("Q")
        self.damaged = False
        self.must_reach: Index = 0
        self.must_term: Term = 0

    @property
    def last_index(self) -> Index:
        """The greatest index that is there."""
        return self.base + len(self.entries)

    def entry(self, entry: Entry, location: int) -> None:
        """Append, or replace the suffix from the entry's index."""
        entries, locations = self.entries, self.locations
        keep = entry.index - self.base - 1
        if keep != len(entries):
            if 0 <= keep < len(entries):
                del entries[keep:]
                del locations[keep:]
            else:
                # At or below the base: everything is replaced. Beyond the end: the entries between
                # were in segments that are gone, so they must be compacted; `finish` checks that.
                self.base = entry.index - 1
                entries.clear()
                del locations[:]
        entries.append(entry)
        locations.append(location)

    def take(self, item: form.Item) -> None:
        """Apply an item that is not an entry."""
        kind, _, _, a, b, _, _ = item
        if kind == form.HARD:
            self.hard_state = HardState(a, b)
        elif kind == form.RESET:
            self.base = a
            self.compacted = (a, b)
            self.entries.clear()
            del self.locations[:]
        elif kind == form.CHOSEN:
            self.chosen = a
        elif kind == form.COMPACTED:
            self.compacted = max(self.compacted, (a, b))
        elif kind == form.LAST:
            self._last(a)
        elif kind == form.DAMAGED:
            self.damaged, self.must_reach, self.must_term = True, a, b
        elif kind == form.HEALED:
            self.damaged, self.must_reach, self.must_term = False, 0, 0

    def _last(self, index: Index) -> None:
        """Here the shard's last index was `index`. If other entries came before, then those up to
        here are missing: in segments that are gone, so compacted; a later COMPACTED item says so, or
        `finish` reports damage."""
        if self.last_index != index:
            self.base = index
            self.entries.clear()
            del self.locations[:]

    def finish(self) -> None:
        """Drop what is compacted. Entries that are missing though nobody compacted them are damage."""
        index, _ = self.compacted
        if index >= self.base:
            drop = min(index - self.base, len(self.entries))
            del self.entries[:drop]
            del self.locations[:drop]
            self.base = index
            return
        self.damaged = True
        self.must_reach = max(self.must_reach, self.last_index)
        last_term = self.entries[-1].term if self.entries else 0
        self.must_term = max(self.must_term, last_term, self.hard_state.term)
        self.base = index
        self.entries.clear()
        del self.locations[:]

    def result(self, shard: ShardId) -> ShardRecovery:
        """As `Log.open` reports it."""
        return ShardRecovery(
            shard, self.hard_state, self.compacted, self.entries, self.damaged, self.must_reach,
            self.must_term, self.chosen,
        )  # fmt: skip
