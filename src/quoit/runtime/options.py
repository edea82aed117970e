"""What a node process is started with. The command line fills it (cli/config.py)."""

from itertools import zip_longest

import msgspec

from quoit.base.checksum import crc32c
from quoit.detector.settings import DetectorSettings
from quoit.node.config import PeerInfo

__all__ = ["NodeOptions", "PeerAddress", "address_of", "completed", "info_of"]

_DETECTOR = DetectorSettings()


class PeerAddress(msgspec.Struct, frozen=True):
    """A node of the cluster and its ports."""

    id: int
    name: str
    host: str
    peer_port: int
    resp_port: int
    admin_port: int
    zone: str = ""
    """What fails together with it; empty: it stands for itself."""
    weight: float = 1.0
    """Share of the data in proportion to the other nodes'."""


def completed(given: PeerAddress, known: PeerAddress) -> PeerAddress:
    """A peer as the settings give it, with what else was known of it."""
    zone = given.zone or known.zone
    return msgspec.structs.replace(given, zone=zone, weight=known.weight)


def info_of(peer: PeerAddress, version: str = "") -> PeerInfo:
    """The peer as the node knows it."""
    return PeerInfo(
        peer.id, peer.name, peer.host, peer.resp_port, peer.peer_port, peer.admin_port, peer.zone,
        peer.weight, version,
    )  # fmt: skip


def address_of(node: PeerInfo) -> PeerAddress:
    """The node as it is written down, and dialed."""
    return PeerAddress(
        node.id, node.name, node.host, node.peer_port, node.resp_port, node.admin_port, node.zone,
        node.weight,
    )  # fmt: skip


class NodeOptions(msgspec.Struct, kw_only=True):
    """One node's start-up settings. `peers` lists all nodes that are known, this one
    included; others may come while it runs."""

    node_id: int
    name: str
    cluster_id: str
    secret: bytes
    data_dir: str
    host: str = "127.0.0.1"
    peer_port: int = 7401
    resp_port: int = 7379
    admin_port: int = 7400
    peers: list[PeerAddress] = []
    founders: list[int] = []
    """Numbers of the nodes among which the shards were placed at creation; empty: all peers."""
    founder_zones: list[str] = []
    """Their zones at creation, in the same order."""
    shards: int = 0
    consensus: str = "raft"
    quorum: str = "majority"
    replication_factor: int = 3
    election_timeout_us: int = 300_000
    heartbeat_us: int = 60_000
    lease_enabled: bool = True
    drift_ppm: int = 10_000
    digest_interval_us: int = 600_000_000
    dead_after_us: int = _DETECTOR.dead_after_us
    suspect_phi: float = _DETECTOR.phi_threshold
    cache_bytes: int = 128 * 1024 * 1024
    """Bound of the cache of hot records."""
    engine: str = "rocks"

    @property
    def agreement(self) -> str:
        """The protocol and, if unusual, its quorums: all nodes of a cluster must have the same."""
        return self.consensus if self.quorum == "majority" else f"{self.consensus}/{self.quorum}"

    @property
    def first_map(self) -> str:
        """A checksum of what the first placement follows from. Nodes that differ in it would give a shard
        to different replicas, so they must not talk to one another."""
        nodes = " ".join(
            f"{node}@{zone}" if zone else str(node)
            for node, zone in zip_longest(self.founders, self.founder_zones, fillvalue="")
        )
        text = f"{self.shards} shards, {self.replication_factor} copies, founders {nodes}"
        return f"{crc32c(text.encode()):08x}"
