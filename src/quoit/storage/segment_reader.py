"""One segment file, read from its beginning to its end in large steps."""

from types import TracebackType

from quoit.base.checksum import crc32c
from quoit.base.seams import Disk
from quoit.storage import log_format as form

__all__ = ["Record", "SegmentReader"]

_STEP_BYTES = 1024 * 1024
_STEP_ZEROS = bytes(_STEP_BYTES)

Record = tuple[int, int, bytes]
"""(kind, sequence, payload)."""


class SegmentReader:
    """A window over the file; a context manager that closes it.

    size  where the segment ends: a later FIRST record said so (`limited`), or the file does
    """

    def __init__(self, disk: Disk, number: int, limit: int | None) -> None:
        self.number = number
        self.limited = limit is not None
        self._file = disk.open(form.segment_name(number))
        size = self._file.size()
        self.missing = limit is not None and limit > size
        self.size = size if limit is None else limit
        self._start = 0
        self._window = b""

    def __enter__(self) -> "SegmentReader":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()

    def _bytes(self, offset: int, size: int) -> bytes:
        at = offset - self._start
        if at >= 0 and at + size <= len(self._window):
            return self._window[at : at + size]
        self._start = offset
        self._window = self._file.pread(
            offset, min(max(size, _STEP_BYTES), max(0, self.size - offset))
        )
        return self._window[:size]

    def record(self, offset: int) -> Record | None:
        """The record at `offset`; None if there is no valid one."""
        head = form.parse_head(self.number, offset, self._bytes(offset, form.RECORD_HEAD))
        if head is None:
            return None
        kind, length, sequence, crc = head
        begin = offset + form.RECORD_HEAD
        if begin + length > self.size:
            return None
        payload = self._bytes(begin, length)
        if len(payload) != length or crc32c(payload) != crc:
            return None
        return kind, sequence, payload

    def next_record(self, offset: int) -> tuple[int, Record] | None:
        """The first valid record at or behind `offset`, and where it lies."""
        magic = form.MAGIC
        while offset < self.size:
            chunk = self._file.pread(offset, min(_STEP_BYTES, self.size - offset))
            at = chunk.find(magic)
            while at >= 0:
                record = self.record(offset + at)
                if record is not None:
                    return offset + at, record
                at = chunk.find(magic, at + 1)
            if len(chunk) < _STEP_BYTES:
                return None
            offset += len(chunk) - len(magic) + 1
        return None

    def written_end(self, offset: int) -> int:
        """Behind the last byte that is not zero, at or behind `offset`; `offset` if all are zeros."""
        end = offset
        while offset < self.size:
            chunk = self._file.pread(offset, min(_STEP_BYTES, self.size - offset))
            if not chunk:
                break
            if chunk != _STEP_ZEROS and (kept := len(chunk.rstrip(b"\0"))):
                end = offset + kept
            offset += len(chunk)
        return end
