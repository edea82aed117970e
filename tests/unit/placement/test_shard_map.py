"""Maps of shards: splitting, weights, what is refused."""

from collections import Counter

import pytest

from quoit.base.errors import InvariantViolated
from quoit.placement.moves import moves_between
from quoit.placement.ring import NodeInfo, Ring, position
from quoit.placement.shard_map import ShardMap, ShardRange

NODES = [NodeInfo(number, f"n{number}") for number in (1, 2, 3, 4)]


def test_shards_of_a_map_differ_by_a_slot_at_most():
    shards = ShardMap.create(5, NODES, 3).shards
    sizes = {shard.slot_high - shard.slot_low + 1 for shard in shards}
    assert sizes == {3276, 3277}


def test_a_split_keeps_the_replicas_and_makes_a_newer_map():
    before = ShardMap.create(2, NODES, 3)
    after = before.split(1, 12000, 7)
    assert [shard.id for shard in after.shards] == [0, 1, 7]
    assert after.slot_to_shard[11999] == 1
    assert after.slot_to_shard[12000] == 7
    assert after.shards[2].replicas == before.shards[1].replicas
    assert after.epoch == before.epoch + 1


@pytest.mark.parametrize("at", [0, 8192, 16384])
def test_a_split_that_leaves_an_empty_half_is_refused(at):
    with pytest.raises(InvariantViolated):
        ShardMap.create(2, NODES, 3).split(1, at, 7)


def test_a_map_with_a_gap_is_refused():
    shards = (ShardRange(0, 0, 99, (1,)), ShardRange(1, 101, 16383, (1,)))
    with pytest.raises(InvariantViolated):
        ShardMap.of(shards)


def test_weights_decide_the_shares():
    nodes = [NodeInfo(1, "a", weight=2.0), *(NodeInfo(n, f"n{n}") for n in range(2, 8))]
    held = Counter(
        node for shard in ShardMap.create(80, nodes, 3).shards for node in shard.replicas
    )
    assert held[1] == 60
    assert {held[node] for node in range(2, 8)} == {30}


def test_a_dead_node_is_replaced_and_the_other_replicas_stay():
    before = ShardMap.create(8, NODES, 3)
    after = before.rebalance(NODES[:3], 3)
    for old, new in zip(before.shards, after.shards, strict=True):
        assert set(old.replicas) - {4} <= set(new.replicas)
    assert all(move.source in (0, 4) for move in moves_between(before, after))


def test_the_ring_offers_every_node_once_and_a_node_that_leaves_changes_nothing_else():
    ring, smaller = Ring(NODES), Ring(NODES[:3])
    for number in range(50):
        order = ring.clockwise(position(f"shard/{number}"))
        assert sorted(order) == [1, 2, 3, 4]
        order.remove(4)
        assert smaller.clockwise(position(f"shard/{number}")) == order
