"""Reading the log after a start: what is there, what was never acknowledged, what was damaged.

The three verdicts, and why they differ (faults.md, D1, D2, D7):

    clean      every record up to the end of the last segment's data is valid
    torn tail  the end is invalid, nothing valid follows, and the mark does not know of it: it was
               never synced, so never acknowledged; it is cut off
    damage     something invalid lies before a valid record, or before the mark: it WAS synced. What is
               before it is kept; every shard is reported as damaged with what it may have promised,
               and does not vote, lead or acknowledge until a leader has brought it past that

The last record needs care even if it is valid: after a failed sync the page cache may show bytes that
are not on the disk (fsyncgate). If nothing proves its sync it is `unproven`, and `Log.open` writes it
again, to another place.
"""

import msgspec

from quoit.base.ids import Index, ShardId, Term
from quoit.base.seams import Disk
from quoit.quorum.agreement import Entry, HardState
from quoit.storage import log_format as form
from quoit.storage.mark import Mark
from quoit.storage.segment_reader import Record, SegmentReader
from quoit.storage.shard_scan import ShardScan

__all__ = ["Found", "recover"]

_VOID = -1


class Found(msgspec.Struct):
    """All that `recover` learned."""

    scans: dict[ShardId, ShardScan]
    """Not finished yet, and without the unproven items."""
    sequence: int
    """The greatest that was ever used."""
    end_segment: int
    end_offset: int
    """Where the kept records end; before the unproven one."""
    unproven: list[form.Item]
    """Items of the last record, if nothing proves that it was synced."""
    highest: dict[int, dict[ShardId, Index]]
    """Segment on disk -> shard -> greatest entry index in it."""
    damaged: bool
    amnesia: bool
    torn_bytes: int
    notes: list[str]


def recover(disk: Disk, mark: Mark) -> Found:
    """Read every segment."""
    numbers = sorted(n for name in disk.list() if (n := form.segment_number(name)) is not None)
    return _Recovery(disk, mark, numbers).run()


