"""A log on a simulated disk, and short ways to write to it."""

import random

from quoit.quorum.agreement import Entry, HardState, SnapshotMeta
from quoit.quorum.members import Members
from quoit.sim.disk import SimDisk
from quoit.storage.api import Recovery, ShardUpdate
from quoit.storage.log import Log, Write

SEGMENT_BYTES = 8192


def new_disk(seed: int = 1) -> SimDisk:
    return SimDisk(random.Random(seed))


def open_log(disk: SimDisk) -> tuple[Log, Recovery]:
    return Log.open(disk, SEGMENT_BYTES)


def entries(low: int, high: int, term: int = 1, size: int = 10) -> list[Entry]:
    """Entries low..high-1, each with data of its own."""
    return [Entry(i, term, 0, b"%d/%d" % (i, term) + b"\xa5" * size) for i in range(low, high)]


def update(
    shard: int = 0,
    new: list[Entry] | None = None,
    *,
    hard: tuple[int, int] | None = None,
    reset: tuple[int, int] | None = None,
    compacted: tuple[int, int] | None = None,
    healed: bool = False,
) -> ShardUpdate:
    return ShardUpdate(
        shard,
        HardState(*hard) if hard else None,
        new or [],
        SnapshotMeta(*reset, Members((1, 2, 3))) if reset else None,
        compacted,
        healed,
    )


def write(log: Log, *updates: ShardUpdate) -> Write:
    made = log.prepare(list(updates))
    log.commit(made)
    log.note(made)
    log.publish(made)
    return made


def restart(disk: SimDisk) -> tuple[Log, Recovery]:
    disk.kill()
    return open_log(disk)
