"""Frames between nodes: a 4-byte little-endian length, then that many bytes of payload."""

from quoit.base.errors import PeerFault
from quoit.base.limits import FRAME_BYTES_MAX

__all__ = ["FrameReader", "frame"]


def frame(payload: bytes) -> bytes:
    """`payload` with its length in front."""
    return len(payload).to_bytes(4, "little") + payload


class FrameReader:
    """Cuts a byte stream into payloads. Holds at most one frame of `bytes_max` and a read's worth."""

    __slots__ = ("buffer", "bytes_max")

    def __init__(self, bytes_max: int = FRAME_BYTES_MAX) -> None:
        self.buffer = bytearray()
        self.bytes_max = bytes_max

    def feed(self, data: bytes, most: int = 0) -> list[bytes]:
        """The payloads completed by `data`; no more than `most` unless that is 0, the rest at the next
        call. PeerFault when a length is 0 or over the limit."""
        buffer = self.buffer
        buffer += data
        payloads: list[bytes] = []
        position = 0
        end = len(buffer)
        while end - position >= 4:
            size = int.from_bytes(buffer[position : position + 4], "little")
            if not 0 < size <= self.bytes_max:
                raise PeerFault(f"a frame of {size} bytes; 1 to {self.bytes_max} are allowed")
            if end - position - 4 < size:
                break
            payloads.append(bytes(buffer[position + 4 : position + 4 + size]))
            position += 4 + size
            if len(payloads) == most:
                break
        if position:
            del buffer[:position]
        return payloads
