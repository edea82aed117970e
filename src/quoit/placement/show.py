"""A map as a table: what each node holds beside what it should."""

from collections.abc import Mapping, Sequence

import msgspec

from quoit.base.ids import NodeId, ShardId
from quoit.placement.plan import Plan
from quoit.placement.ring import NodeInfo
from quoit.placement.shard_map import ShardMap
from quoit.placement.shares import Shares

__all__ = ["NodeRow", "node_rows", "plan_table", "ring_table"]


class NodeRow(msgspec.Struct, frozen=True):
    """One node in a map.

    share        replicas that it should hold, exact to rounding; 0 if it is drained or not listed
    replicas     that it holds
    leads        shards whose preferred leader it is
    bytes        of its replicas
    over         replicas / share; 0 where the share is 0
    """

    id: NodeId
    name: str
    zone: str
    weight: float
    share: float
    replicas: int
    leads: int
    bytes: int
    over: float


def node_rows(
    shard_map: ShardMap,
    nodes: Sequence[NodeInfo],
    replication_factor: int,
    sizes: Mapping[ShardId, int],
) -> list[NodeRow]:
    """A row for each node, by id; also for those that hold replicas but are not in `nodes`."""
    exact = Shares.of(nodes, len(shard_map.shards), replication_factor).exact
    known = {node.id: node for node in nodes}
    holding = {node for shard in shard_map.shards for node in shard.replicas}
    rows = []
    for number in sorted(known.keys() | holding):
        node = known.get(number, NodeInfo(number, "?", "", 0.0))
        held = [shard.id for shard in shard_map.shards if number in shard.replicas]
        leads = sum(shard.replicas[0] == number for shard in shard_map.shards)
        share = float(exact.get(number, 0))
        rows.append(
            NodeRow(
                number,
                node.name,
                node.zone,
                node.weight,
                share,
                len(held),
                leads,
                sum(sizes.get(shard, 0) for shard in held),
                len(held) / share if share else 0.0,
            )
        )
    return rows


def ring_table(rows: Sequence[NodeRow]) -> str:
    """The rows as text, numbers to the right."""
    head = ["node", "name", "zone", "weight", "share", "replicas", "of share", "leads", "bytes"]
    body = [
        [
            str(row.id),
            row.name,
            row.zone or "-",
            f"{row.weight:g}",
            f"{row.share:.1f}",
            str(row.replicas),
            f"{row.over:.2f}" if row.share else "-",
            str(row.leads),
            str(row.bytes),
        ]
        for row in rows
    ]
    return _aligned(head, body, left=(1, 2))


def plan_table(plan: Plan) -> str:
    """The steps as text, in their order, and the sums beside the minimum."""
    head = ["step", "shard", "add", "remove", "bytes"]
    body = [
        [str(number), str(step.shard), _node(step.add), _node(step.remove), str(step.bytes)]
        for number, step in enumerate(plan.steps, 1)
    ]
    return (
        _aligned(head, body, left=())
        + f"\ncopies {plan.copies}, at least {plan.copies_min} are needed"
        + f"\nbytes {plan.bytes}, at least {plan.bytes_min} are needed"
        + f"\npreferred leaders that change: {len(plan.leaders)}\n"
    )


def _node(node: NodeId) -> str:
    return str(node) if node else "-"


def _aligned(head: list[str], body: list[list[str]], left: Sequence[int]) -> str:
    lines = [head, *body]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    text = ""
    for line in lines:
        cells = [
            cell.ljust(widths[column]) if column in left else cell.rjust(widths[column])
            for column, cell in enumerate(line)
        ]
        text += "  ".join(cells).rstrip() + "\n"
    return text
