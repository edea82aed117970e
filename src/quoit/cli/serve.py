"""`quoit serve`: one node, or the workers of one machine. Reads the settings and hands over to the
composition root (cli/process.py) or the supervisor (cli/workers.py)."""

import sys
from typing import Annotated, Any

import typer

from quoit.base.errors import QuoitError
from quoit.cli.config import merged, node_options, settled
from quoit.cli.join import joined
from quoit.cli.shared import USAGE, new_app, run_app
from quoit.cli.worker_settings import check_directory, workers_of

__all__ = ["main"]

app = new_app()


@app.command()
def serve(
    config: Annotated[
        str | None, typer.Option(help="TOML file with settings.", envvar="QUOIT_CONFIG")
    ] = None,
    name: Annotated[str | None, typer.Option(help="Name of the node. [default: nID]")] = None,
    node_id: Annotated[int | None, typer.Option(help="Number in the cluster. [default: 1]")] = None,
    workers: Annotated[
        int | None, typer.Option(help="Processes, each a node with a number from --node-id up.")
    ] = None,
    zone: Annotated[
        str | None, typer.Option(help="What fails together; workers: their machine.")
    ] = None,
    weight: Annotated[float | None, typer.Option(help="Share of the data. [default: 1]")] = None,
    data_dir: Annotated[str | None, typer.Option(help="[default: quoit-data]")] = None,
    cluster_id: Annotated[str | None, typer.Option(help="Same on every node.")] = None,
    secret_file: Annotated[str | None, typer.Option(help="Cluster secret, every node's.")] = None,
    host: Annotated[str | None, typer.Option(help="Address. [default: 127.0.0.1]")] = None,
    admin_host: Annotated[str | None, typer.Option(help="[default: 127.0.0.1]")] = None,
    resp_port: Annotated[int | None, typer.Option(help="Redis clients. [default: 7379]")] = None,
    admin_port: Annotated[int | None, typer.Option(help="HTTP. [default: 7400]")] = None,
    peer_port: Annotated[int | None, typer.Option(help="Other nodes. [default: 7401]")] = None,
    peers: Annotated[
        list[str] | None, typer.Option(help="ID=HOST:PEER/RESP/ADMIN[@ZONE] of every node; repeat.")
    ] = None,
    join: Annotated[
        str | None, typer.Option(help="Join the cluster of the node with this admin address.")
    ] = None,
    join_token: Annotated[
        str | None,
        typer.Option(
            "--join-token", "--token", help="From `quoit node token`, to join from another machine."
        ),
    ] = None,
    shards: Annotated[int | None, typer.Option(help="At creation. [default: 4 or more]")] = None,
    replication_factor: Annotated[int | None, typer.Option(help="[default: 3]")] = None,
    password: Annotated[str | None, typer.Option(help="Clients must AUTH with it.")] = None,
    password_file: Annotated[str | None, typer.Option(help="The same, from a file.")] = None,
    election_timeout_ms: Annotated[int | None, typer.Option(help="[default: 300]")] = None,
    heartbeat_ms: Annotated[int | None, typer.Option(help="[default: 60]")] = None,
    lease: Annotated[bool | None, typer.Option(help="Leader leases for reads.")] = None,
    drift_ppm: Annotated[int | None, typer.Option(help="Clock drift bound. [default: 10000]")] = (
        None
    ),
    digest_interval_s: Annotated[
        int | None, typer.Option(help="Replicas compare their data this often. [default: 600]")
    ] = None,
    dead_after_s: Annotated[
        int | None, typer.Option(help="Unreachable for so long is dead. [default: 600]")
    ] = None,
    suspect_phi: Annotated[
        float | None, typer.Option(help="Ask others about a silent node. [default: 8]")
    ] = None,
    cache_bytes: Annotated[int | None, typer.Option(help="[default: 134217728]")] = None,
    consensus: Annotated[
        str | None, typer.Option(help="At creation: raft or paxos. [default: raft]")
    ] = None,
    quorum: Annotated[
        str | None,
        typer.Option(help="At creation, with paxos: writes need a majority or all replicas."),
    ] = None,
    log_level: Annotated[str | None, typer.Option(help="debug, info, warning, error")] = None,
    log_format: Annotated[str | None, typer.Option(help="auto, text, json")] = None,
    ready_file: Annotated[str | None, typer.Option(help="Written when clients can come.")] = None,
) -> int:
    """Run a node until it is told to stop. Examples:

    \b
      quoit serve --data-dir /var/lib/quoit
      quoit serve --config quoit.toml --node-id 2
      quoit serve --data-dir n4 --join 127.0.0.1:7400
      quoit serve --workers 2

    Every option is also a QUOIT_ variable (QUOIT_DATA_DIR) and a key of the TOML file (data_dir)."""
    flags: dict[str, Any] = {
        key: value for key, value in locals().items() if key != "config" and value not in (None, [])
    }
    try:
        values = merged(flags, None, config)
        settings = settled(values)
        if settings.workers > 1:
            told = {**flags, **({"config": config} if config else {})}
            machine = workers_of(told, values)
        else:
            check_directory(settings)
            settings, view = joined(settings)
            options = node_options(settings)
            if view is not None:
                options.founders, options.founder_zones = view.founders, view.founder_zones
    except QuoitError as error:
        print(f"quoit: {error}", file=sys.stderr)
        return USAGE
    if settings.workers > 1:
        from quoit.cli.workers import run_workers

        return run_workers(machine, settings)
    from quoit.cli.process import run_node

    return run_node(options, settings)


def main(argv: list[str]) -> int:
    """Run the command."""
    return run_app(app, argv, "serve")
