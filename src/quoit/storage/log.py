"""The node's log: entries and hard states of all its shards, in one sequence of segment files.

One `Write` is one record, one `pwrite` and one sync, whatever number of shards it serves (group
commit). The three steps of a write run in different places:

    prepare   on the event loop: encodes, decides where the record goes, does no I/O
    commit    on the log thread: writes and syncs, touches nothing that the loop uses
    publish   on the event loop: the entries can now be read back, the marks are durable

Fail-stop: after a failed write or sync the log refuses everything for ever. What the failed sync
covered may or may not be on the disk, and asking again would get a false yes (fsyncgate).
"""

from array import array

import msgspec

from quoit.base import limits
from quoit.base.check import invariant
from quoit.base.errors import Corruption, DiskFault
from quoit.base.ids import Index, ShardId, Term
from quoit.base.seams import Disk, File
from quoit.quorum.agreement import Entry, HardState
from quoit.storage import log_format as form
from quoit.storage.api import Recovery, ShardUpdate
from quoit.storage.mark import Mark, MarkFile
from quoit.storage.recovery import Found, recover

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


class _Shard:
    """What the log knows of one shard.

    base       locations[0] is where entry base + 1 lies
    compacted  the durable compaction point
    """

    __slots__ = ("base", "compacted", "damaged", "hard_state", "last_index", "locations")

    def __init__(self) -> None:
        self.base: Index = 0
        self.compacted: tuple[Index, Term] = (0, 0)
        self.hard_state = HardState()
        self.locations = array("Q")
        self.last_index: Index = 0
        self.damaged: tuple[Index, Term] | None = None


