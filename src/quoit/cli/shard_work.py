"""Carrying out one operation on a shard, wherever it is led, and telling how far it is."""

import time
from collections.abc import Callable
from typing import Any

from quoit.cli.admin_client import AdminError, ask, fetch_status

__all__ = ["Refused", "Unreachable", "ask_leader", "carry_out", "describe"]

_POLL_S = 0.1
_RETRY_S = 0.3
_PATIENCE_S = 15.0
_WORDS = {"learn": "gets the data", "vote": "votes", "lead": "leads", "leave": "leaves"}


class Refused(Exception):
    """The leader says what stands against it."""


class Unreachable(Exception):
    """Nobody who could do it answers."""


def describe(step: list[Any], names: dict[int, str]) -> str:
    """A step in words."""
    return f"{names.get(step[1], step[1])} {_WORDS[step[0]]}"


def ask_leader(admin: str, shard: int, body: dict[str, Any]) -> tuple[str, Any]:
    """(leader's admin address, its answer) to a POST of the operation in `body`, starting at any
    node. Refused, or Unreachable after a while."""
    at, why = admin, ""
    deadline = time.monotonic() + _PATIENCE_S
    while time.monotonic() < deadline:
        try:
            return at, ask(at, f"/v1/shards/{shard}/operations", body, 5.0)
        except AdminError as error:
            if error.status not in (421, 503):
                raise Refused(str(error)) from None
            why = str(error)
            at = str(error.more.get("admin", "")) or admin
            if error.status == 503 or error.more.get("leader") is None:
                time.sleep(_RETRY_S)
        except OSError as error:
            why = f"{at} does not answer: {error}"
            at = admin
            time.sleep(_RETRY_S)
    raise Unreachable(why)


def carry_out(
    admin: str, shard: int, body: dict[str, Any], tell: Callable[[str], None], names: dict[int, str]
) -> dict[str, Any]:
    """Begin the operation, wait for its end, and go on where the leader changed. Its last answer;
    Refused or Unreachable."""
    begun = False
    deadline = time.monotonic() + _PATIENCE_S
    while True:
        try:
            at, found = ask_leader(admin, shard, body)
        except Refused as error:
            # A part that was done before the leader changed may have been the last one.
            if begun and _is_reached(admin, shard, body):
                return {"state": "done"}
            if begun and "under way" in str(error) and time.monotonic() < deadline:
                time.sleep(_RETRY_S)
                continue
            raise
        begun = True
        found = _wait(at, shard, found, tell, names)
        if found["state"] == "done":
            return found
        if found["state"] == "failed":
            raise Refused(found["reason"])
        tell("the leader changed; going on there")
        deadline = time.monotonic() + _PATIENCE_S
        time.sleep(_RETRY_S)


def _wait(
    at: str, shard: int, found: dict[str, Any], tell: Callable[[str], None], names: dict[int, str]
) -> dict[str, Any]:
    said = ""
    operation = found["id"]
    while True:
        steps, finished = found["steps"], found["finished"]
        if found["state"] == "running" and finished < len(steps):
            waits = f"; waits for {found['waits_for']}" if found["waits_for"] else ""
            text = f"step {finished + 1} of {len(steps)}: {describe(steps[finished], names)}"
            if text != said:
                tell(text + waits)
                said = text
        if found["state"] != "running":
            return found
        time.sleep(_POLL_S)
        try:
            found = ask(at, f"/v1/shards/{shard}/operation", timeout_s=5.0)
        except (OSError, AdminError) as error:
            return {**found, "state": "interrupted", "reason": str(error)}
        if found["id"] != operation:
            return {**found, "state": "interrupted", "reason": "another operation was begun"}


def _is_reached(admin: str, shard: int, body: dict[str, Any]) -> bool:
    """What `body` asks for is so, by the word of the node at `admin`."""
    try:
        status = fetch_status(admin)
    except OSError:
        return False
    found = next(one for one in status["shards"] if one["id"] == shard)
    node, everyone = body["node"], found["replicas"] + found["learners"]
    if body["kind"] == "remove-replica":
        return node not in everyone
    if body["kind"] == "leader":
        return bool(found["leader"] == node)
    return node in found["replicas"] and body.get("source", 0) not in everyone
