"""Faults between nodes. Clients reach every node all the time, also those that are cut off."""

import asyncio
import time

from tests.chaos.cluster import Failure, Node
from tests.chaos.scenario import Run, Scenario

__all__ = ["SCENARIOS"]

FAULT_S = 6.0
MAJORITY_S = 10.0
"""Within this time a majority that can talk must serve every shard. It needs well under a second;
the rest is for a busy machine."""
TERMS_MAX = 4
"""So many terms of one shard may be seen while a fault stands still: more is flapping."""


def _both(left: Node, right: Node) -> list[tuple[str, str]]:
    return [(left.host, right.host), (right.host, left.host)]


async def _steady_terms(run: Run, seconds: float) -> None:
    """Nothing changes any more: leaders must stay, terms must not climb."""
    seen: dict[int, set[int]] = {}
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        for shard, term in (await run.cluster.terms()).items():
            seen.setdefault(shard, set()).add(term)
        await asyncio.sleep(0.25)
    for shard, terms in sorted(seen.items()):
        if len(terms) > TERMS_MAX:
            raise Failure(f"shard {shard} went through terms {sorted(terms)} in {seconds:.0f} s")


async def split(run: Run) -> int:
    """N1: the two nodes that lead most against the three others."""
    first = await run.cluster.busiest()
    second = run.others(first)[0]
    minority, majority = [first, second], run.others(first)[1:]
    pairs = [pair for one in minority for other in majority for pair in _both(one, other)]
    before = run.firewall.dropped()
    run.firewall.add("cut", pairs)
    await run.progress(MAJORITY_S, "though a majority can talk")
    await _steady_terms(run, FAULT_S)
    run.firewall.heal()
    return run.firewall.dropped() - before


async def one_way(run: Run) -> int:
    """N2: a leader hears but is not heard; then, another one, the reverse."""
    before = run.firewall.dropped()
    for mute in (True, False):
        node = await run.cluster.busiest()
        pairs = [(node.host, other.host) for other in run.others(node)]
        run.firewall.add("cut", pairs if mute else [(b, a) for a, b in pairs])
        await run.progress(MAJORITY_S, f"with n{node.number} {'mute' if mute else 'deaf'}")
        await _steady_terms(run, FAULT_S / 2)
        run.firewall.heal()
        await asyncio.sleep(1.0)
    return run.firewall.dropped() - before


async def partial(run: Run) -> int:
    """N3: two nodes cannot talk to each other, one of them leads; the third hears both."""
    node = await run.cluster.busiest()
    before = run.firewall.dropped()
    run.firewall.add("cut", _both(node, run.others(node)[0]))
    await run.progress(MAJORITY_S, "though one node can talk to all")
    await _steady_terms(run, FAULT_S)
    run.firewall.heal()
    return run.firewall.dropped() - before


async def loss(run: Run) -> int:
    """N5: 30 % of all packets between nodes are lost. TCP repeats them after 0.2 s and more, so
    nothing is demanded of speed, only that nothing breaks and all is well afterwards."""
    nodes = run.cluster.nodes
    before = run.firewall.dropped()
    run.firewall.add("lossy", [(a.host, b.host) for a in nodes for b in nodes if a is not b])
    await asyncio.sleep(FAULT_S + 2)
    run.firewall.heal()
    return run.firewall.dropped() - before


async def thin(run: Run) -> int:
    """N8: what a leader sends to others arrives if it is small. It cannot replicate, and its
    connections are stuck behind the first large packet: others must take over."""
    node = await run.cluster.busiest()
    before = run.firewall.dropped()
    run.firewall.add("thin", [(node.host, other.host) for other in run.others(node)])
    # Why the sleep: the connections are stuck only once something large was sent.
    await asyncio.sleep(2.0)
    await run.progress(MAJORITY_S, "with a leader that can send only small packets")
    await asyncio.sleep(FAULT_S - 2)
    run.firewall.heal()
    return run.firewall.dropped() - before


async def late(run: Run) -> int:
    """N6: frames take 30 ms in the mean and are held for longer than an election takes."""
    run.faults.delay_s = 0.03
    await asyncio.sleep(FAULT_S / 2)
    await run.progress(MAJORITY_S, "with delays of 30 ms")
    for _ in range(2):
        run.faults.hold = True
        await asyncio.sleep(1.2)
        run.faults.hold = False
        await asyncio.sleep(1.0)
    run.faults.heal()
    return run.faults.hits


async def repeat(run: Run) -> int:
    """N6: messages of the agreement protocol arrive twice, late and out of order."""
    run.faults.repeat = 0.2
    run.faults.swap = 0.05
    await asyncio.sleep(FAULT_S + 2)
    await run.progress(MAJORITY_S, "with messages repeated and out of order")
    run.faults.heal()
    return run.faults.hits


async def reset(run: Run) -> int:
    """N9: connections break in the middle of a frame, again and again."""
    run.faults.reset = 0.002
    await asyncio.sleep(FAULT_S)
    run.faults.heal()
    return run.faults.hits


SCENARIOS = [
    Scenario("split", split, ("firewall",), nodes=5),
    Scenario("one-way", one_way, ("firewall",)),
    Scenario("partial", partial, ("firewall",)),
    Scenario("loss", loss, ("firewall",)),
    Scenario("thin", thin, ("firewall",)),
    Scenario("late", late, ("proxies",)),
    Scenario("repeat", repeat, ("proxies",)),
    Scenario("reset", reset, ("proxies",)),
]
