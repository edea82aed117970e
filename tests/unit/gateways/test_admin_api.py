"""The admin port's table of routes: what is served is what is described."""

import asyncio
import re
from types import SimpleNamespace
from typing import Any

from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from quoit.cli.top import rows
from quoit.gateways.admin.routes import add_routes, openapi
from quoit.gateways.admin.server import all_routes


def _routes() -> Any:
    return all_routes(SimpleNamespace(node=None, options=None))  # type: ignore[arg-type]


def test_all_that_is_served_is_described() -> None:
    document = openapi(_routes(), "1")
    app = web.Application()
    add_routes(app, _routes())
    served = {
        (route.method.lower(), re.sub(r":[^}]*", "", route.resource.canonical))
        for route in app.router.routes()
        if route.resource is not None and route.method != "HEAD"
    }
    described = {(method, path) for path, one in document["paths"].items() for method in one}
    assert served == described
    assert ("post", "/v1/nodes/{node}/{action}") in described


def test_each_reference_leads_to_a_schema() -> None:
    document = openapi(_routes(), "1")
    text = repr(document)
    for name in re.findall(r"#/components/schemas/([\w.]+)", text):
        assert name in document["components"]["schemas"]
    for path, methods in document["paths"].items():
        for operation in methods.values():
            named = {one["name"] for one in operation["parameters"] if one["in"] == "path"}
            assert named == set(re.findall(r"\{(\w+)\}", path))


def test_the_document_is_served() -> None:
    async def main() -> None:
        app = web.Application()
        add_routes(app, _routes())
        async with TestClient(TestServer(app)) as client:
            answer = await client.get("/v1/openapi.json")
            assert answer.status == 200
            assert (await answer.json())["openapi"] == "3.1.0"

    asyncio.run(main())


def _status(commands: int) -> dict[str, Any]:
    counters = dict.fromkeys(
        ("batch_commands", "reads_local", "reads_indexed", "forwards", "log_bytes", "log_writes"), 0
    )
    counters["batch_commands"] = commands
    shard = {"role": "leader", "pending": 2, "commit_index": 7, "applied_index": 5}
    peers = [
        {"id": one, "name": f"n{one}", "connected": one == 1, "state": "live"} for one in (1, 2)
    ]
    return {
        "node_id": 1, "peers": peers, "counters": counters, "shards": [shard, {**shard, "role": "none"}],
        "event_loop_lag_us": 1500, "local_health": 0,
    }  # fmt: skip


def test_top_shows_rates_between_two_looks_and_who_does_not_answer() -> None:
    first, second = rows({1: (10.0, _status(100))}, {1: (12.0, _status(500))})
    assert (first["writes"], first["leads"], first["replicas"]) == (200, 1, 1)
    assert (first["behind"], first["lag_ms"], first["pending"]) == (2, 1.5, 2)
    assert second == {"node": "n2", "state": "○ not connected"}
    # One that has started again counts from 0.
    assert rows({1: (10.0, _status(100))}, {1: (12.0, _status(0))})[0]["writes"] == 0
