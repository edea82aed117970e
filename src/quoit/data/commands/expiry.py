"""When keys expire: the arithmetic of expiry times, and the commands that set and show them."""

from quoit.data.commands.parse import INT64_MAX, integer
from quoit.data.errors import expire_error

__all__ = ["deadline"]


def deadline(text: bytes, unit_ms: int, now_ms: int, command: str) -> int:
    """The expiry time, Unix milliseconds, that an option of `command` asks for.

    now_ms  0 if the option names a moment, else what its duration is added to
    CommandError if the number is not positive, or the time does not fit into 63 bits.
    """
    value = integer(text)
    if value <= 0 or value > INT64_MAX // unit_ms:
        raise expire_error(command)
    moment = value * unit_ms
    if moment > INT64_MAX - now_ms:
        raise expire_error(command)
    return moment + now_ms
