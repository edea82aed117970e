"""Ports for nodes on this machine.

Free ones are looked for below the range from which the kernel takes ports for outgoing connections:
a node that is killed must find its ports free when it comes back, and a busy client would have
taken a port of that range in the meantime.
"""

import random
import socket
from pathlib import Path

from quoit.base.errors import BadRequest

__all__ = ["Ports", "choose"]

Ports = tuple[int, int, int]
"""RESP, admin, peer."""

_LOW = 10_000
_EPHEMERAL_LOW_DEFAULT = 32_768
_TRIES = 2000


def choose(count: int, base_port: int) -> list[Ports]:
    """Three ports for each of `count` nodes: from `base_port` up, or free ones if that is 0.
    BadRequest when they are taken."""
    if base_port:
        if not 1 <= base_port <= 65_536 - 3 * count:
            raise BadRequest(f"{count} nodes need {3 * count} ports from {base_port} up")
        numbers = list(range(base_port, base_port + 3 * count))
        taken = [number for number in numbers if not _is_free(number)]
        if taken:
            raise BadRequest(f"these ports are in use: {', '.join(map(str, taken))}")
    else:
        numbers = _free_run(3 * count)
    return [(numbers[i], numbers[i + 1], numbers[i + 2]) for i in range(0, 3 * count, 3)]


def _free_run(length: int) -> list[int]:
    high = _ephemeral_low() - length
    # Why SystemRandom: several clusters may be started at one moment by forked test runners.
    rng = random.SystemRandom()
    for _ in range(_TRIES):
        start = rng.randrange(_LOW, high)
        numbers = list(range(start, start + length))
        if all(map(_is_free, numbers)):
            return numbers
    raise BadRequest("there are no free ports")


def _ephemeral_low() -> int:
    try:
        text = Path("/proc/sys/net/ipv4/ip_local_port_range").read_text()
        return max(int(text.split()[0]), _LOW + 1024)
    except (OSError, ValueError, IndexError):
        return _EPHEMERAL_LOW_DEFAULT


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        # As the servers do, or connections of a node just killed would count as taken.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
