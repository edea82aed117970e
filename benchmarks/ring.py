"""The placement beside uhashring and OpenStack Swift's ring builder, on the same nodes and shards.

    pip install uhashring==2.5 swift==2.38.3      # in an environment of your own
    PYTHONPATH=src python benchmarks/ring.py      # prints the table of docs/explanation/placement.md

Each places 3 replicas of every shard on distinct nodes. max/mean: the fullest node's replicas over
its share by weight. Copies: replicas on a node that did not hold them before, when one node joins, and
when one of the first nodes leaves; the minimum is what the joining node's share asks for, and what the
leaving node held. Time: of the first placement.

uhashring places keys on one node; its replicas here are the next distinct nodes clockwise, as it is
commonly used. Swift's builder has 2^k partitions, no minimum time between moves, all nodes in one zone, and
its default overload of 0.
"""

import time
from collections import Counter
from collections.abc import Callable, Sequence
from math import ceil, log2

from swift.common.ring import RingBuilder
from uhashring import HashRing

from quoit.placement.ring import NodeInfo
from quoit.placement.shard_map import ShardMap

FACTOR = 3
CASES = [(5, 64, False), (10, 256, False), (10, 1024, True), (50, 1024, False), (50, 4096, True)]

Weights = dict[int, float]
Placed = list[tuple[int, ...]]


def with_quoit(shards: int) -> Callable[[Weights], Placed]:
    """Goes on from the map it made before."""
    last: list[ShardMap] = []

    def place(weights: Weights) -> Placed:
        nodes = [NodeInfo(n, f"n{n}", "", weight) for n, weight in weights.items()]
        made = last[-1].rebalance(nodes, FACTOR) if last else ShardMap.create(shards, nodes, FACTOR)
        last.append(made)
        return [shard.replicas for shard in made.shards]

    return place


def with_uhashring(shards: int) -> Callable[[Weights], Placed]:
    """Without memory: the nodes decide all."""

    def place(weights: Weights) -> Placed:
        nodes = {f"n{n}": {"weight": round(weight), "number": n} for n, weight in weights.items()}
        ring = HashRing(nodes, hash_fn="ketama")
        placed = []
        for shard in range(shards):
            met: dict[int, None] = {}
            for name in ring.iterate_nodes(f"shard/{shard}", distinct=True):
                met[int(name["nodename"][1:]) if isinstance(name, dict) else int(name[1:])] = None
                if len(met) == FACTOR:
                    break
            placed.append(tuple(met))
        return placed

    return place


def with_swift(shards: int) -> Callable[[Weights], Placed]:
    """One builder, changed and rebalanced until it moves nothing more."""
    builder = RingBuilder(round(log2(shards)), FACTOR, 0)
    ids: dict[int, int] = {}

    def place(weights: Weights) -> Placed:
        for number in set(ids) - set(weights):
            builder.remove_dev(ids.pop(number))
        for number in sorted(set(weights) - set(ids)):
            ids[number] = builder.add_dev(
                {"region": 1, "zone": 1, "ip": f"10.0.0.{number}", "port": 6200,
                 "device": "d", "weight": weights[number]}
            )  # fmt: skip
        for turn in range(20):
            builder.pretend_min_part_hours_passed()
            if builder.rebalance(seed=turn)[0] == 0:
                break
        names = {device: number for number, device in ids.items()}
        table = [list(row) for row in builder._replica2part2dev]
        return [tuple(names[row[part]] for row in table) for part in range(shards)]

    return place


def worst(placed: Placed, weights: Weights) -> float:
    """Replicas of the node that is fullest by its weight, over its share."""
    held = Counter(node for replicas in placed for node in replicas)
    per_weight = len(placed) * FACTOR / sum(weights.values())
    return max(held[node] / (weight * per_weight) for node, weight in weights.items())


def copies(before: Placed, after: Placed) -> int:
    pairs = zip(before, after, strict=True)
    return sum(len(set(new) - set(old)) for old, new in pairs)


def row(name: str, make: Callable[[int], Callable[[Weights], Placed]], case: Sequence[int]) -> str:
    size, shards, weighted = case
    weights = {n: float(1 + n % 3) if weighted else 1.0 for n in range(1, size + 1)}
    more = {**weights, size + 1: 2.0 if weighted else 1.0}
    fewer = {n: weight for n, weight in weights.items() if n != 2}
    place = make(shards)
    begin = time.process_time()
    first = place(weights)
    took = time.process_time() - begin
    joined = place(more)
    again = make(shards)
    left_from = again(weights)
    left = again(fewer)
    join_min = int(shards * FACTOR * more[size + 1] / sum(more.values()))
    leave_min = sum(2 in replicas for replicas in left_from)
    return (
        f"| {size} | {shards} | {'1, 2, 3' if weighted else 'equal'} | {name} "
        f"| {worst(first, weights):.2f} | {copies(first, joined)} / {join_min} "
        f"| {worst(joined, more):.2f} | {copies(left_from, left)} / {leave_min} "
        f"| {worst(left, fewer):.2f} | {ceil(took * 1000)} ms |"
    )


def main() -> None:
    """Print the table."""
    print("| nodes | shards | weights | by | max/mean | one joins: copies / minimum | max/mean "
          "| one leaves: copies / held | max/mean | time |")  # fmt: skip
    print("|---|---|---|---|---|---|---|---|---|---|")
    for case in CASES:
        for name, make in (
            ("quoit", with_quoit), ("uhashring", with_uhashring), ("Swift", with_swift)
        ):  # fmt: skip
            print(row(name, make, case), flush=True)


if __name__ == "__main__":
    main()