class Log:
    """See the module's docstring.

    sequence   of the last prepared record; Invariant: at most one prepared record is not published
    dead       why the log refuses everything, or ""
    """

    def __init__(self, disk: Disk, found: Found, mark: MarkFile, segment_bytes: int) -> None:
        self._disk = disk
        self._mark = mark
        self._segment_bytes = segment_bytes
        self._files: dict[int, File] = {}
        self._highest = found.highest
        self._origin: tuple[int, int] | None = (found.end_segment, found.end_offset)
        self._segment = max(found.segments, default=0)
        # A new segment for the first write: whatever lies behind the kept records is never reused.
        self._offset = segment_bytes
        self.sequence = found.sequence
        self.dead = ""
        self._outstanding = False
        self._shards: dict[ShardId, _Shard] = {}
        for shard_id, scan in found.scans.items():
            shard = self._shards[shard_id] = _Shard()
            shard.base = scan.base
            shard.compacted = scan.compacted
            shard.locations = scan.locations
            shard.hard_state = scan.hard_state
            shard.last_index = scan.base + len(scan.locations)
            if scan.damaged:
                shard.damaged = (scan.must_reach, scan.must_term)

    @classmethod
    def open(
        cls, disk: Disk, segment_bytes: int = limits.LOG_SEGMENT_BYTES
    ) -> tuple["Log", Recovery]:
        """Open the log in `disk`, or begin one. DiskFault if it cannot be read at all."""
        mark_file, mark = MarkFile.open(disk)
        found = recover(disk, mark)
        return cls(disk, found, mark_file, segment_bytes), found.recovery

    # The three steps of a write

    def prepare(self, updates: list[ShardUpdate]) -> Write:
        """The record that makes `updates` durable together. No I/O."""
        invariant(not self._outstanding, "one write at a time")
        if self.dead:
            raise DiskFault(self.dead)
        parts: list[bytes] = []
        places: list[tuple[ShardId, Index, int]] = []
        size = self._encode(updates, parts, places)
        kind = form.ORDINARY
        new_segment = self._offset + form.RECORD_HEAD + size > self._segment_bytes
        if new_segment:
            head = self._restate()
            if self._origin is not None:
                kind = form.FIRST
                head.insert(0, form.encode_item(form.ORIGIN, 0, 0, *self._origin, b""))
                self._origin = None
            moved = sum(len(part) for part in head)
            places = [(shard, index, place + moved) for shard, index, place in places]
            parts = head + parts
            self._segment += 1
            self._offset = 0
            self._highest[self._segment] = {}
        self.sequence += 1
        data = form.encode_record(kind, self.sequence, b"".join(parts))
        start = self._segment << 32 | (self._offset + form.RECORD_HEAD)
        highest = self._highest[self._segment]
        locations = []
        for shard, index, place in places:
            locations.append((shard, index, start + place))
            if index > highest.get(shard, 0):
                highest[shard] = index
        for update in updates:
            self._note(update)
        write = Write(
            data, self._segment, self._offset, new_segment, self.sequence, updates, locations,
            self._encode_mark(),
        )  # fmt: skip
        self._offset += len(data)
        self._outstanding = True
        return write

    def _encode(
        self,
        updates: list[ShardUpdate],
        parts: list[bytes],
        places: list[tuple[ShardId, Index, int]],
    ) -> int:
        item = form.encode_item
        size = 0
        for update in updates:
            shard = update.shard
            if update.reset is not None:
                parts.append(item(form.RESET, 0, shard, update.reset.index, update.reset.term, b""))
                size += form.ITEM_HEAD
            if update.hard_state is not None:
                state = update.hard_state
                parts.append(item(form.HARD, 0, shard, state.term, state.vote, b""))
                size += form.ITEM_HEAD
            for entry in update.entries:
                data = entry.data
                parts.append(item(form.ENTRY, entry.kind, shard, entry.index, entry.term, data))
                places.append((shard, entry.index, size))
                size += form.ITEM_HEAD + len(data)
            if update.compacted is not None:
                parts.append(item(form.COMPACTED, 0, shard, *update.compacted, b""))
                size += form.ITEM_HEAD
            if update.healed:
                parts.append(item(form.HEALED, 0, shard, 0, 0, b""))
                size += form.ITEM_HEAD
        return size

    def _restate(self) -> list[bytes]:
        item = form.encode_item
        parts = []
        for shard_id, shard in self._shards.items():
            state = shard.hard_state
            parts.append(item(form.HARD, 0, shard_id, state.term, state.vote, b""))
            parts.append(item(form.COMPACTED, 0, shard_id, *shard.compacted, b""))
            if shard.damaged is not None:
                parts.append(item(form.DAMAGED, 0, shard_id, *shard.damaged, b""))
        return parts

    def _note(self, update: ShardUpdate) -> None:
        """Take the update into what a new segment or the mark would restate."""
        shard = self._shards.get(update.shard)
        if shard is None:
            shard = self._shards[update.shard] = _Shard()
        if update.reset is not None:
            shard.last_index = update.reset.index
        if update.hard_state is not None:
            shard.hard_state = update.hard_state
        if update.entries:
            shard.last_index = update.entries[-1].index
        if update.healed:
            shard.damaged = None

    def _encode_mark(self) -> bytes:
        shards = {
            shard_id: (shard.hard_state.term, shard.hard_state.vote, shard.last_index)
            for shard_id, shard in self._shards.items()
        }
        return MarkFile.encode(Mark(self.sequence, shards))

    def commit(self, write: Write) -> None:
        """Write and sync. DiskFault: the log is dead. Called on the log thread."""
        if self.dead:
            raise DiskFault(self.dead)
        try:
            file = self._files.get(write.segment)
            if file is None:
                file = self._disk.open(form.segment_name(write.segment), create=True)
                file.allocate(self._segment_bytes)
                self._disk.sync_directory()
                self._files[write.segment] = file
            file.pwrite(write.offset, write.data)
            file.sync()
            self._mark.write(write.mark)
        except DiskFault as error:
            self.dead = f"the log could not be written and synced: {error}"
            raise

    def publish(self, write: Write) -> None:
        """The write is durable: its entries can be read back."""
        self._outstanding = False
        for update in write.updates:
            shard = self._shards[update.shard]
            if update.reset is not None:
                shard.base = update.reset.index
                shard.compacted = (update.reset.index, update.reset.term)
                shard.locations = array("Q")
            if update.compacted is not None and update.compacted > shard.compacted:
                shard.compacted = update.compacted
        for shard_id, index, location in write.locations:
            shard = self._shards[shard_id]
            keep = index - shard.base - 1
            if keep < 0 or keep > len(shard.locations):
                shard.base = index - 1
                shard.locations = array("Q", [location])
                continue
            if keep < len(shard.locations):
                del shard.locations[keep:]
            shard.locations.append(location)
        for update in write.updates:
            if update.compacted is not None:
                shard = self._shards[update.shard]
                drop = min(max(0, shard.compacted[0] - shard.base), len(shard.locations))
                if drop:
                    del shard.locations[:drop]
                    shard.base += drop

    # Reading back

    def reader(self, shard: ShardId) -> "ShardReader":
        """Reads entries of one shard."""
        return ShardReader(self, shard)

    def read_entries(
        self, shard_id: ShardId, low: Index, high: Index, bytes_max: int
    ) -> list[Entry]:
        """Entries low..high-1, at least one, then up to `bytes_max` bytes. Corruption if one is
        damaged or is not where it should be."""
        shard = self._shards[shard_id]
        found: list[Entry] = []
        total = 0
        for index in range(low, high):
            at = index - shard.base - 1
            if not 0 <= at < len(shard.locations):
                raise Corruption(f"entry {index} of shard {shard_id} is not in the log")
            entry = self._read_one(shard_id, index, shard.locations[at])
            total += len(entry.data)
            if found and total > bytes_max:
                break
            found.append(entry)
        return found

    def _read_one(self, shard_id: ShardId, index: Index, location: int) -> Entry:
        segment, offset = location >> 32, location & 0xFFFFFFFF
        file = self._files.get(segment)
        if file is None:
            file = self._files[segment] = self._disk.open(form.segment_name(segment))
        size = form.item_size(file.pread(offset, form.ITEM_HEAD))
        item = form.parse_item(file.pread(offset, size), 0) if size else None
        if item is None or item[0] != form.ENTRY or (item[2], item[3]) != (shard_id, index):
            raise Corruption(
                f"entry {index} of shard {shard_id} is damaged in {form.segment_name(segment)} at "
                f"byte {offset}; stop the node, remove its data directory, let it rejoin"
            )
        return Entry(item[3], item[4], item[1], item[5])

    # Keeping it short

    def release(self) -> int:
        """Remove segments whose entries are all compacted; how many were removed."""
        removed = 0
        for number in sorted(self._highest):
            if number >= self._segment or self._origin is not None:
                break
            highest = self._highest[number]
            if any(index > self._shards[shard].compacted[0] for shard, index in highest.items()):
                break
            file = self._files.pop(number, None)
            if file is not None:
                file.close()
            self._disk.remove(form.segment_name(number))
            del self._highest[number]
            removed += 1
        return removed

    def close(self) -> None:
        """Release all files. Idempotent."""
        self.dead = self.dead or "the log is closed"
        for file in self._files.values():
            file.close()
        self._files = {}
        self._mark.close()


class ShardReader:
    """quorum.agreement.EntryReader over the node's log."""

    __slots__ = ("_log", "_shard")

    def __init__(self, log: Log, shard: ShardId) -> None:
        self._log = log
        self._shard = shard

    def entries(self, low: Index, high: Index, bytes_max: int) -> list[Entry]:
        """See EntryReader."""
        return self._log.read_entries(self._shard, low, high, bytes_max)
