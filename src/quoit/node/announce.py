"""Leaders tell who they are and who the members of their shards are.

Nodes without a replica learn from it where to send commands, and all nodes what to tell clients and
people. It is also how replicas begin and end (lifecycle.py), so it is said again and again. Only what
was agreed on and applied is announced.
"""

from typing import Protocol

from quoit.node.config import NodeConfig
from quoit.node.dispatcher import Dispatcher
from quoit.node.lifecycle import Lifecycle
from quoit.node.messages import Leading
from quoit.node.replica import Replica
from quoit.placement.shard_map import ShardMap, ShardRange
from quoit.quorum.members import Members

__all__ = ["Announcements"]

_EVERY_US = 100_000
_SETTLED_US = 5_000_000
"""Voters need not be told what they agreed on themselves, but for a while after a change."""


class Network(Protocol):
    """What announcements ask of their node."""

    config: NodeConfig
    map: ShardMap
    dispatcher: Dispatcher
    lifecycle: Lifecycle

    def ranges(self) -> tuple[ShardRange, ...]:
        """All shards, the meta shard included."""
        ...


class Announcements:
    """known      shard -> the newest announcement heard
    changed_us  shard -> when this node began to lead it, or its members changed
    """

    __slots__ = ("changed_us", "first", "known", "network", "next_us")

    def __init__(self, network: Network) -> None:
        self.network = network
        self.first = {shard.id: Members(tuple(shard.replicas)) for shard in network.ranges()}
        self.known: dict[int, Leading] = {}
        self.changed_us: dict[int, int] = {}
        self.next_us = 0

    def members_of(self, shard: int) -> Members:
        """The shard's members, as far as this node knows."""
        replica = self.network.dispatcher.replicas.get(shard)
        known = self.known.get(shard)
        if replica is not None:
            own = replica.core.members
            if known is None or replica.core.is_leader:
                return own
            if known.config_index <= replica.state.config_index:
                return own
        return known.members if known is not None else self.first[shard]

    # Telling

    def changed(self, replica: Replica, now_us: int) -> None:
        """This node began to serve the shard, or its members changed: say so at once."""
        self.changed_us[replica.id] = now_us
        if replica.was_serving:
            self._tell(replica, list(self.network.dispatcher.connected))

    def connected(self) -> None:
        """A peer came: it should hear soon what is led here."""
        self.next_us = 0

    def tick(self, now_us: int) -> None:
        """Say it again, to those that may need it."""
        if now_us < self.next_us:
            return
        self.next_us = now_us + _EVERY_US
        connected = self.network.dispatcher.connected
        for replica in self.network.dispatcher.serving.values():
            voters = replica.core.members.voters
            changed = self.changed_us.get(replica.id, 0)
            to = [
                peer
                for peer, since in connected.items()
                if peer not in voters or now_us - max(since, changed) < _SETTLED_US
            ]
            self._tell(replica, to)

    def _tell(self, replica: Replica, peers: list[int]) -> None:
        members = replica.state.members
        if not peers or members is None or not replica.core.members_durable:
            return
        leading = Leading(replica.id, replica.core.term, replica.state.config_index, members)
        for peer in peers:
            self.network.dispatcher.outgoing(peer).leading.append(leading)

    # Hearing

    def heard(self, peer: int, leading: Leading) -> None:
        """`peer` leads a shard. What an earlier leader said late is dropped."""
        shard = leading.shard
        known = self.known.get(shard)
        if shard not in self.first:
            return
        if known is not None and (leading.term, leading.config_index) < (
            known.term, known.config_index,
        ):  # fmt: skip
            return
        self.known[shard] = leading
        dispatcher = self.network.dispatcher
        if shard not in dispatcher.replicas and dispatcher.hints.get(shard) != peer:
            dispatcher.forwarder.leader_changed(shard, peer, dispatcher.clock.now_us())
        dispatcher.hints[shard] = peer
        self.network.lifecycle.follow(leading)
