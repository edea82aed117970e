"""One process per data directory: a lock that the kernel drops when the process ends, however."""

import fcntl
import os
from pathlib import Path

from quoit.base.errors import BadRequest

__all__ = ["DirectoryLock"]


class DirectoryLock:
    """Holds `DIR/lock` until released. BadRequest when another process holds it."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._fd = os.open(directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(self._fd)
            raise BadRequest(
                f"another process uses {directory}; stop it, or choose another --data-dir"
            ) from None

    def release(self) -> None:
        """Let others have the directory."""
        os.close(self._fd)
