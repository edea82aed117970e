"""`quoit node`: who is in the cluster, and letting nodes go."""

from typing import Annotated, Any
from urllib.parse import quote

import typer

from quoit.cli.cluster_client import DEFAULT, Admin, AsJson, ask_cluster, since
from quoit.cli.job import Wait, follow_about
from quoit.cli.shared import USAGE, fail, new_app, print_json, run_app

__all__ = ["main"]

app = new_app("The nodes of the cluster. Example: quoit node decommission n3", group=True)

Node = Annotated[str, typer.Argument(help="Its name or number, as in n4 or 4.")]


@app.command("ls")
def list_nodes(
    admin: Admin = DEFAULT,
    former: Annotated[bool, typer.Option("--all", help="Removed ones, too.")] = False,
    json: AsJson = False,
) -> None:
    """All nodes with their states, and what they keep."""
    nodes = ask_cluster(admin, "/v1/nodes?all" if former else "/v1/nodes", as_json=json)
    if json:
        print_json("Nodes", nodes)
        return
    print(
        f"{'node':<10} {'id':>4}  {'state':<16} {'seen':<12} {'zone':<10} {'weight':>6} "
        f"{'replicas':>8} {'leads':>6}  redis"
    )
    for one in nodes:
        record = one["record"]
        print(
            f"{record['name']:<10} {record['id']:>4}  {record['state']:<16} {_seen(one):<12} "
            f"{record['zone'] or '-':<10} {record['weight']:>6g} {one['replicas']:>8} "
            f"{one['leads']:>6}  {record['host']}:{record['resp_port']}"
        )


def _seen(one: dict[str, Any]) -> str:
    if one["record"]["state"] == "removed":
        return "-"
    if one["connected"] and one["seen"] == "live":
        return "live"
    return "not connected" if one["seen"] == "live" else str(one["seen"])


@app.command()
def info(node: Node, admin: Admin = DEFAULT, json: AsJson = False) -> None:
    """One node: addresses, state, zone, weight, version."""
    one = ask_cluster(admin, f"/v1/nodes/{quote(node, safe='')}", as_json=json)
    if json:
        print_json("Node", one)
        return
    record = one["record"]
    print(
        f"{record['name']} (number {record['id']}): {record['state']} for {since(record['since_ms'])}"
    )
    print(f"  seen as   {_seen(one)}")
    print(f"  keeps     {one['replicas']} replicas, leads {one['leads']} shards")
    print(
        f"  zone      {record['zone'] or record['name'] + ' (its own)'}, weight {record['weight']:g}"
    )
    host = record["host"]
    print(f"  redis     {host}:{record['resp_port']}")
    print(f"  admin     {host}:{record['admin_port']}, peers {host}:{record['peer_port']}")
    print(f"  version   {record['version'] or 'not told yet'}")


def _change(admin: str, node: str, action: str, body: dict[str, Any], as_json: bool) -> Any:
    return ask_cluster(admin, f"/v1/nodes/{quote(node, safe='')}/{action}", body, as_json=as_json)


def _done(record: dict[str, Any], text: str, as_json: bool) -> None:
    if as_json:
        print_json("NodeRecord", record)
    else:
        print(f"{record['name']} {text}")


@app.command()
def drain(node: Node, admin: Admin = DEFAULT, json: AsJson = False) -> None:
    """It leads nothing from now on and keeps its replicas: before maintenance."""
    record = _change(admin, node, "drain", {}, json)
    _done(record, f"drains: others lead in a few seconds; back with: quoit node recommission {node}",
          json)  # fmt: skip


@app.command()
def recommission(node: Node, admin: Admin = DEFAULT, json: AsJson = False) -> None:
    """It is a full member again: after drain, or instead of decommission."""
    _done(_change(admin, node, "recommission", {}, json), "is live", json)


@app.command()
def decommission(
    node: Node, admin: Admin = DEFAULT, wait: Wait = True, json: AsJson = False
) -> None:
    """Move all it keeps to other nodes, then remove it. It stops by itself when that is done."""
    record = _change(admin, node, "decommission", {}, json)
    if wait:
        follow_about(admin, record["id"], json)
    else:
        _done(record, "is being decommissioned; look with: quoit job ls", json)


@app.command()
def remove(node: Node, admin: Admin = DEFAULT, json: AsJson = False) -> None:
    """Forget a node that is dead, or keeps nothing. It may not come back under its number."""
    _done(_change(admin, node, "remove", {}, json), "is removed", json)


@app.command("set")
def set_node(
    node: Node,
    zone: Annotated[str | None, typer.Option(help="What fails together with it.")] = None,
    weight: Annotated[float | None, typer.Option(help="Its share beside the others'.")] = None,
    admin: Admin = DEFAULT,
    json: AsJson = False,
) -> None:
    """Give it another zone or weight; replicas move accordingly."""
    body = {key: value for key, value in (("zone", zone), ("weight", weight)) if value is not None}
    if not body:
        fail(USAGE, "USAGE", "nothing to set", f"quoit node set {node} --zone Z --weight W",
             as_json=json)  # fmt: skip
    record = _change(admin, node, "set", body, json)
    _done(record, f"has zone {record['zone'] or '(its own)'}, weight {record['weight']:g}", json)


@app.command()
def token(
    minutes: Annotated[int, typer.Option(help="How long it lasts.")] = 60,
    admin: Admin = DEFAULT,
    json: AsJson = False,
) -> None:
    """Make a token with which nodes on other machines may join."""
    made = ask_cluster(admin, "/v1/tokens", {"minutes": minutes}, as_json=json)
    if json:
        print_json("Token", made)
    else:
        print(made["token"])


def main(argv: list[str]) -> int:
    """Run the command."""
    return run_app(app, argv, "node")
