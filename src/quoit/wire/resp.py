"""RESP2 and RESP3 replies as bytes (https://redis.io/docs/latest/develop/reference/protocol-spec/).

`proto` is 2 or 3. A reply is encoded once, at the node that executes the command, and passed on
untouched, so a forwarded reply costs its entry node nothing.
"""

from collections.abc import Sequence

__all__ = ["NULL2", "NULL3", "OK", "array", "bulk", "double", "error", "integer", "null"]

OK = b"+OK\r\n"
NULL2 = b"$-1\r\n"
NULL3 = b"_\r\n"


def bulk(value: bytes) -> bytes:
    """A bulk string."""
    return b"$%d\r\n%b\r\n" % (len(value), value)


def null(proto: int) -> bytes:
    """A missing value."""
    return NULL3 if proto == 3 else NULL2


def integer(value: int) -> bytes:
    """An integer."""
    return b":%d\r\n" % value


def array(parts: Sequence[bytes]) -> bytes:
    """An array of already encoded replies."""
    return b"*%d\r\n%b" % (len(parts), b"".join(parts))


def double(value: float, proto: int) -> bytes:
    """A double: its own type in RESP3, a bulk string in RESP2."""
    text = repr(value).encode()
    return b",%b\r\n" % text if proto == 3 else bulk(text)


def error(message: str) -> bytes:
    """An error; `message` starts with its code, as in `ERR syntax error`. CR and LF are removed."""
    text = message.replace("\r", " ").replace("\n", " ")
    return b"-%b\r\n" % text.encode("utf-8", "replace")
