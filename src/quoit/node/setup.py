"""Building a node's replicas from its configuration and what the disk remembered."""

from typing import TYPE_CHECKING

from quoit.node.config import NodeConfig
from quoit.node.cores import build_core
from quoit.node.replica import Replica
from quoit.node.router import Router
from quoit.node.state import decode_state, state_key
from quoit.placement.ring import NodeInfo
from quoit.placement.shard_map import ShardMap, ShardRange
from quoit.quorum.members import Members
from quoit.storage.api import Recovery, ShardRecovery

if TYPE_CHECKING:
    from quoit.node.node import Node

__all__ = ["build_map", "build_replicas", "pinned_databases"]


def build_map(config: NodeConfig) -> ShardMap:
    """The placement that every node computes alike from the cluster's configuration."""
    count = config.shards or max(4, len(config.nodes))
    nodes = [NodeInfo(node.id, node.name) for node in config.nodes]
    return ShardMap.create(count, nodes, min(config.replication_factor, len(nodes)))


def pinned_databases(router: Router) -> dict[int, list[int]]:
    """Shard -> databases 1..15 that are pinned to it."""
    pinned: dict[int, list[int]] = {}
    for db in range(1, 16):
        pinned.setdefault(router.home[db], []).append(db)
    return pinned


def build_replicas(node: "Node", recovery: Recovery) -> dict[int, Replica]:
    """This node's replicas, by shard. Where the engine is ahead of the log (the log's last write
    was not durable when the node died, but a quorum's was) the log starts over behind it."""
    replicas: dict[int, Replica] = {}
    for shard in node.map.shards:
        if node.config.node_id in shard.replicas:
            replicas[shard.id] = _build(node, shard, recovery)
    return replicas


def _build(node: "Node", shard: ShardRange, recovery: Recovery) -> Replica:
    known = recovery.find(shard.id)
    state = decode_state(node.engine.get(state_key(shard.id)))
    members = Members(tuple(shard.replicas))
    fresh = known is None and not state.applied_index
    found = known or ShardRecovery.empty(shard.id)
    core = build_core(node, members, found, state, fresh=fresh)
    if fresh and shard.replicas[0] == node.config.node_id:
        core.campaign_soon(node.started_us)
    return Replica(node.dispatcher, shard, core, node.engine, node.trace)
