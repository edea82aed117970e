import time

import pytest

from quoit.data.errors import CommandError
from quoit.data.glob import Glob

CASES = [
    (b"*", b"", True),
    (b"*", b"x/y", True),
    (b"", b"", True),
    (b"", b"a", False),
    (b"h?llo", b"hello", True),
    (b"h?llo", b"hllo", False),
    (b"h*llo", b"heeeello", True),
    (b"h*llo", b"hellx", False),
    (b"h[ae]llo", b"hallo", True),
    (b"h[ae]llo", b"hillo", False),
    (b"h[^e]llo", b"hello", False),
    (b"h[^e]llo", b"hallo", True),
    (b"h[a-b]llo", b"hbllo", True),
    (b"h[b-a]llo", b"hallo", True),
    (b"h\\?llo", b"h?llo", True),
    (b"h\\?llo", b"hello", False),
    (b"\\", b"\\", True),
    (b"[\\]]", b"]", True),
    (b"[]", b"]", False),
    (b"[^]", b"a", True),
    (b"[a", b"a", True),
    (b"[a-", b"-", True),
    (b"[", b"[", False),
    (b"a*b*c", b"aXbYbZc", True),
    (b"a*b*c", b"acb", False),
    (b"*aba*", b"xxababxx", True),
    (b"ab*ba", b"aba", False),
    (b"*?[bc]?*", b"xby", True),
    (b"*?[bc]?*", b"xb", False),
    (b"*[ab]c*[ab]", b"acb", True),
    (b"\xff*", b"\xff\x00", True),
]


@pytest.mark.parametrize(("pattern", "subject", "expected"), CASES)
def test_matches(pattern, subject, expected):
    assert Glob(pattern).matches(subject) is expected


def test_nocase():
    assert Glob(b"Max[A-C]*", nocase=True).matches(b"mAXb-X")
    assert not Glob(b"Max*").matches(b"max")


def test_shortcuts():
    assert Glob(b"**").everything
    assert Glob(b"a\\*b").literal == b"a*b"
    assert Glob(b"a?").literal is None
    assert not Glob(b"*?").everything


def test_length_limit():
    Glob(b"a" * 4096)
    with pytest.raises(CommandError, match="too long"):
        Glob(b"a" * 4097)


@pytest.mark.parametrize("unit", [b"a*", b"?*", b"[ab]*", b"*a?", b"*[^b]a"])
def test_hostile_patterns_stay_linear(unit):
    glob = Glob(unit * (4000 // len(unit)) + b"b")
    started = time.perf_counter()
    assert not glob.matches(b"a" * 65536)
    assert time.perf_counter() - started < 1.0
