"""Slots: the fixed buckets into which all keys fall.

A key's slot is CRC16 (CCITT/XMODEM, which is `binascii.crc_hqx` from 0) of its hash tag, modulo
16384, exactly as Redis Cluster defines it, so that cluster-aware clients compute the same. The hash
tag is what stands between the first `{` and the next `}` if that is not empty, else the whole key
(https://redis.io/docs/latest/operate/oss_and_stack/reference/cluster-spec/, "Hash tags").

Database 0 is spread over all slots. Databases 1..15 are each pinned to one slot, their home slot.
"""

from binascii import crc_hqx

from quoit.base.ids import Slot
from quoit.base.limits import SLOTS

__all__ = ["DATABASES", "META_DB", "hash_tag", "home_slot", "slot_for", "slot_of"]

DATABASES = 16
"""Databases 0..15 exist."""
META_DB = DATABASES
"""What the cluster knows of itself, kept as one more database whose only slot lies behind the ring's. No
client can select it."""

_MASK = SLOTS - 1


def hash_tag(key: bytes) -> bytes:
    """The part of `key` that decides its slot."""
    start = key.find(b"{")
    if start >= 0:
        end = key.find(b"}", start + 1)
        if end > start + 1:
            return key[start + 1 : end]
    return key


def slot_of(key: bytes) -> Slot:
    """The slot of `key` in database 0."""
    if b"{" in key:
        key = hash_tag(key)
    return crc_hqx(key, 0) & _MASK


_HOME = (*(crc_hqx(b"db:%d" % db, 0) & _MASK for db in range(DATABASES)), SLOTS)


def home_slot(db: int) -> Slot:
    """The one slot of every key of database `db`: 1..15, or META_DB."""
    return _HOME[db]


def slot_for(db: int, key: bytes) -> Slot:
    """The slot of `key` in database `db`."""
    return _HOME[db] if db else slot_of(key)
