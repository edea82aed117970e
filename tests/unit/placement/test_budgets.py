"""The budgets of the design, at realistic sizes: replicas over nodes max/mean <= 1.15 (or the mean
rounded up where that is more), leaders likewise, moved on join or leave <= 1.1x the minimum."""

from collections import Counter
from math import ceil

import pytest

from quoit.placement.moves import moves_between, moves_min
from quoit.placement.ring import NodeInfo
from quoit.placement.shard_map import ShardMap

SIZES = [
    (3, 4), (3, 16), (4, 4), (4, 64), (5, 5), (5, 256), (6, 16), (7, 128), (9, 1024), (10, 16),
    (10, 64), (16, 256), (20, 100), (25, 1024), (33, 64), (50, 64), (50, 1024),
]  # fmt: skip
FACTOR = 3


def cluster(numbers: range) -> list[NodeInfo]:
    return [NodeInfo(number, f"node-{number}") for number in numbers]


def assert_within(shard_map: ShardMap, nodes: list[NodeInfo]) -> None:
    shards = len(shard_map.shards)
    held = Counter(node for shard in shard_map.shards for node in shard.replicas)
    leads = Counter(shard.replicas[0] for shard in shard_map.shards)
    for loads, total in ((held, shards * FACTOR), (leads, shards)):
        mean = total / len(nodes)
        most = max(loads.values())
        assert most <= ceil(mean)
        assert most / mean <= 1.15 or mean < 1 / 0.15
        assert min(loads[node.id] for node in nodes) >= total // len(nodes)


@pytest.mark.parametrize(("size", "shards"), SIZES)
def test_loads_and_moves_are_within_the_budgets(size, shards):
    nodes = cluster(range(1, size + 1))
    before = ShardMap.create(shards, nodes, FACTOR)
    assert_within(before, nodes)
    for changed in (
        cluster(range(1, size + 2)),
        nodes[1:],
        nodes[: size // 2] + nodes[size // 2 + 1 :],
    ):
        if len(changed) < FACTOR:
            continue
        after = before.rebalance(changed, FACTOR)
        assert_within(after, changed)
        copies = sum(1 for move in moves_between(before, after) if move.target)
        assert copies <= 1.1 * moves_min(before, changed, FACTOR)


@pytest.mark.parametrize(("size", "shards"), [(5, 16), (10, 64), (20, 100)])
def test_few_leaders_change_when_a_node_joins(size, shards):
    """A change costs an election, so no more than the new node's share and a few hand-overs."""
    before = ShardMap.create(shards, cluster(range(1, size + 1)), FACTOR)
    after = before.rebalance(cluster(range(1, size + 2)), FACTOR)
    pairs = zip(before.shards, after.shards, strict=True)
    changed = sum(old.replicas[0] != new.replicas[0] for old, new in pairs)
    assert changed <= 2 * ceil(shards / (size + 1))


def test_a_cluster_keeps_its_placement_over_versions():
    """With fixed membership each node computes the map at each start: a version that computed
    another one would not find its data."""
    three = ShardMap.create(4, cluster(range(1, 4)), FACTOR)
    assert [shard.replicas for shard in three.shards] == [
        (3, 2, 1),
        (1, 2, 3),
        (3, 1, 2),
        (2, 3, 1),
    ]
    five = ShardMap.create(5, cluster(range(1, 6)), FACTOR)
    assert [shard.replicas for shard in five.shards] == [
        (3, 5, 2), (2, 5, 1), (1, 3, 4), (5, 3, 4), (4, 2, 1),
    ]  # fmt: skip
    uneven = ShardMap.create(4, cluster(range(1, 6)), FACTOR)
    assert [shard.replicas for shard in uneven.shards] == [
        (3, 5, 2), (4, 2, 5), (1, 3, 4), (5, 3, 1),
    ]  # fmt: skip
