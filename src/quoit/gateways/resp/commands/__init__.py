"""The commands that the gateway answers itself. Importing this package declares them."""

from quoit.gateways.resp.commands import (
    acl,
    basic,
    client,
    cluster,
    command,
    config,
    info,
    server,
    transactions,
)

__all__ = [
    "acl",
    "basic",
    "client",
    "cluster",
    "command",
    "config",
    "info",
    "server",
    "transactions",
]
