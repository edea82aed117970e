"""`quoit shard`: who keeps which shard, and changing it."""

import sys
from typing import Annotated, Any, NoReturn

import typer

from quoit.cli.shard_work import Refused, Unreachable, ask_leader, carry_out, describe
from quoit.cli.shared import (
    AUTH,
    CONFLICT,
    CONNECT,
    NOT_FOUND,
    UNAVAILABLE,
    fail,
    fetch_status,
    new_app,
    print_json,
    run_app,
)

__all__ = ["main"]

app = new_app("Shards and their replicas. Example: quoit shard move 0 n1 n4 --dry-run", group=True)

Admin = Annotated[str, typer.Option(envvar="QUOIT_ADMIN", help="Any node's admin address.")]
AsJson = Annotated[bool, typer.Option("--json", help="Machine-readable output.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only say what would happen.")]
Shard = Annotated[int, typer.Argument(help="Its number, as in `quoit shard ls`.")]
Node = Annotated[str, typer.Argument(help="As in n4, or 4.")]
DEFAULT = "127.0.0.1:7400"


@app.command("ls")
def list_shards(admin: Admin = DEFAULT, json: AsJson = False) -> None:
    """All shards, their members and leaders."""
    status = _status(admin, json)
    if json:
        keys = ("id", "slot_low", "slot_high", "leader", "replicas", "learners")
        print_json("Shards", [{key: one[key] for key in keys} for one in status["shards"]])
        return
    names = _names(status)
    print(f"{'shard':>5}  {'slots':<12} {'leader':<8} {'voters':<18} learners")
    for one in status["shards"]:
        slots = f"{one['slot_low']}-{one['slot_high']}"
        print(
            f"{one['id']:>5}  {slots:<12} {names.get(one['leader'], 'none'):<8} "
            f"{_listed(one['replicas'], names):<18} {_listed(one['learners'], names) or '-'}"
        )


@app.command()
def info(shard: Shard, admin: Admin = DEFAULT, json: AsJson = False) -> None:
    """One shard as each of its members sees it."""
    status = _status(admin, json)
    found = _shard(status, shard, json)
    rows = []
    for node in found["replicas"] + found["learners"]:
        peer = next((one for one in status["peers"] if one["id"] == node), None)
        told = _ask_member(peer, shard) if peer else None
        rows.append(
            {
                "node": node,
                "member": "voter" if node in found["replicas"] else "learner",
                "role": told["role"] if told else "unknown",
                "term": told["term"] if told else 0,
                "last_index": told["last_index"] if told else 0,
                "applied_index": told["applied_index"] if told else 0,
            }
        )
    if json:
        print_json("Shard", {**found, "members": rows})
        return
    names = _names(status)
    print(f"shard {shard}: slots {found['slot_low']}-{found['slot_high']}, "
          f"led by {names.get(found['leader'], 'nobody')}")  # fmt: skip
    print(f"{'node':<8} {'member':<8} {'role':<14} {'term':>5} {'last':>9} {'applied':>9}")
    for row in rows:
        print(
            f"{names.get(row['node'], row['node']):<8} {row['member']:<8} {row['role']:<14} "
            f"{row['term']:>5} {row['last_index']:>9} {row['applied_index']:>9}"
        )


@app.command()
def leader(
    shard: Shard,
    to: Annotated[str, typer.Option("--to", help="The node that is to lead.")],
    admin: Admin = DEFAULT,
    dry_run: DryRun = False,
    json: AsJson = False,
) -> None:
    """Let another voter lead the shard. (With three voters the first one gets it back later.)"""
    _run(admin, shard, "leader", to, None, dry_run, json)


@app.command("add-replica")
def add_replica(
    shard: Shard, node: Node, admin: Admin = DEFAULT, dry_run: DryRun = False, json: AsJson = False
) -> None:
    """Give the node a replica: it gets the data first, then votes."""
    _run(admin, shard, "add-replica", node, None, dry_run, json)


@app.command("remove-replica")
def remove_replica(
    shard: Shard, node: Node, admin: Admin = DEFAULT, dry_run: DryRun = False, json: AsJson = False
) -> None:
    """Take the node's replica away; its data there are deleted."""
    _run(admin, shard, "remove-replica", node, None, dry_run, json)


