"""One run from its options to its verdict."""

from collections.abc import Callable

import msgspec

from quoit.sim.checkers import linearizable
from quoit.sim.checkers.durability import check_durability
from quoit.sim.fault_base import Fault
from quoit.sim.history import INCR, OK, UNKNOWN
from quoit.sim.nemesis import Nemesis
from quoit.sim.options import Options
from quoit.sim.workload import Probe
from quoit.sim.world import CORRECTNESS, INCONCLUSIVE, LIVENESS, Failure, World

__all__ = ["Result", "compare_now_and_then", "judge", "run", "settle"]

LIVE_US = 12_000_000
"""How long after healing every shard must answer through every node."""
SETTLE_US = 15_000_000
"""How long replicas may then need to become equal."""
OPERATIONS_MIN = 60
"""A run with fewer acknowledged operations tested nothing."""


class Result(msgspec.Struct):
    """What came out of a run."""

    options: Options
    failure: Failure | None
    trace_hash: str
    ok: int
    unknown: int
    failed: int
    leaders: int
    hits: dict[str, int]
    seen: dict[str, int]
    timeline: list[Fault]
    events: int
    virtual_us: int
    compared: int
    empty: str
    """Why this run does not count as a pass; empty if it does."""


def run(options: Options, trace: Callable[[str], None] | None = None) -> Result:
    """Run one seed to its end."""
    world = World(options, trace=trace)
    nemesis = Nemesis(world)
    world.start_all()
    world.workload.start()
    nemesis.start()
    compare_now_and_then(world)
    world.run_until(options.safety_us)
    nemesis.stop()
    settle(world)
    return judge(world, nemesis.timeline)


def compare_now_and_then(world: World) -> None:
    """While faults happen, too: replicas that applied equally far hold the same."""
    if world.now_us < world.options.safety_us:
        world.compare_replicas()
        world.after(500_000, compare_now_and_then, world)


def settle(world: World) -> None:
    """After healing: demand progress, read everything through every node, wait for equality."""
    if world.failure is None:
        _demand_progress(world)
    if world.failure is None:
        world.workload.stopped = True
        if not world.run_until(world.now_us + SETTLE_US, world.workload.idle):
            _stuck(world, "clients still wait for answers")
    if world.failure is None:
        _read_everything(world)
    if world.failure is None:
        if not world.run_until(world.now_us + SETTLE_US, lambda: _equal(world)):
            _stuck(world, "replicas do not reach the same applied index: " + _positions(world))
    if world.failure is None:
        world.compare_replicas()


def _stuck(world: World, reason: str) -> None:
    world.fail(LIVENESS, "LIVE", reason)


def _demand_progress(world: World) -> None:
    """Every shard answers a write through every node."""
    probes = []
    for node in sound_nodes(world):
        for shard, key in enumerate(shard_keys(world)):
            probes.append(Probe(world.workload, node, INCR, key, f"p{node}.{shard}"))
    for probe in probes:
        world.after(1, probe.act)
    deadline = world.now_us + LIVE_US
    if not world.run_until(deadline, lambda: all(probe.done for probe in probes)):
        waiting = [f"{probe.key.decode()}@{probe.node}" for probe in probes if not probe.done]
        leaders = [
            f"n{machine.id}:{sorted(machine.node.serving)}"
            for machine in world.machines.values()
            if machine.node is not None
        ]
        _stuck(world, f"no answer for {' '.join(waiting)}; serving: {' '.join(leaders)}")


def sound_nodes(world: World) -> list[int]:
    """All nodes but those that lost their data, which are refused for ever, and those that are gone."""
    machines = world.machines.items()
    return [number for number, one in machines if not one.restored and not one.retired]


def shard_keys(world: World) -> list[bytes]:
    """One counter's name per shard."""
    machine = next(one for one in world.machines.values() if one.node is not None)
    node = machine.node
    count = world.options.shards
    found: dict[int, bytes] = {}
    number = 0
    while node is not None and len(found) < count:
        key = b"cprobe%d" % number
        found.setdefault(node.router.shard(0, key), key)
        number += 1
    return [found[shard] for shard in sorted(found)]


