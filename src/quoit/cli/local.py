"""`quoit local`: a cluster of real processes on this machine."""

import signal
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from quoit.base.errors import BadRequest
from quoit.cli.cluster import LocalCluster, NoSuchNode
from quoit.cli.shared import (
    FAILED,
    NOT_FOUND,
    UNHEALTHY,
    USAGE,
    fail,
    new_app,
    print_json,
    run_app,
)

__all__ = ["main"]

app = new_app("A cluster on this machine. Example: quoit local start --nodes 3 --dir q", group=True)

Directory = Annotated[Path, typer.Option("--dir", help="The cluster's directory.")]
AsJson = Annotated[bool, typer.Option("--json", help="Machine-readable output.")]
Name = Annotated[str, typer.Argument(help="As in n2, or 2.")]
HERE = Path("quoit-local")
NODES = 3


def _open(directory: Path, as_json: bool) -> LocalCluster:
    try:
        cluster = LocalCluster(directory)
    except BadRequest as error:
        fail(FAILED, "REFUSED", str(error), as_json=as_json)
    if not cluster.nodes:
        fail(NOT_FOUND, "NO_CLUSTER", f"there is no cluster in {directory}",
             f"quoit local start --nodes 3 --dir {directory}", as_json=as_json)  # fmt: skip
    return cluster


@app.command()
def start(
    nodes: Annotated[
        int | None, typer.Option(min=1, max=15, help="Of a new cluster. [default: 3]")
    ] = None,
    directory: Directory = HERE,
    base_port: Annotated[int, typer.Option(help="First port. [default: free ones]")] = 0,
    shards: Annotated[
        int, typer.Option(min=0, max=1024, help="Of a new cluster; 0: 4, or the nodes.")
    ] = 0,
    consensus: Annotated[str, typer.Option(help="Of a new cluster: raft or paxos.")] = "raft",
    quorum: Annotated[
        str, typer.Option(help="Of a new paxos cluster: majority or all.")
    ] = "majority",
    json: AsJson = False,
) -> None:
    """Start the cluster in DIR (a new one if there is none) and wait until it can be used."""
    try:
        cluster = LocalCluster(directory)
        if not cluster.nodes:
            cluster.create(nodes or NODES, base_port, shards, consensus, quorum)
        elif nodes not in (None, len(cluster.nodes)):
            raise BadRequest(
                f"the cluster in {directory} has {len(cluster.nodes)} nodes; leave --nodes away, "
                "or choose another --dir"
            )
    except BadRequest as error:
        fail(USAGE, "BAD_REQUEST", str(error), as_json=json)
    try:
        cluster.start()
    except BadRequest as error:
        fail(FAILED, "NOT_STARTED", str(error), as_json=json)
    if json:
        print_json("LocalCluster", cluster.data)
        return
    for node in cluster.nodes:
        print(f"{node['name']}  redis://{node['resp']}/0  admin http://{node['admin']}")
    port = cluster.nodes[0]["resp"].rpartition(":")[2]
    print(f"next  redis-cli -p {port} set hello world   ·   quoit local status --dir {directory}")


@app.command()
def status(directory: Directory = HERE, json: AsJson = False) -> None:
    """Who runs, who leads what. Exit code 6 unless all nodes live."""
    cluster = _open(directory, json)
    found = cluster.statuses()
    rows = []
    for node in cluster.nodes:
        told = found[node["name"]]
        state = "live" if told else "not answering" if cluster.running(node) else "stopped"
        led = [shard["id"] for shard in told["shards"] if shard["role"] == "leader"] if told else []
        rows.append({**node, "state": state, "leads": led})
    if json:
        print_json("LocalStatus", {"cluster_id": cluster.data["cluster_id"], "nodes": rows})
    else:
        for row in rows:
            leads = ", ".join(map(str, row["leads"])) or "-"
            print(f"{row['name']}  {row['state']:<13}  pid {row['pid']:<7}  "
                  f"redis://{row['resp']}/0  leads {leads}")  # fmt: skip
    if not all(row["state"] == "live" for row in rows):
        raise typer.Exit(UNHEALTHY)


@app.command()
def add(directory: Directory = HERE, json: AsJson = False) -> None:
    """Start one more node, which joins the cluster and holds nothing yet (see `quoit shard move`)."""
    cluster = _open(directory, json)
    try:
        node = cluster.add()
        cluster.launch(node)
        cluster.wait_ready([node["name"]])
    except BadRequest as error:
        fail(FAILED, "NOT_STARTED", str(error), as_json=json)
    text = f"{node['name']}  redis://{node['resp']}/0  admin http://{node['admin']}"
    _done(json, "live", text, node)


@app.command()
def stop(directory: Directory = HERE, json: AsJson = False) -> None:
    """Stop every node in order; the data stay."""
    cluster = _open(directory, json)
    cluster.stop_all()
    _done(json, "stopped", f"stopped; `quoit local start --dir {directory}` starts it again")


@app.command()
def kill(name: Name, directory: Directory = HERE, json: AsJson = False) -> None:
    """SIGKILL a node."""
    node = _act(name, directory, json, lambda cluster, node: cluster.kill(node))
    hint = f"`quoit local restart {node['name']} --dir {directory}` brings it back"
    _done(json, "killed", f"{node['name']} killed; {hint}", node)


@app.command()
def restart(name: Name, directory: Directory = HERE, json: AsJson = False) -> None:
    """Start a node that was killed or stopped (or stop and start one that runs)."""

    def step(cluster: LocalCluster, node: dict[str, Any]) -> None:
        cluster.stop(node)
        cluster.launch(node)
        cluster.wait_ready([node["name"]])

    node = _act(name, directory, json, step)
    _done(json, "live", f"{node['name']} is back", node)


@app.command()
def pause(name: Name, directory: Directory = HERE, json: AsJson = False) -> None:
    """SIGSTOP a node."""
    node = _act(name, directory, json, lambda cluster, node: cluster.pause(node))
    hint = f"`quoit local resume {node['name']} --dir {directory}` wakes it"
    _done(json, "paused", f"{node['name']} paused; {hint}", node)


@app.command()
def resume(name: Name, directory: Directory = HERE, json: AsJson = False) -> None:
    """SIGCONT a node."""
    node = _act(name, directory, json, lambda cluster, node: cluster.signal(node, signal.SIGCONT))
    _done(json, "live", f"{node['name']} resumed", node)


def _act(
    name: str,
    directory: Path,
    as_json: bool,
    step: Callable[[LocalCluster, dict[str, Any]], None],
) -> dict[str, Any]:
    cluster = _open(directory, as_json)
    try:
        node = cluster.node(name)
        step(cluster, node)
    except NoSuchNode as error:
        fail(NOT_FOUND, "NO_SUCH_NODE", str(error), as_json=as_json)
    except BadRequest as error:
        fail(FAILED, "REFUSED", str(error), as_json=as_json)
    return node


def _done(as_json: bool, state: str, text: str, node: dict[str, Any] | None = None) -> None:
    if as_json:
        print_json("Done", {"state": state, **(node or {})})
    else:
        print(text)


def main(argv: list[str]) -> int:
    """Run the command."""
    return run_app(app, argv, "local")
