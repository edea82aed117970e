"""The segment files as the writer sees them: begun, written, synced, put aside, removed.

Everything here runs on the log thread (or before there is one). Room is reserved a segment at a time,
and the next one's (the spare) before it is needed, so that a full disk shows while there is still room
for what must be written, and never in the middle of a record.
"""

from contextlib import suppress

from quoit.base.errors import DiskFault, DiskFull
from quoit.base.seams import Disk, File
from quoit.storage import log_format as form

__all__ = ["Segments"]


class Segments:
    """See the module's docstring.

    room  the disk had room for a spare segment when last asked
    """

    def __init__(self, disk: Disk, segment_bytes: int) -> None:
        self._disk = disk
        self._segment_bytes = segment_bytes
        self._file: File | None = None
        self._spare = form.SPARE in disk.list()
        self._ask_at = segment_bytes // 2
        self.room = True

    def begin(self, number: int, size: int) -> None:
        """Go over to a new segment that is going to hold at least `size` bytes."""
        name = form.segment_name(number)
        if self._file is not None:
            self._file.close()
            self._file = None
        if self._spare:
            with suppress(FileNotFoundError):
                self._disk.rename(form.SPARE, name)
            self._spare = False
        file = self._disk.open(name, create=True)
        try:
            file.allocate(max(size, self._segment_bytes))
        except DiskFull:
            file.close()
            self._disk.remove(name)
            raise
        self._disk.sync_directory()
        self._file = file
        self._ask_at = self._segment_bytes // 2

    def write(self, offset: int, data: bytes) -> None:
        """Write and sync. After an error the file is not to be trusted, nor synced again."""
        file = self._file
        if file is None:
            raise DiskFault("the log has no segment to write to")
        file.pwrite(offset, data)
        file.sync()

    def look_ahead(self, offset: int) -> None:
        """Reserve the next segment once this one is half full; asked again now and then if there was
        no room."""
        if self._spare or (self.room and offset < self._ask_at):
            return
        self._ask_at = offset + self._segment_bytes // 16
        self.reserve()

    def reserve(self) -> bool:
        """Try to have a spare segment; True if there is one. A full disk is an answer, not an error."""
        if self._spare:
            return True
        disk = self._disk
        try:
            file = disk.open(form.SPARE, create=True)
            try:
                file.allocate(self._segment_bytes)
            finally:
                file.close()
        except DiskFull:
            self.room = False
            disk.remove(form.SPARE)
            return False
        self.room = self._spare = True
        return True

    def remove(self, numbers: list[int]) -> None:
        """Remove segments, oldest first; each durably, so that no gap can appear."""
        for number in numbers:
            # Why suppress: gone is what it should be, whoever did it.
            with suppress(FileNotFoundError):
                self._disk.remove(form.segment_name(number))
            self._disk.sync_directory()

    def cut(self, number: int, size: int) -> None:
        """Give back what a segment that is not written any more reserved behind `size`."""
        file = self._disk.open(form.segment_name(number))
        if file.size() > size:
            file.truncate(size)
        file.close()

    def close(self) -> None:
        """Release the file. Idempotent."""
        if self._file is not None:
            self._file.close()
            self._file = None
