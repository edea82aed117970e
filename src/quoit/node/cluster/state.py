"""The cluster's record: one value, replaced as a whole by each change."""

import msgspec

from quoit.base.limits import SLOTS
from quoit.placement.plan import Step
from quoit.placement.ring import NodeInfo
from quoit.placement.shard_map import ShardRange

__all__ = [
    "DECOMMISSIONING", "DEAD", "DRAINING", "GONE", "HOLDERS", "JOBS_MAX", "JOINING", "LIVE",
    "META_SHARD", "META_SLOT", "REMOVED", "ClusterState", "Job", "NodeRecord", "Settings", "Split",
    "decode_cluster", "encode_cluster", "holders",
]  # fmt: skip

META_SHARD = 65535
"""Id of the shard that keeps this record. Others have lower ones."""
META_SLOT = SLOTS
"""Its only slot, behind those of the ring."""
JOBS_MAX = 100
"""Finished jobs that are remembered."""

JOINING = "joining"
"""It has a number, and was never connected."""
LIVE = "live"
DRAINING = "draining"
"""It keeps its replicas and leads nothing."""
DECOMMISSIONING = "decommissioning"
"""Its replicas go elsewhere; then it is removed."""
DEAD = "dead"
"""Declared so: its replicas were, or are, rebuilt elsewhere."""
REMOVED = "removed"
"""It may not come back under this number."""

HOLDERS = (LIVE, DRAINING)
"""States of nodes that shall hold replicas."""
GONE = (DEAD, REMOVED)
"""States of nodes on which nobody counts."""


class NodeRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A node. `id` is its identity for ever; name, zone and weight place it; addresses may change."""

    id: int
    name: str
    zone: str = ""
    weight: float = 1.0
    state: str = JOINING
    since_ms: int = 0
    """When it came into this state, Unix time by the meta shard's leader."""
    host: str = "127.0.0.1"
    peer_port: int = 0
    resp_port: int = 0
    admin_port: int = 0
    version: str = ""


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """Long work that the cluster does by itself.

    kind     rebalance, decommission, rebuild (a node died), revert, split, merge
    state    running, done, cancelled (what was done stays), failed
    node     the node it is about; 0: none
    steps    what it does, in order (placement/plan.py)
    done     numbers of the steps that are finished, ascending
    copies, copies_min, bytes, bytes_min  what it planned, and the least that any plan would need
    moved    bytes that were copied
    before   the shards when it began, to go back to
    log      (Unix time in ms, what happened), the newest last
    """

    id: int
    kind: str
    state: str = "running"
    node: int = 0
    steps: tuple[Step, ...] = ()
    done: tuple[int, ...] = ()
    copies: int = 0
    copies_min: int = 0
    bytes: int = 0
    bytes_min: int = 0
    moved: int = 0
    begun_ms: int = 0
    ended_ms: int = 0
    reason: str = ""
    before: tuple[ShardRange, ...] = ()
    log: tuple[tuple[int, str], ...] = ()


class Split(msgspec.Struct, frozen=True):
    """Shard `shard` shall be split: slots from `at` on become shard `child`. Decided once, so that a new
    leader finishes it under the same number."""

    shard: int
    at: int
    child: int


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """Settings of the whole cluster, changed by `quoit config set`."""

    replication_factor: int = 3
    """Replicas of each shard, while there are so many nodes."""
    rebalance: bool = True
    """Move replicas without being asked when nodes come and go."""
    rebalance_moves: int = 2
    """Moves under way at once."""
    rebalance_bytes_per_s: int = 32 * 1024 * 1024
    """What one node may send for them."""
    rebalance_latency_ms: int = 200
    """Begin no move while a node's log syncs take longer than this."""
    dead_after_s: int = 600
    """A node that nobody reaches for so long is declared dead and rebuilt elsewhere."""
    split: bool = True
    """Split shards without being asked."""
    split_bytes: int = 256 * 1024 * 1024
    """A shard with more data is split."""
    split_ops: int = 5_000
    """A shard with more commands a second is split."""
    shards_per_node: int = 4
    """Split until there are so many shards for each node that holds replicas."""
    shards_max: int = 1024
    """No shard is split when there are so many."""


class ClusterState(msgspec.Struct, frozen=True, kw_only=True):
    """Everything. Invariants: ids are unique; the shards are in slot order and cover all slots.

    version    counts changes; a copy with a higher one is newer
    epoch      version of `shards`
    nodes      in order of their ids; removed ones stay, so that their numbers are not used again
    shards     where the replicas shall be, the preferred leader first
    splits     decided and not finished
    placed_for what the newest plan was made for (`fingerprint` in rebalancer.py)
    jobs       running and finished ones, in order of their ids
    tokens     SHA-256 of join tokens -> Unix time in ms when they end
    """

    version: int = 0
    epoch: int = 1
    nodes: tuple[NodeRecord, ...] = ()
    shards: tuple[ShardRange, ...] = ()
    splits: tuple[Split, ...] = ()
    next_shard: int = 0
    next_job: int = 1
    placed_for: str = ""
    jobs: tuple[Job, ...] = ()
    settings: Settings = Settings()
    tokens: dict[str, int] = {}

    def node(self, number: int) -> NodeRecord | None:
        """The node with this id."""
        return next((node for node in self.nodes if node.id == number), None)

    def shard(self, number: int) -> ShardRange | None:
        """The shard with this id."""
        return next((shard for shard in self.shards if shard.id == number), None)

    def job(self, number: int) -> Job | None:
        """The job with this id."""
        return next((job for job in self.jobs if job.id == number), None)

    def running(self) -> Job | None:
        """The job that is under way; there is one at most."""
        return next((job for job in self.jobs if job.state == "running"), None)


def holders(state: ClusterState) -> list[NodeInfo]:
    """The nodes among which the shards are to be placed."""
    return [
        NodeInfo(node.id, node.name, node.zone or node.name, node.weight)
        for node in state.nodes
        if node.state in HOLDERS
    ]


encode_cluster = msgspec.msgpack.Encoder().encode
decode_cluster = msgspec.msgpack.Decoder(ClusterState).decode
