"""The Disk seam on a real directory. OS errors become DiskFault (DiskFull when there is no room)."""

import contextlib
import errno
import os
from collections.abc import Iterator

from quoit.base.errors import DiskFault, DiskFull

__all__ = ["RealDisk", "RealFile"]

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@contextlib.contextmanager
def _translated(what: str) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise
    except OSError as error:
        raise _fault(what, error) from error


def _fault(what: str, error: OSError) -> DiskFault:
    if error.errno in _NO_ROOM:
        return DiskFull(f"{what}: the disk is full; make room, then start the node again")
    if error.errno == errno.EROFS:
        return DiskFault(
            f"{what}: the file system is read-only; the system makes it so after errors: check the "
            "disk, mount it for writing, then start the node again"
        )
    return DiskFault(
        f"{what}: {error.strerror}; the node stops because it cannot know what is on the "
        "disk: check the disk, then start it again"
    )


class RealFile:
    """One open file. `pwrite` and `sync` are on the path of every write: no context managers there."""

    __slots__ = ("_fd", "_name")

    def __init__(self, fd: int, name: str) -> None:
        self._fd = fd
        self._name = name

    def pread(self, offset: int, size: int) -> bytes:
        """Up to `size` bytes from `offset`; fewer only at the end of the file."""
        try:
            data = os.pread(self._fd, size, offset)
            while len(data) < size:
                more = os.pread(self._fd, size - len(data), offset + len(data))
                if not more:
                    break
                data += more
        except OSError as error:
            raise _fault(f"reading {self._name}", error) from error
        return data

    def pwrite(self, offset: int, data: bytes) -> None:
        """Write all of `data` at `offset`."""
        try:
            written = os.pwrite(self._fd, data, offset)
            while written < len(data):
                written += os.pwrite(self._fd, memoryview(data)[written:], offset + written)
        except OSError as error:
            raise _fault(f"writing {self._name}", error) from error

    def sync(self) -> None:
        """fdatasync."""
        try:
            os.fdatasync(self._fd)
        except ValueError:
            raise DiskFault(f"syncing {self._name}: the file is closed") from None
        except OSError as error:
            raise _fault(f"syncing {self._name}", error) from error

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
        """Release the file. Idempotent."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            with contextlib.suppress(OSError):
                os.close(fd)


class RealDisk:
    """A directory. It is created if it is missing, durably: a power cut must not take it away together
    with what was synced in it."""

    def __init__(self, path: str) -> None:
        self._path = os.path.abspath(path)
        with _translated(f"creating {path}"):
            missing = []
            above = self._path
            while not os.path.isdir(above):
                missing.append(above)
                above = os.path.dirname(above)
            for directory in reversed(missing):
                os.makedirs(directory, mode=0o700, exist_ok=True)
                _sync_path(os.path.dirname(directory))

    def open(self, name: str, *, create: bool = False) -> RealFile:
        """Open for reading and writing."""
        flags = os.O_RDWR | os.O_CLOEXEC | (os.O_CREAT if create else 0)
        with _translated(f"opening {name}"):
            return RealFile(os.open(os.path.join(self._path, name), flags, 0o600), name)

    def list(self) -> list[str]:
        """Names of the files (not of directories), sorted."""
        with _translated(f"listing {self._path}"), os.scandir(self._path) as found:
            return sorted(item.name for item in found if item.is_file())

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
            _sync_path(self._path)

    def free_bytes(self) -> int:
        """Room left for a process without special rights."""
        with _translated(f"looking at {self._path}"):
            found = os.statvfs(self._path)
            return found.f_bavail * found.f_frsize


def _sync_path(path: str) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
