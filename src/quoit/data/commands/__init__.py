"""The commands that act on data. Importing this package fills the table."""

from quoit.data.commands import strings

__all__ = ["strings"]
