"""The bytes of the node's log. Everything is big endian. docs/formats/log.md has the same with pictures.

A segment file is a sequence of records, then zeros up to its preallocated size. A record is what the
node made durable in one write, whatever number of shards it serves, so half of it is dropped as one:

    magic "QLG" | version u8 | kind u8 | 0 u8 | 0 u16 | length u32 | sequence u64
    | payload crc u32 | head crc u32 | payload[length]

    version   1
    kind      ORDINARY, or FIRST: the first record after the log was opened, written by `Log.open`
              itself; its payload begins with an ORIGIN
    length    of the payload
    sequence  1 for the first record of a log, then +1 for each (more only at a FIRST after damage)
    head crc  CRC32C of: segment u64, offset of the record u64, the 24 bytes before
    payload crc
              CRC32C of the payload

The payload is a sequence of items:

    kind u8 | entry kind u8 | shard u32 | a u64 | b u64 | length u32 | crc u32 | data[length]

    ENTRY      a = index, b = term, data = the entry's data; index <= last replaces the suffix
    HARD       a = term, b = vote
    RESET      a = index, b = term: forget all entries, the log starts over behind this point
    COMPACTED  a = index, b = term: entries up to here are not needed any more
    DAMAGED    a = must_reach, b = must_term: synced data of this shard were lost (recovery.py)
    HEALED     the shard was brought up to date by its leader
    ORIGIN     a = segment, b = offset: the records before this one end there; whatever follows there
               was never acknowledged, or is copied here, or was found damaged and is accounted for
    CHOSEN     a = index, b = 0: Paxos: entries up to here are chosen, and are the chosen ones
    LAST       a = the shard's last index here, b = 0: tells that nothing before it is missing
    AMNESIA    shards that were never mentioned may have lost everything (after damage)
    crc        CRC32C of: segment u64, offset of the item u64, the 26 bytes before, data

Both checksums cover identity and place, so bytes that a disk wrote to a wrong place, returned from a
wrong place, or left there from an earlier life of the block, are never taken for the right ones.

The first record of every segment has HARD, COMPACTED, LAST and perhaps DAMAGED of every shard, so older
segments can go once all their entries are compacted.

Why a valid record proves all before it: record N+1 is written only after the sync of record N
returned. So an invalid record with a valid later one is *damage* to synced bytes; invalid bytes with
nothing valid after them are a *torn tail*, never acknowledged, unless the mark (mark.py) knows better.
"""

import struct
from collections.abc import Iterator

from quoit.base.checksum import crc32c, crc32c_extend
from quoit.base.limits import FRAME_BYTES_MAX

__all__ = [
    "AMNESIA",
    "CHOSEN",
    "COMPACTED",
    "DAMAGED",
    "ENTRY",
    "FIRST",
    "HARD",
    "HEALED",
    "ITEM_HEAD",
    "LAST",
    "MAGIC",
    "ORDINARY",
    "ORIGIN",
    "RECORD_HEAD",
    "RESET",
    "SPARE",
    "Item",
    "encode_item",
    "encode_record",
    "item_size",
    "items",
    "parse_head",
    "parse_item",
    "segment_name",
    "segment_number",
]

MAGIC = b"QLG\x01"
ORDINARY = 1
FIRST = 2

ENTRY = 1
HARD = 2
RESET = 3
COMPACTED = 4
DAMAGED = 5
HEALED = 6
ORIGIN = 7
AMNESIA = 8
LAST = 9
CHOSEN = 10

SPARE = "spare.reserve"
"""Name of a segment that is allocated and not used yet."""

_record = struct.Struct(">4sBBHIQI")
_item = struct.Struct(">BBIQQI")
_place_item = struct.Struct(">QQBBIQQI")
_item_crc = struct.Struct(">BBIQQII")
_place = struct.Struct(">QQ")
_crc = struct.Struct(">I")
RECORD_HEAD = _record.size + 4
ITEM_HEAD = _item.size + 4

Item = tuple[int, int, int, int, int, bytes, int]
"""(kind, entry kind, shard, a, b, data, offset in the file)."""


def segment_name(number: int) -> str:
    """File name of a segment."""
    return f"{number:016x}.log"


def segment_number(name: str) -> int | None:
    """The number in a segment's file name; None for other files."""
    stem, dot, ending = name.partition(".")
    if not dot or ending != "log" or len(stem) != 16:
        return None
    try:
        return int(stem, 16)
    except ValueError:
        return None


def encode_item(
    parts: list[bytes],
    segment: int,
    offset: int,
    kind: int,
    entry_kind: int,
    shard: int,
    a: int,
    b: int,
    data: bytes,
) -> int:
    """Append the bytes of an item that will lie at `offset` of `segment`; the offset behind it."""
    size = len(data)
    crc = crc32c(_place_item.pack(segment, offset, kind, entry_kind, shard, a, b, size))
    if size:
        parts += (
            _item_crc.pack(kind, entry_kind, shard, a, b, size, crc32c_extend(crc, data)),
            data,
        )
    else:
        parts.append(_item_crc.pack(kind, entry_kind, shard, a, b, size, crc))
    return offset + ITEM_HEAD + size


def encode_record(segment: int, offset: int, kind: int, sequence: int, payload: bytes) -> bytes:
    """The bytes of a record that will lie at `offset` of `segment`."""
    head = _record.pack(MAGIC, kind, 0, 0, len(payload), sequence, crc32c(payload))
    head_crc = crc32c(_place.pack(segment, offset) + head)
    return b"".join((head, _crc.pack(head_crc), payload))


def parse_head(segment: int, offset: int, head: bytes) -> tuple[int, int, int, int] | None:
    """(kind, length, sequence, payload crc) of a record whose first RECORD_HEAD bytes were read at
    `offset` of `segment`; None if they are not the head of a record that belongs there."""
    if len(head) < RECORD_HEAD or head[:4] != MAGIC:
        return None
    _, kind, _, _, length, sequence, payload_crc = _record.unpack_from(head)
    (head_crc,) = _crc.unpack_from(head, _record.size)
    if crc32c(_place.pack(segment, offset) + head[: _record.size]) != head_crc:
        return None
    return kind, length, sequence, payload_crc


def parse_item(segment: int, offset: int, data: bytes, start: int) -> Item | None:
    """The item at `data[start:]`, which was read at `offset` of `segment`; None if it is not valid."""
    begin = start + ITEM_HEAD
    if begin > len(data):
        return None
    kind, entry_kind, shard, a, b, size, crc = _item_crc.unpack_from(data, start)
    body = data[begin : begin + size]
    covered = _place_item.pack(segment, offset, kind, entry_kind, shard, a, b, size)
    if len(body) != size or crc32c_extend(crc32c(covered), body) != crc:
        return None
    return kind, entry_kind, shard, a, b, body, offset


def item_size(data: bytes, start: int) -> int:
    """Length that the item at `data[start:]` announces, not verified; 0 if it cannot be one."""
    if start + ITEM_HEAD > len(data):
        return 0
    length: int = _item.unpack_from(data, start)[5]
    return ITEM_HEAD + length if length <= FRAME_BYTES_MAX else 0


def items(payload: bytes, offset: int) -> Iterator[Item]:
    """The items of a valid record whose payload begins at `offset` of its file. Their own checksums
    are not looked at: the record's covers them."""
    unpack = _item_crc.unpack_from
    at, end = 0, len(payload)
    while at < end:
        kind, entry_kind, shard, a, b, size, _ = unpack(payload, at)
        begin = at + ITEM_HEAD
        yield kind, entry_kind, shard, a, b, payload[begin : begin + size], offset + at
        at = begin + size
