"""The bytes of the node's log. Everything is big endian.

A segment file is a sequence of records, then zeros up to its preallocated size. A record is what the
node made durable in one write, so a half-written record is dropped as one:

    magic "QLG1" | kind u8 | 0 u8 | 0 u16 | length u32 | sequence u64 | crc u32 | payload[length]

    kind      1 ordinary; 2 first record after the log was opened (its payload starts with an ORIGIN)
    sequence  1 for the first record of a log, then +1 for each
    crc       CRC32C of the record without these four bytes

The payload is a sequence of items:

    kind u8 | entry kind u8 | shard u32 | a u64 | b u64 | length u32 | crc u32 | data[length]

    ENTRY      a = index, b = term, data = the entry's data; index <= last replaces the suffix
    HARD       a = term, b = vote
    RESET      a = index, b = term: forget all entries, the log starts over behind this point
    COMPACTED  a = index, b = term: entries up to here are not needed any more
    DAMAGED    a = must_reach, b = must_term: synced data of this shard were lost (recovery.py)
    HEALED     the shard was brought up to date by its leader
    ORIGIN     shard 0, a = segment, b = offset: the records before this one end there; whatever
               follows there was never acknowledged, or was found damaged and is accounted for

    crc        CRC32C of the item without these four bytes: it covers the identity (shard, index,
               term), so a misplaced entry is never taken for another

A new segment starts with HARD and COMPACTED (and DAMAGED) of every shard, so older segments can go
once all their entries are compacted.

Why a valid record proves all before it: record N+1 is written only after the sync of record N
returned. So an invalid record with a valid later one is *damage* to synced bytes; invalid bytes with
nothing valid after them are a *torn tail*, never acknowledged, unless the mark (mark.py) knows better.
"""

import struct
from collections.abc import Iterator

from quoit.base.checksum import crc32c
from quoit.base.limits import FRAME_BYTES_MAX

__all__ = [
    "COMPACTED",
    "DAMAGED",
    "ENTRY",
    "FIRST",
    "HARD",
    "HEALED",
    "ITEM_HEAD",
    "MAGIC",
    "ORDINARY",
    "ORIGIN",
    "RECORD_HEAD",
    "RESET",
    "encode_item",
    "encode_record",
    "item_size",
    "items",
    "parse_item",
    "parse_record",
    "segment_name",
    "segment_number",
]

MAGIC = b"QLG1"
ORDINARY = 1
FIRST = 2

ENTRY = 1
HARD = 2
RESET = 3
COMPACTED = 4
DAMAGED = 5
HEALED = 6
ORIGIN = 7

_record = struct.Struct(">4sBBHIQ")
_item = struct.Struct(">BBIQQI")
_crc = struct.Struct(">I")
RECORD_HEAD = _record.size + 4
ITEM_HEAD = _item.size + 4

Item = tuple[int, int, int, int, int, bytes, int]
"""(kind, entry kind, shard, a, b, data, offset in the payload)."""


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


def encode_item(kind: int, entry_kind: int, shard: int, a: int, b: int, data: bytes) -> bytes:
    """An item's bytes."""
    head = _item.pack(kind, entry_kind, shard, a, b, len(data))
    return head + _crc.pack(crc32c(head + data)) + data


def encode_record(kind: int, sequence: int, payload: bytes) -> bytes:
    """A record's bytes."""
    head = _record.pack(MAGIC, kind, 0, 0, len(payload), sequence)
    return head + _crc.pack(crc32c(head + payload)) + payload


def parse_record(data: bytes, offset: int) -> tuple[int, int, bytes] | None:
    """(kind, sequence, payload) of the record at `offset`; None if there is no valid one."""
    start = offset + RECORD_HEAD
    if start > len(data) or data[offset : offset + 4] != MAGIC:
        return None
    head = data[offset : offset + _record.size]
    _, kind, zero, zeros, length, sequence = _record.unpack(head)
    if zero or zeros or kind not in (ORDINARY, FIRST) or start + length > len(data):
        return None
    payload = data[start : start + length]
    (crc,) = _crc.unpack_from(data, offset + _record.size)
    if crc32c(head + payload) != crc:
        return None
    return kind, sequence, payload


def parse_item(data: bytes, offset: int) -> Item | None:
    """The item at `offset` of a payload (or of a file); None if it is not valid."""
    start = offset + ITEM_HEAD
    if start > len(data):
        return None
    head = data[offset : offset + _item.size]
    kind, entry_kind, shard, a, b, length = _item.unpack(head)
    body = data[start : start + length]
    (crc,) = _crc.unpack_from(data, offset + _item.size)
    if len(body) != length or crc32c(head + body) != crc:
        return None
    return kind, entry_kind, shard, a, b, body, offset


def item_size(head: bytes) -> int:
    """Length of the item that starts with `head` (ITEM_HEAD bytes); 0 if it cannot be one."""
    if len(head) < ITEM_HEAD:
        return 0
    length: int = _item.unpack(head[: _item.size])[5]
    return ITEM_HEAD + length if length <= FRAME_BYTES_MAX else 0


def items(payload: bytes) -> Iterator[Item]:
    """The items of a payload whose record was valid."""
    offset = 0
    while offset < len(payload):
        item = parse_item(payload, offset)
        if item is None:
            return
        yield item
        offset += ITEM_HEAD + len(item[5])
