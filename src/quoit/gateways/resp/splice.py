"""Takes an encoded array of replies apart, without decoding the replies."""

from quoit.base.check import invariant

__all__ = ["elements", "end_of"]

_LINES = b"+-:_#,("
_BLOCKS = b"$=!"
_LISTS = b"*~>"


def end_of(data: bytes, at: int) -> int:
    """Where the reply that starts at `at` ends. Works with a counter, so nesting costs nothing."""
    open_replies = 1
    while open_replies:
        kind = data[at]
        line_end = data.find(b"\r\n", at)
        invariant(line_end > 0, "a reply of our own is whole")
        open_replies -= 1
        if kind in _BLOCKS:
            size = int(data[at + 1 : line_end])
            at = line_end + 2 if size < 0 else line_end + 2 + size + 2
            continue
        if kind in _LISTS:
            open_replies += max(0, int(data[at + 1 : line_end]))
        elif kind == 0x25:
            open_replies += 2 * int(data[at + 1 : line_end])
        else:
            invariant(kind in _LINES, "a reply of our own is known", kind=kind)
        at = line_end + 2
    return at


def elements(data: bytes) -> list[bytes]:
    """The encoded elements of an encoded array."""
    invariant(data[:1] == b"*", "an array")
    at = data.index(b"\r\n") + 2
    parts = []
    for _ in range(int(data[1 : at - 2])):
        end = end_of(data, at)
        parts.append(data[at:end])
        at = end
    return parts
