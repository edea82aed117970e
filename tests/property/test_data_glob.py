"""The glob matcher against the recursive definition (exponential, but obviously right)."""

from hypothesis import given, settings
from hypothesis import strategies as st

from quoit.data.glob import Glob


def naive(pattern: bytes, subject: bytes) -> bool:
    if not pattern:
        return not subject
    head, rest = pattern[:1], pattern[1:]
    if head == b"*":
        return any(naive(rest, subject[at:]) for at in range(len(subject) + 1))
    if not subject:
        return False
    if head == b"?":
        return naive(rest, subject[1:])
    if head == b"[":
        body, _, after = rest.partition(b"]")
        inverted = body.startswith(b"^")
        return (subject[:1] in [bytes([c]) for c in body.lstrip(b"^")]) != inverted and naive(
            after, subject[1:]
        )
    if head == b"\\":
        return subject[:1] == rest[:1] and naive(rest[1:], subject[1:])
    return subject[:1] == head and naive(rest, subject[1:])


PARTS = st.sampled_from(
    [b"a", b"b", b"ab", b"*", b"*", b"?", b"[ab]", b"[^a]", b"[c]", b"\\*", b"\\a"]
)
PATTERN = st.lists(PARTS, max_size=7).map(b"".join)
SUBJECT = st.text("abc*", max_size=9).map(str.encode)


@settings(max_examples=400, deadline=None)
@given(PATTERN, SUBJECT)
def test_matches_like_its_definition(pattern, subject):
    assert Glob(pattern).matches(subject) == naive(pattern, subject)
