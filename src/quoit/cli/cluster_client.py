"""Asking the cluster through any of its nodes, for commands: follows to the node that knows, waits while
there is no leader, and says in plain words what went wrong."""

import time
from collections.abc import Sequence
from typing import Annotated, Any

import typer

from quoit.cli.admin_client import AdminError, ask
from quoit.cli.shared import AUTH, CONFLICT, CONNECT, FAILED, NOT_FOUND, UNAVAILABLE, USAGE, fail

__all__ = ["DEFAULT", "Admin", "AsJson", "ask_cluster", "entries", "since"]

DEFAULT = "127.0.0.1:7400"
Admin = Annotated[str, typer.Option(envvar="QUOIT_ADMIN", help="Any node's admin address.")]
AsJson = Annotated[bool, typer.Option("--json", help="Machine-readable output.")]

_PATIENCE_S = 15.0
_RETRY_S = 0.3
_CODES = {
    400: USAGE, 403: AUTH, 404: NOT_FOUND, 409: CONFLICT, 421: UNAVAILABLE, 503: UNAVAILABLE,
}  # fmt: skip


def ask_cluster(
    admin: str,
    path: str,
    body: Any = None,
    *,
    as_json: bool = False,
    others: Sequence[str] = (),
) -> Any:
    """The answer to a GET, or a POST if there is a body. Ends the command with a message if there is
    none. `others`: where a GET is sent when nobody answers at `admin` any more."""
    at = admin
    left = list(others)
    deadline = time.monotonic() + _PATIENCE_S
    while True:
        try:
            return ask(at, path, body, 10.0)
        except AdminError as error:
            wait = error.status in (421, 503) and time.monotonic() < deadline
            if not wait:
                code = _CODES.get(error.status, FAILED)
                fail(code, error.code or "FAILED", str(error), as_json=as_json)
            # Nothing was done by an answer like these, so asking again does it once.
            at = str(error.more.get("admin", "")) or admin
            if error.status == 503 or at == admin:
                time.sleep(_RETRY_S)
        except PermissionError as error:
            fail(AUTH, "UNAUTHENTICATED", str(error), as_json=as_json)
        except (OSError, ValueError) as error:
            if at != admin and body is None and time.monotonic() < deadline:
                at = admin
                time.sleep(_RETRY_S)
                continue
            if left and body is None and isinstance(error, OSError):
                at = admin = left.pop(0)
                continue
            fail(
                CONNECT, "CANNOT_CONNECT", f"no node answers at {at}: {error}",
                "is it running? `quoit serve`, or give --admin HOST:PORT", as_json=as_json,
            )  # fmt: skip


def entries(nodes: Sequence[dict[str, Any]]) -> list[str]:
    """Admin addresses of the nodes that are connected, from the answer to GET /v1/nodes."""
    found = []
    for one in nodes:
        record = one["record"]
        host = f"[{record['host']}]" if ":" in record["host"] else record["host"]
        if one["connected"] and record["admin_port"]:
            found.append(f"{host}:{record['admin_port']}")
    return found


def since(ms: int) -> str:
    """How long ago a Unix time in milliseconds was, for people."""
    seconds = max(0, int(time.time() - ms / 1000))
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= size:
            return f"{seconds // size} {unit}"
    return f"{seconds} s"
