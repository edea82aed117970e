from fractions import Fraction

import pytest

from quoit.data.longdouble import format_number, parse_number, total


def add(left: bytes, right: bytes) -> bytes | None:
    value = total(parse_number(left), parse_number(right))
    return None if value is None else format_number(value)


@pytest.mark.parametrize(
    ("left", "right", "expected"),
    [
        (b"0.1", b"0.2", b"0.3"),
        (b"10.50", b"0.1", b"10.6"),
        (b"5.0e3", b"2.0e2", b"5200"),
        (b"1", b"-1", b"0"),
        (b"-0", b"0", b"0"),
        (b"3", b"1.5", b"4.5"),
        (b"1e19", b"1", b"10000000000000000001"),
        (b"1e20", b"1", b"100000000000000000000"),
        (b"0", b"1e-17", b"0.00000000000000001"),
        (b"0", b"-1e-30", b"0"),
    ],
)
def test_sums_print_as_in_redis(left, right, expected):
    assert add(left, right) == expected


@pytest.mark.parametrize(
    "text",
    [b"", b"x", b" 1", b"1 ", b"1e", b"1__0", b"nan", b"--1", b".", b"1e5000", b"1e-5000", b"0" * 6000,
     b"1e99999999", b"1.2e4932"],
)  # fmt: skip
def test_no_number(text):
    assert parse_number(text) is None


def test_infinity_is_told_apart():
    assert parse_number(b"-inf") == "inf"
    assert parse_number(b"Infinity") == "inf"


def test_significand_has_64_bits():
    assert parse_number(b"%d" % ((1 << 64) + 1)) == 1 << 64
    assert parse_number(b"%d" % ((1 << 64) - 1)) == (1 << 64) - 1
    assert parse_number(b"0.1") == Fraction(0xCCCCCCCCCCCCCCCD, 1 << 67)


def test_overflow():
    assert add(b"1.1e4932", b"1.1e4932") is None


def test_all_zeros_with_a_huge_exponent():
    assert parse_number(b"0e9999999") == 0
