"""Who a data directory belongs to. A node that came up with another node's directory, or with a
directory of another cluster or format, could break promises that the directory's owner made."""

import msgspec

from quoit.base.checksum import crc32c
from quoit.base.errors import BadRequest, Corruption
from quoit.base.seams import Disk

__all__ = ["FORMAT", "Identity", "claim"]

FORMAT = 1
_NAME = "node.json"


class Identity(msgspec.Struct, forbid_unknown_fields=True):
    """What must never change for a directory."""

    cluster_id: str
    node_id: int
    shards: int
    replication_factor: int
    consensus: str = "raft"
    format: int = FORMAT


class _Stored(msgspec.Struct, forbid_unknown_fields=True):
    identity: Identity
    crc: int
    directory: int = 0


class _AnyFormat(msgspec.Struct):
    """What every version of the file has, so that a newer one is named and not called damaged."""

    identity: "_FormatOnly"


class _FormatOnly(msgspec.Struct):
    format: int


def claim(disk: Disk, identity: Identity, directory: int) -> int:
    """Bind the directory to `identity`, or check that it is bound to it already. Its number: `directory`
    if it was new. BadRequest when it belongs to another, Corruption when the file is damaged."""
    if _NAME in disk.list():
        stored = _read(disk)
        _compare(stored.identity, identity)
        return stored.directory
    body = msgspec.json.encode(_Stored(identity, _checksum(identity, directory), directory))
    file = disk.open(_NAME + ".new", create=True)
    file.truncate(0)
    file.pwrite(0, body)
    file.sync()
    file.close()
    disk.rename(_NAME + ".new", _NAME)
    disk.sync_directory()
    return directory


def _checksum(identity: Identity, directory: int) -> int:
    return crc32c(msgspec.json.encode((identity, directory)))


def _read(disk: Disk) -> _Stored:
    file = disk.open(_NAME)
    data = file.pread(0, file.size())
    file.close()
    try:
        written = msgspec.json.decode(data, type=_AnyFormat).identity.format
        if written != FORMAT:
            raise BadRequest(
                f"this data directory has format {written}, this version of quoit reads and writes "
                f"format {FORMAT}: start it with the version that wrote it, or give this node an "
                "empty directory"
            )
        stored = msgspec.json.decode(data, type=_Stored)
    except msgspec.MsgspecError as error:
        raise Corruption(
            f"{_NAME} cannot be read: {error}; it says whose data this is, so the node will not start"
        ) from None
    if _checksum(stored.identity, stored.directory) != stored.crc:
        raise Corruption(f"{_NAME} fails its checksum; do not edit it by hand")
    return stored


def _compare(found: Identity, wanted: Identity) -> None:
    for field, meaning in (
        ("cluster_id", "belongs to cluster"),
        ("node_id", "belongs to node"),
        ("shards", "was created with a number of shards of"),
        ("replication_factor", "was created with a replication factor of"),
        ("consensus", "was created with consensus"),
    ):
        if getattr(found, field) != getattr(wanted, field):
            raise BadRequest(
                f"this data directory {meaning} {getattr(found, field)}, not "
                f"{getattr(wanted, field)}; give this node its own directory"
            )
