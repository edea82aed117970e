"""`quoit local`: a cluster of real processes on this machine."""

import signal
from pathlib import Path
from typing import Annotated

import typer

from quoit.base.errors import BadRequest
from quoit.cli.cluster import LocalCluster
from quoit.cli.shared import FAILED, NOT_FOUND, UNHEALTHY, fail, new_app, print_json, run_app

__all__ = ["main"]

app = new_app("A cluster on this machine. Example: quoit local start --nodes 3 --dir q")

Directory = Annotated[Path, typer.Option("--dir", help="The cluster's directory.")]
AsJson = Annotated[bool, typer.Option("--json", help="Machine-readable output.")]
HERE = Path("quoit-local")


def _open(directory: Path) -> LocalCluster:
    cluster = LocalCluster(directory)
    if not cluster.nodes:
        fail(NOT_FOUND, "NO_CLUSTER", f"there is no cluster in {directory}",
             f"quoit local start --nodes 3 --dir {directory}")  # fmt: skip
    return cluster


@app.command()
def start(
    nodes: Annotated[int, typer.Option(help="How many, if the cluster is new.")] = 3,
    directory: Directory = HERE,
    base_port: Annotated[int, typer.Option(help="First port. [default: free ones]")] = 0,
    shards: Annotated[int, typer.Option(help="If new. [default: 4, or the nodes]")] = 0,
    json: AsJson = False,
) -> None:
    """Start the cluster in DIR (a new one if there is none) and wait until it can be used."""
    cluster = LocalCluster(directory)
    if not cluster.nodes:
        try:
            cluster.create(nodes, base_port, shards)
        except BadRequest as error:
            fail(2, "BAD_REQUEST", str(error), as_json=json)
    try:
        for node in cluster.nodes:
            if not cluster.running(node):
                cluster.launch(node)
        cluster.wait_ready()
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
    """Who runs, who leads what."""
    cluster = _open(directory)
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
def stop(directory: Directory = HERE) -> None:
    """Stop every node in order; the data stay."""
    cluster = _open(directory)
    for node in cluster.nodes:
        cluster.stop(node)
    print(f"stopped; `quoit local start --dir {directory}` starts it again")


@app.command()
def kill(name: str, directory: Directory = HERE) -> None:
    """SIGKILL a node."""
    cluster = _open(directory)
    _guarded(lambda: cluster.kill(cluster.node(name)))
    print(f"{name} killed; `quoit local restart {name} --dir {directory}` brings it back")


@app.command()
def restart(name: str, directory: Directory = HERE) -> None:
    """Start a node that was killed or stopped (or stop and start one that runs)."""
    cluster = _open(directory)

    def step() -> None:
        node = cluster.node(name)
        cluster.stop(node)
        cluster.launch(node)
        cluster.wait_ready([node["name"]])

    _guarded(step)
    print(f"{name} is back")


@app.command()
def pause(name: str, directory: Directory = HERE) -> None:
    """SIGSTOP a node."""
    cluster = _open(directory)
    _guarded(lambda: cluster.signal(cluster.node(name), signal.SIGSTOP))
    print(f"{name} paused; `quoit local resume {name} --dir {directory}` wakes it")


@app.command()
def resume(name: str, directory: Directory = HERE) -> None:
    """SIGCONT a node."""
    cluster = _open(directory)
    _guarded(lambda: cluster.signal(cluster.node(name), signal.SIGCONT))
    print(f"{name} resumed")


def _guarded(step: object) -> None:
    try:
        step()  # type: ignore[operator]
    except BadRequest as error:
        fail(FAILED, "REFUSED", str(error))


def main(argv: list[str]) -> int:
    """Run the command."""
    return run_app(app, argv, "local")
