"""A replica's log: terms of all entries since compaction, and the newest entries themselves.

Older entries were written to the node's log and are read back from there when a slow follower needs
them, so memory stays bounded by `cache_bytes_max` (plus what is not durable and applied yet).
"""

from bisect import bisect_right

from quoit.base.check import invariant
from quoit.base.ids import Index, Term
from quoit.quorum.agreement import Entry, EntryReader

__all__ = ["EntryLog"]


class EntryLog:
    """One replica's entries after the compacted point.

    compacted_index, compacted_term  the last entry that was forgotten
    last_index   the newest entry; Invariant: compacted_index + len(terms)
    terms        terms[i] is the term of entry compacted_index + 1 + i; with Raft they never fall
    cache        the newest entries, ending at last_index; the first one's index is cache_first
    cache_first  Invariant: compacted_index < cache_first == last_index + 1 - len(cache)
    cache_bytes  sum of the cached entries' data
    """

    __slots__ = (
        "cache", "cache_bytes", "cache_bytes_max", "cache_first", "compacted_index",
        "compacted_term", "last_index", "reader", "terms",
    )  # fmt: skip

    def __init__(
        self,
        entries: list[Entry],
        compacted: tuple[Index, Term],
        reader: EntryReader,
        cache_bytes_max: int,
    ) -> None:
        self.compacted_index, self.compacted_term = compacted
        self.terms: list[Term] = [entry.term for entry in entries]
        self.last_index: Index = self.compacted_index + len(entries)
        self.cache: list[Entry] = list(entries)
        self.cache_first = self.compacted_index + 1
        self.cache_bytes = sum(len(entry.data) for entry in entries)
        self.cache_bytes_max = cache_bytes_max
        self.reader = reader

    @property
    def last_term(self) -> Term:
        """Term of the newest entry."""
        return self.terms[-1] if self.terms else self.compacted_term

    def term(self, index: Index) -> Term | None:
        """Term of the entry at `index`; None if it was compacted or does not exist yet."""
        offset = index - self.compacted_index - 1
        if offset == -1:
            return self.compacted_term
        if 0 <= offset < len(self.terms):
            return self.terms[offset]
        return None

    def append(self, entry: Entry) -> None:
        """Add the next entry."""
        self.last_index += 1
        self.terms.append(entry.term)
        self.cache.append(entry)
        self.cache_bytes += len(entry.data)

    def replace(self, entry: Entry) -> None:
        """Put `entry` in the place of the one at its index, which is in the cache."""
        at = entry.index - self.cache_first
        invariant(0 <= at < len(self.cache), "only a cached entry is replaced", index=entry.index)
        self.cache_bytes += len(entry.data) - len(self.cache[at].data)
        self.cache[at] = entry
        self.terms[entry.index - self.compacted_index - 1] = entry.term

    def truncate(self, index: Index) -> None:
        """Remove the entries from `index` on."""
        invariant(index > self.compacted_index, "truncation below the compacted log", index=index)
        del self.terms[index - self.compacted_index - 1 :]
        self.last_index = self.compacted_index + len(self.terms)
        keep = max(0, index - self.cache_first)
        self.cache_bytes -= sum(len(entry.data) for entry in self.cache[keep:])
        del self.cache[keep:]
        self.cache_first = min(self.cache_first, index)

    def slice(self, low: Index, high: Index, bytes_max: int) -> list[Entry]:
        """Entries low..high-1, at least one if there are any, then up to `bytes_max` bytes; fewer
        where the part that is read back from disk ends."""
        if low >= high:
            return []
        invariant(low > self.compacted_index, "a compacted entry is wanted", index=low)
        if low < self.cache_first:
            return self.reader.entries(low, min(high, self.cache_first), bytes_max)
        found = self.cache[low - self.cache_first : high - self.cache_first]
        total = 0
        for count, entry in enumerate(found):
            total += len(entry.data)
            if total > bytes_max and count:
                return found[:count]
        return found

    def evict(self, upto: Index) -> None:
        """Let the cache forget entries up to `upto` (durable and applied) while it is too large."""
        if self.cache_bytes <= self.cache_bytes_max:
            return
        count = 0
        # Down to half, so that the list is not shifted for every entry.
        target = self.cache_bytes_max // 2
        for entry in self.cache:
            if entry.index > upto or self.cache_bytes <= target:
                break
            self.cache_bytes -= len(entry.data)
            count += 1
        del self.cache[:count]
        self.cache_first += count

    def compact(self, index: Index, term: Term) -> None:
        """Forget the entries up to `index`, whose entry has `term`."""
        drop = index - self.compacted_index
        invariant(0 <= drop <= len(self.terms), "compaction beyond the log", index=index)
        del self.terms[:drop]
        self.compacted_index, self.compacted_term = index, term
        cached = index + 1 - self.cache_first
        if cached > 0:
            self.cache_bytes -= sum(len(entry.data) for entry in self.cache[:cached])
            del self.cache[:cached]
            self.cache_first = index + 1

    def reset(self, index: Index, term: Term) -> None:
        """Forget everything; the next entry follows (index, term)."""
        self.terms = []
        self.cache = []
        self.cache_bytes = 0
        self.last_index = index
        self.cache_first = index + 1
        self.compacted_index, self.compacted_term = index, term

    def conflict_hint(self, index: Index, term: Term) -> tuple[Index, Term]:
        """The greatest (index', term') in this log with index' <= index and term' <= term: all that
        follows cannot match a log that has `term` at `index`, since terms never fall. So a back-off
        takes a message per differing term at most, not one per entry (Raft section 5.3, end)."""
        high = max(0, min(index, self.last_index) - self.compacted_index)
        offset = bisect_right(self.terms, term, 0, high)
        if offset == 0:
            return self.compacted_index, self.compacted_term
        return self.compacted_index + offset, self.terms[offset - 1]

    def check(self) -> None:
        """Assert the invariants above; linear in the cache, so for tests and the simulator."""
        invariant(self.last_index == self.compacted_index + len(self.terms), "length of the log")
        invariant(self.compacted_index < self.cache_first, "the cache holds compacted entries")
        invariant(
            self.cache_first + len(self.cache) == self.last_index + 1,
            "the cache ends where the log ends",
            first=self.cache_first, count=len(self.cache), last=self.last_index,
        )  # fmt: skip
        invariant(
            self.cache_bytes == sum(len(entry.data) for entry in self.cache), "size of the cache"
        )
        if self.cache:
            newest = self.cache[-1]
            invariant(
                (newest.index, newest.term) == (self.last_index, self.last_term),
                "the newest entry is where it belongs",
                entry=newest.index, last=self.last_index,
            )  # fmt: skip
