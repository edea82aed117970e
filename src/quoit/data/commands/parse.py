"""Arguments into numbers and options, as Redis reads them."""

from quoit.base.slots import DATABASES
from quoit.data.errors import NOT_AN_INTEGER, CommandError

__all__ = ["INT64_MAX", "INT64_MIN", "database", "integer", "integer_or_none"]

INT64_MIN = -(1 << 63)
INT64_MAX = (1 << 63) - 1
_INT32 = 1 << 31
_LENGTH_MAX = 20


def integer_or_none(text: bytes) -> int | None:
    """A signed 64-bit integer as Redis writes it: no sign but `-`, no space, no zero before."""
    digits = text[1:] if text[:1] == b"-" else text
    if not digits.isdigit() or len(text) > _LENGTH_MAX:
        return None
    if digits[0] == 0x30 and len(text) > 1:
        return None
    value = int(text)
    return value if INT64_MIN <= value <= INT64_MAX else None


def integer(text: bytes) -> int:
    """Like `integer_or_none`. CommandError if it is none."""
    value = integer_or_none(text)
    if value is None:
        raise CommandError(NOT_AN_INTEGER)
    return value


def database(text: bytes) -> int:
    """A database number. CommandError if there is no such database."""
    value = integer(text)
    if not -_INT32 <= value < _INT32:
        raise CommandError(
            f"ERR value is out of range, value must between {-_INT32} and {_INT32 - 1}"
        )
    if not 0 <= value < DATABASES:
        raise CommandError("ERR DB index is out of range")
    return value