@app.command()
def move(
    shard: Shard,
    source: Annotated[str, typer.Argument(metavar="FROM", help="Loses its replica.")],
    to: Annotated[str, typer.Argument(metavar="TO", help="Gets one.")],
    admin: Admin = DEFAULT,
    dry_run: DryRun = False,
    json: AsJson = False,
) -> None:
    """Move a replica from one node to another. The new one votes before the old one goes."""
    _run(admin, shard, "move", to, source, dry_run, json)


def _run(
    admin: str, shard: int, kind: str, node: str, source: str | None, dry_run: bool, as_json: bool
) -> None:
    status = _status(admin, as_json)
    _shard(status, shard, as_json)
    body: dict[str, Any] = {"kind": kind, "node": _node(status, node, as_json)}
    if source is not None:
        body["source"] = _node(status, source, as_json)
    names = _names(status)
    try:
        if dry_run:
            _, plan = ask_leader(admin, shard, {**body, "dry_run": True})
            _show_plan(plan, names, as_json)
            return

        def tell(text: str) -> None:
            print(f"shard {shard}: {text}", file=sys.stderr, flush=True)

        carry_out(admin, shard, body, tell, names)
    except Refused as error:
        fail(CONFLICT, "REFUSED", str(error), as_json=as_json)
    except Unreachable as error:
        fail(UNAVAILABLE, "NO_LEADER", str(error), "quoit status", as_json=as_json)
    except (OSError, ValueError) as error:
        _no_answer(admin, error, as_json)
    if as_json:
        print_json("Done", {"shard": shard, **body})
    else:
        where = f"{names[body['source']]} -> " if source is not None else ""
        print(f"shard {shard}: {kind} {where}{names[body['node']]} done")


def _show_plan(plan: dict[str, Any], names: dict[int, str], as_json: bool) -> None:
    if as_json:
        print_json("Plan", plan)
    else:
        print(f"shard {plan['shard']}: voters {_listed(plan['voters'], names)}"
              f"{', learners ' + _listed(plan['learners'], names) if plan['learners'] else ''}")  # fmt: skip
        for number, step in enumerate(plan["steps"], 1):
            print(f"  {number}. {describe(step, names)}")
        for note in plan["notes"]:
            print(f"  note: {note}")
        for reason in plan["against"]:
            print(f"  against it: {reason}")
        print("  nothing was changed")
    if plan["against"]:
        raise typer.Exit(CONFLICT)


def _status(admin: str, as_json: bool) -> dict[str, Any]:
    try:
        return fetch_status(admin)
    except PermissionError as error:
        fail(AUTH, "UNAUTHENTICATED", str(error), as_json=as_json)
    except (OSError, ValueError) as error:
        _no_answer(admin, error, as_json)


def _no_answer(admin: str, error: Exception, as_json: bool) -> NoReturn:
    fail(CONNECT, "CANNOT_CONNECT", f"no node answers at {admin}: {error}",
         "is it running? `quoit serve`, or give --admin HOST:PORT", as_json=as_json)  # fmt: skip


def _ask_member(peer: dict[str, Any], shard: int) -> dict[str, Any] | None:
    host = f"[{peer['host']}]" if ":" in peer["host"] else peer["host"]
    try:
        told = fetch_status(f"{host}:{peer['admin_port']}", 1.0)
    except (OSError, ValueError):
        return None
    return next((one for one in told["shards"] if one["id"] == shard), None)


def _shard(status: dict[str, Any], shard: int, as_json: bool) -> dict[str, Any]:
    found = next((one for one in status["shards"] if one["id"] == shard), None)
    if found is None:
        fail(
            NOT_FOUND,
            "NO_SUCH_SHARD",
            f"there is no shard {shard}",
            "quoit shard ls",
            as_json=as_json,
        )
    return dict(found)


def _node(status: dict[str, Any], text: str, as_json: bool) -> int:
    peers = status["peers"]
    found = next((one for one in peers if text in (one["name"], str(one["id"]))), None)
    if found is None:
        known = ", ".join(peer["name"] for peer in peers)
        fail(NOT_FOUND, "NO_SUCH_NODE", f"there is no node {text!r}; there are: {known}",
             "quoit serve --node-id N --join ADMIN starts another one", as_json=as_json)  # fmt: skip
    return int(found["id"])


def _names(status: dict[str, Any]) -> dict[int, str]:
    return {peer["id"]: peer["name"] for peer in status["peers"]}


def _listed(nodes: list[int], names: dict[int, str]) -> str:
    return " ".join(names.get(node, str(node)) for node in nodes)


def main(argv: list[str]) -> int:
    """Run the command."""
    return run_app(app, argv, "shard")
