"""The mark: a small file that says how far the log was synced, and what was promised.

It is written after every successful sync of the log. With it, damage in the very last synced record
is told from a torn tail, and terms and votes survive damage to the log itself.

    slot    length u32 | crc u32 | sequence u64 | as many shards as fit length
    shard   shard u32 | vote u32 | term u64 | last index u64

    length  of what follows the crc; crc = CRC32C of the same
    slots   four, SLOT_BYTES apart. 0 and 1 take turns after ordinary writes and are not synced: after
            a power cut they are a little old, or torn. 2 and 3 take turns, synced, after writes that
            changed a hard state or began a segment. So no crash leaves the file without a mark that
            knows every term and vote; the newest whole slot counts

A mark is never ahead of the log. Shards that do not fit are left out: it then says less, never
something false.
"""

import struct

from quoit.base.check import invariant
from quoit.base.checksum import crc32c
from quoit.base.ids import Index, NodeId, ShardId, Term
from quoit.base.seams import Disk, File

__all__ = ["SLOT_BYTES", "Mark", "MarkBuilder", "MarkFile"]

_NAME = "synced.mark"
SLOT_BYTES = 512 * 1024
_SLOTS = 4
_head = struct.Struct(">II")
_sequence = struct.Struct(">Q")
_shard = struct.Struct(">IIQQ")
_SHARDS_MAX = (SLOT_BYTES - _head.size - _sequence.size) // _shard.size

invariant(_SHARDS_MAX > 16384, "a mark holds the greatest number of shards there can be")


class Mark:
    """What was durable when the mark was made. shards: shard -> (term, vote, last index)."""

    __slots__ = ("sequence", "shards")

    def __init__(
        self, sequence: int = 0, shards: dict[ShardId, tuple[Term, NodeId, Index]] | None = None
    ) -> None:
        self.sequence = sequence
        self.shards = shards or {}


class MarkBuilder:
    """Keeps a mark's bytes ready, so that making one costs a copy."""

    __slots__ = ("_body", "_places")

    def __init__(self) -> None:
        self._body = bytearray(_sequence.size)
        self._places: dict[ShardId, int] = {}

    def put(self, shard: ShardId, term: Term, vote: NodeId, last: Index) -> None:
        """What the next marks say of `shard`."""
        place = self._places.get(shard)
        if place is None:
            if len(self._places) >= _SHARDS_MAX:
                return
            place = self._places[shard] = len(self._body)
            self._body += bytes(_shard.size)
        _shard.pack_into(self._body, place, shard, vote, term, last)

    def encode(self, sequence: int) -> bytes:
        """A slot's bytes."""
        _sequence.pack_into(self._body, 0, sequence)
        body = bytes(self._body)
        return _head.pack(len(body), crc32c(body)) + body


class MarkFile:
    """The slots on disk."""

    __slots__ = ("_file", "_next")

    def __init__(self, file: File, upcoming: list[int]) -> None:
        self._file = file
        self._next = upcoming

    @classmethod
    def open(cls, disk: Disk) -> tuple["MarkFile", Mark]:
        """Open or create; returns the newest whole mark."""
        new = _NAME not in disk.list()
        file = disk.open(_NAME, create=True)
        if new or file.size() < _SLOTS * SLOT_BYTES:
            file.allocate(_SLOTS * SLOT_BYTES)
            file.sync()
            disk.sync_directory()
        marks = [_read(file, slot) or Mark() for slot in range(_SLOTS)]
        # The next write of either kind spares the newest slot of that kind.
        upcoming = [first + (marks[first].sequence > marks[first + 1].sequence) for first in (0, 2)]
        return cls(file, upcoming), max(marks, key=lambda mark: mark.sequence)

    def write(self, encoded: bytes, *, sync: bool) -> None:
        """Put an encoded mark into the older slot of its kind."""
        slot = self._next[sync]
        self._next[sync] = slot ^ 1
        self._file.pwrite(slot * SLOT_BYTES, encoded)
        if sync:
            self._file.sync()

    def close(self) -> None:
        """Release the file."""
        self._file.close()


def _read(file: File, slot: int) -> Mark | None:
    offset = slot * SLOT_BYTES
    head = file.pread(offset, _head.size)
    if len(head) < _head.size:
        return None
    size, crc = _head.unpack(head)
    if not _sequence.size <= size <= SLOT_BYTES - _head.size:
        return None
    body = file.pread(offset + _head.size, size)
    if len(body) != size or crc32c(body) != crc or (size - _sequence.size) % _shard.size:
        return None
    shards = {
        shard: (term, vote, last)
        for shard, vote, term, last in _shard.iter_unpack(body[_sequence.size :])
    }
    return Mark(_sequence.unpack_from(body)[0], shards)
