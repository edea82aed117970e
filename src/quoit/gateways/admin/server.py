"""The admin port: health, status, metrics and operations over HTTP (aiohttp). What it tells is never a
secret; what changes something is in shards.py."""

from typing import Any, Protocol

import msgspec
from aiohttp import web
from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest

from quoit import __version__
from quoit.gateways.admin.access import HEALTH, host_is_local, is_loopback, token_fits
from quoit.gateways.admin.answers import as_json
from quoit.gateways.admin.health import find_node, losses
from quoit.gateways.admin.metrics import StatusCollector
from quoit.gateways.admin.nodes import node_routes
from quoit.gateways.admin.ring import ring_routes
from quoit.gateways.admin.routes import Handler, Route, add_routes, openapi
from quoit.gateways.admin.shards import shard_routes
from quoit.node.status import NodeStatus
from quoit.runtime.options import NodeOptions

__all__ = ["all_routes", "readiness", "serve_admin"]

_HEADERS = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
_REQUEST_BYTES_MAX = 64 * 1024


class Host(Protocol):
    """The node behind the gateway."""

    options: NodeOptions

    @property
    def node(self) -> Any:
        """The running node."""
        ...


async def serve_admin(host: Host, address: str, port: int, password: str = "") -> web.AppRunner:
    """Listen on `address:port`; OSError when that is taken. An address beyond loopback demands
    `password` for all but health. The caller calls `cleanup()` on what is returned."""
    app = web.Application(
        middlewares=[_guard(is_loopback(address), password)], client_max_size=_REQUEST_BYTES_MAX
    )
    add_routes(app, all_routes(host))
    runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=1.0)
    await runner.setup()
    try:
        await web.TCPSite(runner, address, port).start()
    except OSError:
        await runner.cleanup()
        raise
    return runner


def all_routes(host: Host) -> list[Route]:
    """Everything that the admin port serves: the one table of it."""
    routes = _Routes(host)
    return [
        Route("GET", "/livez", routes.live, "200 while the process works", answer="text/plain"),
        Route("GET", "/readyz", routes.ready, "200 when clients can be sent here, else 503",
              {"verbose": "names the checks", "exclude": "leaves a check out"}, answer="text/plain"),
        Route("GET", "/healthz/cluster", routes.cluster, "200 if every shard accepts writes, else 503",
              {"maintenance": "a node: 412 if some shard would not without it"}, answer="text/plain"),
        Route("GET", "/metrics", routes.metrics, "Prometheus' text format", answer="text/plain"),
        Route("GET", "/v1/status", routes.status, "What this node knows of itself and the cluster",
              answer=NodeStatus),
        Route("GET", "/v1/openapi.json", routes.openapi, "This document"),
        *node_routes(host),
        *ring_routes(host),
        *shard_routes(host),
    ]  # fmt: skip


def _guard(local: bool, password: str) -> Any:
    @web.middleware
    async def check(request: web.Request, handler: Handler) -> web.StreamResponse:
        if local and not host_is_local(request.headers.get("Host", "")):
            return _error(421, "WRONG_HOST", "this port is for this machine only")
        if not local and request.path not in HEALTH:
            if not token_fits(request.headers.get("Authorization", ""), password):
                refused = _error(401, "UNAUTHENTICATED", "send Authorization: Bearer PASSWORD")
                refused.headers["WWW-Authenticate"] = "Bearer"
                return refused
        try:
            response = await handler(request)
        except web.HTTPNotFound:
            return _error(
                404,
                "NOT_FOUND",
                "there is no such path; GET /v1/openapi.json lists them all",
            )
        except web.HTTPMethodNotAllowed:
            return _error(405, "METHOD", "GET reads, POST changes; not every path takes both")
        response.headers.update(_HEADERS)
        return response

    return check


def _error(status: int, code: str, message: str) -> web.Response:
    body = {"error": {"code": code, "message": message}}
    return web.json_response(body, status=status, headers=_HEADERS)


class _Routes:
    """The handlers of one node's admin port."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.registry = CollectorRegistry()
        self.registry.register(StatusCollector(self._status))
        ProcessCollector(registry=self.registry)

    def _status(self) -> NodeStatus:
        found: NodeStatus = self.host.node.status()
        return found

    async def live(self, request: web.Request) -> web.Response:
        """The event loop turns. Depends on no peer, or an outage would become a restart storm."""
        return web.Response(text="ok\n")

    async def ready(self, request: web.Request) -> web.Response:
        """Clients can be sent here; `?verbose` names the checks, `?exclude=NAME` leaves one out."""
        checks = readiness(self._status(), bool(self.host.node.stopping))
        for name in request.query.getall("exclude", []):
            checks.pop(name, None)
        good = all(checks.values())
        if "verbose" in request.query:
            lines = [f"[{'+' if one else '-'}]{name}" for name, one in checks.items()]
            text = "\n".join([*lines, "ready" if good else "not ready"]) + "\n"
        else:
            text = "ok\n" if good else "not ready; see ?verbose\n"
        return web.Response(text=text, status=200 if good else 503)

    async def cluster(self, request: web.Request) -> web.Response:
        """200 if every shard accepts writes, else 503; `?maintenance=NODE`: 200 if every shard still
        would when that node stops, else 412."""
        status = self._status()
        name = request.query.get("maintenance", "")
        node = find_node(status, name) if name else 0
        if name and not node:
            known = " ".join(peer.name for peer in status.peers)
            return _error(
                400, "NO_SUCH_NODE", f"there is no node {name!r}; the cluster has {known}"
            )
        lost = losses(status, node)
        if not lost:
            return web.Response(text="ok\n")
        what = f"without {name} these would accept no writes" if name else "no writes accepted"
        return web.Response(text="\n".join([f"{what}:", *lost]) + "\n", status=412 if name else 503)

    async def openapi(self, request: web.Request) -> web.Response:
        """The description of all routes."""
        return as_json(openapi(all_routes(self.host), __version__))

    async def status(self, request: web.Request) -> web.Response:
        """NodeStatus as JSON."""
        return web.Response(
            body=msgspec.json.encode(self._status()), content_type="application/json"
        )

    async def metrics(self, request: web.Request) -> web.Response:
        """Prometheus' text format 0.0.4."""
        return web.Response(
            body=generate_latest(self.registry),
            headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"},
        )


def readiness(status: NodeStatus, stopping: bool) -> dict[str, bool]:
    """Named checks: True is good."""
    return {
        "not-stopping": not stopping,
        "every-shard-has-a-leader": all(shard.leader for shard in status.shards),
        "data-are-not-being-rebuilt": not status.rebuilding,
        "no-replica-is-damaged": all(shard.role != "damaged" for shard in status.shards),
    }
