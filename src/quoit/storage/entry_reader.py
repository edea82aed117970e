"""Reading entries back from the segment files, on the event loop."""

from array import array
from collections.abc import Callable

from quoit.base.errors import Corruption
from quoit.base.ids import Index, ShardId
from quoit.base.seams import Disk, File
from quoit.quorum.agreement import Entry
from quoit.storage import log_format as form

__all__ = ["EntryFiles", "ShardReader"]

_STEP_BYTES = 64 * 1024


class EntryFiles:
    """Segment files open for reading, the writer's own aside. At most one per segment that exists."""

    __slots__ = ("_disk", "_open")

    def __init__(self, disk: Disk) -> None:
        self._disk = disk
        self._open: dict[int, File] = {}

    def get(self, number: int) -> File:
        """The file of a segment."""
        file = self._open.get(number)
        if file is None:
            try:
                file = self._open[number] = self._disk.open(form.segment_name(number))
            except FileNotFoundError:
                raise Corruption(
                    f"{form.segment_name(number)} is gone; somebody removed it while the node ran"
                ) from None
        return file

    def forget(self, number: int) -> None:
        """The segment is going to be removed."""
        file = self._open.pop(number, None)
        if file is not None:
            file.close()

    def close(self) -> None:
        """Release all."""
        for file in self._open.values():
            file.close()
        self._open = {}


class ShardReader:
    """quorum.agreement.EntryReader over the node's log."""

    __slots__ = ("_files", "_located", "_shard")

    def __init__(
        self,
        shard: ShardId,
        files: EntryFiles,
        located: Callable[[ShardId], tuple[Index, "array[int]"]],
    ) -> None:
        self._shard = shard
        self._files = files
        self._located = located

    def entries(self, low: Index, high: Index, bytes_max: int) -> list[Entry]:
        """Entries low..high-1, at least one, then up to `bytes_max` bytes. Corruption if one is
        damaged, or is not where it should be."""
        base, locations = self._located(self._shard)
        window, start, segment = b"", 0, -1
        found: list[Entry] = []
        total = 0
        for index in range(low, high):
            at = index - base - 1
            if not 0 <= at < len(locations):
                raise Corruption(f"entry {index} of shard {self._shard} is not in the log")
            number, offset = locations[at] >> 32, locations[at] & 0xFFFFFFFF
            place = offset - start
            size = form.item_size(window, place) if number == segment and place >= 0 else 0
            if not size or place + size > len(window):
                file = self._files.get(number)
                window, start, segment, place = file.pread(offset, _STEP_BYTES), offset, number, 0
                size = form.item_size(window, 0)
                if size > len(window):
                    window = file.pread(offset, size)
            entry = self._parse(number, offset, window, place, index)
            total += len(entry.data)
            if found and total > bytes_max:
                break
            found.append(entry)
        return found

    def _parse(self, number: int, offset: int, window: bytes, place: int, index: Index) -> Entry:
        item = form.parse_item(number, offset, window, place)
        if item is None or item[0] != form.ENTRY or (item[2], item[3]) != (self._shard, index):
            raise Corruption(
                f"entry {index} of shard {self._shard} is damaged in {form.segment_name(number)} at "
                f"byte {offset}: what this node holds cannot be trusted any more; stop it, remove "
                "its data directory, let it rejoin and copy from the others"
            )
        return Entry(item[3], item[4], item[1], item[5])
