"""Is the cluster whole, and would it be so without a node? As this node sees it: a voter counts when it is
connected here, and this node's own replica when it is not damaged."""

from quoit.node.status import NodeStatus, ShardStatus
from quoit.quorum.members import quorums

__all__ = ["find_node", "losses"]


def find_node(status: NodeStatus, name: str) -> int:
    """The number of the node called `name`, or with that number; 0: there is none."""
    for peer in status.peers:
        if name in (peer.name, str(peer.id)):
            return peer.id
    return 0


def losses(status: NodeStatus, without: int = 0) -> list[str]:
    """Why shards accept no writes, now or when the node `without` stops; empty: none would."""
    live = {peer.id for peer in status.peers if peer.connected and peer.id != without}
    mode = "all" if status.consensus.endswith("/all") else "majority"
    found = []
    for shard in status.shards:
        voters = [node for node in shard.replicas if node in live and _counts(status, shard, node)]
        need = quorums(mode, len(shard.replicas)).write
        if len(voters) < need:
            found.append(
                f"shard {shard.id}: {len(voters)} of {len(shard.replicas)} voters, {need} needed"
            )
    return found


def _counts(status: NodeStatus, shard: ShardStatus, node: int) -> bool:
    return node != status.node_id or shard.role != "damaged"
