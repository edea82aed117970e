"""The node's log: entries and hard states of all its shards, in one sequence of segment files.

One `Write` is one record, one `pwrite` and one sync, whatever number of shards it serves (group
commit). The steps of a write run in different places:

    prepare   on the event loop: encodes, decides where the record goes, does no I/O
    commit    on the log thread: writes and syncs, touches nothing that the loop uses
    note      on the log thread, afterwards: what nobody waits for
    publish   on the event loop: the entries can now be read back

Fail-stop: after a failed write or sync the log refuses everything for ever. What the failed sync
covered may or may not be on the disk, and asking again would get a false yes (fsyncgate).
"""

from array import array

import msgspec

from quoit.base import limits
from quoit.base.check import invariant
from quoit.base.errors import DiskFault
from quoit.base.ids import Index, ShardId, Term
from quoit.base.seams import Disk
from quoit.quorum.agreement import Entry, HardState
from quoit.storage import log_format as form
from quoit.storage.api import Recovery, ShardRecovery, ShardUpdate
from quoit.storage.entry_reader import EntryFiles, ShardReader
from quoit.storage.mark import MarkBuilder, MarkFile
from quoit.storage.recovery import Found, recover
from quoit.storage.segments import Segments
from quoit.storage.shard_scan import ShardScan

__all__ = ["Log", "Write"]


class Write(msgspec.Struct, gc=False):
    """A record on its way to the disk."""

    data: bytes
    segment: int
    offset: int
    new_segment: bool
    sequence: int
    updates: list[ShardUpdate]
    locations: list[tuple[ShardId, Index, int]]
    """(shard, index, segment << 32 | offset) of each entry, in order."""
    mark: bytes
    promises: bool
    """A hard state changes: the mark is synced, too."""
    removals: list[int]
    """Segments that nobody needs any more."""


class _Shard:
    """What the log knows of one shard.

    base        locations[0] is where entry base + 1 lies
    compacted   the durable compaction point
    last_index  as of the last prepared write
    damaged     (must_reach, must_term) until healed
    """

    __slots__ = ("base", "compacted", "damaged", "hard_state", "last_index", "locations")

    def __init__(self, scan: ShardScan | None = None) -> None:
        self.base: Index = scan.base if scan else 0
        self.compacted: tuple[Index, Term] = scan.compacted if scan else (0, 0)
        self.hard_state = scan.hard_state if scan else HardState()
        self.locations = scan.locations if scan else array("Q")
        self.last_index: Index = scan.last_index if scan else 0
        self.damaged = (scan.must_reach, scan.must_term) if scan and scan.damaged else None


