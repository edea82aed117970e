"""What a node can say about itself and its view of the cluster, as values for INFO, CLUSTER,
the admin API and the CLI."""

from typing import Protocol

import msgspec

from quoit.base.seams import Clock
from quoit.node.cluster.state import ClusterState
from quoit.node.config import NodeConfig, PeerInfo
from quoit.node.liveness import Liveness
from quoit.node.replica import Replica
from quoit.placement.shard_map import ShardMap, ShardRange
from quoit.quorum.agreement import Agreement
from quoit.quorum.members import Members

__all__ = ["NodeStatus", "PeerStatus", "ShardStatus", "node_status"]


class PeerStatus(msgspec.Struct):
    """A node of the cluster (also this one)."""

    id: int
    name: str
    host: str
    resp_port: int
    peer_port: int
    admin_port: int
    connected: bool
    heard_ms_ago: int
    """Milliseconds since its last message; 0 for this node, -1 for never."""
    state: str = "live"
    """live, suspect, unreachable or dead, as this node's failure detector sees it."""
    phi: float = 0.0
    """How surprising its present silence is; suspicion begins at `suspect_phi`."""
    returned: bool = False
    """It is held for dead, and was heard since: it waits to be readmitted."""


class ShardStatus(msgspec.Struct):
    """A shard as this node sees it."""

    id: int
    slot_low: int
    slot_high: int
    """Inclusive."""
    replicas: list[int]
    """The voters; the first one is the preferred leader."""
    leader: int
    """0: unknown."""
    role: str
    """leader, follower, learner, candidate, pre-candidate, damaged, or none (no replica here)."""
    term: int
    commit_index: int
    applied_index: int
    last_index: int
    first_index: int
    keys: dict[int, int]
    """Database -> number of keys, at this replica's applied index."""
    pending: int
    """Commands that wait for their outcome here."""
    learners: list[int] = []
    """They get the log and do not vote."""
    config_index: int = 0
    """Index of the entry that made these the members, as applied here; 0: the first ones."""


class NodeStatus(msgspec.Struct):
    """Everything. `counters` are monotonic totals since the start (commands, reads_local,
    reads_indexed, batches, batch_commands, forwards, elections, log_writes, log_bytes...)."""

    cluster_id: str
    node_id: int
    node_name: str
    version: str
    consensus: str
    uptime_ms: int
    peers: list[PeerStatus]
    shards: list[ShardStatus]
    counters: dict[str, int]
    rebuilding: str = ""
    """The engine was damaged, so: its data come anew from the other replicas; "" when all is well."""
    isolated: bool = False
    """It is in touch with no majority of the nodes, so it declares nobody dead."""
    local_health: int = 0
    """How far this node doubts itself: 0 is well; time-outs for peers are multiplied by 1 + this."""
    event_loop_lag_us: int = 0
    record_version: int = 0
    """Of this node's copy of the cluster's record; 0: it has none yet."""
    placement_epoch: int = 0
    node_states: dict[str, int] = {}
    """State in the record -> number of nodes."""
    job: str = ""
    """The job under way, for people; "" for none."""
    """How late the latest tick of the last ten to twenty seconds was."""


class _Copy(Protocol):
    """The copy of the cluster's record."""

    state: ClusterState


class _Source(Protocol):
    """What the status is made from."""

    config: NodeConfig
    clock: Clock
    started_us: int
    counters: dict[str, int]
    connected: dict[int, int]
    heard_us: dict[int, int]
    map: ShardMap
    replicas: dict[int, Replica]
    rebuilding: str
    liveness: Liveness

    @property
    def cluster(self) -> _Copy:
        """The copy of the cluster's record."""
        ...

    @property
    def nodes(self) -> dict[int, PeerInfo]:
        """All nodes that this one knows, itself included."""
        ...

    def leader_of(self, shard: int) -> int:
        """The shard's leader as this node knows it; 0 if it does not."""
        ...

    def members_of(self, shard: int) -> Members:
        """The shard's members, as far as this node knows."""
        ...


def node_status(node: _Source) -> NodeStatus:
    """The node's present status."""
    config = node.config
    now = node.clock.now_us()
    liveness = node.liveness
    returned = liveness.returned()
    peers = []
    for peer in sorted(node.nodes.values(), key=lambda one: one.id):
        own = peer.id == config.node_id
        heard = node.heard_us.get(peer.id)
        ago = 0 if own else -1 if heard is None else (now - heard) // 1000
        peers.append(
            PeerStatus(
                peer.id, peer.name, peer.host, peer.resp_port, peer.peer_port, peer.admin_port,
                own or peer.id in node.connected, ago, liveness.state_of(peer.id).value,
                liveness.phi_of(peer.id), peer.id in returned,
            )
        )  # fmt: skip
    own_name = node.nodes[config.node_id].name
    return NodeStatus(
        config.cluster_id,
        config.node_id,
        own_name,
        config.version,
        config.consensus if config.quorum == "majority" else f"{config.consensus}/{config.quorum}",
        (now - node.started_us) // 1000,
        peers,
        [_shard_status(node, shard) for shard in node.map.shards],
        dict(node.counters),
        node.rebuilding,
        liveness.isolated,
        liveness.health,
        liveness.lag_us,
        *_record(node.cluster.state),
    )


def _record(state: ClusterState) -> tuple[int, int, dict[str, int], str]:
    states: dict[str, int] = {}
    for one in state.nodes:
        states[one.state] = states.get(one.state, 0) + 1
    job = state.running()
    text = f"{job.kind}: {len(job.done)} of {len(job.steps)} steps" if job is not None else ""
    return state.version, state.epoch, states, text


def _role(node: _Source, core: Agreement, members: Members) -> str:
    if core.damaged:
        return "damaged"
    learns = core.role == "follower" and node.config.node_id in members.learners
    return "learner" if learns else core.role


def _shard_status(node: _Source, shard: ShardRange) -> ShardStatus:
    replica = node.replicas.get(shard.id)
    leader = node.leader_of(shard.id)
    members = node.members_of(shard.id)
    learners = list(members.learners)
    head = (shard.id, shard.slot_low, shard.slot_high, list(members.voters), leader)
    if replica is None:
        return ShardStatus(*head, "none", 0, 0, 0, 0, 0, {}, 0, learners)
    core = replica.core
    return ShardStatus(
        *head,
        _role(node, core, members),
        core.term,
        core.commit_index,
        replica.state.applied_index,
        core.last_index,
        core.first_index,
        {db: count for db, count in replica.state.counts.items() if count},
        replica.pending(),
        learners,
        replica.state.config_index,
    )
