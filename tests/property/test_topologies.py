"""Random topologies of up to 60 nodes and 512 shards, and changes of them.

Bounds. A node holds its exact share (`Shares.exact`: by weight, as far as the zone rule and one replica per
node allow) rounded down or up, never more; that is below 1.15 times the share wherever the share is
7 or more, and where the weighted share itself is allowed. Leaders likewise. Movement: at most a tenth
above the least there is, rounded up to a whole copy. `moves_min` is a bound below that least; where it is
too low to tell, the exact least is computed (slow).

`QUOIT_TOPOLOGIES=3000` runs that many instead of a few.
"""

import os
from collections import Counter
from math import ceil
from typing import NamedTuple
from xml.etree import ElementTree

import msgspec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from quoit.placement.moves import moves_lost, moves_min
from quoit.placement.picture import ring_picture
from quoit.placement.plan import plan, revert
from quoit.placement.ring import NodeInfo
from quoit.placement.shard_map import ShardMap
from quoit.placement.shares import Shares
from quoit.placement.show import node_rows, ring_table
from tests.unit.placement.exact import copies_least

EXAMPLES = int(os.environ.get("QUOIT_TOPOLOGIES", "30"))
thorough = settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))


class Topology(NamedTuple):
    nodes: list[NodeInfo]
    changed: list[NodeInfo]
    change: str
    shards: int
    factor: int


@st.composite
def topologies(draw):
    """A cluster and what it shall be: one node more, fewer, of another weight, or drained."""
    size = draw(st.integers(1, 60))
    zones = draw(st.integers(0, 8))
    rng = draw(st.randoms(use_true_random=False))
    weights = draw(st.sampled_from([(1.0,), (1.0, 2.0), (0.1, 0.5, 1.0, 4.0, 8.0)]))

    def node(number):
        zone = f"z{rng.randrange(zones)}" if zones else ""
        return NodeInfo(number, f"n{number}", zone, rng.choice(weights))

    nodes = [node(number) for number in range(1, size + 1)]
    factor = draw(st.integers(1, min(5, size)))
    shards = draw(st.sampled_from([4, 7, 16, 33, 64, 128, 256, 512]))
    kinds = ["join", "reweigh"] + (["leave", "drain"] if size > factor else [])
    change = draw(st.sampled_from(kinds))
    at = rng.randrange(size)
    if change == "join":
        changed = [*nodes, node(99)]
    elif change == "leave":
        changed = nodes[:at] + nodes[at + 1 :]
    else:
        weight = 0.0 if change == "drain" else rng.choice([0.1, 0.7, 3.0, 8.0])
        changed = nodes[:]
        changed[at] = msgspec.structs.replace(nodes[at], weight=weight)
    return Topology(nodes, changed, change, shards, factor)


def loads(shard_map):
    held = Counter(node for shard in shard_map.shards for node in shard.replicas)
    return held, Counter(shard.replicas[0] for shard in shard_map.shards)


def assert_rules(shard_map, nodes, factor):
    shares = Shares.of(nodes, len(shard_map.shards), factor)
    held, leads = loads(shard_map)
    zone_of = {node.id: node.zone for node in nodes if node.weight}
    enough = len(set(zone_of.values())) >= factor
    for shard in shard_map.shards:
        assert len(set(shard.replicas)) == len(shard.replicas) == factor
        zones = Counter(zone_of[node] for node in shard.replicas)
        if enough:
            assert max(zones.values()) == 1
        assert all(count <= shares.zone_max[zone] for zone, count in zones.items())
    assert set(held) <= set(zone_of)
    for node, exact in shares.exact.items():
        assert exact // 1 <= held[node] <= ceil(exact)
        if exact >= 7:
            assert held[node] <= 1.15 * exact
        assert shares.leaders.low[node] <= leads[node] <= shares.leaders.high[node]


