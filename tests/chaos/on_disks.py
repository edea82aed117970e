"""Faults of disks: full, without power, failing once, slow, hanging."""

import asyncio
import contextlib
import signal
import time
from collections.abc import Callable

from tests.chaos.cluster import Failure, Node
from tests.chaos.scenario import Run, Scenario
from tests.chaos.wire import Broken, Connection

__all__ = ["SCENARIOS"]

TAKE_OVER_S = 10.0
FILLER_BYTES = 256 * 1024
FILLER_COUNT_MAX = 400


async def _until(condition: Callable[[], bool], within_s: float, what: str) -> None:
    deadline = time.monotonic() + within_s
    while not condition():
        if time.monotonic() > deadline:
            raise Failure(f"{what} did not happen within {within_s:.0f} s")
        await asyncio.sleep(0.05)


async def _fill_log(run: Run, full: Node, noticed: Callable[[], bool]) -> None:
    """Large writes, unrecorded, until the node noticed that it cannot have another log segment."""
    value = b"x" * FILLER_BYTES
    host, port = next((one.host, one.resp) for one in run.others(full))
    connection: Connection | None = None
    for number in range(FILLER_COUNT_MAX):
        if noticed():
            break
        with contextlib.suppress(Broken):
            if connection is None:
                connection = await Connection.open(host, port)
            await connection.call((b"SET", b"filler:%d" % (number % 16), value), timeout_s=7.0)
            continue
        connection = None
    if connection is not None:
        connection.close()
    await _until(noticed, 5.0, f"that n{full.number} noticed its full disk")


async def full_disk(run: Run) -> int:
    """D5: no room for a leader's log; then room again. Either the node refuses writes and hands its
    shards over, or it stops; never may it lose anything."""
    node = await run.cluster.busiest()
    disk = run.disks[node.number]
    disk.fill()
    await _fill_log(run, node, lambda: node.said("disk_full") or not node.running)
    await run.progress(TAKE_OVER_S, f"with the disk of n{node.number} full")
    await asyncio.sleep(2.0)
    disk.empty()
    if node.running:
        noticed = lambda: node.said("disk_has_room") or not node.running  # noqa: E731
        await _until(noticed, 10.0, f"that n{node.number} found room again")
    if not node.running:
        await run.restart(node)
    return 1


async def power_cut(run: Run) -> int:
    """D1: one node's machine loses power: all it did not sync is gone. Twice."""
    for _ in range(2):
        node = await run.cluster.busiest()
        disk = run.disks[node.number]
        disk.cut_power()
        node.kill()
        await run.progress(TAKE_OVER_S, f"without n{node.number}")
        await asyncio.to_thread(disk.restore_power)
        await run.restart(node)
    return 2


async def power_cut_all(run: Run) -> int:
    """D1: all machines lose power at one instant, and come back 0, 1 and 2 s later."""
    # Why stopped first: between the first cut and the last nobody may do anything.
    for node in run.cluster.nodes:
        node.signal(signal.SIGSTOP)
    for disk in run.disks.values():
        disk.cut_power()
    run.cluster.kill_all()
    for node in run.cluster.nodes:
        await asyncio.to_thread(run.disks[node.number].restore_power)
        run.cluster.launch(node)
        await asyncio.sleep(1.0)
    await run.cluster.ready()
    return 1


async def sync_fails(run: Run) -> int:
    """D3: one sync of a leader fails, later ones would succeed: the node must stop at once."""
    node = await run.cluster.busiest()
    faults = run.syncs[node.number]
    faults.begin("fail")
    await _until(lambda: faults.happened("failed"), 5.0, "a sync")
    await _until(lambda: not node.running, 5.0, f"the end of n{node.number}, whose sync failed")
    await run.progress(TAKE_OVER_S, f"without n{node.number}")
    await run.restart(node)
    return 1


async def slow_disk(run: Run) -> int:
    """D6: a leader's syncs take 300 ms; then they hang for seconds while its network is fine."""
    node = await run.cluster.busiest()
    faults = run.syncs[node.number]
    faults.begin("slow")
    await asyncio.sleep(3.0)
    await run.progress(TAKE_OVER_S, f"with slow syncs on n{node.number}")
    faults.end("slow")
    await asyncio.sleep(1.0)
    node = await run.cluster.busiest()
    faults = run.syncs[node.number]
    faults.begin("hang")
    await _until(lambda: faults.happened("hung"), 5.0, "a sync")
    await run.progress(TAKE_OVER_S, f"with hanging syncs on n{node.number}")
    await asyncio.sleep(3.0)
    faults.end("hang")
    return 1


SCENARIOS = [
    Scenario("full-disk", full_disk, ("loop",)),
    Scenario("power-cut", power_cut, ("loop",)),
    Scenario("power-cut-all", power_cut_all, ("loop",)),
    Scenario("sync-fails", sync_fails, ("syncs",)),
    Scenario("slow-disk", slow_disk, ("syncs",)),
]
