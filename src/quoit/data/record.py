"""The value of a user's key, as the engine and the log keep it.

    type(u8, | 0x80 if it expires) version(u64 BE) [expire_ms(u64 BE)] payload

`version` is the shard's write counter when the record was written: it grows with every write, so
WATCH can compare it. A string's payload is the string. Later a collection's payload will hold a
generation id under which its sub-keys are filed: overwriting or deleting the record then makes the
old generation unreachable at once, however large it is.
"""

import struct

import msgspec

__all__ = [
    "EXPIRES",
    "STRING",
    "TYPE_NAMES",
    "Record",
    "decode_record",
    "encode_record",
    "expiry_of",
    "version_of",
]

EXPIRES = 0x80
STRING = 0

TYPE_NAMES: dict[int, bytes] = {STRING: b"string"}
"""What TYPE answers, by type number."""

_PLAIN_HEAD = 9
_EXPIRING_HEAD = 17

_plain = struct.Struct(">BQ").pack
_expiring = struct.Struct(">BQQ").pack


class Record(msgspec.Struct, gc=False):
    """A decoded record."""

    type: int
    version: int
    expire_ms: int
    """Unix time in milliseconds after which the key is gone; 0: never."""
    payload: bytes


def encode_record(type_: int, version: int, expire_ms: int, payload: bytes) -> bytes:
    """Record bytes; `expire_ms` 0 means that it never expires."""
    if expire_ms:
        return _expiring(type_ | EXPIRES, version, expire_ms) + payload
    return _plain(type_, version) + payload


def decode_record(raw: bytes) -> Record:
    """The record in `raw`."""
    head = raw[0]
    version = int.from_bytes(raw[1:9], "big")
    if head & EXPIRES:
        expire_ms = int.from_bytes(raw[9:17], "big")
        return Record(head & ~EXPIRES, version, expire_ms, raw[_EXPIRING_HEAD:])
    return Record(head, version, 0, raw[_PLAIN_HEAD:])


def expiry_of(raw: bytes) -> int:
    """Expiry time of the record in `raw`, Unix milliseconds; 0: never."""
    return int.from_bytes(raw[9:17], "big") if raw[0] & EXPIRES else 0


def version_of(raw: bytes) -> int:
    """Version of the record in `raw`."""
    return int.from_bytes(raw[1:9], "big")
