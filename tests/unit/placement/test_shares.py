"""How much each node should hold, in tables worked out by hand."""

import pytest

from quoit.base.errors import InvariantViolated
from quoit.placement.ring import NodeInfo
from quoit.placement.shares import Shares


def shares(nodes: str, shards: int, factor: int) -> Shares:
    """Nodes as "zone:weight zone:weight ..."; ids from 1."""
    infos = []
    for number, text in enumerate(nodes.split(), 1):
        zone, _, weight = text.partition(":")
        infos.append(NodeInfo(number, f"n{number}", zone, float(weight or 1)))
    return Shares.of(infos[::-1], shards, factor)


# nodes, shards, factor -> replicas low, high, leaders low, high (by id)
BOUNDS = [
    ("z z z", 4, 3, [4, 4, 4], [4, 4, 4], [1, 1, 1], [2, 2, 2]),
    ("z z z z", 4, 3, [3, 3, 3, 3], [3, 3, 3, 3], [1, 1, 1, 1], [1, 1, 1, 1]),
    ("z z z z z", 4, 3, [2] * 5, [3] * 5, [0] * 5, [1] * 5),
    # In proportion to weight...
    ("z:2 z z z z z z", 80, 3, [60] + [30] * 6, [60] + [30] * 6, [20] + [10] * 6, [20] + [10] * 6),
    ("z:0.1 z:0.1 z:0.1", 4, 1, [1, 1, 1], [2, 2, 2], [1, 1, 1], [2, 2, 2]),
    # ...but nobody holds a shard twice. It may lead by its weight all the same.
    ("z:9 z z", 10, 2, [10, 5, 5], [10, 5, 5], [8, 0, 0], [9, 1, 1]),
    ("z:9 z:9 z:1 z:1", 6, 3, [6, 6, 3, 3], [6, 6, 3, 3], [2, 2, 0, 0], [3, 3, 1, 1]),
    # A zone of one node holds each shard once if there are as many zones as replicas.
    ("a b c c c c", 8, 3, [8, 8, 2, 2, 2, 2], [8, 8, 2, 2, 2, 2], [1] * 6, [2] * 6),
    # Two zones for three replicas: at most two of a shard in each.
    ("a a b b", 4, 3, [3] * 4, [3] * 4, [1] * 4, [1] * 4),
    ("a b b b b", 4, 3, [4, 2, 2, 2, 2], [4, 2, 2, 2, 2], [0] * 5, [1] * 5),
    # A full zone's rest goes to the others by weight.
    (
        "a:8 a:8 b c:2 c",
        12,
        3,
        [6, 6, 12, 8, 4],
        [6, 6, 12, 8, 4],
        [4, 4, 0, 1, 0],
        [5, 5, 1, 2, 1],
    ),
]


@pytest.mark.parametrize(("nodes", "shards", "factor", "low", "high", "few", "many"), BOUNDS)
def test_bounds(nodes, shards, factor, low, high, few, many):
    found = shares(nodes, shards, factor)
    assert list(found.replicas.low.values()) == low
    assert list(found.replicas.high.values()) == high
    assert list(found.leaders.low.values()) == few
    assert list(found.leaders.high.values()) == many


@pytest.mark.parametrize(
    ("nodes", "factor", "most"),
    [
        ("a b c", 3, {"a": 1, "b": 1, "c": 1}),
        ("a b c d d", 3, {"a": 1, "b": 1, "c": 1, "d": 1}),
        ("a a b b", 3, {"a": 2, "b": 2}),
        ("a b b", 3, {"a": 1, "b": 2}),
        ("a a a", 3, {"a": 3}),
        ("a b b b b c", 5, {"a": 1, "b": 3, "c": 1}),
    ],
)
def test_a_zone_gets_no_more_of_a_shard_than_it_must(nodes, factor, most):
    assert shares(nodes, 8, factor).zone_max == most


@pytest.mark.parametrize("factor", [0, 4])
def test_a_factor_that_the_nodes_cannot_hold_is_refused(factor):
    with pytest.raises(InvariantViolated, match="as many replicas as nodes"):
        shares("a b c", 8, factor)
