"""One scenario: a fresh cluster under recorded load, a fault, its end, and the judgement."""

import asyncio
import contextlib
import shutil
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

from quoit.sim.history import OK, UNKNOWN
from tests.chaos.cluster import Cluster, Failure, Node
from tests.chaos.disks import LoopDisk, SyncFaults
from tests.chaos.firewall import Firewall
from tests.chaos.judge import judge, progress
from tests.chaos.probe import Probe
from tests.chaos.proxy import Faults, Proxy
from tests.chaos.traffic import Traffic

__all__ = ["Result", "Run", "Scenario", "Tools", "run"]

STEADY_S = 1.5
"""Load without faults, before and after."""
RECOVER_S = 15.0
"""After healing each shard must acknowledge something within this time. Large, because TCP may wait
seconds before it tries again, and because the machine may be busy."""
LIMIT_S = 120.0
"""A scenario that takes longer hangs."""
LINE_MAX = 400
DISK_MB = 224
"""A log segment and its spare take 128."""


@dataclass
class Tools:
    """What this machine allows. `missing`: tool -> why it cannot be used."""

    missing: dict[str, str] = field(default_factory=dict)
    firewall: Firewall | None = None
    library: Path | None = None


@dataclass
class Run:
    """What a scenario's body works with."""

    cluster: Cluster
    traffic: Traffic
    faults: Faults = field(default_factory=Faults)
    disks: dict[int, LoopDisk] = field(default_factory=dict)
    syncs: dict[int, SyncFaults] = field(default_factory=dict)
    network: Firewall | None = None
    proxies: list[Proxy] = field(default_factory=list)
    probes: list[Probe] = field(default_factory=list)
    """One for each shard."""

    @property
    def firewall(self) -> Firewall:
        """For scenarios that need "firewall"."""
        if self.network is None:
            raise Failure("the scenario does not say that it needs a firewall")
        return self.network

    async def progress(self, within_s: float, why: str) -> float:
        """See judge.progress."""
        return await progress(self.probes, within_s, why)

    def others(self, node: Node) -> list[Node]:
        """All nodes but one."""
        return [one for one in self.cluster.nodes if one is not node]

    async def restart(self, node: Node) -> None:
        """Start a node that ended, and wait until the whole cluster is ready."""
        self.cluster.launch(node)
        await self.cluster.ready()


Body = Callable[[Run], Awaitable[int]]
"""Injects faults and ends them; returns how often a fault hit something, for the guard against runs
that show nothing."""


@dataclass(frozen=True)
class Scenario:
    """`needs`: of firewall, proxies, loop, syncs."""

    name: str
    body: Body
    needs: tuple[str, ...] = ()
    nodes: int = 3


@dataclass
class Result:
    """What came of it. `problem` is empty when all promises held."""

    name: str
    operations: int = 0
    unknown: int = 0
    pause_s: float = 0.0
    seconds: float = 0.0
    problem: str = ""
    place: str = ""

    def line(self) -> str:
        """For people."""
        if self.problem:
            first = self.problem.partition("\n")[0]
            return f"FAILED {self.name}: {first[:LINE_MAX]}\n  all of it: {self.place}"
        return (
            f"ok {self.name}: {self.operations:,} operations checked ({self.unknown} unknown), "
            f"longest pause {self.pause_s:.1f} s"
        )


async def run(scenario: Scenario, consensus: str, tools: Tools, directory: Path) -> Result:
    """Run it below `directory`, which is removed afterwards unless something failed."""
    began = time.monotonic()
    place = directory / f"{consensus}-{scenario.name}"
    cluster = Cluster(place, scenario.nodes, consensus)
    traffic = Traffic(cluster.addresses)
    world = Run(cluster, traffic, network=tools.firewall if "firewall" in scenario.needs else None)
    result = Result(scenario.name, place=str(place))
    try:
        await _prepare(world, scenario, tools)
        await asyncio.wait_for(_play(world, scenario), LIMIT_S)
    except Failure as failure:
        result.problem = str(failure)
    except TimeoutError:
        result.problem = f"did not end within {LIMIT_S:.0f} s"
    finally:
        await _clean_up(world)
    result.operations = traffic.history.count(OK)
    result.unknown = traffic.history.count(UNKNOWN)
    result.seconds = time.monotonic() - began
    if result.problem:
        lines = [operation.line() for operation in traffic.history.operations]
        (place / "problem.txt").write_text(result.problem + "\n")
        (place / "history.txt").write_text("\n".join(lines) + "\n")
        return result
    result.pause_s = max(probe.longest_pause() for probe in world.probes)
    shutil.rmtree(place, ignore_errors=True)
    return result


async def _prepare(world: Run, scenario: Scenario, tools: Tools) -> None:
    cluster = world.cluster
    for node in cluster.nodes:
        if "loop" in scenario.needs:
            world.disks[node.number] = await asyncio.to_thread(LoopDisk, node.directory, DISK_MB)
        if "syncs" in scenario.needs and tools.library is not None:
            switches = cluster.directory / f"sync{node.number}"
            faults = world.syncs[node.number] = SyncFaults(tools.library, switches)
            node.environment.update(faults.environment)
        if "proxies" in scenario.needs:
            for other in world.others(node):
                seed = node.number * 100 + other.number
                proxy = Proxy(node.host, (other.host, other.peer), world.faults, seed)
                world.proxies.append(proxy)
                node.routes[other.number] = await proxy.start()


async def _play(world: Run, scenario: Scenario) -> None:
    await world.cluster.start()
    cluster = world.cluster
    world.probes = [Probe(cluster.addresses, low, high) for low, high in cluster.shards]
    world.traffic.start()
    await asyncio.sleep(STEADY_S)
    await world.progress(RECOVER_S, "before any fault")
    hits = await scenario.body(world)
    await world.cluster.ready()
    await world.progress(RECOVER_S, "after all was healed")
    await asyncio.sleep(STEADY_S)
    await world.traffic.stop()
    for probe in world.probes:
        await probe.stop()
    await judge(world.cluster, world.traffic)
    if hits == 0:
        raise Failure("no fault hit anything: this shows nothing")


async def _clean_up(world: Run) -> None:
    for faults in world.syncs.values():
        faults.end("hang")
    world.cluster.kill_all()
    await world.traffic.abandon()
    for probe in world.probes:
        await probe.stop()
    for proxy in world.proxies:
        await proxy.stop()
    if world.network is not None:
        world.network.heal()
    for disk in world.disks.values():
        with contextlib.suppress(RuntimeError):
            await asyncio.to_thread(disk.remove)