@given(topologies(), st.randoms(use_true_random=False))
@thorough
def test_any_topology_and_any_change_of_it(topology, rng):
    nodes, changed, change, shards, factor = topology
    before = ShardMap.create(shards, nodes, factor)
    assert_rules(before, nodes, factor)
    assert before.rebalance(nodes, factor) is before, "stable"
    sizes = {shard.id: rng.randrange(1, 1000) for shard in before.shards}
    made = plan(before, changed, factor, sizes)
    assert_rules(made.after, changed, factor)
    assert made.after.rebalance(changed, factor) is made.after, "stable"
    least = moves_min(before, changed, factor)
    assert made.copies_min == least <= made.copies
    if made.copies > ceil(least * 1.1):
        assert made.copies <= ceil(copies_least(before, changed, factor) * 1.1)
    assert made.bytes_min <= made.bytes
    mixed = changed[:]
    rng.shuffle(mixed)
    assert plan(before, mixed, factor, sizes) == made
    assert_few_leaders_change(before, made, topology)
    assert_never_below(before, made.after, made.steps, changed, factor)
    if change != "leave":
        back = revert(made, made.after, [node.id for node in changed], sizes)
        assert [s.replicas for s in back.after.shards] == [s.replicas for s in before.shards]
        assert_never_below(made.after, back.after, back.steps, changed, factor)


def assert_few_leaders_change(before, made, topology):
    """Leaders that lost their replica must change, and those that the new shares ask for; each may take
    one hand-over more on its way, and two in all beyond that."""
    shares = Shares.of(topology.changed, topology.shards, topology.factor).leaders
    _, leads = loads(before)
    after = {shard.id: shard.replicas for shard in made.after.shards}
    lost = sum(shard.replicas[0] not in after[shard.id] for shard in before.shards)
    asked = sum(max(0, low - leads[node]) for node, low in shares.low.items())
    asked += sum(max(0, leads[node] - high) for node, high in shares.high.items())
    assert len(made.leaders) <= 2 * (lost + asked) + 2


def assert_never_below(before, after, steps, nodes, factor):
    """Replays the steps: living replicas of a shard never become fewer than they were or should be."""
    alive = {node.id for node in nodes}
    holds = {shard.id: set(shard.replicas) for shard in before.shards}
    for step in steps:
        replicas = holds[step.shard]
        floor = min(factor, len(replicas & alive))
        if step.add:
            assert step.add not in replicas and step.add in alive
            replicas.add(step.add)
        if step.remove:
            replicas.remove(step.remove)
        assert len(replicas & alive) >= floor
    assert holds == {shard.id: set(shard.replicas) for shard in after.shards}


@given(topologies())
@settings(
    max_examples=max(10, EXAMPLES // 20), deadline=None, suppress_health_check=list(HealthCheck)
)
def test_table_and_picture_show_every_node(topology):
    shard_map = ShardMap.create(topology.shards, topology.nodes, topology.factor)
    rows = node_rows(shard_map, topology.changed, topology.factor, {})
    assert sum(row.replicas for row in rows) == topology.shards * topology.factor
    assert sum(row.leads for row in rows) == topology.shards
    assert len(ring_table(rows).splitlines()) == len(rows) + 1
    picture = ring_picture(shard_map, topology.changed)
    assert picture == ring_picture(shard_map, topology.changed[::-1])
    assert "script" not in picture
    titles = [e.text or "" for e in ElementTree.fromstring(picture).iter() if "title" in e.tag]
    assert sum(title.startswith("shard ") for title in titles) == topology.shards


def test_shards_whose_node_is_gone_come_first():
    """Node 7 died, node 6 is drained: what node 7 held is repaired before anything else moves."""
    nodes = [NodeInfo(number, f"n{number}") for number in range(1, 8)]
    before = ShardMap.create(32, nodes, 3)
    changed = [msgspec.structs.replace(n, weight=0.0 if n.id == 6 else 1.0) for n in nodes[:6]]
    made = plan(before, changed, 3, {})
    dead = [7 in before.shards[step.shard].replicas for step in made.steps]
    missing = sum(moves_lost(before, nodes[:6], 3).values())
    assert all(dead[:missing])
    assert {step.remove for step in made.steps[:missing]} == {7}
