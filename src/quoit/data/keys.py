"""How keys are laid out in the engine, so that one shard's data are a few contiguous ranges.

    "m" db(u8) slot(u16 BE) hash(u32 BE) key -> record        a user's key; hash = CRC32 of the key
    "x" expire_ms(u64 BE) physical key       -> empty         expiry index: local to a node, derived

Within a slot the order is by hash, so a SCAN cursor is the number `slot << 32 | hash`: it needs no
memory on any node and survives changes of leader. Sub-keys of collections will live under "s" with
the same head; whatever walks or deletes a shard's data does so for every prefix in PREFIXES.
"""

import struct
from binascii import crc_hqx
from collections.abc import Iterable
from zlib import crc32

from quoit.base.ids import Slot
from quoit.base.limits import SLOTS
from quoit.base.slots import DATABASES, META_DB, hash_tag, home_slot, slot_for, slot_of

__all__ = [
    "HEAD_BYTES",
    "MAIN",
    "PREFIXES",
    "cursor_slot",
    "database_ranges",
    "home_slot",
    "index_key",
    "parse_cursor",
    "physical_key",
    "position_of",
    "scan_start",
    "shard_ranges",
    "slot_for",
    "slot_of",
    "split_index_key",
    "split_physical",
]

MAIN = b"m"
PREFIXES = (MAIN,)
"""Every prefix under which a shard's replicated data live."""
HEAD_BYTES = 8
"""Length of prefix, database, slot and hash."""
CURSOR_END = SLOTS << 32

_MAIN_BYTE = MAIN[0]
_INDEX = b"x"
_MASK = SLOTS - 1
_HOME = tuple(home_slot(db) for db in range(DATABASES + 1))
_head = struct.Struct(">BBHI").pack


def physical_key(db: int, key: bytes) -> bytes:
    """The engine key of a user's key."""
    if db:
        slot = _HOME[db]
    elif b"{" in key:
        slot = crc_hqx(hash_tag(key), 0) & _MASK
    else:
        slot = crc_hqx(key, 0) & _MASK
    return _head(_MAIN_BYTE, db, slot, crc32(key)) + key


def split_physical(physical: bytes) -> tuple[int, bytes]:
    """(database, key) of an engine key made by `physical_key`."""
    return physical[1], physical[HEAD_BYTES:]


def position_of(physical: bytes) -> int:
    """`slot << 32 | hash` of an engine key: its place in a SCAN."""
    return int.from_bytes(physical[2:HEAD_BYTES], "big")


def scan_start(db: int, position: int) -> bytes:
    """The least engine key of `db` at or after a SCAN position below CURSOR_END."""
    return MAIN + bytes((db,)) + position.to_bytes(6, "big")


def _range(prefix: bytes, db: int, slot_low: Slot, slot_high: Slot) -> tuple[bytes, bytes]:
    head = prefix + bytes((db,))
    # SLOTS itself fits into two bytes, so the end of the last slot needs no special case.
    return head + slot_low.to_bytes(2, "big"), head + (slot_high + 1).to_bytes(2, "big")


def database_ranges(db: int, slot_low: Slot, slot_high: Slot) -> list[tuple[bytes, bytes]]:
    """Engine ranges [low, high) of what the shard with these slots (inclusive) holds of `db`."""
    if db:
        home = _HOME[db]
        if not slot_low <= home <= slot_high:
            return []
        slot_low = slot_high = home
    return [_range(prefix, db, slot_low, slot_high) for prefix in PREFIXES]


def shard_ranges(
    slot_low: Slot, slot_high: Slot, pinned: Iterable[int] | None = None
) -> list[tuple[bytes, bytes]]:
    """Engine ranges [low, high) of everything the shard with these slots (inclusive) holds.

    pinned  the databases 1..15 to look at; all of them if not given. Those whose home slot lies
            elsewhere add nothing.
    """
    ranges = database_ranges(0, slot_low, slot_high)
    for db in range(1, META_DB + 1) if pinned is None else pinned:
        ranges += database_ranges(db, slot_low, slot_high)
    return ranges


def index_key(expire_ms: int, physical: bytes) -> bytes:
    """The expiry index's key for an engine key that expires at `expire_ms`."""
    return _INDEX + expire_ms.to_bytes(8, "big") + physical


def split_index_key(key: bytes) -> tuple[int, bytes]:
    """(expire_ms, physical key) of an expiry index key."""
    return int.from_bytes(key[1:9], "big"), key[9:]


def parse_cursor(text: bytes) -> int | None:
    """A SCAN cursor as a position, at most CURSOR_END; None if it is not an unsigned integer."""
    if not (text.isdigit() and len(text) <= 20):
        return None
    value = int(text)
    return None if value >= 1 << 64 else min(value, CURSOR_END)


def cursor_slot(text: bytes) -> Slot:
    """The slot whose shard must answer a SCAN with this cursor (any will do for a bad one)."""
    position = parse_cursor(text)
    return 0 if position is None else min(position >> 32, SLOTS - 1)
