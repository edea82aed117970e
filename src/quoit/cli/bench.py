"""`quoit bench`: load a running cluster (or any Redis) for a while and print what it did. Closed loop,
so latencies are those of a system that is never asked more than it can do; `make bench` compares
systems and says so."""

import statistics
import threading
import time
from typing import Annotated

import redis
import typer

from quoit.cli.clients import call, connect_url
from quoit.cli.shared import AUTH, CONNECT, fail, new_app, print_json, run_app

__all__ = ["main"]

app = new_app()


@app.command()
def bench(
    url: Annotated[str, typer.Option(envvar="QUOIT_URL")] = "redis://127.0.0.1:7379/0",
    clients: Annotated[int, typer.Option(min=1, max=512, help="Threads.")] = 8,
    pipeline: Annotated[int, typer.Option(min=1, max=1024, help="Commands in flight each.")] = 16,
    seconds: Annotated[float, typer.Option(min=0.2, max=600)] = 3.0,
    size: Annotated[int, typer.Option(min=1, max=1 << 20, help="Bytes of a value.")] = 128,
    json: Annotated[bool, typer.Option("--json")] = False,
) -> None:
    """Load a running cluster. Example: quoit bench --url redis://127.0.0.1:7379/0 --clients 16

    SET, then GET, on 100,000 keys named bench:N, which are left behind."""
    try:
        call(connect_url(url), "PING")
    except redis.AuthenticationError as error:
        fail(AUTH, "UNAUTHENTICATED", str(error), as_json=json)
    except (redis.RedisError, ValueError) as error:
        fail(CONNECT, "CANNOT_CONNECT", f"no answer from {url}: {error}", as_json=json)
    rows = [_phase(name, url, clients, pipeline, seconds, size) for name in ("SET", "GET")]
    if json:
        print_json("Bench", rows)
        return
    print(f"{clients} clients x {pipeline} in flight, {size}-byte values, {seconds:g} s each")
    for row in rows:
        print(
            f"{row['command']:<4} {row['per_second']:>10,.0f}/s   batch of {pipeline}: "
            f"p50 {row['p50_ms']:.2f} ms   p99 {row['p99_ms']:.2f} ms   errors {row['errors']}"
        )


def _phase(
    name: str, url: str, clients: int, depth: int, seconds: float, size: int
) -> dict[str, float | str]:
    times: list[float] = []
    counts = {"done": 0, "errors": 0}
    lock = threading.Lock()
    end = time.monotonic() + seconds
    value = b"x" * size

    def work(number: int) -> None:
        client = connect_url(url)
        step, done, errors = number * 7919, 0, 0
        mine: list[float] = []
        while time.monotonic() < end:
            pipe = client.pipeline(transaction=False)
            for _ in range(depth):
                step = (step * 1103515245 + 12345) % 2147483648
                key = f"bench:{step % 100_000}"
                if name == "SET":
                    pipe.set(key, value)
                else:
                    pipe.get(key)
            began = time.perf_counter()
            try:
                results = pipe.execute(raise_on_error=False)
                failed = sum(isinstance(one, Exception) for one in results)
                done += len(results) - failed
                errors += failed
            except redis.RedisError:
                errors += depth
            mine.append((time.perf_counter() - began) * 1000)
        with lock:
            times.extend(mine)
            counts["done"] += done
            counts["errors"] += errors

    threads = [threading.Thread(target=work, args=(number,)) for number in range(clients)]
    began = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    took = time.monotonic() - began
    points = statistics.quantiles(times, n=100) if len(times) > 1 else [0.0] * 99
    return {
        "command": name, "per_second": counts["done"] / took, "p50_ms": points[49],
        "p99_ms": points[98], "errors": counts["errors"],
    }  # fmt: skip


def main(argv: list[str]) -> int:
    """Run the command."""
    return run_app(app, argv, "bench")
