"""Faults of processes: killed without warning, or stopped for longer than leases and elections."""

import asyncio
import signal

from tests.chaos.cluster import Failure
from tests.chaos.scenario import Run, Scenario

__all__ = ["SCENARIOS", "kill_all"]

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


async def kill_all(run: Run) -> int:
    """P1: kill -9 of all nodes at once, twice; the second time they come back one after another."""
    for apart_s in (0.0, 0.7):
        run.cluster.kill_all()
        for node in run.cluster.nodes:
            run.cluster.launch(node)
            await asyncio.sleep(apart_s)
        await run.cluster.ready()
        await run.progress(TAKE_OVER_S, "after all nodes were killed and came back")
    return 2


async def pause(run: Run) -> int:
    """P3: a leader stands still; when it wakes up it must not believe its old lease."""
    for _ in range(3):
        node = await run.cluster.busiest()
        node.signal(signal.SIGSTOP)
        try:
            await run.progress(TAKE_OVER_S, f"with n{node.number} stopped")
            await asyncio.sleep(PAUSE_S)
        finally:
            node.signal(signal.SIGCONT)
        await asyncio.sleep(0.7)
        if not node.running:
            raise Failure(f"n{node.number} did not survive a pause")
    return 3


SCENARIOS = [
    Scenario("pause", pause),
    Scenario("kill", kill),
    Scenario("kill-all", kill_all),
]
