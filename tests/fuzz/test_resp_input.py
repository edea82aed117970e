"""Whatever bytes a client sends, the connection answers or closes; it never raises, and what it
keeps is bounded."""

import random
from itertools import pairwise

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from quoit.data.table import COMMANDS
from tests.unit.gateways.harness import Client, Place, encode

KEPT_MAX = 300_000
LIMITS = {"bulk_bytes_max": 50_000, "request_bytes_max": 100_000, "inline_bytes_max": 1000}
TOKENS = [
    b"*1\r\n", b"*3\r\n", b"*-1\r\n", b"*0\r\n", b"*1000000000\r\n", b"*999\r\n", b"$3\r\n", b"$-1\r\n",
    b"$0\r\n\r\n", b"$49999\r\n", b"$50001\r\n", b"SET\r\n", b"GET\r\n", b"\r\n", b"\n", b'"', b"'",
    b">9\r\n",
    b"%1\r\n", b"~1\r\n", b":1\r\n", b"+OK\r\n", b"\xff", b"\0", b"PING\r\n", b"x" * 300,
]  # fmt: skip


def kept(client: Client) -> int:
    waiting, _, held = client.connection.buffered()
    return waiting + held


def play(data: bytes, cuts: list[int]) -> None:
    place = Place(**LIMITS)
    client = place.client()
    edges = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    for low, high in pairwise(edges):
        client.send(data[low:high])
        assert kept(client) < KEPT_MAX
        place.host.turn()
    assert not place.host.failures
    if not client.transport.closed:
        client.send(b"\r\n" * 2)
    assert client.connection.buffered()[1] == 0, "every command has been answered"
    client.lost()


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.binary(max_size=300), st.lists(st.integers(0, 300), max_size=4))
def test_random_bytes(data: bytes, cuts: list[int]) -> None:
    play(data, cuts)


@settings(max_examples=250, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(st.sampled_from(TOKENS), max_size=40), st.lists(st.integers(0, 2000), max_size=4))
def test_protocol_soup(tokens: list[bytes], cuts: list[int]) -> None:
    play(b"".join(tokens), cuts)


def _pipeline(rng: random.Random) -> bytes:
    names = sorted(COMMANDS)
    words = [
        b"a",
        b"{t}b",
        b"1",
        b"-1",
        b"EX",
        b"NX",
        b"0",
        b"*",
        b"MATCH",
        b"COUNT",
        b"",
        b"\xff\r\n",
    ]
    parts = []
    for _ in range(rng.randint(1, 30)):
        name = rng.choice(names)
        arity = COMMANDS[name].arity
        count = abs(arity) - 1 + (rng.randint(0, 3) if arity < 0 else rng.choice((0, 0, 0, 1)))
        parts.append(encode(name, *(rng.choice(words) for _ in range(count))))
    return b"".join(parts)


def test_mutated_pipelines() -> None:
    """Every command of the table with random arguments, then with flipped, lost, doubled bytes."""
    for seed in range(200):
        rng = random.Random(seed)
        data = bytearray(_pipeline(rng))
        for _ in range(rng.choice((0, 0, 1, 5))):
            at = rng.randrange(len(data))
            change = rng.randrange(3)
            if change == 0:
                data[at] = rng.randrange(256)
            elif change == 1:
                del data[at : at + rng.randint(1, 4)]
            else:
                data[at:at] = data[at : at + rng.randint(1, 20)]
            if not data:
                break
        play(bytes(data), [rng.randrange(2000) for _ in range(3)])


def test_split_at_every_byte_gives_the_same_answers() -> None:
    pipeline = b"".join(
        encode(*command)
        for command in (
            ("SET", "a", "1"), ("GET", "a"), ("MULTI",), ("INCR", "a"), ("PING",), ("EXEC",),
            ("NOSUCH", "x"), ("GET",), ("MGET", "a", "b"),
        )
    ) + b'PING\r\nset q "a b"\nget q\r\n'  # fmt: skip
    whole = Place().client().raw(pipeline)
    assert whole.count(b"QUEUED") == 2
    for cut in range(len(pipeline)):
        client = Place().client()
        assert client.raw(pipeline[:cut]) + client.raw(pipeline[cut:]) == whole, cut
