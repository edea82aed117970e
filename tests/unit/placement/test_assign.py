"""Single decisions of the placement: who keeps what, and which replica goes where."""

from collections import Counter

import pytest

from quoit.base.limits import SLOTS
from quoit.placement.assign import _Placing, assign
from quoit.placement.moves import moves_between
from quoit.placement.ring import NodeInfo, Preference, Ring, position
from quoit.placement.shard_map import ShardMap, ShardRange
from quoit.placement.shares import Shares
from tests.unit.placement.exact import copies_least

NODES = [NodeInfo(number, f"n{number}") for number in range(1, 8)]


def test_a_new_replica_goes_to_the_first_node_in_the_ring_s_order():
    """The shard's id gives its position, so a shard that was split off has its own."""
    before = ShardMap.of((ShardRange(5, 0, 16383, (1,)),))
    order = [n for n in Ring(NODES).clockwise(position("shard/5")) if n != 1]
    assert before.rebalance(NODES, 3).shards[0].replicas == (1, *order[:2])


def test_a_full_node_is_passed_over():
    names = [f"s{number}" for number in range(40)]
    ring = Ring(NODES)
    first = Counter(ring.clockwise(position(name))[0] for name in names)
    placed = Counter(replicas[0] for replicas in assign(names, NODES, 1))
    assert max(first.values()) > 6 == max(placed.values())


@pytest.mark.parametrize("gone", [1, 4, 7])
def test_leaders_whose_node_stays_go_on_leading(gone):
    """What the lost node led gets leaders that were replicas before; to level them, a hand-over or two
    may be needed elsewhere."""
    before = ShardMap.create(42, NODES, 3)
    after = before.rebalance([node for node in NODES if node.id != gone], 3)
    elsewhere = 0
    for old, new in zip(before.shards, after.shards, strict=True):
        assert new.replicas[0] in old.replicas
        elsewhere += old.replicas[0] not in (gone, new.replicas[0])
    assert elsewhere <= 2


def test_a_shard_that_crosses_zones_twice_in_one_chain_is_not_handed_over_twice():
    """Zone c has room for one replica; the chain so far has taken it."""
    nodes = [
        NodeInfo(1, "a", "a"),
        NodeInfo(2, "b", "b"),
        NodeInfo(3, "c", "c"),
        NodeInfo(4, "d", "c"),
    ]
    placing = _Placing(Shares.of(nodes, 1, 2), [Preference(iter([1, 2, 3, 4]))], [(1, 2)], 2)
    placing.keep()
    assert placing._handover(2, 4, [], False) == 0
    assert placing._handover(2, 4, [(0, 1, 3)], False) is None


# Replicas of each shard; zone and weight of each node; factor; copies. What others have too much can
# only go to the new node (the last) if what was handed over before is given back.
TIGHT = [
    (
        [
            (9, 2, 6, 5, 1), (4, 6, 8, 10, 11), (2, 8, 7, 9, 6), (5, 3, 2, 10, 8), (1, 6, 5, 9, 4),
            (2, 9, 1, 7, 6), (6, 1, 9, 2, 5), (10, 1, 4, 6, 2), (11, 9, 3, 6, 1), (9, 3, 2, 1, 5),
            (3, 4, 2, 1, 9), (6, 2, 9, 1, 3), (1, 6, 9, 4, 2),
        ],
        "1z2 2z2 3z1 4z1 5z1 6z2 7z0.5 8z0.5 9z2 10z0.5 11z0.5 12z4",
        5,
        13,
    ),
    (
        [
            (3, 8, 9), (8, 4, 10), (7, 4, 3), (8, 3, 7), (6, 1, 9), (1, 7, 6), (9, 8, 10), (1, 4, 7),
            (9, 7, 10), (3, 9, 10), (4, 8, 1), (10, 6, 8), (4, 1, 8), (8, 1, 6), (1, 8, 4), (10, 4, 7),
            (10, 6, 9), (9, 1, 6), (6, 1, 9), (7, 3, 10), (3, 9, 10), (4, 3, 6), (7, 4, 3), (6, 3, 7),
        ],
        "1y1 3y1 4z1 6z1 7z1 8z1 9z1 10y1 11z1",
        3,
        9,
    ),
]  # fmt: skip


@pytest.mark.parametrize(("replicas", "nodes", "factor", "least"), TIGHT)
def test_giving_back_keeps_the_copies_at_the_minimum(replicas, nodes, factor, least):
    infos = []
    for text in nodes.split():
        number, zone, weight = text.partition("y" if "y" in text else "z")
        infos.append(NodeInfo(int(number), f"n{number}", zone, float(weight)))
    edges = [number * SLOTS // len(replicas) for number in range(len(replicas) + 1)]
    before = ShardMap.of(
        tuple(
            ShardRange(number, edges[number], edges[number + 1] - 1, chosen)
            for number, chosen in enumerate(replicas)
        )
    )
    after = before.rebalance(infos, factor)
    assert copies_least(before, infos, factor) == least
    assert sum(1 for move in moves_between(before, after) if move.target) == least


def test_a_new_node_takes_over_shards_that_prefer_it():
    """So that the map stays near to what the ring would say, whatever way it came about."""
    before = ShardMap.create(64, NODES[:6], 3)
    after = before.rebalance(NODES, 3)
    ring = Ring(NODES)
    rank = {s.id: ring.clockwise(position(f"shard/{s.id}")).index(7) for s in after.shards}
    taken = [rank[shard.id] for shard in after.shards if 7 in shard.replicas]
    assert sum(taken) / len(taken) < 0.6 * sum(rank.values()) / len(rank)
