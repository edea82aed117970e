"""RESP2 and RESP3 replies as bytes (https://redis.io/docs/latest/develop/reference/protocol-spec/).

`proto` is 2 or 3. A reply is encoded once, at the node that executes the command, and passed on
untouched, so a forwarded reply costs its entry node nothing.
"""

from collections.abc import Iterable, Sequence

__all__ = [
    "EMPTY",
    "NULL2",
    "NULL3",
    "NULL_ARRAY2",
    "OK",
    "ONE",
    "ZERO",
    "array",
    "boolean",
    "bulk",
    "bulk_array",
    "double",
    "error",
    "integer",
    "mapping",
    "null",
    "null_array",
    "set_",
    "simple",
    "simple_array",
    "verbatim",
]

OK = b"+OK\r\n"
NULL2 = b"$-1\r\n"
NULL3 = b"_\r\n"
NULL_ARRAY2 = b"*-1\r\n"
ZERO = b":0\r\n"
ONE = b":1\r\n"
EMPTY = b"$0\r\n\r\n"
"""The bulk string of no bytes."""


def bulk(value: bytes) -> bytes:
    """A bulk string."""
    return b"$%d\r\n%b\r\n" % (len(value), value)


def simple(text: str) -> bytes:
    """A simple string. CR and LF are replaced by spaces."""
    return b"+%b\r\n" % _line(text)


def verbatim(text: str, proto: int) -> bytes:
    """Text for people: marked as plain text in RESP3, a bulk string in RESP2."""
    body = text.encode("utf-8", "replace")
    return b"=%d\r\ntxt:%b\r\n" % (len(body) + 4, body) if proto == 3 else bulk(body)


def null(proto: int) -> bytes:
    """A missing value."""
    return NULL3 if proto == 3 else NULL2


def null_array(proto: int) -> bytes:
    """A missing array: what EXEC answers when a watched key changed."""
    return NULL3 if proto == 3 else NULL_ARRAY2


def integer(value: int) -> bytes:
    """An integer."""
    return b":%d\r\n" % value


def boolean(value: bool, proto: int) -> bytes:
    """True or false: its own type in RESP3, 1 or 0 in RESP2."""
    if proto == 3:
        return b"#t\r\n" if value else b"#f\r\n"
    return ONE if value else ZERO


def array(parts: Sequence[bytes]) -> bytes:
    """An array of already encoded replies."""
    return b"*%d\r\n%b" % (len(parts), b"".join(parts))


def bulk_array(values: Iterable[bytes]) -> bytes:
    """An array of bulk strings."""
    parts = [b"$%d\r\n%b\r\n" % (len(value), value) for value in values]
    return b"*%d\r\n%b" % (len(parts), b"".join(parts))


def simple_array(lines: Iterable[str]) -> bytes:
    """An array of simple strings: what HELP subcommands answer."""
    return array([simple(line) for line in lines])


def mapping(pairs: Sequence[tuple[bytes, bytes]], proto: int) -> bytes:
    """A map of already encoded keys and values: a flat array in RESP2."""
    body = b"".join([part for pair in pairs for part in pair])
    if proto == 3:
        return b"%%%d\r\n%b" % (len(pairs), body)
    return b"*%d\r\n%b" % (2 * len(pairs), body)


def set_(parts: Sequence[bytes], proto: int) -> bytes:
    """A set of already encoded, distinct replies: an array in RESP2."""
    return b"~%d\r\n%b" % (len(parts), b"".join(parts)) if proto == 3 else array(parts)


def double(value: float, proto: int) -> bytes:
    """A double: its own type in RESP3, a bulk string in RESP2."""
    text = repr(value).encode()
    return b",%b\r\n" % text if proto == 3 else bulk(text)


def error(message: str) -> bytes:
    """An error; `message` starts with its code, as in `ERR syntax error`. CR and LF are replaced by
    spaces, and bytes that were no UTF-8 (decoded with surrogateescape) come out as they were."""
    return b"-%b\r\n" % _line(message)


def _line(text: str) -> bytes:
    # Why not "replace": an error quotes what the client sent, byte by byte, as Redis does.
    return text.replace("\r", " ").replace("\n", " ").encode("utf-8", "surrogateescape")
