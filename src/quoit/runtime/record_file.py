"""`record.json` in a data directory: this node's copy of the cluster's record (node/cluster/state.py), so
that a restart knows the cluster before the meta shard is led. When it is lost, it comes again."""

import msgspec

from quoit.base.errors import Corruption
from quoit.base.seams import Disk
from quoit.node.cluster.state import ClusterState

__all__ = ["read_record", "write_record"]

_NAME = "record.json"


def read_record(disk: Disk) -> ClusterState | None:
    """What the directory says; None: nothing yet. Corruption when the file cannot be read."""
    if _NAME not in disk.list():
        return None
    file = disk.open(_NAME)
    data = file.pread(0, file.size())
    file.close()
    try:
        return msgspec.json.decode(data, type=ClusterState)
    except msgspec.MsgspecError as error:
        raise Corruption(
            f"{_NAME} cannot be read: {error}; remove it: the other nodes tell it again"
        ) from None


def write_record(disk: Disk, state: ClusterState) -> None:
    """Replace the file, all or nothing, durably."""
    file = disk.open(_NAME + ".new", create=True)
    file.truncate(0)
    file.pwrite(0, msgspec.json.format(msgspec.json.encode(state), indent=1) + b"\n")
    file.sync()
    file.close()
    disk.rename(_NAME + ".new", _NAME)
    disk.sync_directory()
