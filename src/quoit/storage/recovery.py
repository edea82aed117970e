"""Reading the log after a start: what is there, what was never acknowledged, what was damaged.

The three verdicts, and why they differ (faults.md, D1, D2, D7):

    clean      every record up to the end of the last segment's data is valid
    torn tail  the end is invalid, nothing valid follows, and the mark does not know of it: it was
               never synced, so never acknowledged; it is cut off
    damage     something invalid lies before a valid record, or before the mark: it WAS synced. What is
               before it is kept; every shard is reported as damaged with what it may have promised,
               and does not vote, lead or acknowledge until a leader has brought it past that
"""

from array import array

import msgspec

from quoit.base.seams import Disk
from quoit.quorum.agreement import Entry, HardState
from quoit.storage import log_format as form
from quoit.storage.api import Recovery, ShardRecovery
from quoit.storage.mark import Mark

__all__ = ["Found", "ShardScan", "recover"]


class ShardScan:
    """One shard while the log is read.

    base       entries[0] has index base + 1; base_term is the term at base, if known
    compacted  the point up to which entries are not needed
    locations  segment << 32 | offset of each entry's item
    """

    __slots__ = (
        "base", "base_term", "compacted", "damaged", "entries", "hard_state", "locations",
        "must_reach", "must_term",
    )  # fmt: skip

    def __init__(self) -> None:
        self.hard_state = HardState()
        self.base = 0
        self.base_term = 0
        self.compacted = (0, 0)
        self.entries: list[Entry] = []
        self.locations = array("Q")
        self.damaged = False
        self.must_reach = 0
        self.must_term = 0

    def take(self, item: form.Item, location: int) -> None:
        """Apply one item."""
        kind, entry_kind, _, a, b, data, _ = item
        if kind == form.ENTRY:
            self._entry(Entry(a, b, entry_kind, data), location)
        elif kind == form.HARD:
            self.hard_state = HardState(a, b)
        elif kind == form.RESET:
            self.base, self.base_term = self.compacted = (a, b)
            self._clear()
        elif kind == form.COMPACTED:
            self.compacted = max(self.compacted, (a, b))
        elif kind == form.DAMAGED:
            self.damaged, self.must_reach, self.must_term = True, a, b
        elif kind == form.HEALED:
            self.damaged, self.must_reach, self.must_term = False, 0, 0

    def _clear(self) -> None:
        self.entries = []
        self.locations = array("Q")

    def _entry(self, entry: Entry, location: int) -> None:
        last = self.base + len(self.entries)
        if entry.index <= self.base:
            # A suffix that starts at or below the base replaces everything there is.
            self.base, self.base_term = entry.index - 1, 0
            self._clear()
        elif entry.index > last + 1:
            # The entries between were in segments that are gone, so they must be compacted; a
            # later COMPACTED item says so, or `finish` reports damage.
            self.base, self.base_term = entry.index - 1, 0
            self._clear()
        else:
            keep = entry.index - self.base - 1
            del self.entries[keep:]
            del self.locations[keep:]
        self.entries.append(entry)
        self.locations.append(location)

    def finish(self) -> bool:
        """Drop what is compacted; False if entries are missing that nobody compacted."""
        index, _ = self.compacted
        if index >= self.base:
            drop = min(index - self.base, len(self.entries))
            del self.entries[:drop]
            del self.locations[:drop]
            self.base, self.base_term = self.compacted
            return True
        if not self.entries and self.base == 0:
            return True
        self.base, self.base_term = self.compacted
        self._clear()
        return False


class Found(msgspec.Struct):
    """All that `recover` learned. end_segment and end_offset: where the kept records end."""

    recovery: Recovery
    scans: dict[int, ShardScan]
    sequence: int
    end_segment: int
    end_offset: int
    segments: list[int]
    """Numbers of the segment files on disk."""
    highest: dict[int, dict[int, int]]
    """segment -> shard -> greatest entry index in it."""


def recover(disk: Disk, mark: Mark) -> Found:
    """Read every segment."""
    numbers = sorted(n for name in disk.list() if (n := form.segment_number(name)) is not None)
    return _Reader(disk, mark, numbers).run()


