"""`quoit ring`: where replicas shall be, what moving them would cost, doing it and going back."""

import http.client
import os
from pathlib import Path
from typing import Annotated, Any

import typer

from quoit.cli.cluster_client import DEFAULT, Admin, AsJson, ask_cluster
from quoit.cli.job import Wait, follow
from quoit.cli.shared import FAILED, fail, new_app, print_json, run_app

__all__ = ["main"]

app = new_app("Placement of the shards. Example: quoit ring plan", group=True)


@app.command()
def show(
    svg: Annotated[Path | None, typer.Option(help="Write a picture of the ring there.")] = None,
    admin: Admin = DEFAULT,
    json: AsJson = False,
) -> None:
    """Each node's share and what it has, each shard's nodes (the first one leads)."""
    if svg is not None:
        _picture(admin, svg, json)
        return
    found = ask_cluster(admin, "/v1/ring", as_json=json)
    if json:
        print_json("Ring", found)
        return
    print(
        f"{'node':<10} {'zone':<10} {'weight':>6} {'share':>6} {'replicas':>8} {'of share':>8} {'leads':>6}"
    )
    for row in found["nodes"]:
        print(
            f"{row['name']:<10} {row['zone'] or '-':<10} {row['weight']:>6g} {row['share']:>6.1f} "
            f"{row['replicas']:>8} {row['over']:>8.2f} {row['leads']:>6}"
        )
    names = {row["id"]: row["name"] for row in found["nodes"]}
    print(f"epoch {found['epoch']}, {len(found['shards'])} shards:")
    for shard in found["shards"]:
        kept = " ".join(names.get(node, str(node)) for node in shard["replicas"])
        print(f"{shard['id']:>5}  {shard['slot_low']}-{shard['slot_high']:<8} {kept}")


def _picture(admin: str, path: Path, as_json: bool) -> None:
    host, _, port = admin.removeprefix("http://").rstrip("/").rpartition(":")
    password = os.environ.get("QUOIT_PASSWORD")
    headers = {"Authorization": f"Bearer {password}"} if password else {}
    connection = http.client.HTTPConnection(host.strip("[]"), int(port or 0), timeout=5)
    try:
        connection.request("GET", "/v1/ring.svg", headers=headers)
        answer = connection.getresponse()
        data = answer.read()
        if answer.status != http.HTTPStatus.OK:
            fail(FAILED, "NO_PICTURE", f"{admin} answered {answer.status}", as_json=as_json)
        path.write_bytes(data)
    except OSError as error:
        fail(FAILED, "NO_PICTURE", f"no picture: {error}", as_json=as_json)
    finally:
        connection.close()
    if as_json:
        print_json("Picture", {"path": str(path)})
    else:
        print(f"the ring is drawn in {path}")


@app.command()
def plan(admin: Admin = DEFAULT, json: AsJson = False) -> None:
    """What a rebalancing would move now, beside the least that any could. Changes nothing."""
    found = ask_cluster(admin, "/v1/ring/plan", as_json=json)
    if json:
        print_json("Plan", found)
        return
    nodes = ask_cluster(admin, "/v1/nodes?all", as_json=json) if found["steps"] else []
    names = {one["record"]["id"]: one["record"]["name"] for one in nodes}
    for number, step in enumerate(found["steps"], 1):
        print(f"{number:>4}. {_step(step, names)}")
    if not found["steps"]:
        print("nothing to move: every replica is where it shall be")
    print(
        f"copies {found['copies']} (at least {found['copies_min']}), "
        f"bytes {found['bytes']} (at least {found['bytes_min']})"
    )


def _step(step: dict[str, Any], names: dict[int, str]) -> str:
    add, remove = (names.get(step[key], f"node {step[key]}") for key in ("add", "remove"))
    text = f"shard {step['shard']}:"
    if step["add"]:
        text += f" a replica on {add} ({step['bytes']} bytes)"
    if step["add"] and step["remove"]:
        text += ", then"
    if step["remove"]:
        text += f" none on {remove}"
    return text


@app.command()
def apply(admin: Admin = DEFAULT, wait: Wait = True, json: AsJson = False) -> None:
    """Do what the plan says. Not needed while the setting `rebalance` is on."""
    _begin(admin, "/v1/ring/apply", {}, wait, json)


@app.command()
def revert(
    job: Annotated[int, typer.Option(help="Go back to before this job; 0: the newest.")] = 0,
    admin: Admin = DEFAULT,
    wait: Wait = True,
    json: AsJson = False,
) -> None:
    """Move the replicas back to where they were before a job."""
    _begin(admin, "/v1/ring/revert", {"job": job}, wait, json)


def _begin(admin: str, path: str, body: dict[str, Any], wait: bool, as_json: bool) -> None:
    number = ask_cluster(admin, path, body, as_json=as_json)["job"]
    if not number:
        if as_json:
            print_json("Job", None)
        else:
            print("nothing to move")
    elif wait:
        follow(admin, number, as_json)
    elif as_json:
        print_json("Job", {"id": number})
    else:
        print(f"job {number} has begun; follow it with: quoit job wait {number}")


def main(argv: list[str]) -> int:
    """Run the command."""
    return run_app(app, argv, "ring")
