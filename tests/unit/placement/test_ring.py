"""The ring: order of preference, tokens by weight, what is refused."""

from collections import Counter

import pytest

from quoit.base.errors import InvariantViolated
from quoit.placement.ring import NodeInfo, Ring, position

PLACES = [position(f"shard/{number}") for number in range(1000)]
NODES = [NodeInfo(number, f"n{number}") for number in range(1, 6)]


def test_positions_are_the_same_for_ever():
    """Placement of a cluster with fixed membership is computed at each start, by each version."""
    assert position("shard/0") == 0x6D80D017F0E2A56D
    assert position("n1/255") == 0x7DA02CE15F9E1D0F


def test_every_node_is_offered_once():
    ring = Ring(NODES)
    for place in (0, 1 << 63, (1 << 64) - 1, *PLACES[:50]):
        assert sorted(ring.clockwise(place)) == [1, 2, 3, 4, 5]


def test_the_first_token_clockwise_decides():
    tokens = sorted((position(f"{n.name}/{t}"), n.id) for n in NODES for t in range(256))
    ring = Ring(NODES)
    for place in PLACES[:100]:
        naive = [owner for token, owner in tokens if token >= place] + [o for _, o in tokens]
        assert ring.clockwise(place) == list(dict.fromkeys(naive))


def test_a_node_that_leaves_changes_nothing_else():
    ring, smaller = Ring(NODES), Ring(NODES[:4])
    for place in PLACES[:100]:
        assert smaller.clockwise(place) == [n for n in ring.clockwise(place) if n != 5]


def test_the_order_of_the_list_does_not_matter():
    assert Ring(NODES).clockwise(PLACES[0]) == Ring(NODES[::-1]).clockwise(PLACES[0])


def test_first_places_are_in_proportion_to_weight():
    nodes = [NodeInfo(1, "n1", weight=3.0), *NODES[1:4]]
    ring = Ring(nodes)
    first = Counter(ring.clockwise(place)[0] for place in PLACES)
    assert 400 < first[1] < 600
    assert all(100 < first[node] < 240 for node in (2, 3, 4))


def test_nodes_of_the_same_name_are_told_apart_by_id():
    ring = Ring([NodeInfo(2, "twin"), NodeInfo(1, "twin")])
    assert {tuple(ring.clockwise(place)) for place in PLACES} == {(1, 2)}


@pytest.mark.parametrize("weight", [-1.0, float("nan"), float("inf"), 65.0])
def test_a_weight_out_of_range_is_refused(weight):
    with pytest.raises(InvariantViolated, match="weight"):
        Ring([NodeInfo(1, "a", weight=weight)])


def test_an_id_twice_is_refused():
    with pytest.raises(InvariantViolated, match="unique"):
        Ring([NodeInfo(1, "a"), NodeInfo(2, "b"), NodeInfo(1, "c")])
