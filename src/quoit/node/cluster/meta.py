"""This node's copy of the cluster's record, and how it changes.

Members of the meta shard read the record from their own engine; its leader tells all others, at once when
it changes and its version every second, so that a lost message is noticed. A copy never goes back: only a
higher version replaces it. What a node works from is therefore old at worst, and whoever must be sure makes
a change, which is agreed on.
"""

from collections.abc import Callable
from typing import Protocol

import msgspec

from quoit.base.seams import Clock, Trace
from quoit.base.slots import META_DB
from quoit.node.cluster.changes import Change, Found, Guarded, NodeSeen, encode_change
from quoit.node.cluster.command import CHANGE, RECORD_KEY, REFUSED, number_of, record_in
from quoit.node.cluster.following import Network as FollowingNetwork
from quoit.node.cluster.following import follow, record_of
from quoit.node.cluster.state import (
    DEAD,
    JOINING,
    LIVE,
    META_SHARD,
    META_SLOT,
    REMOVED,
    ClusterState,
    NodeRecord,
    Settings,
    decode_cluster,
    encode_cluster,
)
from quoit.node.config import NodeConfig
from quoit.node.dispatcher import Dispatcher
from quoit.node.messages import ClusterTold, ClusterVersion
from quoit.node.session import Origin
from quoit.placement.shard_map import ShardMap, ShardRange
from quoit.storage.api import Engine

__all__ = ["UNKNOWN", "ClusterMeta", "Proposal", "meta_range"]

_TELL_US = 1_000_000
_LOOK_US = 200_000
_LOOK_ELSEWHERE_US = 1_000_000
_WAIT_US = 1_000_000
UNKNOWN = "unknown"


def meta_range(config: NodeConfig, shards: ShardMap) -> ShardRange:
    """The meta shard as it was founded: on the first founders, as many as other shards have replicas."""
    founders = sorted(config.founders or [node.id for node in config.nodes])
    count = len(shards.shards[0].replicas)
    return ShardRange(META_SHARD, META_SLOT, META_SLOT, tuple(founders[:count]))


class Network(FollowingNetwork, Protocol):
    """What the record asks of its node."""

    clock: Clock
    engine: Engine
    map: ShardMap
    dispatcher: Dispatcher
    trace: Trace


class Proposal(Origin):
    """A change that was proposed, and what became of it.

    outcome  "" applied, "unknown" (maybe applied: look at the record), or why it was not; None so far
    refused  it was not applied because it does not fit the record
    number   of the node that joined by it
    """

    __slots__ = ("deadline_us", "done", "meta", "number", "outcome", "refused", "version")

    def __init__(self, meta: "ClusterMeta", done: Callable[[str], None]) -> None:
        self.meta = meta
        self.done = done
        self.outcome: str | None = None
        self.number = 0
        self.refused = False
        self.version = 0
        self.deadline_us = 0

    def deliver(self, ticket: int, reply: bytes) -> None:
        """The meta shard's leader answered, or nobody did."""
        if reply[:1] == b"-":
            text = reply[1:-2].decode(errors="replace")
            if reply.startswith(REFUSED):
                self.refused = True
                text = text[len(REFUSED) - 1 :]
            elif text.startswith("NOTYET "):
                text = text[7:]
            elif reply.startswith(b"-UNKNOWN"):
                text = UNKNOWN
            self.end(text)
            return
        self.version, self.number = number_of(reply)
        self.meta.settle(self)

    def end(self, outcome: str) -> None:
        """Tell whoever asked."""
        self.outcome = outcome
        self.done(outcome)


