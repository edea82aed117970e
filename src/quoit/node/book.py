"""Which nodes there are. It grows while the cluster runs: nodes tell each other on each new connection
whom they know, so a node that joins by one of them is soon known to all. Ids are identity; an address
is believed from the node itself, or from anybody as long as there is no other."""

from collections.abc import Callable, Iterable

from quoit.node.config import NodeConfig, PeerInfo
from quoit.node.messages import Frame, NodeList

__all__ = ["NodeBook"]


class NodeBook:
    """nodes    id -> address and name, this node included
    changed  what was added or changed since the last turn
    told     nodes that said themselves where they are
    gone     nodes that are no part of the cluster any more: nothing is believed of them
    left     those of them that went since the last turn
    watch    called with the id of each node that is added
    """

    __slots__ = (
        "changed",
        "config",
        "connected",
        "gone",
        "left",
        "nodes",
        "outgoing",
        "told",
        "watch",
    )

    def __init__(
        self,
        config: NodeConfig,
        outgoing: Callable[[int], Frame],
        connected: dict[int, int],
        watch: Callable[[int], None],
    ) -> None:
        self.config = config
        self.outgoing = outgoing
        self.connected = connected
        self.watch = watch
        self.nodes = {peer.id: peer for peer in config.nodes}
        self.changed: list[PeerInfo] = []
        self.told: set[int] = {config.node_id}
        self.gone: set[int] = set()
        self.left: list[int] = []

    def add(self, info: PeerInfo) -> bool:
        """There is such a node, at this address. True if that is news."""
        if info.id == self.config.node_id or self.nodes.get(info.id) == info:
            return False
        if info.id in self.gone:
            return False
        self.nodes[info.id] = info
        self.changed.append(info)
        self.watch(info.id)
        self.tell(peer for peer in self.connected if peer != info.id)
        return True

    def remove(self, node: int) -> None:
        """There is no such node any more, and will be none of this number."""
        self.gone.add(node)
        if self.nodes.pop(node, None) is not None:
            self.left.append(node)

    def take(self) -> tuple[list[PeerInfo], list[int]]:
        """(changed, left), once."""
        changed, self.changed = self.changed, []
        left, self.left = self.left, []
        return changed, left

    def tell(self, peers: Iterable[int]) -> None:
        """Say whom this node knows."""
        own = self.nodes[self.config.node_id]
        others = [node for node in self.nodes.values() if node.id != own.id]
        for peer in peers:
            self.outgoing(peer).other.append(NodeList(own, others))

    def heard(self, peer: int, told: NodeList) -> None:
        """`peer` says whom it knows."""
        if told.own.id == peer:
            self.told.add(peer)
            self.add(told.own)
        for info in told.others:
            if info.id not in self.nodes:
                self.add(info)
