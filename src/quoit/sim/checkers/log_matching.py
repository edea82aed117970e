"""Log matching (Raft, figure 3): entries with the same index and term are the same in every log, and
so are all entries before them.

Each entry that a node is about to write is recorded with the term of the entry before it. If two
records of one (index, term) never differ in data or in the term before, the property follows by
induction, so nothing needs to be compared at the end.
"""

from zlib import crc32

from quoit.quorum.agreement import Entry

__all__ = ["LogMatchingChecker"]

_Known = tuple[int, int, int]


class LogMatchingChecker:
    """Watches every entry on its way to a disk.

    known   (shard, index, term) -> (term before it, checksum of its data, node that wrote it first)
    terms   (node, shard) -> index -> term, as in that node's log; what is compacted stays known
    last    (node, shard) -> last index of that log
    """

    def __init__(self) -> None:
        self.known: dict[tuple[int, int, int], _Known] = {}
        self.terms: dict[tuple[int, int], dict[int, int]] = {}
        self.last: dict[tuple[int, int], int] = {}

    def recovered(self, node: int, shard: int, base: tuple[int, int], entries: list[Entry]) -> str:
        """A node started with this log: entries (index, term, data) after `base`."""
        self.reset(node, shard, *base)
        return self.written(node, shard, entries)

    def reset(self, node: int, shard: int, index: int, term: int) -> None:
        """A snapshot replaced the log."""
        self.terms[node, shard] = {index: term}
        self.last[node, shard] = index

    def written(self, node: int, shard: int, entries: list[Entry]) -> str:
        """A node's log gets these entries (index, term, data). A problem, or ""."""
        terms = self.terms.setdefault((node, shard), {0: 0})
        if entries:
            # Why: entries may replace a longer suffix, of which nothing may remain.
            for index in range(entries[0].index, self.last.get((node, shard), 0) + 1):
                terms.pop(index, None)
            self.last[node, shard] = entries[-1].index
        for entry in entries:
            index, term, data = entry.index, entry.term, entry.data
            before = terms.get(index - 1)
            if before is None:
                return f"node {node} leaves a gap before entry {index} of shard {shard}"
            if before > term:
                return f"node {node}: terms fall at entry {index} of shard {shard}"
            terms[index] = term
            mark = (before, crc32(data), node)
            first = self.known.setdefault((shard, index, term), mark)
            if first[:2] != mark[:2]:
                return (
                    f"shard {shard}: entry {index} of term {term} differs between nodes "
                    f"{first[2]} and {node}"
                )
        return ""