class _Reader:
    def __init__(self, disk: Disk, mark: Mark, numbers: list[int]) -> None:
        self.disk = disk
        self.mark = mark
        self.numbers = numbers
        self.scans: dict[int, ShardScan] = {}
        self.highest: dict[int, dict[int, int]] = {number: {} for number in numbers}
        self.sequence = 0
        self.end = (0, 0)
        self.torn_bytes = 0
        self.later: list[bytes] = []
        self.later_sequence = 0
        self.notes: list[str] = []

    def run(self) -> Found:
        limits = self._origins()
        stop = False
        for number in self.numbers:
            limit = limits.get(number)
            if limit == 0:
                continue
            data = self._read(number)
            if stop:
                self._collect_later(data, 0)
                continue
            stop = not self._segment(number, data, limit)
        damaged = bool(self.later) or self.mark.sequence > self.sequence
        return self._found(damaged)

    def _read(self, number: int) -> bytes:
        file = self.disk.open(form.segment_name(number))
        try:
            return file.pread(0, file.size())
        finally:
            file.close()

    def _origins(self) -> dict[int, int]:
        """Where segments end, as later FIRST records say: segment -> offset; 0 for skipped ones."""
        limits: dict[int, int] = {}
        for number in self.numbers:
            file = self.disk.open(form.segment_name(number))
            head = file.pread(0, form.RECORD_HEAD + form.ITEM_HEAD)
            kind = head[4] if len(head) > 4 and head[:4] == form.MAGIC else 0
            record = None
            if kind == form.FIRST:
                record = form.parse_record(file.pread(0, file.size()), 0)
            file.close()
            if record is None:
                continue
            origin = next(iter(form.items(record[2])), None)
            if origin is None or origin[0] != form.ORIGIN:
                continue
            segment, offset = origin[3], origin[4]
            for other in self.numbers:
                if segment < other < number:
                    limits[other] = 0
            limits[segment] = min(offset, limits.get(segment, offset))
        return limits

    def _segment(self, number: int, data: bytes, limit: int | None) -> bool:
        """Read one segment; False if reading must stop here for good."""
        offset = 0
        if limit is not None:
            data = data[:limit]
        while offset < len(data):
            record = form.parse_record(data, offset)
            if record is None or not self._continues(record[0], record[1]):
                break
            self._record(number, offset, record)
            offset += form.RECORD_HEAD + len(record[2])
            self.end = (number, offset)
        if limit is not None:
            return offset >= limit or not self._lost(number, offset)
        rest = data[offset:]
        if not rest.strip(b"\0"):
            return True
        self._collect_later(data, offset + 1)
        following = [other for other in self.numbers if other > number]
        if self.later or following:
            self.notes.append(
                f"{form.segment_name(number)} is damaged at byte {offset}; what was synced "
                "behind it is lost here and will be fetched from the other replicas"
            )
            return False
        self.torn_bytes += len(rest.rstrip(b"\0"))
        return False

    def _lost(self, number: int, offset: int) -> bool:
        self.notes.append(f"{form.segment_name(number)} is damaged at byte {offset}")
        # Marks the shards as damaged even if nothing valid follows.
        self.later.append(b"")
        return True

    def _continues(self, kind: int, sequence: int) -> bool:
        if self.sequence == 0:
            return True
        return sequence == self.sequence + 1 or (kind == form.FIRST and sequence > self.sequence)

    def _record(self, number: int, offset: int, record: tuple[int, int, bytes]) -> None:
        _, sequence, payload = record
        self.sequence = sequence
        highest = self.highest[number]
        start = offset + form.RECORD_HEAD
        for item in form.items(payload):
            if item[0] == form.ORIGIN:
                continue
            shard = item[2]
            scan = self.scans.get(shard)
            if scan is None:
                scan = self.scans[shard] = ShardScan()
            scan.take(item, number << 32 | (start + item[6]))
            if item[0] == form.ENTRY:
                highest[shard] = max(highest.get(shard, 0), item[3])

    def _collect_later(self, data: bytes, offset: int) -> None:
        """Valid records behind damage: proof that what is missing was synced, and what it was."""
        while (offset := data.find(form.MAGIC, offset)) >= 0:
            record = form.parse_record(data, offset)
            if record is not None and record[1] > self.sequence:
                self.later.append(record[2])
                self.later_sequence = max(self.later_sequence, record[1])
                offset += form.RECORD_HEAD + len(record[2])
            else:
                offset += 1

    def _found(self, damaged: bool) -> Found:
        shards: dict[int, ShardRecovery] = {}
        if damaged:
            self._note_promises()
        for shard, scan in sorted(self.scans.items()):
            whole = scan.finish()
            shards[shard] = ShardRecovery(
                shard, scan.hard_state, scan.compacted, scan.entries,
                damaged or scan.damaged or not whole, scan.must_reach, scan.must_term,
            )  # fmt: skip
        sequence = max(self.sequence, self.later_sequence, self.mark.sequence)
        recovery = Recovery(shards, damaged, self.torn_bytes, self.notes)
        return Found(
            recovery, self.scans, sequence, self.end[0], self.end[1], self.numbers, self.highest
        )

    def _note_promises(self) -> None:
        """What each shard may have promised or acknowledged in the part that is lost."""
        reach: dict[int, int] = {}
        promised: dict[int, int] = {}
        for payload in self.later:
            for kind, _, shard, a, b, _, _ in form.items(payload):
                if kind in (form.ENTRY, form.RESET):
                    reach[shard] = max(reach.get(shard, 0), a)
                    promised[shard] = max(promised.get(shard, 0), b)
                elif kind == form.HARD:
                    promised[shard] = max(promised.get(shard, 0), a)
        for shard, (term, vote, last) in sorted(self.mark.shards.items()):
            scan = self.scans.setdefault(shard, ShardScan())
            reach[shard] = max(reach.get(shard, 0), last)
            promised[shard] = max(promised.get(shard, 0), term)
            if term > scan.hard_state.term:
                scan.hard_state = HardState(term, vote)
        for shard in sorted({**self.scans, **reach}):
            scan = self.scans.setdefault(shard, ShardScan())
            scan.damaged = True
            last = scan.base + len(scan.entries)
            scan.must_reach = max(scan.must_reach, reach.get(shard, 0), last)
            scan.must_term = max(scan.must_term, promised.get(shard, 0), scan.hard_state.term)
