"""`nodes.json` in a data directory: the cluster as the node knows it, so that a restart finds the others.

The directory's identity (storage/identity.py) never changes; this file grows with the cluster. It is
also what a node that joins is told.
"""

import msgspec

from quoit.base.errors import Corruption
from quoit.base.seams import Disk
from quoit.runtime.options import NodeOptions, PeerAddress

__all__ = ["ClusterView", "read_view", "view_of", "write_view"]

_NAME = "nodes.json"


class ClusterView(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """What all nodes of a cluster have in common, and who they are."""

    cluster_id: str
    founders: list[int]
    """The nodes among which the shards were placed at creation."""
    founder_zones: list[str] = []
    """Their zones then, in the same order."""
    shards: int
    """As given at creation; 0: by the number of founders."""
    replication_factor: int
    consensus: str
    quorum: str
    election_timeout_us: int
    heartbeat_us: int
    lease_enabled: bool
    drift_ppm: int
    nodes: list[PeerAddress]
    own: int = 0
    """The number of the node whose directory this is; 0 in older files."""


def view_of(options: NodeOptions) -> ClusterView:
    """The cluster that `options` describe."""
    nodes = sorted(options.peers, key=lambda peer: peer.id)
    return ClusterView(
        cluster_id=options.cluster_id,
        founders=options.founders,
        founder_zones=options.founder_zones,
        shards=options.shards,
        replication_factor=options.replication_factor,
        consensus=options.consensus,
        quorum=options.quorum,
        election_timeout_us=options.election_timeout_us,
        heartbeat_us=options.heartbeat_us,
        lease_enabled=options.lease_enabled,
        drift_ppm=options.drift_ppm,
        nodes=nodes,
        own=options.node_id,
    )


def read_view(disk: Disk) -> ClusterView | None:
    """What the directory says; None: nothing yet. Corruption when the file cannot be read."""
    if _NAME not in disk.list():
        return None
    file = disk.open(_NAME)
    data = file.pread(0, file.size())
    file.close()
    try:
        return msgspec.json.decode(data, type=ClusterView)
    except msgspec.MsgspecError as error:
        raise Corruption(
            f"{_NAME} cannot be read: {error}; take it from another node of the cluster, or start "
            "this one with all --peers"
        ) from None


def write_view(disk: Disk, view: ClusterView) -> None:
    """Replace the file, all or nothing, durably."""
    file = disk.open(_NAME + ".new", create=True)
    file.truncate(0)
    file.pwrite(0, msgspec.json.format(msgspec.json.encode(view), indent=1) + b"\n")
    file.sync()
    file.close()
    disk.rename(_NAME + ".new", _NAME)
    disk.sync_directory()
