"""Building a node's replicas from its configuration and what the disk remembered."""

from typing import TYPE_CHECKING

from quoit.node.config import NodeConfig
from quoit.node.replica import Replica
from quoit.node.router import Router
from quoit.node.state import ShardState, decode_state, encode_state, state_key
from quoit.placement.ring import NodeInfo
from quoit.placement.shard_map import ShardMap, ShardRange
from quoit.quorum.agreement import Agreement, Entry, HardState, SnapshotMeta
from quoit.quorum.members import Members
from quoit.raft.config import RaftConfig
from quoit.raft.raft import Raft
from quoit.storage.api import Recovery, ShardRecovery, ShardUpdate

if TYPE_CHECKING:
    from quoit.node.node import Node

__all__ = ["build_map", "build_replicas", "empty_replica", "pinned_databases"]


def build_map(config: NodeConfig) -> ShardMap:
    """The first placement, which every node computes alike from the cluster's founders. Nodes that
    joined later do not change it: they get replicas by changes of members."""
    founders = config.founders or tuple(node.id for node in config.nodes)
    nodes = [NodeInfo(node.id, node.name) for node in config.nodes if node.id in founders]
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
    for shard in node.map.shards:
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
    """Where the engine is ahead of the log (the log's last write was not durable when the node died,
    but a quorum's was) the log starts over behind it."""
    found = known or ShardRecovery.empty(shard.id)
    raw = node.engine.get(state_key(shard.id))
    state = decode_state(raw)
    members = state.members or Members(tuple(shard.replicas))
    fresh = known is None and not state.applied_index
    entries = found.entries
    first, first_term = found.compacted
    applied, applied_term = state.applied_index, state.applied_term
    last, last_term = (entries[-1].index, entries[-1].term) if entries else (first, first_term)
    hard_state = found.hard_state or HardState()
    damaged, must_reach, must_term = found.damaged, found.must_reach, found.must_term
    if applied < first:
        # The engine lost what it had flushed, and the log has forgotten it since: this replica must
        # not be counted before a leader has brought it to where it was.
        damaged = True
        must_reach = max(must_reach, last)
        must_term = max(must_term, last_term, hard_state.term)
        entries, first, first_term = [], applied, applied_term
        meta = SnapshotMeta(applied, applied_term, members)
        owed = (must_reach, must_term)
        node.persistence.updates.append(ShardUpdate(shard.id, None, [], meta, None, damaged=owed))
    elif applied > first:
        matches = first < applied <= last and entries[applied - first - 1].term == applied_term
        if not matches:
            entries, first, first_term = [], applied, applied_term
            meta = SnapshotMeta(applied, applied_term, members)
            node.persistence.updates.append(ShardUpdate(shard.id, None, [], meta, None))
    if hard_state.term < applied_term:
        # What the engine holds was agreed on in a term that the log lost, or never had: this replica
        # is in that term at least. It promised no vote in it that the log would not know of.
        hard_state = HardState(applied_term, 0)
        node.persistence.updates.append(ShardUpdate(shard.id, hard_state, [], None, None))
    core = _core(
        node, shard.id, members, hard_state, entries, (first, first_term), applied,
        fresh=fresh, damaged=damaged, must_reach=must_reach, must_term=must_term,
    )  # fmt: skip
    if fresh and members.voters[0] == node.config.node_id:
        core.campaign_soon(node.started_us)
    replica = Replica(node.dispatcher, shard, core, node.engine, node.trace)
    replica.started_with(members)
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
    hard_state = found.hard_state or HardState()
    start = SnapshotMeta(0, 0, members)
    node.persistence.updates.append(
        ShardUpdate(shard.id, hard_state, [], start, None, damaged=owed)
    )
    core = _core(
        node, shard.id, members, hard_state, [], (0, 0), 0,
        fresh=former is None, damaged=found.damaged,
        must_reach=found.must_reach, must_term=found.must_term,
    )  # fmt: skip
    return Replica(node.dispatcher, shard, core, node.engine, node.trace)


def _core(
    node: "Node",
    shard: int,
    members: Members,
    hard_state: HardState,
    entries: list[Entry],
    first: tuple[int, int],
    applied: int,
    *,
    fresh: bool,
    damaged: bool,
    must_reach: int,
    must_term: int,
) -> Agreement:
    """The one place where a core is made."""
    config = node.config
    return Raft(
        RaftConfig(
            node_id=config.node_id,
            election_timeout_us=config.election_timeout_us,
            heartbeat_us=config.heartbeat_us,
            lease_enabled=config.lease_enabled,
            drift_ppm=config.drift_ppm,
        ),
        members=members,
        hard_state=hard_state,
        entries=entries,
        first=first,
        applied=applied,
        rng=node.rng,
        reader=node.log.reader(shard),
        trace=node.trace,
        now_us=node.clock.now_us(),
        fresh=fresh,
        damaged=damaged,
        must_reach=must_reach,
        must_term=must_term,
    )
