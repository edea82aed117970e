"""Placement: coverage, balance, movement against the exact minimum, zones, determinism."""

import os
import subprocess
import sys
from collections import Counter
from math import ceil

from hypothesis import given, settings
from hypothesis import strategies as st

from quoit.base.limits import SLOTS
from quoit.placement.moves import moves_between, moves_min
from quoit.placement.ring import NodeInfo
from quoit.placement.shard_map import ShardMap
from tests.unit.placement.exact import copies_least

FACTOR = 3


def cluster(numbers, zones=1):
    return [NodeInfo(n, f"n{n}", f"z{n % zones}" if zones > 1 else "") for n in numbers]


def replicas_on(shard_map):
    return Counter(node for shard in shard_map.shards for node in shard.replicas)


def leaders_on(shard_map):
    return Counter(shard.replicas[0] for shard in shard_map.shards)


def copies(before, after):
    return sum(1 for move in moves_between(before, after) if move.target)


def assert_sound(shard_map, nodes, factor):
    names = {node.id for node in nodes}
    slots = [slot for s in shard_map.shards for slot in range(s.slot_low, s.slot_high + 1)]
    assert slots == list(range(SLOTS))
    for shard in shard_map.shards:
        assert len(set(shard.replicas)) == len(shard.replicas) == factor
        assert set(shard.replicas) <= names
        assert all(
            shard_map.slot_to_shard[s] == shard.id for s in (shard.slot_low, shard.slot_high)
        )


def assert_balanced(shard_map, nodes, factor):
    """Nobody holds more than the mean rounded up, nor leads more than that."""
    shards = len(shard_map.shards)
    assert max(replicas_on(shard_map).values()) <= ceil(shards * factor / len(nodes))
    assert min(replicas_on(shard_map)[node.id] for node in nodes) >= shards * factor // len(nodes)
    assert max(leaders_on(shard_map).values()) <= ceil(shards / len(nodes))


counts = st.integers(1, 64)
sizes = st.integers(3, 12)


@given(counts, st.integers(1, 12))
@settings(max_examples=60, deadline=None)
def test_a_new_map_is_sound_and_balanced(count, size):
    nodes = cluster(range(1, size + 1))
    factor = min(FACTOR, size)
    shard_map = ShardMap.create(count, nodes, factor)
    assert_sound(shard_map, nodes, factor)
    assert_balanced(shard_map, nodes, factor)


@given(counts, sizes)
@settings(max_examples=40, deadline=None)
def test_a_node_that_joins_costs_at_most_a_tenth_more_than_the_minimum(count, size):
    nodes = cluster(range(1, size + 1))
    before = ShardMap.create(count, nodes, FACTOR)
    joined = [*nodes, NodeInfo(99, "n99")]
    after = before.rebalance(joined, FACTOR)
    assert_sound(after, joined, FACTOR)
    assert_balanced(after, joined, FACTOR)
    least = copies_least(before, joined, FACTOR)
    assert moves_min(before, joined, FACTOR) <= least
    assert copies(before, after) <= least * 1.1


@given(counts, st.integers(4, 12), st.data())
@settings(max_examples=40, deadline=None)
def test_a_node_that_leaves_costs_at_most_a_tenth_more_than_the_minimum(count, size, data):
    nodes = cluster(range(1, size + 1))
    before = ShardMap.create(count, nodes, FACTOR)
    gone = data.draw(st.sampled_from(nodes))
    left = [node for node in nodes if node is not gone]
    after = before.rebalance(left, FACTOR)
    assert_sound(after, left, FACTOR)
    assert_balanced(after, left, FACTOR)
    assert copies(before, after) <= copies_least(before, left, FACTOR) * 1.1


@given(st.integers(4, 40), st.lists(st.booleans(), max_size=8), st.randoms(use_true_random=False))
@settings(max_examples=25, deadline=None)
def test_chains_of_joins_and_leaves_stay_balanced(count, steps, rng):
    nodes = cluster(range(1, 6))
    shard_map = ShardMap.create(count, nodes, FACTOR)
    for number, join in enumerate(steps, 100):
        if join or len(nodes) == FACTOR:
            nodes = [*nodes, NodeInfo(number, f"n{number}")]
        else:
            gone = rng.choice(nodes)
            nodes = [node for node in nodes if node is not gone]
        before, shard_map = shard_map, shard_map.rebalance(nodes, FACTOR)
        assert_sound(shard_map, nodes, FACTOR)
        assert_balanced(shard_map, nodes, FACTOR)
        assert copies(before, shard_map) <= copies_least(before, nodes, FACTOR) * 1.1 + 1


@given(counts, st.integers(3, 12), st.integers(3, 5))
@settings(max_examples=40, deadline=None)
def test_replicas_lie_in_different_zones_if_there_are_enough(count, size, zones):
    nodes = cluster(range(1, max(size, zones) + 1), zones)
    zone_of = {node.id: node.zone for node in nodes}
    for shard in ShardMap.create(count, nodes, FACTOR).shards:
        assert len({zone_of[node] for node in shard.replicas}) == FACTOR


@given(counts, sizes, st.randoms(use_true_random=False))
@settings(max_examples=30, deadline=None)
def test_the_order_of_the_nodes_does_not_matter(count, size, rng):
    nodes = cluster(range(1, size + 1))
    mixed = nodes[:]
    rng.shuffle(mixed)
    assert ShardMap.create(count, nodes, FACTOR) == ShardMap.create(count, mixed, FACTOR)


def test_nothing_moves_when_nothing_changed():
    nodes = cluster(range(1, 8))
    shard_map = ShardMap.create(48, nodes, FACTOR)
    assert shard_map.rebalance(nodes, FACTOR) is shard_map


def test_large_clusters_keep_the_budget():
    """design.md section 7: max/mean <= 1.15."""
    for size, count in ((10, 128), (25, 256), (50, 512)):
        nodes = cluster(range(1, size + 1))
        held = replicas_on(ShardMap.create(count, nodes, FACTOR))
        assert max(held.values()) / (count * FACTOR / size) <= 1.15


def test_every_process_computes_the_same_map():
    program = (
        "from quoit.placement.ring import NodeInfo\n"
        "from quoit.placement.shard_map import ShardMap\n"
        "nodes = [NodeInfo(n, f'n{n}', f'z{n % 3}') for n in range(1, 10)]\n"
        "a = ShardMap.create(50, nodes, 3)\n"
        "print(a.shards, a.rebalance(nodes[1:], 3).shards)\n"
    )
    outputs = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(outputs) == 1
    assert outputs.pop()
