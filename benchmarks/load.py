"""The load generator: closed-loop clients against quoit, Redis, etcd or NATS, as one process.

    python benchmarks/load.py resp 127.0.0.1:6379 --op set --clients 64 --depth 16 --seconds 5

It prints one JSON object: the rate, latency percentiles (of a batch of `depth` commands), errors,
the longest gap between two answers, the processor time that the generator itself used (near 1.0 it
was the bottleneck, not the system), and the outcome of reading a sample of the keys back.
`compare.py` starts it once per row, so that its processor time is that row's alone.
"""

import argparse
import asyncio
import json
import random
import resource
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from time import perf_counter, perf_counter_ns
from typing import Any

import uvloop

import load_etcd
import load_nats
import load_resp
from seats import Recorder, Seat, SeatProtocol, key_name
from usage import usage

__all__ = ["Address", "Job", "run_job"]

Address = tuple[str, int]
Make = Callable[[Seat], SeatProtocol | load_resp.MappedClient]
PREFILL_SECONDS_MAX = 120.0
DRAIN_SECONDS = 3.0


@dataclass
class Job:
    """One run of the generator.

    op          "set", "get", or "fill" (every key once, then stop)
    targets     seat n uses target n % len(targets), and the next one when its connection is lost
    timeout_ms  a seat gives a batch up after this long and reconnects to its next target; 0: never
    mapped      RESP only: send each key to the node that CLUSTER SLOTS names for it
    check       how many of the written keys are read back afterwards, at `check_at`
    pids        processes whose use of the processor is measured along
    """

    system: str
    targets: list[Address]
    op: str = "set"
    clients: int = 64
    depth: int = 1
    keys: int = 100_000
    seconds: float = 5.0
    warm_up: float = 0.5
    db: int = 0
    wait_one: bool = False
    mapped: bool = False
    timeout_ms: int = 0
    check: int = 1000
    check_at: list[Address] = field(default_factory=list)
    pids: list[int] = field(default_factory=list)

    @property
    def writes(self) -> bool:
        return self.op != "get"


def prepare(job: Job) -> tuple[Make, load_resp.SlotMap | None]:
    """What makes a seat's connection, and the map to follow, if any."""
    if job.system == "resp":
        commands = load_resp.Commands(job.keys, job.writes)
        if job.mapped:
            slots = load_resp.SlotMap(job.targets)
            slots.refresh()
            return lambda seat: load_resp.MappedClient(seat, commands, slots), slots
        return lambda seat: load_resp.RespClient(seat, commands, job.db, job.wait_one), None
    if job.system == "etcd":
        puts = load_etcd.EtcdCommands(job.keys, job.writes)
        return lambda seat: load_etcd.EtcdClient(seat, puts), None
    if job.system == "nats":
        publishes = load_nats.NatsCommands(job.keys, job.writes)
        return lambda seat: load_nats.NatsClient(seat, publishes), None
    raise ValueError(f"no such system: {job.system}")


async def keep_seated(seat: Seat, job: Job, make: Make) -> None:
    """Connect the seat, again whenever its connection is lost or its batch takes too long."""
    turn = seat.index
    while not seat.closed:
        client = make(seat)
        try:
            target = job.targets[turn % len(job.targets)]
            await asyncio.wait_for(client.open(target), 1.0)
            await watch(seat, client, job.timeout_ms)
        except (OSError, TimeoutError) as error:
            seat.recorder.failed(f"cannot connect to {target}: {error}")
            await asyncio.sleep(0.02)
        finally:
            client.drop()
        turn += 1


async def watch(seat: Seat, client: Any, timeout_ms: int) -> None:
    """Return when the connection is of no more use."""
    if not timeout_ms:
        await client.gone.wait()
        return
    while not client.gone.is_set():
        await asyncio.sleep(0.01)
        if seat.waiting and perf_counter_ns() - seat.sent_ns > timeout_ms * 1_000_000:
            seat.recorder.given_up += 1
            return


def fetch(job: Job, keys: list[bytes]) -> list[bytes | None]:
    """Read keys back; at any address of `check_at` (or the targets) that answers."""
    error: Exception = ValueError("nowhere to check")
    for address in job.check_at or job.targets:
        try:
            if job.system == "resp":
                return load_resp.fetch(address, job.db, keys)
            if job.system == "etcd":
                return load_etcd.fetch(address, keys)
            return load_nats.fetch(address, keys)
        except (OSError, ValueError) as problem:
            error = problem
    raise error


