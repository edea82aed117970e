"""Redis' glob patterns, matched in time that grows with the product of neither stars nor nesting.

    *  any bytes      ?  any one byte      [abc] [a-z] [^a]  one byte of a class      \\x  x itself

Odd patterns mean what they mean to Redis: an unclosed class ends with the pattern, `[]` matches
nothing, a backslash at the very end is itself, `[z-a]` is `[a-z]`.

The pattern is cut at its stars into segments. The first and last segment are compared in place;
each other segment is searched for from the left, and the leftmost find is always good enough, so
nothing is ever tried twice. Literal segments are found by `bytes.find` (linear), others by the
Shift-And method (Baeza-Yates and Gonnet, 1992) with one integer as the bit vector.
"""

from quoit.base import limits
from quoit.data.errors import CommandError

__all__ = ["Glob"]

_ANY = frozenset(range(256))
_STAR, _QUESTION, _OPEN, _CLOSE, _CARET, _DASH, _ESCAPE = b"*?[]^-\\"

_Token = int | frozenset[int]


def _class(pattern: bytes, at: int) -> tuple[frozenset[int], int]:
    """The bytes of a class whose `[` is before `at`, and the position after it."""
    end = len(pattern)
    negated = at < end and pattern[at] == _CARET
    if negated:
        at += 1
    members: dict[int, None] = {}
    while at < end and pattern[at] != _CLOSE:
        if pattern[at] == _ESCAPE and at + 1 < end:
            members[pattern[at + 1]] = None
            at += 2
        elif at + 2 < end and pattern[at + 1] == _DASH:
            low, high = sorted((pattern[at], pattern[at + 2]))
            members.update(dict.fromkeys(range(low, high + 1)))
            at += 3
        else:
            members[pattern[at]] = None
            at += 1
    found = frozenset(members)
    return (_ANY - found if negated else found), at + 1


def _segments(pattern: bytes) -> list[list[_Token]]:
    """The tokens between the stars; always at least one segment, often empty ones."""
    segments: list[list[_Token]] = [[]]
    at = 0
    while at < len(pattern):
        byte = pattern[at]
        at += 1
        if byte == _STAR:
            if segments[-1] or len(segments) == 1:
                segments.append([])
            continue
        token: _Token = byte
        if byte == _QUESTION:
            token = _ANY
        elif byte == _OPEN:
            token, at = _class(pattern, at)
        elif byte == _ESCAPE and at < len(pattern):
            token = pattern[at]
            at += 1
        segments[-1].append(token)
    return segments


class _Segment:
    """A run of tokens without a star. `literal` is set when all of them are plain bytes."""

    __slots__ = ("_masks", "_rest", "length", "literal", "tokens")

    def __init__(self, tokens: list[_Token]) -> None:
        self.tokens = tokens
        self.length = len(tokens)
        plain = [token for token in tokens if isinstance(token, int)]
        self.literal = bytes(plain) if len(plain) == len(tokens) else None
        self._masks: dict[int, int] = {}
        self._rest = 0

    def at(self, subject: bytes, start: int) -> bool:
        """Matches right at `start`; the subject is known to be long enough."""
        if self.literal is not None:
            return subject.startswith(self.literal, start)
        for token in self.tokens:
            byte = subject[start]
            start += 1
            if byte != token if isinstance(token, int) else byte not in token:
                return False
        return True

    def find(self, subject: bytes, start: int, end: int) -> int:
        """Position after the leftmost match within [start, end); -1 if there is none."""
        if self.literal is not None:
            found = subject.find(self.literal, start, end)
            return found if found < 0 else found + self.length
        if not self._masks and not self._rest:
            self._prepare()
        masks, rest = self._masks, self._rest
        goal = 1 << (self.length - 1)
        state = 0
        for at in range(start, end):
            state = (state << 1 | 1) & masks.get(subject[at], rest)
            if state & goal:
                return at + 1
        return -1

    def _prepare(self) -> None:
        """Per byte, which tokens take it; `_rest` for bytes that only `?` takes."""
        masks = self._masks
        bit = 1
        for token in self.tokens:
            if token is _ANY:
                self._rest |= bit
            else:
                for byte in (token,) if isinstance(token, int) else sorted(token):
                    masks[byte] = masks.get(byte, 0) | bit
            bit <<= 1
        for byte in masks:
            masks[byte] |= self._rest


class Glob:
    """A pattern ready to match. CommandError if it is longer than PATTERN_BYTES_MAX.

    everything  it matches every subject (`*`)
    literal     the only subject that it matches, or None
    """

    __slots__ = ("_first", "_last", "_least", "_middle", "everything", "literal", "nocase")

    def __init__(self, pattern: bytes, *, nocase: bool = False) -> None:
        if len(pattern) > limits.PATTERN_BYTES_MAX:
            raise CommandError(
                f"ERR pattern is too long (at most {limits.PATTERN_BYTES_MAX} bytes)"
            )
        self.nocase = nocase
        segments = [
            _Segment(tokens) for tokens in _segments(pattern.lower() if nocase else pattern)
        ]
        self._first = segments[0]
        self._last = segments[-1] if len(segments) > 1 else None
        self._middle = segments[1:-1]
        self._least = sum(segment.length for segment in segments)
        self.everything = self._last is not None and not self._least
        self.literal = self._first.literal if self._last is None else None

    def matches(self, subject: bytes) -> bool:
        """The whole subject matches."""
        if self.everything:
            return True
        length = len(subject)
        if length < self._least:
            return False
        if self.nocase:
            subject = subject.lower()
        first, last = self._first, self._last
        if last is None:
            return length == first.length and first.at(subject, 0)
        start, end = first.length, length - last.length
        if not (first.at(subject, 0) and last.at(subject, end)):
            return False
        for segment in self._middle:
            start = segment.find(subject, start, end)
            if start < 0:
                return False
        return True
