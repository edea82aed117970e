"""Crashes at every step of making something durable (faults.md, P2).

A point is armed; the first machine that reaches it dies there, in the middle of what it does. Steps of
the disk are named by phase, operation and kind of file, and lie before the operation:

    boot      Log.open: its first record and mark
    commit    a log write up to its sync
    note      what follows it and nobody waits for: the mark, the next segment, old segments
"""

from collections.abc import Callable

from quoit.storage.api import Group
from quoit.storage.buffered import BufferedEngine
from quoit.storage.log import Write

__all__ = ["OFTEN", "POINTS", "CrashHere", "CrashPoints", "WatchedEngine", "points_of"]

POINTS: dict[str, str] = {
    "boot pwrite log": "the first record of a new process is not written",
    "boot sync log": "it is written and not synced",
    "boot pwrite mark": "it is synced, its mark is not written",
    "boot sync mark": "its mark is not synced",
    "commit pwrite log": "before a log write",
    "commit sync log": "written, not synced",
    "commit pwrite mark": "synced, a changed promise is not in the mark",
    "commit sync mark": "in the mark, which is not synced",
    "commit rename segment": "before the reserved segment gets its name",
    "commit allocate segment": "before a new segment has room",
    "commit sync names": "before a new segment's name is durable",
    "note pwrite mark": "before the mark of an ordinary write",
    "note allocate segment": "before the next segment is reserved",
    "note remove segment": "before an old segment is removed",
    "note sync names": "before the removal is durable",
    "persisted": "the write is durable, the node does not know it",
    "engine before write": "committed, not applied",
    "engine after write": "applied, not answered",
    "settle": "before buffered records go into the engine",
    "flush begin": "before the engine's flush",
    "flush end": "flushed, the node does not know it",
    "snapshot installed": "a snapshot is in the engine, nothing of it is durable",
    "snapshot before reset": "the engine holds a snapshot durably, the log does not know it",
    "snapshot after reset": "the log starts over behind a snapshot",
    "compaction before write": "the engine holds entries durably, the log does not know it",
    "compaction after write": "the log has forgotten them",
}
"""Point -> the moment."""
OFTEN = (
    "boot pwrite log", "boot sync log", "boot pwrite mark", "boot sync mark", "commit pwrite log",
    "commit sync log", "note pwrite mark", "persisted", "engine before write", "engine after write",
    "commit pwrite mark", "commit sync mark", "settle", "flush begin", "flush end",
)  # fmt: skip
"""Points that a node reaches all the time, or at each start."""


class CrashHere(BaseException):
    """The process ends at this point. Not an Exception: no code but the machine's handles it."""


def _kind(name: str) -> str:
    if name.endswith(".mark"):
        return "mark"
    return "segment" if name.endswith(".reserve") else "log"


class CrashPoints:
    """A machine's points.

    armed  points at which the process will die
    phase  what the disk is being used for
    """

    def __init__(self, reached: Callable[[str], None]) -> None:
        self.reached = reached
        self.armed: list[str] = []
        self.phase = ""

    def arm(self, point: str) -> None:
        """The process will die when it gets there."""
        if point not in self.armed:
            self.armed.append(point)

    def reach(self, point: str) -> None:
        """Die here, if the point is armed."""
        if point in self.armed:
            self.armed.remove(point)
            self.reached(point)
            raise CrashHere(point)

    def disk_step(self, operation: str, name: str) -> None:
        """The disk is about to do that."""
        if self.armed:
            kind = _kind(name) if name else "names"
            if operation in ("rename", "allocate", "remove"):
                kind = "segment"
            self.reach(f"{self.phase} {operation} {kind}")


def points_of(write: Write, moment: str) -> list[str]:
    """Points before or after this log write, by what is in it."""
    found = []
    if any(update.reset is not None for update in write.updates):
        found.append(f"snapshot {moment} reset")
    if any(update.compacted is not None for update in write.updates):
        found.append(f"compaction {moment} write")
    return found


class WatchedEngine(BufferedEngine):
    """The buffer as it ships, with points around its writes."""

    points: CrashPoints

    def write(self, groups: list[Group]) -> None:
        """Apply the groups."""
        self.points.reach("engine before write")
        super().write(groups)
        self.points.reach("engine after write")

    def settle(self, records: int) -> bool:
        """Move buffered records on."""
        self.points.reach("settle")
        return super().settle(records)
