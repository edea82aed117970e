"""`quoit kv`: keys from the command line."""

import base64
import sys
from typing import Annotated, Any

import redis
import typer

from quoit.cli.clients import call, connect_url
from quoit.cli.shared import (
    AUTH,
    CONFLICT,
    CONNECT,
    FAILED,
    NOT_FOUND,
    UNAVAILABLE,
    USAGE,
    fail,
    new_app,
    print_json,
    run_app,
)

__all__ = ["main"]

app = new_app("Get, put, delete and list keys. Example: quoit kv put hello world", group=True)

Url = Annotated[str, typer.Option(envvar="QUOIT_URL", help="Any node.")]
AsJson = Annotated[bool, typer.Option("--json", help="Machine-readable output.")]
DEFAULT_URL = "redis://127.0.0.1:7379/0"

# First word of the server's error -> exit code, kind.
_REFUSALS = {
    "CLUSTERDOWN": (UNAVAILABLE, "SHARD_NO_LEADER"),
    "TRYAGAIN": (UNAVAILABLE, "TRY_AGAIN"),
    "BUSY": (UNAVAILABLE, "OVERLOADED"),
    "NOAUTH": (AUTH, "UNAUTHENTICATED"),
    "WRONGPASS": (AUTH, "WRONG_PASSWORD"),
    "UNKNOWN": (FAILED, "MAYBE_APPLIED"),
}


class _Server:
    """One node, spoken to by redis-py; an error ends the command with the right code."""

    def __init__(self, url: str, as_json: bool) -> None:
        self.url = url
        self.as_json = as_json
        try:
            self.client = connect_url(url)
        except ValueError as error:
            fail(USAGE, "USAGE", f"{url!r} is no address: {error}",
                 "as in redis://:PASSWORD@127.0.0.1:7379/0", as_json=as_json)  # fmt: skip

    def call(self, *words: Any) -> Any:
        """The reply to one command."""
        try:
            return call(self.client, *words)
        except (redis.AuthenticationError, redis.ResponseError) as error:
            self._refused(error)
        except redis.RedisError as error:
            fail(CONNECT, "CANNOT_CONNECT", f"no answer from {self.url}: {error}",
                 "give --url redis://HOST:PORT/DB; `quoit serve` starts a node",
                 as_json=self.as_json)  # fmt: skip

    def _refused(self, error: redis.RedisError) -> None:
        text = str(error)
        code, kind = _REFUSALS.get(text.partition(" ")[0], (FAILED, "REFUSED"))
        # redis-py takes the first word off the errors that it has classes for.
        if isinstance(error, redis.AuthenticationError):
            code, kind = AUTH, "UNAUTHENTICATED"
        elif isinstance(error, redis.exceptions.ClusterDownError):
            code, kind = _REFUSALS["CLUSTERDOWN"]
        elif isinstance(error, redis.exceptions.TryAgainError):
            code, kind = _REFUSALS["TRYAGAIN"]
        hint = "give the password: --url redis://:PASSWORD@HOST:PORT" if code == AUTH else ""
        fail(code, kind, text, hint, as_json=self.as_json)


@app.command()
def get(key: str, url: Url = DEFAULT_URL, json: AsJson = False) -> None:
    """Print a value. Exit code 4 if there is none."""
    value = _Server(url, json).call("GET", key)
    if value is None:
        fail(NOT_FOUND, "NOT_FOUND", f"there is no key {key!r}", as_json=json)
    if json:
        print_json("Value", {"key": key, **_shown(value)})
        return
    sys.stdout.flush()
    sys.stdout.buffer.write(value)
    if sys.stdout.isatty():
        sys.stdout.buffer.write(b"\n")
    sys.stdout.buffer.flush()


def _shown(value: bytes) -> dict[str, str]:
    """A value in JSON: as text if it is some, else in base64."""
    try:
        return {"value": value.decode()}
    except UnicodeDecodeError:
        return {"value_base64": base64.b64encode(value).decode()}


@app.command()
def put(
    key: str,
    value: Annotated[str, typer.Argument(help="The value; - reads standard input.")],
    ttl: Annotated[float, typer.Option(min=0, help="Seconds to live; 0: for ever.")] = 0,
    if_absent: Annotated[bool, typer.Option(help="Only if the key is new; else code 5.")] = False,
    url: Url = DEFAULT_URL,
    json: AsJson = False,
) -> None:
    """Store a value; it is on a quorum's disks when this returns."""
    data = sys.stdin.buffer.read() if value == "-" else value.encode("utf-8", "surrogateescape")
    words: list[Any] = ["SET", key, data]
    if ttl:
        words += ["PX", max(1, int(ttl * 1000))]
    if if_absent:
        words.append("NX")
    if _Server(url, json).call(*words) is None:
        fail(CONFLICT, "CONFLICT", f"there is a key {key!r} already", as_json=json)
    if json:
        print_json("Stored", {"key": key, "bytes": len(data)})


@app.command(name="del")
def delete(keys: list[str], url: Url = DEFAULT_URL, json: AsJson = False) -> None:
    """Delete keys. Exit code 4 if none of them was there."""
    server = _Server(url, json)
    count = sum(server.call("DEL", key) for key in keys)
    if not count:
        fail(NOT_FOUND, "NOT_FOUND", "none of these keys exists", as_json=json)
    if json:
        print_json("Deleted", {"count": count})


@app.command()
def scan(
    pattern: Annotated[str, typer.Argument(help="As in user:*")] = "*",
    limit: Annotated[int, typer.Option(min=0, help="At most so many; 0: all.")] = 0,
    url: Url = DEFAULT_URL,
    json: AsJson = False,
) -> None:
    """List keys, one a line."""
    server = _Server(url, json)
    cursor: Any = 0
    shown: list[str] = []
    count = 0
    while True:
        cursor, keys = server.call("SCAN", cursor, "MATCH", pattern, "COUNT", 500)
        for key in keys[: limit - count] if limit else keys:
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
