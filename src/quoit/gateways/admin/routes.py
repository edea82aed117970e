"""A route of the admin port, as the one table has it from which routes are served and described."""

import re
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
from aiohttp import web

__all__ = ["Error", "Handler", "Route", "add_routes", "openapi"]

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Error(msgspec.Struct):
    """What stands under `error` in every answer that is none: for programs, and for people."""

    code: str
    message: str


class Route(msgspec.Struct, frozen=True):
    """One route.

    path    aiohttp's, with names in braces
    does    one sentence
    query   parameter -> what it does
    body    shape of the JSON that a POST sends
    answer  shape of the JSON that comes back; a text is a media type instead
    status  of a good answer
    errors  status -> when
    """

    method: str
    path: str
    handler: Handler
    does: str
    query: dict[str, str] = {}
    body: Any = None
    answer: Any = None
    status: int = 200
    errors: dict[int, str] = {}


def add_routes(app: web.Application, routes: list[Route]) -> None:
    """Serve them."""
    for route in routes:
        app.router.add_route(route.method, route.path, route.handler)


def openapi(routes: list[Route], version: str) -> dict[str, Any]:
    """The OpenAPI 3.1 document (spec.openapis.org/oas/v3.1.0) of these routes."""
    shapes = [Error]
    shapes += [one for route in routes for one in (route.body, route.answer) if _is_shape(one)]
    found, components = msgspec.json.schema_components(
        shapes, ref_template="#/components/schemas/{name}"
    )
    schemas = dict(zip(map(repr, shapes), found, strict=True))
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        path = re.sub(r"\{(\w+):[^}]*\}", r"{\1}", route.path)
        paths.setdefault(path, {})[route.method.lower()] = _operation(route, path, schemas)
    return {
        "openapi": "3.1.0",
        "info": {"title": "quoit admin API", "version": version},
        "paths": paths,
        "components": {"schemas": components},
    }


def _is_shape(one: Any) -> bool:
    return one is not None and not isinstance(one, str)


def _operation(route: Route, path: str, schemas: dict[str, Any]) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "summary": route.does,
        "operationId": route.handler.__name__,
        "parameters": [
            {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
            for name in re.findall(r"\{(\w+)\}", path)
        ]
        + [
            {"name": name, "in": "query", "description": text, "schema": {"type": "string"}}
            for name, text in route.query.items()
        ],
        "responses": {
            str(route.status): {"description": "done", "content": _content(route, schemas)}
        },
    }
    if route.body is not None:
        schema = schemas[repr(route.body)]
        operation["requestBody"] = {
            "required": True,
            "content": {"application/json": {"schema": schema}},
        }
    wrapped = {"type": "object", "properties": {"error": schemas[repr(Error)]}}
    for status, when in route.errors.items():
        content = {"application/json": {"schema": wrapped}}
        operation["responses"][str(status)] = {"description": when, "content": content}
    return operation


def _content(route: Route, schemas: dict[str, Any]) -> dict[str, Any]:
    if isinstance(route.answer, str):
        return {route.answer: {"schema": {"type": "string"}}}
    return {"application/json": {"schema": schemas[repr(route.answer)] if route.answer else {}}}
