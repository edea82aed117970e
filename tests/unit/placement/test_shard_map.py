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


@pytest.mark.parametrize(
    ("shards", "reason"),
    [
        ([(0, 0, 99, (1,)), (1, 101, 16383, (1,))], "follow one another"),
        ([(0, 0, 100, (1,)), (1, 100, 16383, (1,))], "follow one another"),
        ([(0, 0, 99, (1,)), (1, 100, 16382, (1,))], "every slot"),
        ([(0, 0, 99, (1,)), (0, 100, 16383, (1,))], "own id"),
        ([(0, 0, 16383, ())], "has replicas"),
        ([(0, 0, 16383, (1, 2, 1))], "holds a shard once"),
        ([], "every slot"),
    ],
)
def test_a_map_that_breaks_an_invariant_is_refused(shards, reason):
    with pytest.raises(InvariantViolated, match=reason):
        ShardMap.of(tuple(ShardRange(*shard) for shard in shards))


@pytest.mark.parametrize(
    ("shard_id", "new_id", "reason"),
    [(9, 7, "to split exists"), (1, 0, "own id"), (0, 1, "own id")],
)
def test_a_split_needs_a_shard_and_a_free_id(shard_id, new_id, reason):
    with pytest.raises(InvariantViolated, match=reason):
        ShardMap.create(2, NODES, 3).split(shard_id, 12000 if shard_id else 100, new_id)


def test_after_a_split_the_halves_can_go_apart():
    """A split copies nothing; the rebalance after it evens out what the halves have doubled."""
    before = ShardMap.create(2, NODES, 3)
    split = before.split(0, 4096, 2).split(1, 12288, 3)
    after = split.rebalance(NODES, 3)
    held = Counter(node for shard in after.shards for node in shard.replicas)
    assert set(held.values()) == {3}
    assert [(s.id, s.slot_low, s.slot_high) for s in after.shards] == [
        (0, 0, 4095), (2, 4096, 8191), (1, 8192, 12287), (3, 12288, 16383),
    ]  # fmt: skip


def test_the_epoch_grows_with_each_change_and_only_then():
    first = ShardMap.create(4, NODES, 3)
    assert first.rebalance(NODES[::-1], 3) is first
    assert first.rebalance(NODES[:3], 3).epoch == first.epoch + 1
