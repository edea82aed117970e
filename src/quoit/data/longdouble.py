"""INCRBYFLOAT's arithmetic: the x87 extended double (64-bit significand) that Redis calculates
with, done in integers so that every machine gives the same digits.

With Python's own 53-bit floats 0.1 + 0.2 would print as 0.30000000000000004 where Redis says 0.3.
"""

import re
from decimal import Context, Decimal
from fractions import Fraction

__all__ = ["format_number", "parse_number", "total"]

_SIGNIFICAND_BITS = 64
_EXPONENT_MAX = 16384
"""The largest finite magnitude is below 2 ** 16384."""
_EXPONENT_MIN = -16445
"""The least subnormal is 2 ** -16445."""
_TEXT_BYTES_MAX = 5 * 1024
_DIGITS = 17
"""Digits after the point that are printed, before trailing zeros go."""

_NUMBER = re.compile(rb"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d{1,7})?\Z")
_INFINITY = re.compile(rb"[+-]?inf(?:inity)?\Z", re.IGNORECASE)
_exact = Context(prec=_TEXT_BYTES_MAX * 2, Emax=99_999_999, Emin=-99_999_999)


def _rounded(value: Fraction) -> Fraction:
    """The nearest extended double, ties to even."""
    if not value:
        return value
    top, bottom = abs(value.numerator), value.denominator
    exponent = top.bit_length() - bottom.bit_length()
    if (top << max(-exponent, 0)) < (bottom << max(exponent, 0)):
        exponent -= 1
    # Now 2 ** exponent <= |value| < 2 ** (exponent + 1).
    unit = max(exponent - _SIGNIFICAND_BITS + 1, _EXPONENT_MIN)
    scaled = round(value / Fraction(2) ** unit)
    return scaled * Fraction(2) ** unit


def parse_number(text: bytes) -> Fraction | str | None:
    """The extended double that `text` names; "inf" for an infinity; None if it is no number, or too
    large or too small for the format."""
    if len(text) >= _TEXT_BYTES_MAX:
        return None
    if _INFINITY.match(text):
        return "inf"
    if not _NUMBER.match(text):
        return None
    decimal = _exact.create_decimal(text.decode())
    if not decimal:
        return Fraction(0)
    if not -5000 < decimal.adjusted() < 5000:
        return None
    value = _rounded(Fraction(decimal))
    return value if value and abs(value) < Fraction(2) ** _EXPONENT_MAX else None


def total(left: Fraction, right: Fraction) -> Fraction | None:
    """The rounded sum; None if it overflows."""
    value = _rounded(left + right)
    return value if abs(value) < Fraction(2) ** _EXPONENT_MAX else None


def format_number(value: Fraction) -> bytes:
    """Fixed-point text with up to 17 digits after the point and no trailing zeros."""
    scaled = round(value * 10**_DIGITS)
    text = format(_exact.scaleb(Decimal(scaled), -_DIGITS), "f")
    if "." in text:
        text = text.rstrip("0").rstrip(".")
    return b"0" if text == "-0" else text.encode()
