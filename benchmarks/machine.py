"""The facts that a figure is worth nothing without: machine, versions, commit, the disk's sync."""

import os
import platform
import subprocess
import sys
import time
from pathlib import Path
from statistics import median
from typing import Any

__all__ = ["commit", "describe", "sync_ms", "version_ms"]


def describe(directory: Path) -> dict[str, Any]:
    """Everything about where this runs. `directory`: where the systems put their data."""
    return {
        "processor": processor(),
        "cores": os.cpu_count(),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1),
        "kernel": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "file_system": file_system(directory),
        "sync_ms": sync_ms(directory),
        "load_before": round(os.getloadavg()[0], 2),
    }


def processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.machine()


def file_system(directory: Path) -> str:
    """Type of the file system that holds `directory` (tmpfs would make every sync free)."""
    mounts = [line.split() for line in Path("/proc/mounts").read_text().splitlines()]
    path = str(directory.resolve())
    holding = [row for row in mounts if (path + "/").startswith(row[1].rstrip("/") + "/")]
    return max(holding, key=lambda row: len(row[1]))[2] if holding else "unknown"


def sync_ms(directory: Path, count: int = 200) -> float:
    """Median milliseconds of one fdatasync after a small write into a preallocated file."""
    path = directory / "sync-probe"
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT)
    try:
        os.write(descriptor, bytes(1 << 20))
        os.fsync(descriptor)
        took: list[float] = []
        for number in range(count):
            os.pwrite(descriptor, b"x" * 256, number * 256)
            began = time.perf_counter()
            os.fdatasync(descriptor)
            took.append(time.perf_counter() - began)
    finally:
        os.close(descriptor)
        path.unlink()
    return round(median(took) * 1000, 3)


def commit() -> str:
    """The commit that is measured, with a + when the source differs from it."""
    here = Path(__file__).parent

    def git(*words: str) -> str:
        ended = subprocess.run(
            ["git", "-C", str(here), *words], capture_output=True, text=True, check=False
        )
        return ended.stdout.strip()

    changed = git("status", "--porcelain", "--", str(here.parent / "src"))
    return (git("rev-parse", "--short", "HEAD") or "unknown") + ("+" if changed else "")


def version_ms(count: int = 5) -> float:
    """Median milliseconds of `quoit --version`, the start of the interpreter included."""
    command = [str(Path(sys.executable).parent / "quoit"), "--version"]
    if not Path(command[0]).exists():
        command = [sys.executable, "-m", "quoit", "--version"]
    took: list[float] = []
    for _ in range(count):
        began = time.perf_counter()
        subprocess.run(command, capture_output=True, check=True)
        took.append(time.perf_counter() - began)
    return round(median(took) * 1000, 1)
