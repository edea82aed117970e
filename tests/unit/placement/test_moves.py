"""Moves between two maps, and the lower bound of copies."""

import pytest

from quoit.base.errors import InvariantViolated
from quoit.base.limits import SLOTS
from quoit.placement.moves import Move, moves_between, moves_min
from quoit.placement.ring import NodeInfo
from quoit.placement.shard_map import ShardMap, ShardRange


def shard_map(*replicas: tuple[int, ...]) -> ShardMap:
    edges = [number * SLOTS // len(replicas) for number in range(len(replicas) + 1)]
    return ShardMap.of(
        tuple(
            ShardRange(number, edges[number], edges[number + 1] - 1, nodes)
            for number, nodes in enumerate(replicas)
        )
    )


def cluster(zones: str) -> list[NodeInfo]:
    return [NodeInfo(number, f"n{number}", zone) for number, zone in enumerate(zones, 1)]


@pytest.mark.parametrize(
    ("old", "new", "moves"),
    [
        ((1, 2, 3), (1, 2, 3), []),
        ((1, 2, 3), (3, 1, 2), []),
        ((1, 2, 3), (1, 4, 3), [Move(0, 2, 4)]),
        ((1, 2, 3), (5, 4, 3), [Move(0, 1, 5), Move(0, 2, 4)]),
        ((1,), (1, 2, 3), [Move(0, 0, 2), Move(0, 0, 3)]),
        ((1, 2, 3), (2,), [Move(0, 1, 0), Move(0, 3, 0)]),
    ],
)
def test_moves_pair_what_goes_with_what_comes(old, new, moves):
    assert moves_between(shard_map(old), shard_map(new)) == moves


def test_maps_with_different_shards_have_no_moves():
    before = shard_map((1, 2), (1, 2))
    with pytest.raises(InvariantViolated, match="same shards"):
        moves_between(before, before.split(0, 10, 2))


@pytest.mark.parametrize(
    ("replicas", "zones", "factor", "least"),
    [
        # Nothing to do.
        ([(1, 2), (3, 4)], "zzzz", 2, 0),
        # A node came: the mean of 4 replicas over 3 nodes is 1 1/3, so it needs one.
        ([(1, 2), (1, 2)], "zzz", 2, 1),
        # Node 5 is gone with two replicas.
        ([(1, 5), (5, 2)], "zz", 2, 2),
        # Two on one node that should have one each.
        ([(1,), (1,)], "zz", 1, 1),
        # One more replica of each shard.
        ([(1,), (2,)], "zz", 2, 2),
        # A second zone came: one of each pair must go there.
        ([(1, 2), (2, 1)], "aabb", 2, 2),
        # So must half of one pair, although nobody has too much or too little.
        ([(1, 2)], "aabb", 2, 1),
        # Three on one node where two are the most, and nobody below the least.
        ([(1,), (1,), (1,), (2,), (3,), (4,)], "zzzz", 1, 1),
    ],
)
def test_the_least_number_of_copies(replicas, zones, factor, least):
    before = shard_map(*replicas)
    nodes = cluster(zones)
    assert moves_min(before, nodes, factor) == least
    after = before.rebalance(nodes, factor)
    assert sum(1 for move in moves_between(before, after) if move.target) == least
