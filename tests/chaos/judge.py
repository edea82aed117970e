"""What must hold after a scenario was healed: every node serves, every acknowledged write is there when
read through every node, the replicas agree, and the whole record is linearizable."""

import asyncio
import time

import hiredis

from quoit.sim.checkers.durability import check_durability
from quoit.sim.checkers.linearizable import LEGAL, check
from quoit.sim.history import GET, OK, History
from tests.chaos.cluster import Cluster, Failure
from tests.chaos.probe import Probe
from tests.chaos.traffic import Address, Traffic
from tests.chaos.wire import Broken, Connection

__all__ = ["OK_MIN", "judge", "progress"]

OK_MIN = 200
"""With fewer acknowledged operations a scenario has shown nothing."""
BATCH = 50
TIMEOUT_S = 15.0


async def progress(probes: list[Probe], within_s: float, why: str) -> float:
    """Until each shard has acknowledged a write from now on; how long that took, in seconds."""
    began = time.monotonic()
    while True:
        silent = [shard for shard, probe in enumerate(probes) if probe.last() < began]
        if not silent:
            return time.monotonic() - began
        if time.monotonic() > began + within_s:
            raise Failure(f"shards {silent} acknowledged nothing for {within_s:.0f} s {why}")
        await asyncio.sleep(0.02)


async def judge(cluster: Cluster, traffic: Traffic) -> None:
    """All of the above; the traffic has stopped. Failure says what does not hold."""
    if traffic.oddities:
        raise Failure("replies that may not be: " + "; ".join(traffic.oddities[:5]))
    history = traffic.history
    keys = traffic.named()
    final = {address[0]: await _read_all(history, keys, address) for address in cluster.addresses}
    problem = await cluster.replicas_equal()
    if problem:
        raise Failure(problem)
    # Why before the search: it names what was lost, where the search only says "illegal".
    holders = {key: tuple(final) for key in keys}
    problem = check_durability(history, final, holders)
    if problem:
        raise Failure(problem)
    verdict = await asyncio.to_thread(check, history)
    if verdict.result != LEGAL:
        raise Failure(verdict.report())
    if history.count(OK) < OK_MIN:
        raise Failure(f"only {history.count(OK)} operations were acknowledged: this shows nothing")


async def _read_all(history: History, keys: list[bytes], address: Address) -> dict[bytes, bytes]:
    """The value of each key, read through one node; each read is part of the record."""
    node, host, port = address
    found: dict[bytes, bytes] = {}
    try:
        connection = await Connection.open(host, port)
        for start in range(0, len(keys), BATCH):
            batch = keys[start : start + BATCH]
            reads = [
                history.invoke(
                    f"final{node}.{place}", GET, key, node=node, now_us=time.monotonic_ns() // 1000
                )
                for place, key in enumerate(batch)
            ]
            replies = await connection.call(*((b"GET", key) for key in batch), timeout_s=TIMEOUT_S)
            for read, key, reply in zip(reads, batch, replies, strict=True):
                if isinstance(reply, hiredis.ReplyError):
                    raise Failure(f"{key.decode()} cannot be read through n{node}: {reply}")
                history.complete(read, OK, reply, now_us=time.monotonic_ns() // 1000)
                if reply is not None:
                    found[key] = reply
        connection.close()
    except Broken as error:
        raise Failure(f"the last reads through n{node} failed: {error}") from None
    return found
