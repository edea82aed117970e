"""Faults of disks: small file systems of our own that fill up or lose power, and a library that makes
syncs fail, slow or hang."""

import fcntl
import os
import shutil
import struct
import subprocess
import time
from pathlib import Path

__all__ = ["LoopDisk", "SyncFaults", "loop_disks_missing"]

EXT4_IOC_SHUTDOWN = 0x8004587D
NOLOGFLUSH = 2
"""ext4's shutdown ioctl drops everything that was not synced, the journal's open part too."""
BALLOON_SPARES = 256 * 1024


class LoopDisk:
    """An ext4 file system in a file, mounted on `place`."""

    def __init__(self, place: Path, megabytes: int) -> None:
        self.place = place
        self.image = place.with_suffix(".img")
        with open(self.image, "wb") as image:
            image.truncate(megabytes * 1024 * 1024)
        place.mkdir(exist_ok=True)
        _run("mkfs.ext4", "-qF", "-m0", str(self.image))
        self._mount()

    def _mount(self) -> None:
        _run("mount", "-o", "loop", str(self.image), str(self.place))

    def close(self) -> None:
        """Unmount and forget; the processes on it have ended."""
        deadline = time.monotonic() + 5
        while True:
            done = subprocess.run(["umount", str(self.place)], capture_output=True, text=True)
            if done.returncode == 0 or "not mounted" in done.stderr:
                return
            if time.monotonic() > deadline:
                raise RuntimeError(f"umount {self.place}: {done.stderr.strip()}")
            time.sleep(0.05)

    def remove(self) -> None:
        """Unmount, and give the room back."""
        self.close()
        self.image.unlink(missing_ok=True)

    def cut_power(self) -> None:
        """From now on nothing more reaches the disk, and what was not synced is gone."""
        fd = os.open(self.place, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.ioctl(fd, EXT4_IOC_SHUTDOWN, struct.pack("I", NOLOGFLUSH))
        finally:
            os.close(fd)

    def restore_power(self) -> None:
        """Mount again: the journal is replayed. The process that was on it has ended."""
        self.close()
        self._mount()

    def fill(self) -> int:
        """Take all room with a balloon; its size in bytes."""
        found = os.statvfs(self.place)
        size = found.f_bavail * found.f_frsize - BALLOON_SPARES
        fd = os.open(self.place / "balloon", os.O_WRONLY | os.O_CREAT)
        try:
            os.posix_fallocate(fd, 0, size)
        finally:
            os.close(fd)
        return size

    def empty(self) -> None:
        """Give the room back."""
        (self.place / "balloon").unlink(missing_ok=True)


def loop_disks_missing(directory: Path) -> str:
    """Why loop-mounted disks cannot be used here, or ""."""
    for tool in ("mkfs.ext4", "mount", "umount"):
        if shutil.which(tool) is None:
            return f"there is no {tool}"
    try:
        disk = LoopDisk(directory / "probe", 16)
    except (OSError, subprocess.CalledProcessError) as error:
        said = getattr(error, "stderr", "") or str(error)
        return f"a file cannot be mounted: {said.strip()}"
    try:
        disk.cut_power()
        disk.restore_power()
    except OSError as error:
        return f"the file system cannot be shut down: {error}"
    finally:
        disk.remove()
    return ""


class SyncFaults:
    """The library of sync.c, and the files that switch it for one node."""

    def __init__(self, library: Path, directory: Path) -> None:
        directory.mkdir()
        self.directory = directory
        self.environment = {"LD_PRELOAD": str(library), "CHAOS_SYNC_DIR": str(directory)}

    def begin(self, name: str) -> None:
        """`fail` (once), `slow` or `hang`."""
        (self.directory / name).touch()

    def end(self, name: str) -> None:
        """Syncs are as they were."""
        (self.directory / name).unlink(missing_ok=True)

    def happened(self, name: str) -> bool:
        """`failed`, `slowed` or `hung`."""
        return (self.directory / name).exists()

    @staticmethod
    def build(directory: Path) -> Path:
        """Compile the library. RuntimeError when there is no C compiler."""
        compiler = shutil.which("cc") or shutil.which("gcc")
        if compiler is None:
            raise RuntimeError("there is no C compiler (cc)")
        library = directory / "sync.so"
        source = Path(__file__).with_name("sync.c")
        try:
            _run(compiler, "-O1", "-shared", "-fPIC", "-o", str(library), str(source), "-ldl")
        except subprocess.CalledProcessError as error:
            raise RuntimeError(f"the library does not compile: {error.stderr}") from None
        return library


def _run(*words: str) -> None:
    subprocess.run(words, check=True, capture_output=True, text=True)
