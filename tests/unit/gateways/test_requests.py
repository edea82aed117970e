"""The request parser: both ways through it agree, at every split; limits hold."""

import random

import pytest

from quoit.wire.requests import ARRAY_ITEMS_MAX, RequestParser, split_inline
from tests.unit.gateways.harness import encode

PIPELINE = (
    encode("GET", "k")
    + encode("SET", "k", b"a\r\nb*9\r\n$1\r\n")
    + b"PING\r\n"
    + encode("PING")
    + b"*0\r\n"
    + encode("MSET", *range(8))
    + b'echo "a b"\n'
    + encode("SET", b"", b"")
)
COMMANDS = [
    [b"GET", b"k"],
    [b"SET", b"k", b"a\r\nb*9\r\n$1\r\n"],
    [b"PING"],
    [b"PING"],
    [b"MSET", *(b"%d" % n for n in range(8))],
    [b"echo", b"a b"],
    [b"SET", b"", b""],
]


def parser(
    bulk: int = 1 << 20, inline: int = 1024, request: int = 4 << 20, guest: bool = False
) -> RequestParser:
    return RequestParser(bulk, inline, request, guest=guest)


def test_whole() -> None:
    assert parser().feed(PIPELINE) == COMMANDS


@pytest.mark.parametrize("guest", [False, True])
def test_split_at_every_byte(guest: bool) -> None:
    for cut in range(len(PIPELINE) + 1):
        one = parser(guest=guest)
        found = []
        for part in (PIPELINE[:cut], PIPELINE[cut:]):
            more = one.feed(part)
            while more:
                found += more
                more = one.feed(b"") if guest else []
        assert found == COMMANDS, cut
        assert one.waiting_bytes() == 0 and not one.error


def test_byte_by_byte() -> None:
    one = parser()
    found = []
    for at in range(len(PIPELINE)):
        found += one.feed(PIPELINE[at : at + 1])
    assert found == COMMANDS


def test_quick_and_stepwise_agree() -> None:
    pieces = [b"", b"\r\n", b"x" * 5000, b"*1\r\n$4\r\n", b"\r", b"GET", b"$0\r\n", b"a"]
    for seed in range(200):
        rng = random.Random(seed)
        commands = [
            [rng.choice(pieces) for _ in range(rng.randint(1, 7))] for _ in range(rng.randint(1, 9))
        ]
        data = b"".join(encode(*command) for command in commands)
        assert parser().feed(data) == commands
        one = parser()
        found, at = [], 0
        while at < len(data):
            size = rng.choice((1, 2, 5, 100, 4096, 9999))
            found += one.feed(data[at : at + size])
            at += size
        assert found == commands and one.waiting_bytes() == 0


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (b"*%d\r\n" % (ARRAY_ITEMS_MAX + 1), "invalid multibulk length"),
        (b"*1000000000\r\n", "invalid multibulk length"),
        (b"*99999999999999999999\r\n", "invalid multibulk length"),
        (b"*+1\r\n", "invalid multibulk length"),
        (b"*01\r\n", "invalid multibulk length"),
        (b"* 1\r\n", "invalid multibulk length"),
        (b"*\r\n", "invalid multibulk length"),
        (b"*" + b"1" * 40, "too big mbulk count string"),
        (b"*1\r\n$" + b"1" * 40, "too big bulk count string"),
        (b"*1\r\n$-1\r\n", "invalid bulk length"),
        (b"*1\r\n$1048577\r\n", "invalid bulk length"),
        (b"*1\r\n$1x\r\n", "invalid bulk length"),
        (b"*1\r\n:1\r\n", "expected '$', got ':'"),
        (b"*1\r\n*1\r\n", "expected '$', got '*'"),
        (b"*1\r\n\x00", "expected '$', got ' '"),
        (b"*1\r\n$1\r\naXY", "expected a line end behind a bulk string"),
        (b"*9\r\n" + b"$1000000\r\n%b\r\n" % (b"x" * 1_000_000) * 5, "too big request"),
        (b"x" * 1025, "too big inline request"),
        (b'GET "a\n', "unbalanced quotes in request"),
    ],
)
@pytest.mark.parametrize("before", [b"", encode("PING")])
def test_errors(data: bytes, error: str, before: bytes) -> None:
    one = parser()
    assert one.feed(before + data) == ([[b"PING"]] if before else [])
    assert one.error == error
    assert one.feed(encode("PING")) == [] and one.waiting_bytes() == 0


def test_errors_come_before_the_data() -> None:
    # Refused by its header: not one byte of the value has to be kept.
    one = parser()
    one.feed(b"*2\r\n$3\r\nSET\r\n$1048577\r\n")
    assert one.error == "invalid bulk length" and one.oversize


def test_small_limit_holds_on_the_quick_way() -> None:
    one = parser(bulk=4)
    assert one.feed(encode("ECHO", "12345")) == []
    assert one.error == "invalid bulk length"
    assert parser(bulk=5).feed(encode("ECHO", "12345")) == [[b"ECHO", b"12345"]]


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (b"*11\r\n", "unauthenticated multibulk length"),
        (b"*1\r\n$16385\r\n", "unauthenticated bulk length"),
    ],
)
def test_guest_limits(data: bytes, error: str) -> None:
    one = parser(guest=True)
    one.feed(data)
    assert one.error == error
    one = parser()
    one.feed(data)
    assert not one.error


def test_guest_gets_one_command_at_a_time() -> None:
    one = parser(guest=True)
    assert one.feed(encode("AUTH", "x") + encode("MSET", *range(40)) + encode("PING")) == [
        [b"AUTH", b"x"]
    ]
    one.welcome()
    assert [len(args) for args in one.feed(b"")] == [41, 1]


def test_waiting_bytes_are_bounded() -> None:
    one = parser(bulk=1000, request=3000)
    sent = 0
    while not one.error and sent < 100_000:
        one.feed(b"$1000\r\n" + b"x" * 1000 + b"\r\n" if sent else b"*1000\r\n")
        sent += 1009
        assert one.waiting_bytes() <= 3000 + 1009
    assert one.error == "too big request"


@pytest.mark.parametrize("line", [b"POST / HTTP/1.1", b"post /", b"Host: a", b"HOST:a"])
def test_web_pages_are_shut_out_silently(line: bytes) -> None:
    one = parser()
    assert one.feed(line + b"\r\nSET a b\r\n") == []
    assert one.error and one.silent


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (b"", []),
        (b"  \t ", []),
        (b" a  b\r", [b"a", b"b"]),
        (b'"a b" c', [b"a b", b"c"]),
        (rb'"\x41\n\"\\\q"', [b'A\n"\\q']),
        (rb'"\xzz"', [b"xzz"]),
        (rb"'it\'s \n'", [rb"it's \n"]),
        (b'a"b c"', [b"ab c"]),
        (b'""', [b""]),
        (b'"a"b', None),
        (b"'a", None),
        (b'"a\\', None),
    ],
)
def test_inline_words(line: bytes, words: list[bytes] | None) -> None:
    assert split_inline(line) == words
