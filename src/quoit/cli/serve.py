"""`quoit serve`: one node. The composition root: runtime below, gateways above."""

import asyncio
import contextlib
import gc
import logging
import os
import signal
import sys
from pathlib import Path
from typing import Annotated, Any

import structlog
import typer

from quoit import __version__
from quoit.base.errors import QuoitError
from quoit.cli.config import ServeConfig, load, node_options
from quoit.cli.shared import FAILED, USAGE, new_app, run_app

__all__ = ["main"]

app = new_app("Run a node. Example: quoit serve --data-dir /var/lib/quoit")


@app.command()
def serve(
    config: Annotated[
        str | None, typer.Option(help="TOML file with settings.", envvar="QUOIT_CONFIG")
    ] = None,
    name: Annotated[str | None, typer.Option(help="Name of the node. [default: nID]")] = None,
    node_id: Annotated[int | None, typer.Option(help="Number in the cluster. [default: 1]")] = None,
    data_dir: Annotated[str | None, typer.Option(help="[default: quoit-data]")] = None,
    cluster_id: Annotated[str | None, typer.Option(help="Same on every node.")] = None,
    host: Annotated[str | None, typer.Option(help="Address. [default: 127.0.0.1]")] = None,
    resp_port: Annotated[int | None, typer.Option(help="Redis clients. [default: 7379]")] = None,
    admin_port: Annotated[int | None, typer.Option(help="HTTP. [default: 7400]")] = None,
    peer_port: Annotated[int | None, typer.Option(help="Other nodes. [default: 7401]")] = None,
    peers: Annotated[
        list[str] | None, typer.Option(help="ID=HOST:PEER/RESP/ADMIN of every node; repeat.")
    ] = None,
    shards: Annotated[int | None, typer.Option(help="At creation. [default: 4 or more]")] = None,
    replication_factor: Annotated[int | None, typer.Option(help="[default: 3]")] = None,
    password: Annotated[str | None, typer.Option(help="Clients must AUTH with it.")] = None,
    election_timeout_ms: Annotated[int | None, typer.Option(help="[default: 300]")] = None,
    heartbeat_ms: Annotated[int | None, typer.Option(help="[default: 60]")] = None,
    lease: Annotated[bool | None, typer.Option(help="Leader leases for reads.")] = None,
    drift_ppm: Annotated[int | None, typer.Option(help="Clock drift bound.")] = None,
    consensus: Annotated[str | None, typer.Option(help="[default: raft]")] = None,
    log_level: Annotated[str | None, typer.Option(help="debug, info, warning, error")] = None,
    log_format: Annotated[str | None, typer.Option(help="auto, text, json")] = None,
    ready_file: Annotated[str | None, typer.Option(help="Written when clients can come.")] = None,
) -> int:
    """Run a node until it is told to stop."""
    flags: dict[str, Any] = {
        key: value for key, value in locals().items() if key != "config" and value not in (None, [])
    }
    try:
        settings = load(flags, None, config)
        options = node_options(settings)
    except QuoitError as error:
        print(f"quoit: {error}", file=sys.stderr)
        return USAGE
    _logging(settings)
    import uvloop

    from quoit.runtime.driver import Driver

    return uvloop.run(_run(Driver(options), settings))


def _logging(settings: ServeConfig) -> None:
    level = getattr(logging, settings.log_level.upper(), logging.INFO)
    as_json = settings.log_format == "json" or (
        settings.log_format == "auto" and not sys.stderr.isatty()
    )
    renderer: Any = (
        structlog.processors.JSONRenderer() if as_json else structlog.dev.ConsoleRenderer()
    )
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )


async def _run(driver: Any, settings: ServeConfig) -> int:
    from quoit.gateways.admin.server import serve_admin
    from quoit.gateways.resp.gateway import RespGateway, RespSettings

    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    asked = 0

    def on_signal() -> None:
        nonlocal asked
        asked += 1
        stop.set()
        if asked > 1:
            os._exit(FAILED)

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal)
    # Why: the log thread needs the interpreter for microseconds after each sync; with the default
    # of 5 ms a busy event loop would make every write wait for it.
    sys.setswitchinterval(0.0005)
    gateway = RespGateway(
        RespSettings(password=settings.password.encode(), port=settings.resp_port)
    )
    try:
        await driver.start()
        await driver.serve_clients(gateway.connect, settings.host, settings.resp_port)
        admin = await serve_admin(driver, settings.host, settings.admin_port)
    except (QuoitError, OSError) as error:
        print(f"quoit: the node could not start: {error}", file=sys.stderr)
        return FAILED
    _banner(settings, driver)
    if settings.ready_file:
        Path(settings.ready_file).write_text(f"{os.getpid()}\n")
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)
    waiter = loop.create_task(stop.wait())
    await asyncio.wait({waiter, driver.failed}, return_when=asyncio.FIRST_COMPLETED)
    if driver.failed.done():
        print(f"quoit: the node stopped itself: {driver.failed.result()}", file=sys.stderr)
        # The state in memory is not trusted any more: no graceful steps.
        os._exit(FAILED)
    with contextlib.suppress(Exception):
        await admin.cleanup()
    await driver.stop(5.0)
    return 0


def _banner(settings: ServeConfig, driver: Any) -> None:
    nodes = len(driver.options.peers)
    name = driver.options.name
    url = f"redis://{settings.host}:{settings.resp_port}/0"
    admin = f"http://{settings.host}:{settings.admin_port}"
    print(
        f"quoit {__version__}  node {name} · cluster {settings.cluster_id} · "
        f"{nodes} node{'s' if nodes > 1 else ''}\n"
        f"  redis   {url}\n"
        f"  admin   {admin}/v1/status   metrics {admin}/metrics   health /livez /readyz\n"
        f"  data    {settings.data_dir}\n"
        + (
            ""
            if settings.password
            else "  note    no password and no TLS: fine on a laptop, not beyond\n"
        )
        + f"  next    redis-cli -p {settings.resp_port} set hello world   ·   "
        f"quoit status --admin {settings.host}:{settings.admin_port}",
        flush=True,
    )


def main(argv: list[str]) -> int:
    """Run the command."""
    return run_app(app, argv, "serve")
