"""The admin port: health, status and metrics over HTTP (aiohttp). It tells no secret, and checks the
Host header so that a web page cannot reach it through a rebound name."""

from typing import Any, Protocol

import msgspec
from aiohttp import web
from prometheus_client import CollectorRegistry, generate_latest

from quoit.gateways.admin.metrics import StatusCollector
from quoit.node.status import NodeStatus

__all__ = ["serve_admin"]

_LOOPBACK = ("127.", "localhost", "[::1]")


class Host(Protocol):
    """The node behind the gateway."""

    @property
    def node(self) -> Any:
        """The running node."""
        ...


def _guard(bound_to: str) -> Any:
    @web.middleware
    async def check(request: web.Request, handler: Any) -> web.StreamResponse:
        host = request.headers.get("Host", "")
        if bound_to.startswith(_LOOPBACK) and not host.startswith(_LOOPBACK):
            return web.json_response({"error": "this port is for this machine only"}, status=421)
        response: web.StreamResponse = await handler(request)
        return response

    return check


async def serve_admin(host: Host, address: str, port: int) -> web.AppRunner:
    """Listen on `address:port`. The caller calls `cleanup()` on what is returned."""
    app = web.Application(middlewares=[_guard(address)])
    registry = CollectorRegistry()
    registry.register(StatusCollector(lambda: _status(host)))

    async def live(request: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def ready(request: web.Request) -> web.Response:
        checks = readiness(_status(host), bool(host.node.stopping))
        good = all(checks.values())
        if "verbose" in request.query:
            lines = [f"[{'+' if one else '-'}]{name}" for name, one in checks.items()]
            text = "\n".join(lines) + f"\n{'ready' if good else 'not ready'}\n"
        else:
            text = "ok\n" if good else "not ready; see ?verbose\n"
        return web.Response(text=text, status=200 if good else 503)

    async def status(request: web.Request) -> web.Response:
        return web.Response(
            body=msgspec.json.encode(_status(host)), content_type="application/json"
        )

    async def metrics(request: web.Request) -> web.Response:
        return web.Response(
            body=generate_latest(registry),
            headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"},
        )

    app.router.add_get("/livez", live)
    app.router.add_get("/readyz", ready)
    app.router.add_get("/v1/status", status)
    app.router.add_get("/metrics", metrics)
    runner = web.AppRunner(app, access_log=None, handle_signals=False)
    await runner.setup()
    await web.TCPSite(runner, address, port).start()
    return runner


def _status(host: Host) -> NodeStatus:
    found: NodeStatus = host.node.status()
    return found


def readiness(status: NodeStatus, stopping: bool) -> dict[str, bool]:
    """Named checks: True is good."""
    checks = {"not-stopping": not stopping}
    checks["every-shard-has-a-leader"] = all(shard.leader for shard in status.shards)
    checks["no-replica-is-damaged"] = all(shard.role != "damaged" for shard in status.shards)
    return checks
