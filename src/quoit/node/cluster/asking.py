"""The shard leader's end of the rebalancer: it does what the leader of the meta shard asks for.

What is asked for names the entry that made the members what they are, and is done only if they still are:
so an ask that comes late, twice, or from a leader that is none any more, changes nothing that has been
changed since. The end of an operation is told at once, and how far it is when it is asked again.
"""

from collections.abc import Callable
from typing import Protocol

import msgspec

from quoit.base.errors import BadRequest, NotLeader
from quoit.node.cluster.messages import Ask, OperationAsk, OperationTold
from quoit.node.membership import Membership, Operation, Request
from quoit.node.replica import Replica
from quoit.node.snapshots import Snapshots

__all__ = ["Operations"]


class Network(Protocol):
    """What it asks of its node."""

    serving: dict[int, Replica]
    membership: Membership
    snapshots: Snapshots

    def leader_of(self, shard: int) -> int:
        """The shard's leader as this node knows it; 0 if it does not."""
        ...


class Asked(msgspec.Struct):
    """Who asked for an operation; sent: bytes that had been sent to its node before; told: the last."""

    asker: int
    id: int
    operation: Operation
    sent: int
    told: OperationTold


class Operations:
    """asked  shard -> the newest operation that somebody asked for
    tell   say something to a node, this one included
    """

    __slots__ = ("asked", "network", "tell")

    def __init__(self, network: Network, tell: Callable[[int, OperationTold], None]) -> None:
        self.network = network
        self.tell = tell
        self.asked: dict[int, Asked] = {}

    def under_way(self, shard: int) -> Ask | None:
        """What is being changed on the shard now, whoever asked for it."""
        running = self.network.membership.operations.get(shard)
        if running is None or running.state != "running":
            return None
        request = running.request
        return Ask(request.kind, shard, request.node, request.source)

    def received(self, peer: int, asked: OperationAsk) -> None:
        """`peer` asks."""
        shard = asked.ask.shard
        known = self.asked.get(shard)
        if known is not None and known.id == asked.id:
            known.asker = peer
            known.told = self._told(known)
            self.tell(peer, known.told)
            return
        answer = self._begin(peer, asked)
        self.tell(peer, answer)

    def _begin(self, peer: int, asked: OperationAsk) -> OperationTold:
        ask, number = asked.ask, asked.id
        network = self.network
        replica = network.serving.get(ask.shard)
        if replica is None or not replica.core.is_leader:
            return OperationTold(
                number, ask.shard, "not-leader", next=network.leader_of(ask.shard)
            )  # fmt: skip
        if self.under_way(ask.shard) is not None:
            return OperationTold(number, ask.shard, "busy", reason="another operation is under way")
        if replica.state.config_index != ask.index:
            return OperationTold(number, ask.shard, "changed", reason="its members have changed")
        request = Request(kind=ask.kind, shard=ask.shard, node=ask.node, source=ask.source)
        before = network.snapshots.sent_to.get((ask.shard, ask.node), 0)
        try:
            operation = network.membership.begin(request)
        except BadRequest as error:
            return OperationTold(number, ask.shard, "refused", reason=str(error))
        except NotLeader as error:
            return OperationTold(number, ask.shard, "not-leader", next=error.leader)
        entry = Asked(peer, number, operation, before, OperationTold(number, ask.shard, ""))
        entry.told = self._told(entry)
        self.asked[ask.shard] = entry
        return entry.told

    def tick(self) -> list[int]:
        """The shards whose operations have ended since the last call; say so with `tell_ended`."""
        ended = []
        for shard, entry in self.asked.items():
            if entry.told.state == "running" and entry.operation.state != "running":
                entry.told = self._told(entry)
                ended.append(shard)
        return ended

    def tell_ended(self, shards: list[int]) -> None:
        """Say so; after the report, so that who hears it knows the members that it made."""
        for shard in shards:
            entry = self.asked[shard]
            self.tell(entry.asker, entry.told)

    def _told(self, entry: Asked) -> OperationTold:
        operation = entry.operation
        request = operation.request
        sent = self.network.snapshots.sent_to.get((request.shard, request.node), 0)
        return OperationTold(
            entry.id, request.shard, operation.state, operation.step, operation.waits_for,
            operation.reason, operation.next, max(0, sent - entry.sent),
        )  # fmt: skip
