"""How replicas begin and end on a node, after the start.

A leader announces its shard's members once they are agreed on. A node that is among them and holds no
replica begins with an empty one; a node that is not, and holds one, drops it. Two rules keep late
messages from doing harm: an announcement that names no later change than the replica knows is no news
if its term is below what the replica has promised, and a replica that was removed comes back only
through a later entry than the one that removed it.

What a replica promised (term and vote) stays in the log when its data go, in case it comes back.
"""

from typing import Protocol

from quoit.base.seams import Trace
from quoit.data.keys import shard_ranges
from quoit.node.compaction import Compaction
from quoit.node.config import NodeConfig
from quoit.node.dispatcher import Dispatcher
from quoit.node.messages import Leading
from quoit.node.persistence import Persistence
from quoit.node.replica import Replica
from quoit.node.snapshots import Snapshots
from quoit.node.state import ShardState, encode_state, state_key
from quoit.placement.shard_map import ShardMap, ShardRange
from quoit.quorum.agreement import SnapshotMeta
from quoit.quorum.members import Members
from quoit.storage.api import Engine, ShardRecovery, ShardUpdate
from quoit.storage.log import Log

__all__ = ["Lifecycle"]


class Network(Protocol):
    """What the life of replicas asks of its node."""

    config: NodeConfig
    map: ShardMap
    engine: Engine
    log: Log
    dispatcher: Dispatcher
    persistence: Persistence
    compaction: Compaction
    snapshots: Snapshots
    home_dbs: dict[int, list[int]]
    trace: Trace

    def ranges(self) -> tuple[ShardRange, ...]:
        """All shards, the meta shard included."""
        ...

    def begin_replica(
        self,
        shard: ShardRange,
        members: Members,
        config_index: int,
        former: ShardRecovery | None,
    ) -> Replica:
        """An empty replica."""
        ...

    def forget_replica(self, shard: int) -> None:
        """The node's other parts must not know it any more."""
        ...


class Lifecycle:
    """removed  shard -> index of the entry that took this node's replica away
    retired  shard -> number of the engine's flush behind which its entries may leave the log
    """

    __slots__ = ("network", "removed", "retired")

    def __init__(self, network: Network) -> None:
        self.network = network
        self.removed: dict[int, int] = {}
        self.retired: dict[int, int] = {}

    def remember_removal(self, shard: int, index: int) -> None:
        """At the start: the engine says that the replica is gone. What the log still has of it goes."""
        self.removed[shard] = index
        if self.network.log.reach(shard):
            self._clear_log(shard)

    def follow(self, leading: Leading) -> None:
        """Begin or end a replica, if the announced members ask for it."""
        shard = leading.shard
        replica = self.network.dispatcher.replicas.get(shard)
        wanted = self.network.config.node_id in leading.members.everyone
        if replica is None:
            if wanted and leading.config_index > self.removed.get(shard, -1):
                self._begin(leading)
        elif not wanted and self._is_news(replica, leading):
            # What was proposed here waits for its outcome, for as long as clients do.
            if not replica.orphans and not replica.inflight:
                self._end(replica, leading.config_index)

    def _is_news(self, replica: Replica, leading: Leading) -> bool:
        known = replica.state.config_index
        if leading.config_index > max(1, known):
            # Agreed on, and later than what this replica goes by. Its term says nothing: a replica that
            # missed its removal may have promised higher ones since. One that was added again has
            # applied the entry that added it before it had a vote, so it knows a later index.
            return True
        return leading.term >= replica.core.term and leading.config_index >= max(1, known)

    def _begin(self, leading: Leading) -> None:
        network = self.network
        shard = leading.shard
        former = network.log.remembered(shard)
        if network.config.node_id in leading.members.voters:
            # It had a replica that voted, and nothing is left: it owes what nobody knows.
            former = former or ShardRecovery.empty(shard)
            former.damaged = True
            former.must_term = max(former.must_term, leading.term)
        self.removed.pop(shard, None)
        self.retired.pop(shard, None)
        found = next(one for one in network.ranges() if one.id == shard)
        replica = network.begin_replica(found, leading.members, leading.config_index, former)
        network.dispatcher.replicas[shard] = replica
        # The record that says that there is a replica must be durable before it says anything.
        network.persistence.hold_for_flush()
        network.trace("replica_begins", shard=shard, index=leading.config_index)

    def _end(self, replica: Replica, index: int) -> None:
        network = self.network
        shard = replica.id
        replica.step_aside()
        found = replica.range
        del network.dispatcher.replicas[shard]
        network.persistence.forget(shard)
        network.snapshots.forget(shard)
        network.forget_replica(shard)
        self.removed[shard] = index
        gone = ShardState(
            config_index=index, slot_low=found.slot_low, slot_high=found.slot_high, removed=True
        )
        ranges = shard_ranges(found.slot_low, found.slot_high, network.home_dbs.get(shard, []))
        network.engine.write([(ranges, {state_key(shard): encode_state(gone)})])
        # The entries may go only when the engine holds the removal durably.
        network.compaction.want_flush()
        self.retired[shard] = network.compaction.wanted_token
        network.trace("replica_ends", shard=shard, index=index)

    def flushed(self, token: int) -> None:
        """The engine's flush with this number is done: the log may forget what was removed before."""
        for shard, wanted in list(self.retired.items()):
            if token < wanted:
                continue
            del self.retired[shard]
            self._clear_log(shard)

    def _clear_log(self, shard: int) -> None:
        """Nothing but promises stays: the log starts over behind all that it has of the shard, so that
        it keeps no segment for it."""
        network = self.network
        end = SnapshotMeta(network.log.reach(shard), 0, Members((network.config.node_id,)))
        network.persistence.updates.append(ShardUpdate(shard, None, [], end, None))
