"""What comes from other nodes, given to the parts of this one that it is for."""

from typing import TYPE_CHECKING

from quoit.node.cluster.messages import NodeReport, OperationAsk, OperationTold
from quoit.node.messages import (
    ClusterTold,
    ClusterVersion,
    DigestAsk,
    DigestReply,
    DigestVerdict,
    NodeList,
    ReplicaAsk,
    ReplicaReply,
    SnapshotAck,
    SnapshotChunk,
    decode_frame,
)

if TYPE_CHECKING:
    from quoit.node.node import Node

__all__ = ["deliver"]


def deliver(node: "Node", peer: int, payload: bytes) -> None:
    """A frame from `peer`. PeerFault when it cannot be read."""
    frame = decode_frame(payload)
    now = node.clock.now_us()
    node.heard_us[peer] = now
    node.liveness.heard(peer, now)
    node.standings.heard(peer, frame.synced)
    node.counters["frames_received"] += 1
    replicas = node.replicas
    for shard, message in frame.core:
        replica = replicas.get(shard)
        if replica is not None:
            replica.core.step(peer, message, now)
    if frame.replies or frame.refused:
        node.dispatcher.take_hints(node.forwarder.answered(frame), now)
    if frame.forwards:
        node.forwarder.received(peer, frame)
    for leading in frame.leading:
        node.announcements.heard(peer, leading)
    for other in frame.other:
        if isinstance(other, SnapshotChunk):
            node.snapshots.received(peer, other, now)
        elif isinstance(other, SnapshotAck):
            node.snapshots.acknowledged(peer, other, now)
        elif isinstance(other, NodeList):
            node.book.heard(peer, other)
        elif isinstance(other, ClusterVersion | ClusterTold):
            node.cluster.heard(peer, other)
        elif isinstance(other, ReplicaAsk):
            node.membership.asked(peer, other)
        elif isinstance(other, ReplicaReply):
            node.membership.answered(peer, other)
        elif isinstance(other, DigestAsk):
            node.digests.ask(other)
        elif isinstance(other, DigestReply):
            node.digests.received(peer, other)
        elif isinstance(other, DigestVerdict):
            node.digests.convicted(peer, other)
        elif isinstance(other, OperationAsk | OperationTold | NodeReport):
            node.rebalancer.received(peer, other, now)
        else:
            node.liveness.step(peer, other, now)
