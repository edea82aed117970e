"""The words of scenario files: actions with their arguments, and what is wrong with a file.

Types of arguments: node (a number or a role), nodes, seconds, number, numbers, text, texts, flag, sides
(lists of nodes), kinds (fault kinds of options.FAULTS), change (node.membership.KINDS). A trailing `?`
marks what may be left out.
"""

from collections.abc import Iterable
from difflib import get_close_matches
from typing import Any

from quoit.base.errors import BadRequest
from quoit.node.membership import KINDS
from quoit.sim.disk import ZONES
from quoit.sim.options import FAULTS

__all__ = ["ACTIONS", "ROLES", "check_step", "check_value", "refuse_unknown"]

ROLES = ("leader", "follower-1", "follower-2", "follower-3", "follower-4")

ACTIONS: dict[str, dict[str, str]] = {
    "cut": {"a": "node", "b": "node"},
    "oneway": {"from": "node", "to": "node"},
    "deaf": {"node": "node"},
    "isolate": {"node": "node"},
    "split": {"sides": "sides"},
    "split-every": {"seconds": "seconds", "length": "seconds"},
    "heal": {},
    "delay": {"to": "node", "seconds": "seconds"},
    "loss": {"share": "number", "seconds": "seconds"},
    "duplicate": {"share": "number", "seconds": "seconds"},
    "reorder": {"share": "number", "seconds": "seconds"},
    "slow-link": {"from": "node", "bytes_per_s": "number", "seconds": "seconds"},
    "small-frames": {"from": "node", "bytes_max": "number", "seconds": "seconds"},
    "reset": {"node": "node"},
    "drop-replies": {"share": "number", "seconds": "seconds"},
    "kill": {"node": "node", "restart": "seconds", "power": "flag?"},
    "power-cut-all": {"restart": "numbers"},
    "drain": {"node": "node"},
    "pause": {"node": "node", "seconds": "seconds"},
    "slow": {"node": "node", "turn": "seconds", "seconds": "seconds"},
    "sync-error": {"node": "node", "restart": "seconds"},
    "full-disk": {"node": "node", "seconds": "seconds"},
    "slow-disk": {"node": "node", "latency": "seconds", "seconds": "seconds"},
    "hang-disk": {"node": "node", "seconds": "seconds"},
    "lie": {"node": "node", "seconds": "seconds"},
    "copy": {"node": "node"},
    "put-back": {"node": "node", "restart": "seconds"},
    "wipe": {"node": "node", "restart": "seconds"},
    "replace": {"node": "node", "by": "nodes"},
    "readmit": {"node": "node"},
    "join": {"node": "node"},
    "die": {"node": "node"},
    "set-state": {"node": "node", "state": "text"},
    "flip": {"node": "node", "zone": "text?", "restart": "seconds"},
    "wall-jump": {"node": "node", "seconds": "number"},
    "clock-rate": {"node": "node", "rate": "number"},
    "read": {"node": "node", "key": "text"},
    "write": {"node": "node", "key": "text"},
    "change": {"kind": "change", "shard": "number", "node": "node", "source": "node?"},
    "mix": {"kinds": "kinds", "every": "seconds", "until": "seconds"},
    "fault": {"kind": "kind", "number": "number"},
}
"""Action -> argument -> type."""


def _near(word: str, known: Iterable[str]) -> str:
    found = get_close_matches(word, list(known), 1)
    return f"; did you mean {found[0]}?" if found else f"; there are: {', '.join(known)}"


def refuse_unknown(given: Iterable[str], known: Iterable[str], where: str, what: str) -> None:
    """BadRequest for the first word of `given` that is not known."""
    known = list(known)
    for word in given:
        if word not in known:
            raise BadRequest(f"{where}: there is no {what} {word!r}{_near(word, known)}")


def check_step(step: dict[str, Any], where: str, nodes: int, end_s: float) -> None:
    """BadRequest if a step is not one of ACTIONS with its arguments, or comes too late."""
    for word in ("at", "do"):
        if word not in step:
            raise BadRequest(f"{where}: `{word}` is missing")
    check_value(step["at"], "seconds", f"{where}, at", nodes)
    name = step["do"]
    refuse_unknown([str(name)], ACTIONS, where, "action")
    if step["at"] >= end_s:
        raise BadRequest(
            f"{where}: at = {step['at']} is not before the end of the faults, "
            f"options.safety_us = {end_s:g} s"
        )
    wanted = ACTIONS[name]
    refuse_unknown([word for word in step if word not in ("at", "do")], wanted, where, "argument")
    for word, kind in wanted.items():
        if word in step:
            check_value(step[word], kind.rstrip("?"), f"{where}, {word}", nodes)
        elif not kind.endswith("?"):
            raise BadRequest(f"{where}: {name} needs `{word}` ({kind})")
    if "zone" in step:
        refuse_unknown([step["zone"]], ZONES, where, "zone")


def check_value(value: Any, kind: str, where: str, nodes: int) -> None:
    """BadRequest if `value` is none of that type."""
    if kind in ("nodes", "numbers", "texts", "kinds", "sides"):
        if not isinstance(value, list):
            raise BadRequest(f"{where}: a list is needed, not {value!r}")
        inner = {"sides": "nodes"}.get(kind, kind[:-1])
        for one in value:
            check_value(one, inner, where, nodes)
        return
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if kind == "node":
        if isinstance(value, str):
            refuse_unknown([value], ROLES[:nodes], where, "role")
        elif not number or value not in range(1, nodes + 1):
            raise BadRequest(
                f"{where}: a node is a number from 1 to {nodes} or a role, not {value!r}"
            )
    elif kind in ("seconds", "number"):
        if not number or (kind == "seconds" and value < 0):
            raise BadRequest(f"{where}: a number is needed, not {value!r}")
    elif kind == "flag":
        if not isinstance(value, bool):
            raise BadRequest(f"{where}: true or false is needed, not {value!r}")
    elif not isinstance(value, str):
        raise BadRequest(f"{where}: a text is needed, not {value!r}")
    elif kind == "change":
        refuse_unknown([value], KINDS, where, "change")
    elif kind == "kind":
        refuse_unknown([value], FAULTS, where, "fault kind")
