import hiredis
import pytest

from quoit.wire import resp


def parse(data: bytes):
    reader = hiredis.Reader()
    reader.feed(data)
    value = reader.gets()
    assert reader.gets() is False
    return value


@pytest.mark.parametrize(
    ("reply", "value"),
    [
        (resp.OK, b"OK"),
        (resp.EMPTY, b""),
        (resp.bulk(b"a\r\nb"), b"a\r\nb"),
        (resp.simple("PONG"), b"PONG"),
        (resp.simple("two\r\nlines"), b"two  lines"),
        (resp.null(2), None),
        (resp.null(3), None),
        (resp.null_array(2), None),
        (resp.null_array(3), None),
        (resp.ZERO, 0),
        (resp.ONE, 1),
        (resp.integer(-(1 << 63)), -(1 << 63)),
        (resp.boolean(True, 2), 1),
        (resp.boolean(False, 3), False),
        (resp.boolean(True, 3), True),
        (resp.array([]), []),
        (resp.array([resp.ONE, resp.array([resp.bulk(b"x")])]), [1, [b"x"]]),
        (resp.bulk_array([b"a", b""]), [b"a", b""]),
        (resp.bulk_array(iter([])), []),
        (resp.simple_array(["a", "b"]), [b"a", b"b"]),
        (resp.mapping([(resp.bulk(b"k"), resp.ONE)], 2), [b"k", 1]),
        (resp.mapping([(resp.bulk(b"k"), resp.ONE)], 3), {b"k": 1}),
        (resp.mapping([], 3), {}),
        (resp.set_([resp.bulk(b"a")], 2), [b"a"]),
        (resp.double(1.5, 2), b"1.5"),
        (resp.double(1.5, 3), 1.5),
        (resp.double(float("inf"), 3), float("inf")),
        (resp.verbatim("caf\u00e9\r\n", 2), "caf\u00e9\r\n".encode()),
        (resp.verbatim("caf\u00e9", 3), "caf\u00e9".encode()),
    ],
)
def test_a_client_reads_what_was_meant(reply, value):
    assert parse(reply) == value


def test_set_in_resp3():
    assert resp.set_([resp.ONE], 3) == b"~1\r\n:1\r\n"


def test_verbatim_counts_its_format():
    assert resp.verbatim("abc", 3) == b"=7\r\ntxt:abc\r\n"


def test_error_is_one_line():
    error = parse(resp.error("ERR no\r\n+OK"))
    assert isinstance(error, hiredis.ReplyError)
    assert str(error) == "ERR no  +OK"


def test_error_quotes_foreign_bytes():
    text = b"\xff\xfe".decode("utf-8", "surrogateescape")
    assert resp.error("ERR " + text) == b"-ERR \xff\xfe\r\n"
