"""The one exception of this floor, and the error texts that many commands share.

Texts are Redis' own, because clients compare them.
"""

from quoit.base import limits
from quoit.base.errors import BadRequest

__all__ = [
    "BATCH_FULL",
    "INVALID_CURSOR",
    "KEY_TOO_LONG",
    "NOT_A_FLOAT",
    "NOT_AN_INTEGER",
    "NO_SUCH_KEY",
    "OVERFLOW",
    "SYNTAX",
    "TOO_LONG",
    "WRONGTYPE",
    "CommandError",
    "expire_error",
    "wrong_arity",
]


class CommandError(BadRequest):
    """A command cannot be done. The text is the whole error reply without the leading `-`; what the
    command wrote to the view must be undone."""


WRONGTYPE = "WRONGTYPE Operation against a key holding the wrong kind of value"
SYNTAX = "ERR syntax error"
NOT_AN_INTEGER = "ERR value is not an integer or out of range"
NOT_A_FLOAT = "ERR value is not a valid float"
OVERFLOW = "ERR increment or decrement would overflow"
NO_SUCH_KEY = "ERR no such key"
INVALID_CURSOR = "ERR invalid cursor"
KEY_TOO_LONG = f"ERR key is too long (at most {limits.KEY_BYTES_MAX} bytes)"
TOO_LONG = "ERR string exceeds maximum allowed size (proto-max-bulk-len)"
BATCH_FULL = (
    "BUSY too many bytes in one batch, nothing was changed; try again, or write less at once"
)


def expire_error(command: str) -> CommandError:
    """An expiry time that is not positive or does not fit."""
    return CommandError(f"ERR invalid expire time in '{command}' command")


def wrong_arity(command: str) -> CommandError:
    """Too few or too many arguments; `command` in lower case, subcommands as `object|freq`."""
    return CommandError(f"ERR wrong number of arguments for '{command}' command")
