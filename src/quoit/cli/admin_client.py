"""Asking a node's admin port. QUOIT_PASSWORD, if set, is sent along for ports beyond loopback."""

import http.client
import json
import os
from typing import Any

__all__ = ["AdminError", "ask", "fetch_status"]


class AdminError(Exception):
    """The node answered with an error. status: HTTP's; code, message and `more` are the answer's."""

    def __init__(self, status: int, error: dict[str, Any]) -> None:
        super().__init__(str(error.get("message", f"the node answered {status}")))
        self.status = status
        self.code = str(error.get("code", ""))
        self.more = error


def ask(admin: str, path: str, body: Any = None, timeout_s: float = 2.0) -> Any:
    """The JSON answer of the node at `admin` (`host:port`) to a GET of `path`, or a POST if there is a
    body. OSError if no node answers, PermissionError if the password is wrong, ValueError if `admin` is
    no address, AdminError if the node refuses."""
    host, _, port = admin.removeprefix("http://").rstrip("/").rpartition(":")
    connection = http.client.HTTPConnection(host.strip("[]"), int(port), timeout=timeout_s)
    password = os.environ.get("QUOIT_PASSWORD")
    headers = {"Authorization": f"Bearer {password}"} if password else {}
    payload = None
    if body is not None:
        payload = json.dumps(body)
        headers["Content-Type"] = "application/json"
    try:
        connection.request("GET" if body is None else "POST", path, payload, headers)
        response = connection.getresponse()
        data = response.read()
        if response.status == http.HTTPStatus.UNAUTHORIZED:
            raise PermissionError(f"{admin} wants the password: set QUOIT_PASSWORD")
        if response.status >= http.HTTPStatus.BAD_REQUEST:
            raise AdminError(response.status, _error_of(data))
        return json.loads(data)
    except (http.client.HTTPException, json.JSONDecodeError) as error:
        raise OSError(f"{admin} does not speak the admin API: {error!r}") from error
    finally:
        connection.close()


def _error_of(data: bytes) -> dict[str, Any]:
    try:
        error = json.loads(data)["error"]
    except (json.JSONDecodeError, KeyError, TypeError):
        return {}
    return error if isinstance(error, dict) else {}


def fetch_status(admin: str, timeout_s: float = 2.0) -> dict[str, Any]:
    """A node's NodeStatus from its admin port (`host:port`). Errors as for `ask`, but every answer that
    is not a status is an OSError."""
    try:
        found: dict[str, Any] = ask(admin, "/v1/status", timeout_s=timeout_s)
    except AdminError as error:
        raise OSError(f"{admin} answered {error.status}") from error
    return found