class Log:
    """See the module's docstring.

    sequence  of the last prepared record; Invariant: at most one prepared record is not published
    dead      why the log refuses everything, or ""
    amnesia   after damage: a shard that it never heard of may have been forgotten
    """

    def __init__(
        self,
        disk: Disk,
        found: Found,
        mark: MarkFile,
        segment_bytes: int = limits.LOG_SEGMENT_BYTES,
    ) -> None:
        self._segments = Segments(disk, segment_bytes)
        self._mark = mark
        self._builder = MarkBuilder()
        self._files = EntryFiles(disk)
        self._segment_bytes = segment_bytes
        self._highest = found.highest
        self._blocker: ShardId | None = None
        self._removals: list[int] = []
        self._segment = max([found.end_segment, *found.highest])
        # Nothing is ever written behind what an earlier process wrote.
        self._offset = segment_bytes
        self.sequence = found.sequence
        self.dead = ""
        self.amnesia = found.amnesia
        self._outstanding = False
        self._shards: dict[ShardId, _Shard] = {}

    @classmethod
    def open(
        cls, disk: Disk, segment_bytes: int = limits.LOG_SEGMENT_BYTES
    ) -> tuple["Log", Recovery]:
        """Open the log in `disk`, or begin one; it writes a first record before it returns. DiskFault
        (DiskFull) if the disk does not allow that."""
        mark_file, mark = MarkFile.open(disk)
        found = recover(disk, mark)
        log = cls(disk, found, mark_file, segment_bytes)
        recovery = log._begin(found)
        return log, recovery

    def _begin(self, found: Found) -> Recovery:
        """The first record: where the kept ones end, everything's state, and the unproven items."""
        scans = found.scans
        segment = self._segment + 1
        for item in found.unproven:
            if item[0] not in (form.ORIGIN, form.AMNESIA):
                scans.setdefault(item[2], ShardScan())
        offset = form.RECORD_HEAD + form.ITEM_HEAD * (1 + 2 * len(scans))
        tail: list[bytes] = []
        highest: dict[ShardId, Index] = {}
        for kind, entry_kind, shard, a, b, data, _ in found.unproven:
            if kind == form.ORIGIN:
                continue
            if kind == form.AMNESIA:
                self.amnesia = True
                continue
            if kind == form.LAST:
                scans[shard].take((kind, entry_kind, shard, a, b, data, offset))
                continue
            if kind == form.ENTRY:
                scans[shard].entry(Entry(a, b, entry_kind, data), segment << 32 | offset)
                highest[shard] = max(highest.get(shard, 0), a)
            else:
                scans[shard].take((kind, entry_kind, shard, a, b, data, offset))
            offset = form.encode_item(tail, segment, offset, kind, entry_kind, shard, a, b, data)
        for shard, scan in scans.items():
            scan.finish()
            self._shards[shard] = _Shard(scan)
        parts: list[bytes] = []
        at = form.encode_item(
            parts, segment, form.RECORD_HEAD, form.ORIGIN, 0, 0, found.end_segment,
            found.end_offset, b"",
        )  # fmt: skip
        self._restate(parts, segment, at)
        parts += tail
        self._restate_ends(parts, segment, offset)
        self._segment, self._offset = segment, 0
        self._highest[segment] = highest
        write = self._seal(form.FIRST, parts, True, [], [], promises=True)
        self.commit(write)
        self.note(write)
        self.publish(write)
        if not found.damaged and found.end_segment in self._highest:
            self._segments.cut(found.end_segment, found.end_offset)
        shards = {shard: scan.result(shard) for shard, scan in sorted(scans.items())}
        return Recovery(
            shards, found.damaged, found.torn_bytes, found.notes, self.amnesia, found.sequence
        )

    # The steps of a write

    def prepare(self, updates: list[ShardUpdate]) -> Write:
        """The record that makes `updates` durable together. No I/O."""
        invariant(not self._outstanding, "one log write at a time")
        if self.dead:
            raise DiskFault(self.dead)
        offset = self._offset + form.RECORD_HEAD
        parts: list[bytes] = []
        fresh = offset + _size(updates) > self._segment_bytes
        if fresh:
            self._segment += 1
            self._offset = 0
            self._highest[self._segment] = {}
            offset = self._restate(parts, self._segment, form.RECORD_HEAD)
            offset = self._restate_ends(parts, self._segment, offset)
        locations: list[tuple[ShardId, Index, int]] = []
        promises = self._encode(updates, parts, offset, locations)
        return self._seal(form.ORDINARY, parts, fresh, updates, locations, promises=promises)

    def _seal(
        self,
        kind: int,
        parts: list[bytes],
        fresh: bool,
        updates: list[ShardUpdate],
        locations: list[tuple[ShardId, Index, int]],
        *,
        promises: bool,
    ) -> Write:
        self.sequence += 1
        segment, offset = self._segment, self._offset
        data = form.encode_record(segment, offset, kind, self.sequence, b"".join(parts))
        removals, self._removals = self._removals, []
        self._offset = offset + len(data)
        self._outstanding = True
        return Write(
            data, segment, offset, fresh, self.sequence, updates, locations,
            self._builder.encode(self.sequence), promises or fresh, removals,
        )  # fmt: skip

    def _encode(
        self,
        updates: list[ShardUpdate],
        parts: list[bytes],
        offset: int,
        locations: list[tuple[ShardId, Index, int]],
    ) -> bool:
        """All items of `updates`; True if a hard state is among them. Hard states and entries share
        one record, so that a crash keeps both or neither."""
        item = form.encode_item
        segment = self._segment
        place = segment << 32
        highest = self._highest[segment]
        promises = False
        for update in updates:
            shard = update.shard
            known = self._shards.get(shard)
            if known is None:
                known = self._shards[shard] = _Shard()
                if self.amnesia:
                    known.damaged = (0, 0)
                    offset = item(parts, segment, offset, form.DAMAGED, 0, shard, 0, 0, b"")
            if update.reset is not None:
                index, term = update.reset.index, update.reset.term
                known.last_index = index
                offset = item(parts, segment, offset, form.RESET, 0, shard, index, term, b"")
            state = update.hard_state
            if state is not None:
                promises = True
                known.hard_state = state
                offset = item(
                    parts, segment, offset, form.HARD, 0, shard, state.term, state.vote, b""
                )
            index = 0
            for entry in update.entries:
                index = entry.index
                locations.append((shard, index, place | offset))
                offset = item(
                    parts, segment, offset, form.ENTRY, entry.kind, shard, index, entry.term,
                    entry.data,
                )  # fmt: skip
            if index:
                known.last_index = index
                if index > highest.get(shard, 0):
                    highest[shard] = index
            if update.chosen:
                offset = item(parts, segment, offset, form.CHOSEN, 0, shard, update.chosen, 0, b"")
            if update.compacted is not None:
                index, term = update.compacted
                offset = item(parts, segment, offset, form.COMPACTED, 0, shard, index, term, b"")
            if update.damaged is not None:
                known.damaged = update.damaged
                reach, term = update.damaged
                offset = item(parts, segment, offset, form.DAMAGED, 0, shard, reach, term, b"")
            if update.healed:
                known.damaged = None
                offset = item(parts, segment, offset, form.HEALED, 0, shard, 0, 0, b"")
            self._note(shard, known)
        return promises

    def _note(self, shard: ShardId, known: _Shard) -> None:
        """What the mark says of a shard: also what it owes from earlier damage, lest that be lost."""
        state, last = known.hard_state, known.last_index
        if known.damaged is not None:
            last = max(last, known.damaged[0])
        self._builder.put(shard, state.term, state.vote, last)

    def _restate(self, parts: list[bytes], segment: int, offset: int) -> int:
        """Hard state and compaction point of every shard, for a new segment."""
        item = form.encode_item
        for shard, known in self._shards.items():
            state = known.hard_state
            offset = item(parts, segment, offset, form.HARD, 0, shard, state.term, state.vote, b"")
            index, term = known.compacted
            offset = item(parts, segment, offset, form.COMPACTED, 0, shard, index, term, b"")
        return offset

    def _restate_ends(self, parts: list[bytes], segment: int, offset: int) -> int:
        """What else a new segment says: where each log ends, and what is damaged."""
        item = form.encode_item
        for shard, known in self._shards.items():
            offset = item(parts, segment, offset, form.LAST, 0, shard, known.last_index, 0, b"")
            if known.damaged is not None:
                reach, term = known.damaged
                offset = item(parts, segment, offset, form.DAMAGED, 0, shard, reach, term, b"")
            self._note(shard, known)
        if self.amnesia:
            offset = item(parts, segment, offset, form.AMNESIA, 0, 0, 0, 0, b"")
        return offset

    def commit(self, write: Write) -> None:
        """Write and sync. DiskFault: the log is dead. Called on the log thread, then `note`."""
        if self.dead:
            raise DiskFault(self.dead)
        segments = self._segments
        try:
            if write.new_segment:
                segments.begin(write.segment, len(write.data))
            segments.write(write.offset, write.data)
            if write.promises:
                self._mark.write(write.mark, sync=True)
        except DiskFault as error:
            self.dead = f"the log could not be written and synced: {error}"
            raise

    def note(self, write: Write) -> None:
        """What the acknowledgement of a committed write need not wait for: the mark that it was synced,
        old segments' removal, a look ahead for room. DiskFault as in `commit`. On the log thread."""
        if self.dead:
            return
        segments = self._segments
        try:
            if not write.promises:
                self._mark.write(write.mark, sync=False)
            if write.removals:
                segments.remove(write.removals)
            segments.look_ahead(write.offset)
        except DiskFault as error:
            self.dead = f"the log could not be kept: {error}"
            raise

    def publish(self, write: Write) -> None:
        """The write is durable: its entries can be read back."""
        self._outstanding = False
        shards = self._shards
        for update in write.updates:
            if update.reset is not None:
                shard = shards[update.shard]
                shard.base = update.reset.index
                shard.compacted = (update.reset.index, update.reset.term)
                shard.locations = array("Q")
            if update.compacted is not None:
                shard = shards[update.shard]
                shard.compacted = max(shard.compacted, update.compacted)
        for shard_id, index, location in write.locations:
            shard = shards[shard_id]
            locations = shard.locations
            keep = index - shard.base - 1
            if keep != len(locations):
                if 0 <= keep < len(locations):
                    del locations[keep:]
                else:
                    shard.base = index - 1
                    shard.locations = locations = array("Q")
            locations.append(location)
        for update in write.updates:
            if update.compacted is not None:
                shard = shards[update.shard]
                drop = min(max(0, shard.compacted[0] - shard.base), len(shard.locations))
                del shard.locations[:drop]
                shard.base += drop

    # Reading back

    def reader(self, shard: ShardId) -> ShardReader:
        """Reads entries of one shard."""
        return ShardReader(shard, self._files, self._located)

    def _located(self, shard: ShardId) -> "tuple[Index, array[int]]":
        known = self._shards.get(shard)
        return (known.base, known.locations) if known else (0, array("Q"))

    # Keeping it short

    def release(self) -> int:
        """Let go of segments whose entries are all compacted; how many. Their files are removed with
        the next write. Cheap enough to be called after each write."""
        released = 0
        while True:
            number = min(self._highest)
            if number >= self._segment:
                break
            blocker = self._blocking(self._highest[number])
            if blocker is not None:
                self._blocker = blocker
                break
            self._files.forget(number)
            self._removals.append(number)
            del self._highest[number]
            released += 1
        return released

    def _blocking(self, highest: dict[ShardId, Index]) -> ShardId | None:
        """A shard that needs an entry of a segment; the one that did so last time is asked first."""
        shards, last = self._shards, self._blocker
        if last is not None and highest.get(last, 0) > shards[last].compacted[0]:
            return last
        for shard, index in highest.items():
            if index > shards[shard].compacted[0]:
                return shard
        return None

    def remembered(self, shard: ShardId) -> ShardRecovery | None:
        """What a replica of the shard on this node promised, without entries; None: there was none."""
        known = self._shards.get(shard)
        if known is None:
            if not self.amnesia:
                return None
            known = _Shard()
            known.damaged = (0, 0)
        reach, term = known.damaged or (0, 0)
        damaged = known.damaged is not None
        return ShardRecovery(shard, known.hard_state, (0, 0), [], damaged, reach, term)

    def reach(self, shard: ShardId) -> Index:
        """The greatest index that any segment holds of the shard; 0: none."""
        return max((highest.get(shard, 0) for highest in self._highest.values()), default=0)

    def holding(self, keep: int) -> list[ShardId]:
        """Shards that need entries in others than the newest `keep` segments."""
        held: dict[ShardId, None] = {}
        for number in sorted(self._highest)[:-keep]:
            for shard, index in self._highest[number].items():
                if index > self._shards[shard].compacted[0]:
                    held[shard] = None
        return list(held)

    @property
    def segments(self) -> int:
        """How many segment files there are."""
        return len(self._highest)

    @property
    def has_room(self) -> bool:
        """False: there was no room to reserve the next segment. Writes go on until this one is full,
        then the log dies of DiskFull: better to take no new work, and to ask `reserve` now and then."""
        return self._segments.room

    def reserve(self) -> bool:
        """Try again to reserve the next segment. Blocks; only while no commit is under way."""
        return self._segments.reserve()

    def close(self) -> None:
        """Release all files. Idempotent."""
        self.dead = self.dead or "the log is closed"
        self._segments.close()
        self._files.close()
        self._mark.close()


def _size(updates: list[ShardUpdate]) -> int:
    """An upper bound of the bytes of the updates' items."""
    head = form.ITEM_HEAD
    size = 0
    for update in updates:
        size += head * (7 + len(update.entries))
        for entry in update.entries:
            size += len(entry.data)
    return size
