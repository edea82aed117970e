"""Telling others that clients can come: a file, and systemd."""

import contextlib
import os
import socket
from pathlib import Path

__all__ = ["NOTIFY", "say_ready", "say_stopping"]

NOTIFY = "NOTIFY_SOCKET"


def say_ready(file: str) -> None:
    """Clients can come. `file` (empty: none) then holds the process id."""
    if file:
        path = Path(file)
        partial = path.with_name(path.name + ".new")
        partial.write_text(f"{os.getpid()}\n")
        partial.replace(path)
    _notify("READY=1")


def say_stopping(file: str) -> None:
    """No more clients."""
    _notify("STOPPING=1")
    if file:
        with contextlib.suppress(OSError):
            Path(file).unlink()


def _notify(message: str) -> None:
    """systemd's readiness protocol (sd_notify(3)): one datagram; nothing when it does not listen."""
    address = os.environ.get(NOTIFY, "")
    if not address:
        return
    if address.startswith("@"):
        address = "\0" + address[1:]
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as out:
        out.sendto(message.encode(), address)
