"""`peers.json` in a data directory: what the other nodes' logs have reached, as they said themselves.

No node can tell by itself that its directory was emptied or put back to an older copy: everything in it
is in order. The others can: they remember how far its log was. So each node keeps a mark for each
peer, refuses one that comes back with less, and both write down what came of it.
"""

import msgspec

from quoit.base.checksum import crc32c
from quoit.base.seams import Disk

__all__ = ["PeerMark", "PeerMarks", "read_peer_marks", "write_peer_marks"]

_NAME = "peers.json"


class PeerMark(msgspec.Struct, frozen=True):
    """directory: the number that its data directory got when it was new; life: of its process; synced:
    sequence of the newest record of its log that it called durable."""

    directory: int
    life: int
    synced: int


class PeerMarks(msgspec.Struct):
    """refused: why the others refused this node itself, or ""; it must not start again."""

    marks: dict[int, PeerMark] = {}
    refused: str = ""


class _Stored(msgspec.Struct):
    body: PeerMarks
    crc: int


def read_peer_marks(disk: Disk) -> PeerMarks | None:
    """What was written last; None: the file is damaged, or was never written."""
    if _NAME not in disk.list():
        return None
    file = disk.open(_NAME)
    data = file.pread(0, file.size())
    file.close()
    try:
        stored = msgspec.json.decode(data, type=_Stored)
    except (msgspec.MsgspecError, ValueError):
        return None
    good = crc32c(msgspec.json.encode(stored.body)) == stored.crc
    return stored.body if good else None


def write_peer_marks(disk: Disk, marks: PeerMarks) -> None:
    """Replace the file, all or nothing, durably. DiskFault if the disk does not allow that."""
    data = msgspec.json.encode(_Stored(marks, crc32c(msgspec.json.encode(marks))))
    file = disk.open(_NAME + ".new", create=True)
    file.truncate(0)
    file.pwrite(0, data)
    file.sync()
    file.close()
    disk.rename(_NAME + ".new", _NAME)
    disk.sync_directory()
