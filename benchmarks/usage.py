"""What a process uses, from /proc (Linux)."""

import os
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Usage", "usage"]

TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


@dataclass
class Usage:
    """Processor seconds so far, and resident megabytes now."""

    cpu_seconds: float
    memory_mb: float


def usage(pid: int) -> Usage:
    """Zeros for a process that is gone."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except OSError:
        return Usage(0.0, 0.0)
    ticks = int(stat[11]) + int(stat[12])
    return Usage(ticks / TICKS_PER_SECOND, pages * PAGE_BYTES / 1e6)
