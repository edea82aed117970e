"""`quoit kv`: keys from the command line."""

import sys
from typing import Annotated, Any

import redis
import typer

from quoit.cli.shared import CONNECT, FAILED, NOT_FOUND, fail, new_app, print_json, run_app

__all__ = ["main"]

app = new_app("Get, put, delete and list keys. Example: quoit kv put hello world")

Url = Annotated[str, typer.Option(envvar="QUOIT_URL", help="Any node.")]
AsJson = Annotated[bool, typer.Option("--json", help="Machine-readable output.")]
DEFAULT_URL = "redis://127.0.0.1:7379/0"


def _call(url: str, as_json: bool, *words: Any) -> Any:
    try:
        client = redis.Redis.from_url(url, socket_timeout=8, socket_connect_timeout=2, retry=None)
        return client.execute_command(*words)
    except redis.ResponseError as error:
        fail(FAILED, "REFUSED", str(error), as_json=as_json)
    except (redis.ConnectionError, redis.TimeoutError, ValueError) as error:
        fail(CONNECT, "CANNOT_CONNECT", f"no answer from {url}: {error}",
             "give --url redis://HOST:PORT/DB; `quoit serve` starts a node", as_json=as_json)  # fmt: skip


@app.command()
def get(key: str, url: Url = DEFAULT_URL, json: AsJson = False) -> None:
    """Print a value. Exit code 4 if there is none."""
    value = _call(url, json, "GET", key)
    if value is None:
        fail(NOT_FOUND, "NOT_FOUND", f"there is no key {key!r}", as_json=json)
    if json:
        print_json("Value", {"key": key, "value": value.decode("utf-8", "backslashreplace")})
        return
    sys.stdout.buffer.write(value)
    sys.stdout.buffer.write(b"\n" if sys.stdout.isatty() or not value.endswith(b"\n") else b"")
    sys.stdout.buffer.flush()


@app.command()
def put(
    key: str,
    value: Annotated[str, typer.Argument(help="The value; - reads standard input.")],
    ttl: Annotated[float, typer.Option(help="Seconds to live; 0: for ever.")] = 0,
    url: Url = DEFAULT_URL,
    json: AsJson = False,
) -> None:
    """Store a value; it is on a quorum's disks when this returns."""
    data = sys.stdin.buffer.read() if value == "-" else value.encode()
    words: list[Any] = ["SET", key, data]
    if ttl:
        words += ["PX", int(ttl * 1000)]
    _call(url, json, *words)
    if json:
        print_json("Stored", {"key": key, "bytes": len(data)})


@app.command(name="del")
def delete(keys: list[str], url: Url = DEFAULT_URL, json: AsJson = False) -> None:
    """Delete keys. Exit code 4 if none of them was there."""
    count = sum(_call(url, json, "DEL", key) for key in keys)
    if json:
        print_json("Deleted", {"count": count})
    if not count:
        fail(NOT_FOUND, "NOT_FOUND", "none of these keys exists", as_json=json)


@app.command()
def scan(
    pattern: Annotated[str, typer.Argument(help="As in user:*")] = "*",
    limit: Annotated[int, typer.Option(help="At most so many; 0: all.")] = 0,
    url: Url = DEFAULT_URL,
    json: AsJson = False,
) -> None:
    """List keys, one a line."""
    cursor: Any = 0
    shown: list[str] = []
    count = 0
    while True:
        cursor, keys = _call(url, json, "SCAN", cursor, "MATCH", pattern, "COUNT", 500)
        for key in keys:
            if limit and count >= limit:
                break
            count += 1
            text = key.decode("utf-8", "backslashreplace")
            if json:
                shown.append(text)
            else:
                print(text)
        if int(cursor) == 0 or (limit and count >= limit):
            break
    if json:
        print_json("Keys", shown)


def main(argv: list[str]) -> int:
    """Run the command."""
    return run_app(app, argv, "kv")
