"""May a node lead nothing, go, or be forgotten? Judged by its record and by what the node that was asked
sees: a voter counts when it is connected here."""

from typing import Any

from quoit.gateways.admin.answers import Wrong, error
from quoit.node.cluster.state import (
    DEAD,
    HOLDERS,
    LIVE,
    META_SHARD,
    ClusterState,
    NodeRecord,
)
from quoit.quorum.members import quorums

__all__ = ["check_decommission", "check_drain", "check_remove"]


def _refuse(text: str) -> Wrong:
    return Wrong(error(409, "REFUSED", text))


def _there(node: Any) -> list[int]:
    return [node.config.node_id, *node.connected]


def _name(shard: int) -> str:
    return "the cluster's record" if shard == META_SHARD else f"shard {shard}"


def _short(node: Any, without: int) -> str:
    """The first shard in which `without` votes and which accepts no writes while that one is away, and
    why; "" if there is none."""
    there = [one for one in _there(node) if one != without]
    for shard in node.ranges():
        voters = node.members_of(shard.id).voters
        if without not in voters:
            continue
        need = quorums(node.config.quorum, len(voters)).write
        count = sum(one in there for one in voters)
        if count < need:
            return f"{_name(shard.id)} has {count} of {len(voters)} voters then and needs {need}"
    return ""


def check_drain(node: Any, state: ClusterState, record: NodeRecord) -> None:
    """A drained node is about to be stopped: then every shard must have a quorum. Wrong if not."""
    others = [one for one in state.nodes if one.state == LIVE and one.id != record.id]
    if not others:
        raise _refuse(f"no other node could lead instead of {record.name}")
    if record.state == LIVE and (short := _short(node, record.id)):
        raise _refuse(f"{record.name} is needed: {short}")


def check_decommission(node: Any, state: ClusterState, record: NodeRecord) -> None:
    """Others must be there for as many replicas as there shall be. Wrong if not."""
    others = [one for one in state.nodes if one.state in HOLDERS and one.id != record.id]
    away = [one.name for one in others if one.id not in _there(node)]
    factor = state.settings.replication_factor
    if len(others) < factor:
        raise _refuse(
            f"without {record.name} there are {len(others)} nodes for {factor} replicas of each shard; "
            f"add a node first, or lower the number: quoit settings replication_factor {len(others)}"
        )
    if len(others) - len(away) < factor:
        raise _refuse(
            f"of the {len(others)} other nodes {', '.join(away)} cannot be reached, and the rest are too "
            f"few for {factor} replicas of each shard; bring them back or add a node first"
        )


def check_remove(node: Any, record: NodeRecord) -> None:
    """A removed node's replicas are gone for good. Wrong while it keeps some, unless it is dead; and also
    then while a shard may only come back with it."""
    keeps = [one.id for one in node.ranges() if record.id in node.members_of(one.id).everyone]
    if not keeps:
        return
    if record.state != DEAD:
        raise _refuse(
            f"{record.name} keeps {_name(keeps[0])}{f' and {len(keeps) - 1} more' if keeps[1:] else ''}; "
            f"use: quoit node decommission {record.name}"
        )
    if short := _short(node, record.id):
        raise _refuse(
            f"{record.name} is dead, but {short}: its data are still needed; bring it back if that can be"
        )
