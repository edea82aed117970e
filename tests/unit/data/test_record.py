from quoit.data.record import Record, decode_record, encode_record, expiry_of, version_of


def test_golden_bytes():
    assert encode_record(0, 258, 0, b"ab") == b"\x00" + b"\0\0\0\0\0\0\x01\x02" + b"ab"
    assert encode_record(0, 1, 3, b"") == b"\x80" + b"\0" * 7 + b"\x01" + b"\0" * 7 + b"\x03"


def test_round_trip():
    for type_, version, expire_ms, payload in (
        (0, 0, 0, b""),
        (5, 1 << 60, 9, b"\0x"),
        (127, 7, 0, b"y"),
    ):
        raw = encode_record(type_, version, expire_ms, payload)
        assert decode_record(raw) == Record(type_, version, expire_ms, payload)
        assert (expiry_of(raw), version_of(raw)) == (expire_ms, version)