def check(job: Job, seats: list[Seat]) -> dict[str, Any]:
    """Read a random sample of the acknowledged keys back and compare."""
    written = [(number, seat) for seat in seats for number in seat.acked]
    sample = random.Random(1).sample(written, min(job.check, len(written)))
    bad: list[str] = []
    for start in range(0, len(sample), 256):
        part = sample[start : start + 256]
        values = fetch(job, [key_name(number) for number, _ in part])
        for (number, seat), value in zip(part, values, strict=True):
            if problem := seat.verdict(number, value):
                bad.append(problem)
    return {"checked": len(sample), "bad": len(bad), "first_bad": bad[0] if bad else ""}


async def run_async(job: Job) -> dict[str, Any]:
    recorder = Recorder()
    seats = [
        Seat(index, job.clients, job.keys, job.depth, job.writes, recorder)
        for index in range(job.clients)
    ]
    make, slots = prepare(job)
    fill = job.op == "fill"
    if fill:
        for seat in seats:
            seat.every_key_once()
    recorder.begin(PREFILL_SECONDS_MAX if fill else job.seconds, 0.0 if fill else job.warm_up)
    began = perf_counter()
    before = resource.getrusage(resource.RUSAGE_SELF)
    nodes_before = [usage(pid) for pid in job.pids]
    tasks = [asyncio.create_task(keep_seated(seat, job, make)) for seat in seats]
    follow = asyncio.create_task(slots.follow()) if slots else None
    if fill:
        while any(len(seat.acked) < len(seat.keys) for seat in seats):
            await asyncio.sleep(0.02)
            if perf_counter_ns() > recorder.stop_ns:
                raise TimeoutError(f"filling {job.keys} keys did not end: {recorder.first_error}")
    else:
        await asyncio.sleep((recorder.stop_ns - perf_counter_ns()) / 1e9)
    spent = perf_counter() - began
    after = resource.getrusage(resource.RUSAGE_SELF)
    nodes_after = [usage(pid) for pid in job.pids]
    await drain(seats)
    for task in [*tasks, *([follow] if follow else [])]:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    report = recorder.report(spent if fill else job.seconds)
    report["generator_cpu"] = round(used / spent, 3)
    pairs = zip(nodes_before, nodes_after, strict=True)
    report["node_cpu"] = [round((b.cpu_seconds - a.cpu_seconds) / spent, 2) for a, b in pairs]
    report["node_memory_mb"] = [round(after.memory_mb, 1) for after in nodes_after]
    return report | (check(job, seats) if job.writes and job.check else {})


async def drain(seats: list[Seat]) -> None:
    """Let what is in flight come home, so that its outcome is known to the check."""
    until = perf_counter() + DRAIN_SECONDS
    while any(seat.waiting for seat in seats) and perf_counter() < until:
        await asyncio.sleep(0.01)
    for seat in seats:
        seat.closed = True
        seat.lost("no answer")


def run_job(job: Job) -> dict[str, Any]:
    """Run in this process. Raises OSError when nobody listens there."""
    return uvloop.run(run_async(job))


def address_of(text: str) -> Address:
    host, _, port = text.rpartition(":")
    return host or "127.0.0.1", int(port)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    if len(sys.argv) == 3 and sys.argv[1] == "--job":
        raw = json.loads(sys.argv[2])
        raw["targets"] = [tuple(address) for address in raw["targets"]]
        raw["check_at"] = [tuple(address) for address in raw["check_at"]]
        print(json.dumps(run_job(Job(**raw))))
        return
    defaults = asdict(Job("", []))
    parser.add_argument("system", choices=["resp", "etcd", "nats"])
    parser.add_argument("targets", nargs="+", type=address_of, metavar="HOST:PORT")
    parser.add_argument("--op", choices=["set", "get", "fill"], default="set")
    for name in ("clients", "depth", "keys", "seconds", "warm_up", "db", "timeout_ms", "check"):
        kind = type(defaults[name])
        flag = "--" + name.replace("_", "-")
        parser.add_argument(flag, type=kind, default=defaults[name], help="default %(default)s")
    parser.add_argument("--wait-one", action="store_true", help="WAIT 1 after each batch of SETs")
    parser.add_argument("--mapped", action="store_true", help="send each key to its leader's node")
    print(json.dumps(run_job(Job(**vars(parser.parse_args()))), indent=2))


if __name__ == "__main__":
    main()
