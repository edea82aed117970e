"""`quoit top`: the cluster, live: what each node does and how it is."""

import sys
import time
from typing import Annotated, Any

import typer

from quoit.cli.cluster_client import DEFAULT, Admin, AsJson
from quoit.cli.shared import AUTH, CONNECT, fail, fetch_status, new_app, print_json, run_app
from quoit.cli.status import sentence, state_of

__all__ = ["Sample", "main", "rows"]

app = new_app()

Sample = tuple[float, dict[str, Any]]
"""When (seconds), a node's status."""

_TIMEOUT_S = 0.8


@app.command()
def top(
    admin: Admin = DEFAULT,
    interval: Annotated[float, typer.Option(help="Seconds between two looks.")] = 1.0,
    once: Annotated[bool, typer.Option("--once", help="One look, two samples apart.")] = False,
    json: AsJson = False,
) -> None:
    """Commands, reads, log and health of all nodes, again and again; Ctrl-C ends it."""
    interval = max(0.2, interval)
    before = _look(admin, json)
    if once or json or not sys.stdout.isatty():
        while True:
            time.sleep(interval)
            now = _look(admin, json)
            text, found = _sentence(now), rows(before, now)
            if json:
                print_json("Top", {"sentence": text, "nodes": found})
            else:
                _print(text, found)
            if once or json:
                return
            before = now
    _live(admin, interval, before)


def _live(admin: str, interval: float, before: dict[int, Sample]) -> None:
    from rich.live import Live

    with Live(refresh_per_second=4, screen=True) as live:
        while True:
            time.sleep(interval)
            now = _look(admin, False)
            live.update(_table(_sentence(now), rows(before, now)))
            before = now


def _look(admin: str, as_json: bool) -> dict[int, Sample]:
    """Node -> its status now; the first is the one that was named. Nodes that do not answer are left out."""
    try:
        first = fetch_status(admin)
    except PermissionError as error:
        fail(AUTH, "UNAUTHENTICATED", str(error), as_json=as_json)
    except (OSError, ValueError) as error:
        fail(CONNECT, "CANNOT_CONNECT", f"no node answers at {admin}: {error}",
             "is it running? `quoit serve`, or give --admin HOST:PORT", as_json=as_json)  # fmt: skip
    found = {first["node_id"]: (time.monotonic(), first)}
    for peer in first["peers"]:
        if peer["id"] == first["node_id"] or not peer["connected"]:
            continue
        host = f"[{peer['host']}]" if ":" in peer["host"] else peer["host"]
        try:
            told = fetch_status(f"{host}:{peer['admin_port']}", _TIMEOUT_S)
        except (OSError, ValueError):
            continue
        found[peer["id"]] = (time.monotonic(), told)
    return found


def _sentence(now: dict[int, Sample]) -> str:
    return sentence(next(iter(now.values()))[1])[1]


def rows(before: dict[int, Sample], now: dict[int, Sample]) -> list[dict[str, Any]]:
    """A row for each node, rates being per second between the two looks."""
    first = next(iter(now.values()))[1]
    found = []
    for peer in first["peers"]:
        row: dict[str, Any] = {"node": peer["name"], "state": state_of(peer)}
        if peer["id"] in now and peer["id"] in before:
            row.update(_rates(before[peer["id"]], now[peer["id"]]))
        found.append(row)
    return found


def _rates(before: Sample, now: Sample) -> dict[str, Any]:
    seconds = max(0.001, now[0] - before[0])

    def rate(*names: str) -> float:
        new, old = now[1]["counters"], before[1]["counters"]
        # A node that has started again counts from 0.
        more = sum(int(new[name]) - int(old[name]) for name in names)
        return max(0.0, more / seconds)

    status = now[1]
    kept = [shard for shard in status["shards"] if shard["role"] != "none"]
    return {
        "leads": sum(shard["role"] == "leader" for shard in kept),
        "replicas": len(kept),
        "writes": round(rate("batch_commands")),
        "reads": round(rate("reads_local", "reads_indexed")),
        "forwards": round(rate("forwards")),
        "log_bytes": round(rate("log_bytes")),
        "syncs": round(rate("log_writes")),
        "pending": sum(shard["pending"] for shard in kept),
        "behind": sum(shard["commit_index"] - shard["applied_index"] for shard in kept),
        "lag_ms": round(status["event_loop_lag_us"] / 1000, 1),
        "health": status["local_health"],
    }


_HEADS = {
    "node": "node", "state": "state", "leads": "leads", "replicas": "replicas", "writes": "writes/s",
    "reads": "reads/s", "forwards": "forwards/s", "log_bytes": "log B/s", "syncs": "syncs/s",
    "pending": "pending", "behind": "behind", "lag_ms": "lag ms", "health": "doubt",
}  # fmt: skip


def _table(text: str, found: list[dict[str, Any]]) -> Any:
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None)
    for name, head in _HEADS.items():
        table.add_column(head, justify="left" if name in ("node", "state") else "right")
    for row in found:
        table.add_row(*(_cell(row, name) for name in _HEADS))
    return Group(Text(text), table)


def _cell(row: dict[str, Any], name: str) -> str:
    value = row.get(name, "-")
    return f"{value:,}" if isinstance(value, int) else str(value)


def _print(text: str, found: list[dict[str, Any]]) -> None:
    print(text)
    widths = {
        name: max(len(head), *(len(_cell(row, name)) for row in found))
        for name, head in _HEADS.items()
    }
    print("  ".join(f"{head:<{widths[name]}}" for name, head in _HEADS.items()).rstrip())
    for row in found:
        print("  ".join(f"{_cell(row, name):<{widths[name]}}" for name in _HEADS).rstrip())
    sys.stdout.flush()


def main(argv: list[str]) -> int:
    """Run the command."""
    return run_app(app, argv, "top")
