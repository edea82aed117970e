"""The commands that act on data. Importing this package fills the table."""

from quoit.data.commands import (
    expiry,
    generic,
    introspect,
    keyspace,
    lcs,
    numbers,
    ranges,
    strings,
)

__all__ = ["expiry", "generic", "introspect", "keyspace", "lcs", "numbers", "ranges", "strings"]