class _Recovery:
    """One pass over all segments, oldest first.

    sequence  of the last record that was accepted; end: (segment, offset) behind it
    pending   (segment, offset, payload) of that record, not applied yet: a successor must prove it
    suspect   an invalid place was met: nothing is accepted any more, only looked at
    gap_bytes written bytes behind the invalid place that belong to no valid record
    later     records that are valid behind it; `reach`, `promised` and `hard_states` say what they said
    """

    def __init__(self, disk: Disk, mark: Mark, numbers: list[int]) -> None:
        self.disk = disk
        self.mark = mark
        self.numbers = numbers
        self.scans: dict[ShardId, ShardScan] = {}
        self.highest: dict[int, dict[ShardId, Index]] = {number: {} for number in numbers}
        self.sequence = 0
        self.end = (0, 0)
        self.pending: tuple[int, int, bytes] | None = None
        self.suspect = False
        self.damaged = False
        self.amnesia = False
        self.gap_bytes = 0
        self.later = 0
        self.later_sequence = 0
        self.reach: dict[ShardId, Index] = {}
        self.promised: dict[ShardId, Term] = {}
        self.hard_states: dict[ShardId, HardState] = {}
        self.place = "the end"

    def run(self) -> Found:
        limits = self._limits()
        for number in self.numbers:
            if limits.get(number) == _VOID:
                continue
            with SegmentReader(self.disk, number, limits.get(number)) as reader:
                offset = 0 if self.suspect else self._accept(reader)
                if self.suspect:
                    self._look_at(reader, offset)
        self.damaged = self.damaged or self.later > 0 or self.mark.sequence > self.sequence
        unproven: list[form.Item] = []
        if self.pending is not None:
            segment, offset, payload = self.pending
            if self.damaged or self.mark.sequence >= self.sequence:
                self._apply(segment, offset, payload)
            else:
                self.end = (segment, offset)
                unproven = list(form.items(payload, offset + form.RECORD_HEAD))
        torn_bytes = 0 if self.damaged else self.gap_bytes
        notes = []
        if self.damaged:
            self._note_promises()
            notes.append(
                f"synced records of the log are damaged or missing from {self.place} on: this node "
                "votes, leads and acknowledges nothing until the others have brought it up to date"
            )
        elif self.suspect:
            notes.append(f"{torn_bytes} unfinished bytes were cut off the log at {self.place}")
        return Found(
            self.scans, max(self.sequence, self.later_sequence, self.mark.sequence), *self.end,
            unproven, self.highest, self.damaged, self.amnesia or self.damaged, torn_bytes, notes,
        )  # fmt: skip

    def _limits(self) -> dict[int, int]:
        """Where segments end, as FIRST records say: segment -> offset, or _VOID for those between.
        Newest first, because a void segment's own FIRST record counts for nothing."""
        limits: dict[int, int] = {}
        for number in reversed(self.numbers):
            if limits.get(number) == _VOID:
                continue
            with SegmentReader(self.disk, number, None) as reader:
                record = reader.record(0)
            origin = _origin(record)
            if origin is None:
                continue
            segment, offset = origin
            for other in self.numbers:
                if segment < other < number:
                    limits[other] = _VOID
            limits[segment] = min(offset, limits.get(segment, offset))
        return limits

    def _accept(self, reader: SegmentReader) -> int:
        """Take records up to the first that is invalid or out of turn; its offset. Sets `suspect`
        unless that is the segment's proper end."""
        offset, size = 0, reader.size
        while offset < size:
            record = reader.record(offset)
            if record is None or not self._continues(record):
                break
            if self.pending is not None:
                self._apply(*self.pending)
            _, self.sequence, payload = record
            self.pending = (reader.number, offset, payload)
            offset += form.RECORD_HEAD + len(payload)
            self.end = (reader.number, offset)
        if reader.limited:
            # A FIRST record behind it, which is valid, was written when all up to here was.
            self.suspect = self.damaged = offset < size
            self.end = (reader.number, offset)
        else:
            self.suspect = reader.written_end(offset) > offset
        if self.suspect:
            self.place = f"{form.segment_name(reader.number)}, byte {offset}"
        return offset

    def _continues(self, record: Record) -> bool:
        if self.sequence == 0:
            return True
        kind, sequence, _ = record
        if kind == form.FIRST:
            return sequence > self.sequence and _origin(record) == self.end
        return sequence == self.sequence + 1

    def _apply(self, segment: int, offset: int, payload: bytes) -> None:
        scans, highest = self.scans, self.highest[segment]
        place = segment << 32
        for item in form.items(payload, offset + form.RECORD_HEAD):
            kind, entry_kind, shard, a, b, data, at = item
            if kind == form.ORIGIN:
                continue
            if kind == form.AMNESIA:
                self.amnesia = True
                continue
            scan = scans.get(shard)
            if scan is None:
                scan = scans[shard] = ShardScan()
            if kind == form.ENTRY:
                scan.entry(Entry(a, b, entry_kind, data), place | at)
                if a > highest.get(shard, 0):
                    highest[shard] = a
            else:
                scan.take(item)

    def _look_at(self, reader: SegmentReader, offset: int) -> None:
        """Valid records behind an invalid place prove that what lay there was synced, and tell what
        was promised since."""
        gap = reader.written_end(offset) - offset
        while (found := reader.next_record(offset)) is not None:
            at, (_, sequence, payload) = found
            offset = at + form.RECORD_HEAD + len(payload)
            if sequence <= self.sequence:
                continue
            gap -= form.RECORD_HEAD + len(payload)
            self.later += 1
            self.later_sequence = max(self.later_sequence, sequence)
            self._hear(payload)
        self.gap_bytes += max(0, gap)

    def _hear(self, payload: bytes) -> None:
        reach, promised = self.reach, self.promised
        for kind, _, shard, a, b, _, _ in form.items(payload, 0):
            if kind in (form.ENTRY, form.RESET, form.COMPACTED, form.DAMAGED, form.LAST):
                reach[shard] = max(reach.get(shard, 0), a)
                promised[shard] = max(promised.get(shard, 0), b)
            elif kind == form.HARD:
                promised[shard] = max(promised.get(shard, 0), a)
                self.hard_states[shard] = _newer(self.hard_states.get(shard), HardState(a, b))

    def _note_promises(self) -> None:
        """What each shard may have promised or acknowledged in the part that is lost. The mark knows
        it exactly if it is as new as the last valid record; else the lost bytes bound it: each entry
        needs at least the head of an item."""
        exact = self.mark.sequence >= max(self.sequence, self.later_sequence)
        slack = 0 if exact else self.gap_bytes // form.ITEM_HEAD
        for shard in sorted({**self.scans, **self.reach, **self.promised, **self.mark.shards}):
            scan = self.scans.setdefault(shard, ShardScan())
            term, vote, last = self.mark.shards.get(shard, (0, 0, 0))
            state = _newer(self.hard_states.get(shard), HardState(term, vote))
            scan.hard_state = _newer(scan.hard_state, state)
            scan.damaged = True
            scan.must_reach = max(
                scan.must_reach, self.reach.get(shard, 0), last, scan.last_index
            ) + slack  # fmt: skip
            scan.must_term = max(
                scan.must_term, self.promised.get(shard, 0), scan.hard_state.term
            )  # fmt: skip


def _newer(one: HardState | None, other: HardState) -> HardState:
    """A term never falls, and its vote is given once."""
    if one is None or (other.term, other.vote != 0) > (one.term, one.vote != 0):
        return other
    return one


def _origin(record: Record | None) -> tuple[int, int] | None:
    """Where the records before a FIRST record end; None for other records."""
    if record is None or record[0] != form.FIRST:
        return None
    item = next(form.items(record[2], 0), None)
    return (item[3], item[4]) if item is not None and item[0] == form.ORIGIN else None
