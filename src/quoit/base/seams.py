"""The seams: everything the world does to quoit, as small protocols with a real and a simulated part.

Times are integers. `now_us` is microseconds of a clock that also counts while the machine is
suspended (CLOCK_BOOTTIME) and has no meaning on another node or after a restart; `wall_ms` is Unix
time in milliseconds and may jump.
"""

from typing import Protocol

__all__ = ["Clock", "Disk", "File", "Rng", "Trace"]


class Clock(Protocol):
    """Time as one node sees it."""

    def now_us(self) -> int:
        """Microseconds since an arbitrary origin of this boot; never runs backwards."""
        ...

    def wall_ms(self) -> int:
        """Unix time in milliseconds; may jump either way."""
        ...


class Rng(Protocol):
    """The part of `random.Random` that quoit uses."""

    def randrange(self, start: int, stop: int) -> int:
        """A uniform integer in [start, stop)."""
        ...

    def random(self) -> float:
        """A uniform float in [0, 1)."""
        ...


class File(Protocol):
    """One open file. All methods raise DiskFault (DiskFull when there is no room)."""

    def pread(self, offset: int, size: int) -> bytes:
        """Up to `size` bytes from `offset`; fewer at the end of the file."""
        ...

    def pwrite(self, offset: int, data: bytes) -> None:
        """Write all of `data` at `offset`, extending the file if needed. Not durable before sync."""
        ...

    def sync(self) -> None:
        """Make the written bytes and the size durable (fdatasync). Never call again after it raised."""
        ...

    def allocate(self, size: int) -> None:
        """Reserve room so that the file is at least `size` bytes long, the new part zeros."""
        ...

    def truncate(self, size: int) -> None:
        """Cut (or extend with zeros) to `size` bytes."""
        ...

    def size(self) -> int:
        """Length in bytes."""
        ...

    def close(self) -> None:
        """Release the file. Idempotent."""
        ...


class Disk(Protocol):
    """One flat directory. All methods raise DiskFault (DiskFull when there is no room)."""

    def open(self, name: str, *, create: bool = False) -> File:
        """Open for reading and writing; FileNotFoundError if absent and not `create`."""
        ...

    def list(self) -> list[str]:
        """File names, sorted."""
        ...

    def remove(self, name: str) -> None:
        """Delete a file. Durable after `sync_directory`."""
        ...

    def rename(self, old: str, new: str) -> None:
        """Rename, replacing `new`. Durable after `sync_directory`."""
        ...

    def sync_directory(self) -> None:
        """Make creations, removals and renames durable."""
        ...

    def free_bytes(self) -> int:
        """Room left."""
        ...


class Trace(Protocol):
    """Takes facts: a stable event name and plain values. Never called per command."""

    def __call__(self, event: str, /, **facts: object) -> None: ...
