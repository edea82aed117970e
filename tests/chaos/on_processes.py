"""Faults of processes: killed without warning, or stopped for longer than leases and elections."""

import asyncio
import signal

from tests.chaos.cluster import Failure
from tests.chaos.scenario import Run, Scenario

__all__ = ["SCENARIOS", "kill_all_once"]

TAKE_OVER_S = 10.0
PAUSE_S = 2.5


async def kill(run: Run) -> int:
    """P1: kill -9 of the node that leads most, then of any, in turns."""
    for number in range(4):
        node = await run.cluster.busiest() if number % 2 == 0 else run.cluster.node(number)
        node.kill()
        await run.progress(TAKE_OVER_S, f"after n{node.number} was killed")
        await asyncio.sleep(0.5)
        await run.restart(node)
    return 4


async def kill_all_once(run: Run, apart_s: float = 0.0) -> int:
    """P1: kill -9 of all nodes at once; they come back `apart_s` after one another."""
    run.cluster.kill_all()
    for node in run.cluster.nodes:
        run.cluster.launch(node)
        await asyncio.sleep(apart_s)
    await run.cluster.ready()
    await run.progress(TAKE_OVER_S, "after all nodes were killed and came back")
    return 1


async def kill_all(run: Run) -> int:
    """P1: kill -9 of all nodes at once, twice; the second time they come back one after another."""
    return await kill_all_once(run) + await kill_all_once(run, 0.7)


async def pause(run: Run) -> int:
    """P3: a leader stands still; when it wakes up it must not believe its old lease. Reads wait for
    it by then that were sent long after their keys had changed elsewhere."""
    answered = 0
    for _ in range(3):
        node = await run.cluster.busiest()
        # Accepted before it stops, or the news of its peers would come before these reads.
        connections = await run.traffic.connect_late((node.number, node.host, node.resp))
        node.signal(signal.SIGSTOP)
        try:
            await run.progress(TAKE_OVER_S, f"with n{node.number} stopped")
            await asyncio.sleep(PAUSE_S)
            late = asyncio.create_task(run.traffic.read_late(node.number, connections))
            await asyncio.sleep(0.3)
        finally:
            node.signal(signal.SIGCONT)
        answered += await late
        if not node.running:
            raise Failure(f"n{node.number} did not survive a pause")
    return answered


SCENARIOS = [
    Scenario("pause", pause),
    Scenario("kill", kill),
    Scenario("kill-all", kill_all),
]
