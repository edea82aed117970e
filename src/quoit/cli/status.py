"""`quoit status`: one sentence of truth, then the details."""

from typing import Annotated, Any

import typer

from quoit.cli.shared import (
    AUTH,
    CONNECT,
    UNHEALTHY,
    fail,
    fetch_status,
    new_app,
    print_json,
    run_app,
)

__all__ = ["main", "sentence", "state_of"]

app = new_app()


@app.command()
def status(
    admin: Annotated[
        str, typer.Option(envvar="QUOIT_ADMIN", help="A node's admin address.")
    ] = "127.0.0.1:7400",
    check: Annotated[bool, typer.Option("--check", help="Exit with 6 unless all is well.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Machine-readable output.")] = False,
) -> None:
    """Show the cluster as one of its nodes sees it. Example: quoit status --check && echo good"""
    try:
        found = fetch_status(admin)
    except PermissionError as error:
        fail(AUTH, "UNAUTHENTICATED", str(error), as_json=json)
    except (OSError, ValueError) as error:
        fail(CONNECT, "CANNOT_CONNECT", f"no node answers at {admin}: {error}",
             "is it running? `quoit serve`, or give --admin HOST:PORT", as_json=json)  # fmt: skip
    good, text = sentence(found)
    if json:
        print_json("Status", {**found, "healthy": good, "sentence": text})
    else:
        _show(found, text)
    if check and not good:
        raise typer.Exit(UNHEALTHY)


def sentence(status: dict[str, Any]) -> tuple[bool, str]:
    """(all is well, what can be said in one sentence)."""
    shards, peers = status["shards"], status["peers"]
    up = {peer["id"] for peer in peers if peer["connected"]}
    headless = [shard for shard in shards if not shard["leader"]]
    spare = min(
        (
            sum(1 for node in shard["replicas"] if node in up) - (len(shard["replicas"]) // 2 + 1)
            for shard in shards
        ),
        default=0,
    )
    if headless:
        leaders = f"{len(headless)} of {len(shards)} shards have no leader"
    else:
        leaders = f"All {len(shards)} shards have a leader"
    if str(status.get("consensus", "")).endswith("/all"):
        lose = "each write needs all replicas of its shard"
    elif spare >= 0:
        lose = f"you can lose {spare} more node{'' if spare == 1 else 's'}"
    else:
        lose = "some shards have no quorum and accept no writes"
    dead = [peer for peer in peers if peer.get("state") == "dead"]
    live = sum(1 for peer in peers if peer["connected"] and peer not in dead)
    text = f"{leaders}; {live} of {len(peers)} nodes live; {lose}."
    for peer in dead:
        back = ", and has returned: what it holds does not count" if peer.get("returned") else ""
        text += f" {peer['name']} is dead for this node{back}."
    if status.get("isolated"):
        text += " This node is in touch with no majority of the nodes."
    damaged = [shard for shard in shards if shard.get("role") == "damaged"]
    if damaged:
        verb = "is" if len(damaged) == 1 else "are"
        text += f" {len(damaged)} of this node's replicas {verb} damaged and not counted yet."
    if status.get("rebuilding"):
        text += " This node's data were damaged; they come anew from the other replicas."
    if status.get("job"):
        text += f" Under way: {status['job']}."
    well = not (headless or damaged or status.get("rebuilding"))
    return well and live == len(peers), text


def state_of(peer: dict[str, Any]) -> str:
    """A node as the one that was asked sees it."""
    state = str(peer.get("state", "live"))
    if state == "dead" and peer.get("returned"):
        return "✕ dead, returned"
    if state == "live":
        return "● live" if peer["connected"] else "○ not connected"
    return f"{'◐' if state == 'suspect' else '✕'} {state}"


def _show(status: dict[str, Any], text: str) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console()
    console.print(text, highlight=False)
    console.print(f"consensus: {status['consensus']}", highlight=False)
    names = {peer["id"]: peer["name"] for peer in status["peers"]}
    nodes = Table("node", "state", "redis", "admin", box=None)
    for peer in status["peers"]:
        host = peer["host"]
        ports = (f"{host}:{peer['resp_port']}", f"{host}:{peer['admin_port']}")
        nodes.add_row(peer["name"], state_of(peer), *ports)
    console.print(nodes)
    shards = Table(
        "shard", "slots", "leader", "voters", "learners", "term", "applied", "keys", box=None
    )
    for shard in status["shards"]:
        shards.add_row(
            str(shard["id"]), f"{shard['slot_low']}-{shard['slot_high']}",
            names.get(shard["leader"], "none"),
            " ".join(names.get(node, "?") for node in shard["replicas"]),
            " ".join(names.get(node, "?") for node in shard["learners"]) or "-",
            *_progress(shard),
        )  # fmt: skip
    console.print(shards)


def _progress(shard: dict[str, Any]) -> tuple[str, str, str]:
    """Term, applied index and number of keys; a node without a replica cannot know them."""
    if shard["role"] == "none":
        return "-", "-", "-"
    return str(shard["term"]), str(shard["applied_index"]), f"{sum(shard['keys'].values()):,}"


def main(argv: list[str]) -> int:
    """Run the command."""
    return run_app(app, argv, "status")
