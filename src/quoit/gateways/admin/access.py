"""Who may ask the admin port what.

Bound to loopback it answers every process of this machine, but only under a name that means this
machine: a web page that rebinds its own host name to 127.0.0.1 sends that name in the Host header.
Bound wider it asks for the password as a bearer token (RFC 6750 section 2.1), except for health.
"""

import hmac
import ipaddress

__all__ = ["HEALTH", "host_is_local", "is_loopback", "token_fits"]

HEALTH = ("/livez", "/readyz")
"""Paths that tell nothing but up or not up; probes carry no password."""


def is_loopback(host: str) -> bool:
    """`host` (a name or an address, no port) can only mean this machine."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def host_is_local(header: str) -> bool:
    """The Host header (`name[:port]`) means this machine."""
    name = header
    if header.startswith("["):
        name = header.partition("]")[0] + "]"
    else:
        name = header.partition(":")[0]
    return is_loopback(name.lower())


def token_fits(header: str, password: str) -> bool:
    """The Authorization header carries `password` as a bearer token."""
    scheme, _, token = header.partition(" ")
    return scheme.lower() == "bearer" and hmac.compare_digest(token.encode(), password.encode())
