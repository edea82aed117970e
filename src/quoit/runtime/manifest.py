"""A look at RocksDB's manifest before RocksDB reads it.

Why: RocksDB 9.8 never comes back from opening a manifest in which one bit made a record's type one of a
recycled log's (measured: it spins in log::Reader::ReadRecord). All other damage it finds by itself, or
takes for a torn tail; what that means for the data is seen from the applied index (storage/engine.py).

    block    32 KiB; a record never crosses its end, the last up to 6 bytes may be left over
    record   crc u32 (masked CRC32C) | length u16 | type u8 | payload; little-endian
    type     1 full, 2 first, 3 middle, 4 last; 5 to 8, 10 and 11: the same in recycled logs

Source: RocksDB wiki, "Write Ahead Log File Format"; db/log_format.h.
"""

import struct
from pathlib import Path

from quoit.base.checksum import crc32c
from quoit.base.errors import EngineDamaged

__all__ = ["check_manifest"]

_BLOCK_BYTES = 32 * 1024
_ORDINARY = (1, 2, 3, 4)
_RECYCLED = (5, 6, 7, 8, 10, 11)
_MASK_DELTA = 0xA282EAD8
_head = struct.Struct("<IHB")


def check_manifest(directory: Path) -> None:
    """EngineDamaged when opening the engine in `directory` would not come back. Says nothing of
    files that are missing or damaged otherwise."""
    try:
        current = (directory / "CURRENT").read_text()
        data = (directory / current.strip()).read_bytes()
    except (OSError, ValueError):
        return
    at = _valid_end(data)
    if len(data) - at >= _head.size and data[at + _head.size - 1] in _RECYCLED:
        raise EngineDamaged(
            f"the data in {directory} cannot be opened: {current.strip()} is damaged at byte {at}"
        )


def _valid_end(data: bytes) -> int:
    """Where the first record begins that is not whole and ordinary."""
    at = 0
    while True:
        left = _BLOCK_BYTES - at % _BLOCK_BYTES
        if left < _head.size:
            at += left
            continue
        if len(data) - at < _head.size:
            return at
        crc, size, kind = _head.unpack_from(data, at)
        payload = data[at + _head.size : at + _head.size + size]
        if kind not in _ORDINARY or len(payload) != size or size > left - _head.size:
            return at
        if _masked(crc32c(bytes([kind]) + payload)) != crc:
            return at
        at += _head.size + size


def _masked(crc: int) -> int:
    return (((crc >> 15) | (crc << 17)) + _MASK_DELTA) & 0xFFFFFFFF
