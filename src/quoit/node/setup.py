"""Building a node's replicas from its configuration and what the disk remembered."""

from typing import TYPE_CHECKING

from quoit.node.config import NodeConfig
from quoit.node.cores import build_core
from quoit.node.replica import Replica
from quoit.node.router import Router
from quoit.node.state import ShardState, decode_state, encode_state, state_key
from quoit.placement.ring import NodeInfo
from quoit.placement.shard_map import ShardMap, ShardRange
from quoit.quorum.agreement import SnapshotMeta
from quoit.quorum.members import Members
from quoit.storage.api import Recovery, ShardRecovery, ShardUpdate

if TYPE_CHECKING:
    from quoit.node.node import Node

__all__ = ["build_map", "build_replicas", "empty_replica", "pinned_databases"]


def build_map(config: NodeConfig) -> ShardMap:
    """The first placement, which every node computes alike from the cluster's founders and their zones
    at creation. Nodes that joined later do not change it: they get replicas by changes of members."""
    founders = config.founders or tuple(node.id for node in config.nodes)
    zones = dict(zip(founders, config.founder_zones, strict=False))
    # Not by their names: a node may not know what another calls itself.
    nodes = [
        NodeInfo(number, f"n{number}", zones.get(number) or f"n{number}")
        for number in sorted(founders)
    ]
    count = config.shards or max(4, len(nodes))
    return ShardMap.create(count, nodes, min(config.replication_factor, len(nodes)))


def pinned_databases(router: Router) -> dict[int, list[int]]:
    """Shard -> databases 1..15 that are pinned to it."""
    pinned: dict[int, list[int]] = {}
    for db in range(1, 16):
        pinned.setdefault(router.home[db], []).append(db)
    return pinned


def build_replicas(node: "Node", recovery: Recovery) -> dict[int, Replica]:
    """This node's replicas, by shard: those of the first placement, and those that the disk knows of,
    but for what was removed since."""
    replicas: dict[int, Replica] = {}
    for shard in node.ranges():
        raw = node.engine.get(state_key(shard.id))
        known = recovery.find(shard.id)
        if raw is None:
            # A log without a state record: the engine lost it. An invited replica's record is durable
            # before its first log write.
            here = node.config.node_id in shard.replicas or shard.id in recovery.shards
        else:
            state = decode_state(raw)
            here = not state.removed
            if state.removed:
                node.lifecycle.remember_removal(shard.id, state.config_index)
        if here:
            replicas[shard.id] = _build(node, shard, known)
    return replicas


def _build(node: "Node", shard: ShardRange, known: ShardRecovery | None) -> Replica:
    state = decode_state(node.engine.get(state_key(shard.id)))
    members = state.members or Members(tuple(shard.replicas))
    fresh = known is None and not state.applied_index
    found = known or ShardRecovery.empty(shard.id)
    replica = _replica(node, shard, members, found, state, fresh=fresh)
    if fresh and members.voters[0] == node.config.node_id:
        replica.core.campaign_soon(node.started_us)
    return replica


def empty_replica(
    node: "Node",
    shard: ShardRange,
    members: Members,
    config_index: int,
    former: ShardRecovery | None,
) -> Replica:
    """A replica of a shard to which this node was invited. It holds nothing, but keeps what an earlier
    one promised. The caller sees to it that the engine is flushed before the log is written."""
    state = ShardState(
        members=members, config_index=config_index,
        slot_low=shard.slot_low, slot_high=shard.slot_high,
    )  # fmt: skip
    node.engine.write([([], {state_key(shard.id): encode_state(state)})])
    found = former or ShardRecovery.empty(shard.id)
    owed = (found.must_reach, found.must_term) if found.damaged else None
    start = SnapshotMeta(0, 0, members)
    node.persistence.updates.append(ShardUpdate(shard.id, None, [], start, None, damaged=owed))
    return _replica(node, shard, members, found, state, fresh=former is None)


def _replica(
    node: "Node",
    shard: ShardRange,
    members: Members,
    found: ShardRecovery,
    state: ShardState,
    *,
    fresh: bool,
) -> Replica:
    """The one place where a core is made."""
    core = build_core(node, members, found, state, fresh=fresh)
    replica = Replica(node.dispatcher, shard, core, node.engine, node.trace)
    replica.started_with(members)
    return replica
