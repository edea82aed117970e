"""What handlers of the admin port answer with, and how they read what was asked."""

from typing import Any

import msgspec
from aiohttp import web

__all__ = ["Wrong", "as_json", "asked", "error"]


class Wrong(Exception):
    """The request cannot be done; `answer` says why."""

    def __init__(self, answer: web.Response) -> None:
        super().__init__()
        self.answer = answer


def as_json(value: object, status: int = 200) -> web.Response:
    """`value` as the answer."""
    return web.Response(
        body=msgspec.json.encode(value), status=status, content_type="application/json"
    )


def error(status: int, code: str, message: str, **more: object) -> web.Response:
    """An error: a code for programs, a message for people, and more facts."""
    return as_json({"error": {"code": code, "message": message, **more}}, status)


async def asked(request: web.Request, shape: Any) -> Any:
    """The body of a POST as `shape`. Wrong if it does not fit, or comes from a web page: one can send a
    form to this machine, but not JSON without asking first."""
    if request.content_type != "application/json" or "Origin" in request.headers:
        raise Wrong(
            error(415, "JSON_ONLY", "send Content-Type: application/json, not from a web page")
        )
    try:
        return msgspec.json.decode(await request.read(), type=shape)
    except msgspec.MsgspecError as reason:
        raise Wrong(error(400, "BAD_REQUEST", f"the body does not fit: {reason}")) from None
