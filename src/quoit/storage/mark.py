"""The mark: a small file that says how far the log was synced, and what was promised.

It is written, not synced, after every successful sync of the log, in turn into two slots, so that one
is always whole. It survives a crash of the process; after a power cut it may be a little old, never
ahead of the log. With it, damage in the very last synced record is told from a torn tail, and terms
and votes survive damage to the log itself.

    slot (4096 bytes each): length u32 | crc u32 | msgpack [sequence, {shard: [term, vote, last index]}]

More shards than fit into a slot are left out, oldest promise first kept whole: the mark then says
less, never something false.
"""

import msgspec

from quoit.base.checksum import crc32c
from quoit.base.seams import Disk, File

__all__ = ["Mark", "MarkFile"]

_NAME = "synced.mark"
_SLOT_BYTES = 4096


class Mark(msgspec.Struct, array_like=True):
    """What was durable when the mark was made."""

    sequence: int = 0
    shards: dict[int, tuple[int, int, int]] = {}
    """shard -> (term, vote, last index)."""


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Mark).decode


class MarkFile:
    """The two slots on disk."""

    __slots__ = ("_file", "_slot")

    def __init__(self, file: File) -> None:
        self._file = file
        self._slot = 0

    @classmethod
    def open(cls, disk: Disk) -> tuple["MarkFile", Mark]:
        """Open or create; returns the newest whole mark."""
        file = disk.open(_NAME, create=True)
        if file.size() < 2 * _SLOT_BYTES:
            file.allocate(2 * _SLOT_BYTES)
        marks = [mark for slot in (0, 1) if (mark := _read(file, slot)) is not None]
        newest = max(marks, key=lambda mark: mark.sequence, default=Mark())
        return cls(file), newest

    def write(self, encoded: bytes) -> None:
        """Put an encoded mark into the older slot. No sync: see the module's docstring."""
        self._slot = 1 - self._slot
        self._file.pwrite(self._slot * _SLOT_BYTES, encoded)

    def close(self) -> None:
        """Release the file."""
        self._file.close()

    @staticmethod
    def encode(mark: Mark) -> bytes:
        """A slot's bytes."""
        body = _encode(mark)
        while len(body) + 8 > _SLOT_BYTES:
            kept = list(mark.shards.items())[: len(mark.shards) * 3 // 4]
            mark = Mark(mark.sequence, dict(kept))
            body = _encode(mark)
        return len(body).to_bytes(4, "big") + crc32c(body).to_bytes(4, "big") + body


def _read(file: File, slot: int) -> Mark | None:
    data = file.pread(slot * _SLOT_BYTES, _SLOT_BYTES)
    size = int.from_bytes(data[:4], "big")
    body = data[8 : 8 + size]
    if not size or len(body) != size or crc32c(body).to_bytes(4, "big") != data[4:8]:
        return None
    try:
        return _decode(body)
    except msgspec.MsgspecError:
        return None
