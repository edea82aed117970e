"""The Disk seam on a real directory. OS errors become DiskFault (DiskFull when there is no room)."""

import contextlib
import errno
import os
from collections.abc import Iterator

from quoit.base.errors import DiskFault, DiskFull

__all__ = ["RealDisk"]


@contextlib.contextmanager
def _translated(what: str) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DiskFull(
                f"{what}: the disk is full; make room, then start the node again"
            ) from error
        raise DiskFault(
            f"{what}: {error.strerror}; the node stops because it cannot know what is on the "
            "disk: check the disk, then start it again"
        ) from error


class RealFile:
    """One open file."""

    __slots__ = ("_fd", "_name")

    def __init__(self, fd: int, name: str) -> None:
        self._fd = fd
        self._name = name

    def pread(self, offset: int, size: int) -> bytes:
        """Up to `size` bytes from `offset`."""
        with _translated(f"reading {self._name}"):
            return os.pread(self._fd, size, offset)

    def pwrite(self, offset: int, data: bytes) -> None:
        """Write all of `data` at `offset`."""
        with _translated(f"writing {self._name}"):
            written = os.pwrite(self._fd, data, offset)
            while written < len(data):
                written += os.pwrite(self._fd, data[written:], offset + written)

    def sync(self) -> None:
        """fdatasync."""
        with _translated(f"syncing {self._name}"):
            os.fdatasync(self._fd)

    def allocate(self, size: int) -> None:
        """Reserve room, so that a full disk shows here and not in the middle of a record."""
        with _translated(f"reserving {size} bytes for {self._name}"):
            os.posix_fallocate(self._fd, 0, size)

    def truncate(self, size: int) -> None:
        """Cut or extend to `size` bytes."""
        with _translated(f"truncating {self._name}"):
            os.ftruncate(self._fd, size)

    def size(self) -> int:
        """Length in bytes."""
        with _translated(f"looking at {self._name}"):
            return os.fstat(self._fd).st_size

    def close(self) -> None:
        """Release the file."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


class RealDisk:
    """A directory; created if it is missing."""

    def __init__(self, path: str) -> None:
        self._path = path
        with _translated(f"creating {path}"):
            os.makedirs(path, exist_ok=True)

    def open(self, name: str, *, create: bool = False) -> RealFile:
        """Open for reading and writing."""
        flags = os.O_RDWR | os.O_CLOEXEC | (os.O_CREAT if create else 0)
        with _translated(f"opening {name}"):
            return RealFile(os.open(os.path.join(self._path, name), flags, 0o600), name)

    def list(self) -> list[str]:
        """File names, sorted."""
        with _translated(f"listing {self._path}"):
            return sorted(os.listdir(self._path))

    def remove(self, name: str) -> None:
        """Delete a file."""
        with _translated(f"removing {name}"):
            os.remove(os.path.join(self._path, name))

    def rename(self, old: str, new: str) -> None:
        """Rename, replacing `new`."""
        with _translated(f"renaming {old}"):
            os.replace(os.path.join(self._path, old), os.path.join(self._path, new))

    def sync_directory(self) -> None:
        """Make creations, removals and renames durable."""
        with _translated(f"syncing {self._path}"):
            fd = os.open(self._path, os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.fsync(fd)
            finally:
                os.close(fd)

    def free_bytes(self) -> int:
        """Room left."""
        with _translated(f"looking at {self._path}"):
            found = os.statvfs(self._path)
            return found.f_bavail * found.f_frsize
