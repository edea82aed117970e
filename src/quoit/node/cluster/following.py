"""What a node does when its copy of the cluster's record changes: whom it knows and where, whom it holds for
dead, whom it has nothing to do with any more.

An address in the record is taken over when it is new there. One that a node told of itself is newer than
what the record has not changed since, so it stays.
"""

from typing import Protocol

from quoit.node.book import NodeBook
from quoit.node.cluster.state import DEAD, REMOVED, ClusterState, NodeRecord
from quoit.node.config import NodeConfig, PeerInfo
from quoit.node.liveness import Liveness
from quoit.node.outbox import Outbox

__all__ = ["follow", "info_of", "record_of"]


class Network(Protocol):
    """What follows the record."""

    config: NodeConfig
    book: NodeBook
    liveness: Liveness
    outbox: Outbox


def follow(network: Network, before: ClusterState, after: ClusterState) -> None:
    """The copy was `before` and is `after`."""
    book, liveness = network.book, network.liveness
    if before.settings.dead_after_s != after.settings.dead_after_s or not before.nodes:
        liveness.dead_after(after.settings.dead_after_s * 1_000_000)
    for node in after.nodes:
        known = before.node(node.id)
        if node.id == network.config.node_id or node == known:
            continue
        if node.state == REMOVED:
            book.remove(node.id)
            liveness.remove_peer(node.id)
            network.outbox.drop(node.id)
            continue
        moved = known is not None and _place(known) != _place(node)
        if moved or node.id not in book.nodes:
            book.add(info_of(node))
        if node.state == DEAD:
            liveness.mark_dead(node.id)
        elif known is not None and known.state == DEAD:
            liveness.readmit(node.id)


def info_of(node: NodeRecord) -> PeerInfo:
    """Its identity and addresses."""
    return PeerInfo(
        node.id, node.name, node.host, node.resp_port, node.peer_port, node.admin_port, node.zone,
        node.weight, node.version,
    )  # fmt: skip


def _place(node: NodeRecord) -> tuple[str, int, int, int]:
    return node.host, node.peer_port, node.resp_port, node.admin_port


def record_of(info: PeerInfo) -> NodeRecord:
    """What a node says of itself, for the record."""
    return NodeRecord(
        id=info.id, name=info.name, host=info.host, peer_port=info.peer_port,
        resp_port=info.resp_port, admin_port=info.admin_port, zone=info.zone, weight=info.weight,
        version=info.version,
    )  # fmt: skip