def _read_everything(world: World) -> None:
    keys = dict(world.workload.db_of)
    keys.update(dict.fromkeys(shard_keys(world), 0))
    probes = []
    for node in sound_nodes(world):
        for number, (key, db) in enumerate(sorted(keys.items())):
            probe = Probe(world.workload, node, "get", key, f"e{node}.{number}", db=db)
            probes.append(probe)
            world.after(1 + number * 100, probe.act)
    if not world.run_until(world.now_us + LIVE_US, lambda: all(probe.done for probe in probes)):
        waiting = [f"{probe.key.decode()}@{probe.node}" for probe in probes if not probe.done]
        _stuck(world, f"reads at the end got no answer: {' '.join(waiting[:10])}")


def _equal(world: World) -> bool:
    for shard in range(world.options.shards):
        reached = {
            (replica.state.applied_index, replica.core.last_index): None
            for machine in world.machines.values()
            if machine.node is not None
            for replica in [machine.node.replicas.get(shard)]
            if replica is not None
        }
        if len(reached) > 1:
            return False
    return True


def _positions(world: World) -> str:
    parts = []
    for machine in world.machines.values():
        if machine.node is not None:
            for shard, replica in machine.node.replicas.items():
                core = replica.core
                parts.append(
                    f"n{machine.id}/s{shard} {core.role} term={core.term} "
                    f"applied={replica.state.applied_index} last={core.last_index}"
                )
    return "; ".join(parts)


def judge(world: World, timeline: list[Fault]) -> Result:
    """All checkers over the whole history."""
    for machine in world.machines.values():
        machine.count_up()
    if world.failure is None:
        _check_durability(world)
    if world.failure is None or world.failure.kind == LIVENESS:
        verdict = linearizable.check(world.history)
        if verdict.result == linearizable.ILLEGAL:
            if world.failure is not None:
                world.failure = None
            world.fail(CORRECTNESS, "LIN", verdict.report())
        elif verdict.result == linearizable.INCONCLUSIVE:
            world.fail(INCONCLUSIVE, "LIN", verdict.report(10))
    ok = world.history.count(OK)
    return Result(
        options=world.options,
        failure=world.failure,
        trace_hash=world.trace_hash(),
        ok=ok,
        unknown=world.history.count(UNKNOWN),
        failed=len(world.history.operations) - ok - world.history.count(UNKNOWN),
        leaders=world.elections.changes,
        hits=dict(sorted(world.hits.items())),
        seen=dict(sorted(world.seen.items())),
        timeline=timeline,
        events=world.events,
        virtual_us=world.now_us,
        compared=world.replicas.compared,
        empty=_empty(world, ok),
    )


def _empty(world: World, ok: int) -> str:
    if ok < OPERATIONS_MIN:
        return f"only {ok} operations were acknowledged"
    if world.elections.changes <= world.options.shards and world.options.nodes > 1:
        return "no leader changed"
    if not world.hits:
        return "no fault touched anything"
    return ""


def _check_durability(world: World) -> None:
    final: dict[int, dict[bytes, bytes]] = {}
    holders: dict[bytes, tuple[int, ...]] = {}
    keys = dict(world.workload.db_of)
    keys.update(dict.fromkeys(shard_keys(world), 0))
    for machine in world.machines.values():
        if machine.node is not None:
            held: dict[bytes, bytes] = {}
            for key, db in keys.items():
                value = machine.value(db, key)
                if value is not None:
                    held[key] = value
            final[machine.id] = held
            for key, db in keys.items():
                shard = machine.node.router.shard(db, key)
                if shard in machine.node.replicas:
                    holders[key] = (*holders.get(key, ()), machine.id)
    problem = check_durability(world.history, final, holders)
    if problem:
        world.fail(CORRECTNESS, "DUR", problem)
