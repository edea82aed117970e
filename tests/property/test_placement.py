"""Placement: coverage, balance, movement against the exact minimum, zones, determinism.

Where zones and weights come together with tiny numbers, one copy more than the exact minimum is allowed
beside the tenth; everywhere else the budget is the design's.
"""

import os
import subprocess
import sys
from collections import Counter
from fractions import Fraction
from math import ceil

from hypothesis import given, settings
from hypothesis import strategies as st

from quoit.base.limits import SLOTS
from quoit.placement.moves import moves_between, moves_min
from quoit.placement.ring import NodeInfo
from quoit.placement.shard_map import ShardMap
from quoit.placement.shares import Bounds, Shares
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
    assert min(leaders_on(shard_map)[node.id] for node in nodes) >= shards // len(nodes)


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
        assert copies(before, shard_map) <= copies_least(before, nodes, FACTOR) * 1.1


def assert_within(bounds: Bounds, loads):
    for node in bounds.low:
        assert bounds.low[node] <= loads[node] <= bounds.high[node], (node, loads)


@st.composite
def node_infos(draw, number):
    """A node of any zone and weight."""
    zone = draw(st.sampled_from(["", "a", "b", "c", "d"]))
    weight = draw(st.sampled_from([1.0, 1.0, 1.0, 0.3, 2.0, 4.0]))
    return NodeInfo(number, f"n{number}", zone, weight)


@st.composite
def lives(draw):
    """Node lists with factors, each but the first one or two changes after the one before."""
    factor = draw(st.integers(1, 5))
    nodes = [draw(node_infos(n)) for n in range(1, factor + draw(st.integers(0, 5)) + 1)]
    stages = [(nodes, factor)]
    for number in range(50, 50 + draw(st.integers(1, 5))):
        change = draw(st.sampled_from(["join", "leave", "replace", "move", "factor"]))
        gone = draw(st.sampled_from(nodes))
        left = [node for node in nodes if node is not gone]
        if change == "join":
            nodes = [*nodes, draw(node_infos(number))]
        elif change == "leave" and len(left) >= factor:
            nodes = left
        elif change == "replace":
            nodes = [*left, draw(node_infos(number))]
        elif change == "move":
            moved = draw(node_infos(gone.id))
            nodes = [*left, moved]
        elif change == "factor":
            factor = draw(st.integers(1, min(5, len(nodes))))
        stages.append((nodes, factor))
    return stages


@given(st.integers(1, 24), lives(), st.randoms(use_true_random=False))
@settings(max_examples=60, deadline=None)
def test_any_life_keeps_slots_zones_bounds_and_moves_little(count, stages, rng):
    (nodes, factor), *later = stages
    shard_map = ShardMap.create(count, nodes, factor)
    for nodes, factor in [stages[0], *later]:
        if rng.random() < 0.3:
            shard = rng.choice(shard_map.shards)
            if shard.slot_low < shard.slot_high:
                at = rng.randint(shard.slot_low + 1, shard.slot_high)
                shard_map = shard_map.split(shard.id, at, len(shard_map.shards))
        before, shard_map = shard_map, shard_map.rebalance(nodes, factor)
        assert_sound(shard_map, nodes, factor)
        shares = Shares.of(nodes, len(shard_map.shards), factor)
        for shard in shard_map.shards:
            zones = Counter(shares.zone_of[node] for node in shard.replicas)
            assert all(zones[zone] <= most for zone, most in shares.zone_max.items())
        assert_within(shares.replicas, replicas_on(shard_map))
        assert_within(shares.leaders, leaders_on(shard_map))
        least = copies_least(before, nodes, factor)
        assert moves_min(before, nodes, factor) <= least
        assert copies(before, shard_map) <= max(least * 1.1, least + 1)
        mixed = nodes[:]
        rng.shuffle(mixed)
        assert shard_map.rebalance(mixed, factor) is shard_map
        assert before.rebalance(mixed, factor) == shard_map


@given(lives(), st.integers(1, 40))
@settings(max_examples=100, deadline=None)
def test_shares_are_fair(stages, count):
    """Nobody who could take more has less, by weight, than anybody else (which only one sharing
    fulfils), and all is given out."""
    for nodes, factor in stages:
        shares = Shares.of(nodes, count, factor)
        exact = shares.exact
        assert sum(exact.values()) == count * factor
        in_zone = {
            zone: sum(exact[node.id] for node in nodes if node.zone == zone)
            for zone in shares.zone_max
        }
        for zone, most in shares.zone_max.items():
            assert in_zone[zone] <= count * most
        levels = {node.id: exact[node.id] / Fraction(node.weight) for node in nodes}
        for node in nodes:
            if exact[node.id] == count:
                continue
            full = in_zone[node.zone] == count * shares.zone_max[node.zone]
            rivals = [other for other in nodes if not full or other.zone == node.zone]
            assert levels[node.id] >= max(levels[other.id] for other in rivals)


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
