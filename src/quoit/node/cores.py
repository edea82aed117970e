"""Making a replica's agreement core, Raft's or Paxos', from what the disk remembered."""

from typing import Protocol

from quoit.base.seams import Clock, Rng, Trace
from quoit.node.config import NodeConfig
from quoit.node.persistence import Persistence
from quoit.node.state import ShardState
from quoit.paxos.config import PaxosConfig
from quoit.paxos.paxos import Paxos
from quoit.quorum.agreement import Agreement, HardState, SnapshotMeta
from quoit.quorum.members import Members
from quoit.raft.config import RaftConfig
from quoit.raft.raft import Raft
from quoit.storage.api import ShardRecovery, ShardUpdate
from quoit.storage.log import Log

__all__ = ["build_core"]


class Owner(Protocol):
    """What is needed of the node."""

    config: NodeConfig
    log: Log
    persistence: Persistence
    rng: Rng
    trace: Trace
    clock: Clock


def build_core(
    node: Owner, members: Members, found: ShardRecovery, state: ShardState, *, fresh: bool
) -> Agreement:
    """The core of one shard. `found`: what the log remembers of it; `state`: what the engine holds, when
    the shard had `members`. `fresh`: this replica never ran before.

    Where the engine is ahead of the log (the log's last write was not durable when the node died,
    but a quorum's was) the log starts over behind it. Where it is behind what the log has
    forgotten, it lost what it had flushed: the replica is damaged."""
    _check_engine(node, members, found, state)
    make = _paxos if node.config.consensus == "paxos" else _raft
    return make(node, members, found, state, fresh)


def _update(node: Owner, update: ShardUpdate) -> None:
    node.persistence.updates.append(update)


def _last(found: ShardRecovery) -> tuple[int, int]:
    return (found.entries[-1].index, found.entries[-1].term) if found.entries else found.compacted


def _check_engine(node: Owner, members: Members, found: ShardRecovery, state: ShardState) -> None:
    first = found.compacted[0]
    if state.applied_index >= first:
        return
    # The engine lost what it had flushed, and the log has forgotten it since: this replica must not
    # be counted before a leader has brought it to where it was.
    last, last_term = _last(found)
    found.damaged = True
    found.must_reach = max(found.must_reach, last)
    found.must_term = max(found.must_term, last_term, found.hard_state.term)
    owed = (found.must_reach, found.must_term)
    # Not written before something comes to take the place of what the log has: until then each start
    # finds the same, and an engine that people put back finds its log (ADR 12).
    node.persistence.postponed[found.shard] = _emptied(members, found, state, owed)


def _start_over(node: Owner, members: Members, found: ShardRecovery, state: ShardState) -> None:
    _update(node, _emptied(members, found, state))


def _emptied(
    members: Members,
    found: ShardRecovery,
    state: ShardState,
    owed: tuple[int, int] | None = None,
) -> ShardUpdate:
    """The log starts over behind what the engine holds."""
    found.entries, found.chosen = [], 0
    found.compacted = (state.applied_index, state.applied_term)
    meta = SnapshotMeta(state.applied_index, state.applied_term, members)
    return ShardUpdate(found.shard, None, [], meta, None, damaged=owed)


def _raft(
    node: Owner, members: Members, found: ShardRecovery, state: ShardState, fresh: bool
) -> Agreement:
    config = node.config
    applied, applied_term = state.applied_index, state.applied_term
    first = found.compacted[0]
    if applied > first:
        matches = (
            first < applied <= _last(found)[0]
            and found.entries[applied - first - 1].term == applied_term
        )
        if not matches:
            _start_over(node, members, found, state)
    hard_state = found.hard_state
    if hard_state.term < applied_term:
        # What the engine holds was agreed on in a term that the log lost, or never had: this replica
        # is in that term at least. It promised no vote in it that the log would not know of.
        hard_state = HardState(applied_term, 0)
        _update(node, ShardUpdate(found.shard, hard_state, [], None, None))
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
        entries=found.entries,
        first=found.compacted,
        applied=applied,
        rng=node.rng,
        reader=node.log.reader(found.shard),
        trace=node.trace,
        now_us=node.clock.now_us(),
        fresh=fresh,
        damaged=found.damaged,
        must_reach=found.must_reach,
        must_term=found.must_term,
    )


def _paxos(
    node: Owner, members: Members, found: ShardRecovery, state: ShardState, fresh: bool
) -> Agreement:
    config = node.config
    applied = state.applied_index
    # Damage may have taken entries that were known to be chosen.
    found.chosen = min(found.chosen, _last(found)[0])
    if applied > max(found.compacted[0], found.chosen):
        # What the log holds up to there may not be what was chosen, so it is forgotten; what was
        # accepted above stays: another leader may count on it.
        rest = [entry for entry in found.entries if entry.index > applied]
        _start_over(node, members, found, state)
        found.entries = rest
        if rest:
            _update(node, ShardUpdate(found.shard, None, rest, None, None))
    return Paxos(
        PaxosConfig(
            node_id=config.node_id,
            quorum=config.quorum,
            election_timeout_us=config.election_timeout_us,
            heartbeat_us=config.heartbeat_us,
            lease_enabled=config.lease_enabled,
            drift_ppm=config.drift_ppm,
        ),
        members=members,
        hard_state=found.hard_state,
        entries=found.entries,
        first=found.compacted,
        applied=applied,
        applied_term=state.applied_term,
        chosen=found.chosen,
        rng=node.rng,
        reader=node.log.reader(found.shard),
        trace=node.trace,
        now_us=node.clock.now_us(),
        fresh=fresh,
        damaged=found.damaged,
        must_reach=found.must_reach,
        must_term=found.must_term,
    )
