"""CRC32C (RFC 3720 appendix B.4, Castagnoli polynomial): the one checksum for what is stored."""

import google_crc32c

__all__ = ["crc32c", "crc32c_extend"]


def crc32c(data: bytes) -> int:
    """CRC32C of `data`, an unsigned 32-bit integer."""
    return int(google_crc32c.value(data))


def crc32c_extend(crc: int, data: bytes) -> int:
    """CRC32C of what `crc` covers followed by `data`."""
    return int(google_crc32c.extend(crc, data))