class ClusterMeta:
    """See the module's docstring.

    state    this node's copy of the record
    changed  it is newer than what the runtime has written down
    waiting  proposals that are applied, which this node's copy does not show yet
    """

    def __init__(self, network: Network, remembered: ClusterState | None) -> None:
        self.network = network
        self.state = ClusterState()
        self.changed = False
        self.waiting: list[Proposal] = []
        self.seen_seq = -1
        self.tell_us = 0
        self.look_us = 0
        self.proposed: Proposal | None = None
        if remembered is not None:
            self.state = remembered
            follow(network, ClusterState(), remembered)

    @property
    def leads(self) -> bool:
        """This node leads the meta shard, and its copy is the record itself."""
        return META_SHARD in self.network.dispatcher.serving and bool(self.state.nodes)

    @property
    def removed(self) -> bool:
        """This node is no part of the cluster any more."""
        own = self.state.node(self.network.config.node_id)
        return own is not None and own.state == REMOVED

    def refuses(self, peer: int) -> str:
        """Why there must be no connection with this node; or ""."""
        node = self.state.node(peer)
        if node is None or node.state != REMOVED:
            return ""
        return (
            f"node {peer} ({node.name}) was removed from the cluster; start it with an empty data "
            "directory and --join to have it back under a new number"
        )

    # Changing

    def propose(self, change: Change, done: Callable[[str], None]) -> Proposal:
        """Change the record, from any node. `done` is called once, with the outcome (see Proposal); if that
        is "", this node's copy shows the change by then."""
        proposal = Proposal(self, done)
        item = (proposal, 0, CHANGE, [b"META.CHANGE", encode_change(change)], META_DB, 2)
        self.network.dispatcher.dispatch(META_SHARD, item, True)
        return proposal

    def settle(self, proposal: Proposal) -> None:
        """It was applied: done, as soon as the copy here shows it."""
        self.refresh()
        if self.state.version >= proposal.version:
            proposal.end("")
            return
        proposal.deadline_us = self.network.clock.now_us() + _WAIT_US
        self.waiting.append(proposal)

    # The copy

    def refresh(self) -> None:
        """Read the record if this node keeps it and it has changed."""
        replica = self.network.dispatcher.replicas.get(META_SHARD)
        if replica is None or replica.state.seq == self.seen_seq:
            return
        self.seen_seq = replica.state.seq
        data = record_in(self.network.engine.get(RECORD_KEY))
        if data is not None:
            self._take(decode_cluster(data))

    def _take(self, state: ClusterState) -> None:
        if state.version <= self.state.version:
            return
        before, self.state = self.state, state
        self.changed = True
        follow(self.network, before, state)
        self.network.trace("cluster_changed", version=state.version, epoch=state.epoch)
        if META_SHARD in self.network.dispatcher.serving:
            told = ClusterTold(encode_cluster(state))
            for peer in self.network.dispatcher.connected:
                self.network.dispatcher.outgoing(peer).other.append(told)
        waiting, self.waiting = self.waiting, []
        for proposal in waiting:
            if state.version >= proposal.version:
                proposal.end("")
            else:
                self.waiting.append(proposal)

    def heard(self, peer: int, message: "ClusterVersion | ClusterTold") -> None:
        """A peer says which version it has, or sends the record."""
        if isinstance(message, ClusterTold):
            self._take(decode_cluster(message.record))
            return
        outgoing = self.network.dispatcher.outgoing
        if message.version < self.state.version:
            outgoing(peer).other.append(ClusterTold(encode_cluster(self.state)))
        elif message.version > self.state.version:
            outgoing(peer).other.append(ClusterVersion(self.state.version))

    def tick(self, now_us: int) -> None:
        """Time passed."""
        self.refresh()
        for proposal in [one for one in self.waiting if one.deadline_us <= now_us]:
            self.waiting.remove(proposal)
            proposal.end("")
        leads = META_SHARD in self.network.dispatcher.serving
        if leads and now_us >= self.tell_us:
            self.tell_us = now_us + _TELL_US
            version = ClusterVersion(self.state.version)
            for peer in self.network.dispatcher.connected:
                self.network.dispatcher.outgoing(peer).other.append(version)
        if now_us >= self.look_us and (self.proposed is None or self.proposed.outcome is not None):
            self.look_us = now_us + (_LOOK_US if leads else _LOOK_ELSEWHERE_US)
            change = self._due() if leads else self._moved_away()
            if change is not None:
                self.proposed = self.propose(change, self._judge)

    def _judge(self, outcome: str) -> None:
        if outcome:
            self.network.trace("cluster_change_failed", reason=outcome)

    # What the leader of the meta shard writes down by itself

    def _due(self) -> Change | None:
        config = self.network.config
        nodes = self.network.book.nodes
        if not self.state.nodes:
            founders = config.founders or tuple(node.id for node in config.nodes)
            # Live by definition: a plan that left some of them out would take away what they hold.
            known = tuple(
                msgspec.structs.replace(record_of(nodes[one]), state=LIVE)
                for one in sorted(founders)
                if one in nodes
            )
            settings = Settings(
                replication_factor=config.replication_factor,
                dead_after_s=max(1, config.dead_after_us // 1_000_000),
            )
            return Found(known, self.network.map.shards, settings)
        there = {**self.network.dispatcher.connected, config.node_id: 0}
        for number in sorted(there):
            info = nodes.get(number)
            if info is None:
                continue
            known_as = self.state.node(number)
            if known_as is not None and known_as.state == REMOVED:
                continue
            said = record_of(info)
            comes = known_as is None or known_as.state == JOINING
            moved = number in self.network.book.told and _moved(known_as, said)
            if comes or self._returned(known_as) or moved:
                return Guarded(self.state.version, NodeSeen(said))
        return None

    def _moved_away(self) -> Change | None:
        """A node that this one is connected to, and the leader perhaps not yet, is not where the record
        has it: whoever knows says so, or two that moved at once might never find each other."""
        for number in sorted(self.network.dispatcher.connected):
            info, known = self.network.book.nodes.get(number), self.state.node(number)
            told = number in self.network.book.told
            if info is not None and told and known is not None and known.state != REMOVED:
                said = record_of(info)
                if _moved(known, said):
                    return Guarded(self.state.version, NodeSeen(said))
        return None

    def _returned(self, node: NodeRecord | None) -> bool:
        """It was declared dead, and is heard again."""
        if node is None or node.state != DEAD:
            return False
        return node.id in self.network.liveness.returned()


def _moved(known: NodeRecord | None, said: NodeRecord) -> bool:
    fields = ["host", "peer_port", "resp_port", "admin_port"]
    if said.version:
        fields.append("version")
    return known is not None and any(
        getattr(known, field) != getattr(said, field) for field in fields
    )
