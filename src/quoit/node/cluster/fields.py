"""What a node's record may say. It is checked where the record is changed, because placement computes
with it on every node: a weight below 0 that got in once would stop them all."""

import re

from quoit.node.cluster.state import NodeRecord
from quoit.placement.ring import WEIGHT_MAX

__all__ = ["unfit_node", "unfit_weight", "unfit_zone"]

_WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_HOST_MAX = 255
_PORT_MAX = 65_535
_ID_MAX = 65_535


def unfit_node(node: NodeRecord) -> str:
    """Why a node cannot have this record, for people; "" if it can. An empty name is one to be given."""
    if node.name and (not _WORD.fullmatch(node.name) or node.name.isdigit()):
        return (
            f"a name is up to 64 letters, digits and . _ - and no bare number, not {node.name!r}; "
            "give --name another one"
        )
    if not 0 <= node.id <= _ID_MAX:
        return f"a node's number is 1 to {_ID_MAX}, not {node.id}"
    if not 0 < len(node.host) <= _HOST_MAX or not node.host.isprintable() or " " in node.host:
        return f"{node.host!r} is no host"
    for port in (node.peer_port, node.resp_port, node.admin_port):
        if not 0 <= port <= _PORT_MAX:
            return f"{port} is no port"
    return unfit_zone(node.zone) or unfit_weight(node.weight)


def unfit_zone(zone: str) -> str:
    """Why this cannot be a zone; "" if it can. The empty one: the node stands for itself."""
    if zone and not _WORD.fullmatch(zone):
        return f"a zone is up to 64 letters, digits and . _ -, not {zone!r}"
    return ""


def unfit_weight(weight: float) -> str:
    """Why this cannot be a weight; "" if it can."""
    if not 0 < weight <= WEIGHT_MAX:
        return f"a weight is above 0 and at most {WEIGHT_MAX}, not {weight}"
    return ""
