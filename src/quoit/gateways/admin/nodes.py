"""The admin port's part about nodes: who is in the cluster, joining, leaving, and its settings.

    GET  /v1/nodes                 all nodes as the cluster's record has them
    POST /v1/nodes                 a node wants in: its number
    POST /v1/nodes/NODE/ACTION     drain, recommission, decommission, remove, set
    POST /v1/tokens                a token for joining from another machine
    GET  /v1/settings              the cluster's settings; POST changes those that are named

Every node answers: what changes the record is forwarded to the meta shard's leader as any write is.
"""

import asyncio
import hashlib
import secrets
from typing import Any, Protocol

import msgspec
from aiohttp import web

from quoit.gateways.admin.access import is_loopback
from quoit.gateways.admin.answers import Wrong, as_json, asked, error
from quoit.gateways.admin.routes import Route
from quoit.node.cluster.changes import (
    AddToken,
    Change,
    Join,
    SetNode,
    SetSettings,
    SetState,
)
from quoit.node.cluster.meta import UNKNOWN, Proposal
from quoit.node.cluster.state import (
    DECOMMISSIONING,
    DRAINING,
    HOLDERS,
    LIVE,
    REMOVED,
    ClusterState,
    NodeRecord,
    Settings,
)

__all__ = ["NodeRoutes", "find_record", "node_routes", "proposed"]

_TOKEN_MINUTES_MAX = 7 * 24 * 60
_ACTIONS = ("drain", "recommission", "decommission", "remove", "set")


class Host(Protocol):
    """The node behind the gateway."""

    @property
    def node(self) -> Any:
        """The running node."""
        ...


class Joins(msgspec.Struct, forbid_unknown_fields=True):
    """A node that wants in. id, name: 0 and empty take what the cluster gives."""

    host: str
    peer_port: int
    resp_port: int
    admin_port: int
    id: int = 0
    name: str = ""
    zone: str = ""
    weight: float = 1.0
    version: str = ""
    token: str = ""


class NodeChange(msgspec.Struct, forbid_unknown_fields=True):
    """For `set`: what is left out stays."""

    zone: str | None = None
    weight: float | None = None


class TokenWanted(msgspec.Struct, forbid_unknown_fields=True):
    """For how long."""

    minutes: int = 60


class Joined(msgspec.Struct):
    """Who it is from now on."""

    id: int
    name: str


class Token(msgspec.Struct):
    """The token, and when it ends (Unix time in ms)."""

    token: str
    until_ms: int


class NodeView(msgspec.Struct):
    """A node: its record, and how the node that was asked sees it. replicas: shards that it votes or learns
    in; leads: those that it leads."""

    record: NodeRecord
    connected: bool
    seen: str
    replicas: int
    leads: int


_CHANGES = {
    403: "a token is needed",
    404: "there is no such node, action or setting",
    409: "it does not fit the cluster's record; the message says why",
    503: "the record has no leader now; nothing was done",
    504: "the outcome is unknown; look before asking again",
}


def node_routes(host: Host) -> list[Route]:
    """The routes of this file."""
    routes = NodeRoutes(host)
    return [
        Route("GET", "/v1/nodes", routes.nodes, "All nodes, as the cluster's record has them",
              {"all": "also those that were removed"}, answer=list[NodeView],
              errors={503: "there is no record yet"}),
        Route("POST", "/v1/nodes", routes.join, "A node wants to join: its number and name",
              body=Joins, answer=Joined, status=201, errors=_CHANGES),
        Route("POST", "/v1/nodes/{node}/{action}", routes.change,
              "drain, recommission, decommission, remove a node, or set its zone and weight",
              body=NodeChange, answer=NodeRecord, errors=_CHANGES),
        Route("POST", "/v1/tokens", routes.token, "A token with which nodes elsewhere may join",
              body=TokenWanted, answer=Token, status=201, errors=_CHANGES),
        Route("GET", "/v1/settings", routes.settings, "The cluster's settings", answer=Settings),
        Route("POST", "/v1/settings", routes.set_settings, "Change the settings that are named",
              body=dict[str, Any], answer=Settings, errors=_CHANGES),
    ]  # fmt: skip


async def proposed(node: Any, change: Change) -> Proposal:
    """The record was changed, from any node. Wrong if it was not, or nobody knows."""
    future: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    proposal: Proposal = node.cluster.propose(change, future.set_result)
    outcome = await future
    if not outcome:
        return proposal
    if proposal.refused:
        raise Wrong(error(409, "REFUSED", outcome))
    if outcome == UNKNOWN:
        text = "the outcome is unknown: it may be applied; look before you ask again"
        raise Wrong(error(504, "MAYBE_APPLIED", text))
    raise Wrong(error(503, "NO_LEADER", f"the cluster's record cannot be changed now: {outcome}"))


def find_record(state: ClusterState, name: str) -> NodeRecord:
    """The node of that name or number. Wrong if there is none."""
    for node in reversed(state.nodes):
        if name in (node.name, str(node.id)):
            return node
    known = " ".join(node.name for node in state.nodes if node.state != REMOVED)
    raise Wrong(error(404, "NO_SUCH_NODE", f"there is no node {name!r}; there are: {known}"))


class NodeRoutes:
    """The handlers."""

    def __init__(self, host: Host) -> None:
        self.host = host

    async def nodes(self, request: web.Request) -> web.Response:
        """All nodes that are no former ones; with `?all` those, too."""
        node = self.host.node
        if not node.cluster.state.nodes:
            return error(503, "NOT_YET", "the cluster has no record yet; try again in a second")
        status = node.status()
        connected = {peer.id: peer for peer in status.peers}
        views = []
        for record in node.cluster.state.nodes:
            if record.state == REMOVED and "all" not in request.query:
                continue
            peer = connected.get(record.id)
            views.append(
                NodeView(
                    record, peer is not None and peer.connected,
                    peer.state if peer is not None else "unknown",
                    sum(record.id in (*one.replicas, *one.learners) for one in status.shards),
                    sum(one.leader == record.id for one in status.shards),
                )
            )  # fmt: skip
        return as_json(views)

    async def join(self, request: web.Request) -> web.Response:
        """A new node gets its number."""
        try:
            body = await asked(request, Joins)
            if not body.token and not is_loopback(request.remote or ""):
                text = "joining from another machine takes a token; make one with: quoit node token"
                return error(403, "TOKEN_NEEDED", text)
            record = NodeRecord(
                id=body.id, name=body.name, zone=body.zone, weight=body.weight, host=body.host,
                peer_port=body.peer_port, resp_port=body.resp_port, admin_port=body.admin_port,
                version=body.version,
            )  # fmt: skip
            digest = hashlib.sha256(body.token.encode()).hexdigest() if body.token else ""
            proposal = await proposed(self.host.node, Join(record, digest))
        except Wrong as wrong:
            return wrong.answer
        joined = self.host.node.cluster.state.node(proposal.number)
        return as_json(Joined(proposal.number, joined.name if joined else body.name), 201)

    async def change(self, request: web.Request) -> web.Response:
        """Another state, zone or weight for a node."""
        node, action = self.host.node, request.match_info["action"]
        try:
            body = await asked(request, NodeChange)
            if action not in _ACTIONS:
                text = f"there is no {action!r}; there are: {', '.join(_ACTIONS)}"
                return error(404, "NO_SUCH_ACTION", text)
            record = find_record(node.cluster.state, request.match_info["node"])
            await proposed(node, _change_for(node.cluster.state, record, action, body))
        except Wrong as wrong:
            return wrong.answer
        return as_json(node.cluster.state.node(record.id))

    async def token(self, request: web.Request) -> web.Response:
        """A new token; only its digest is kept."""
        try:
            body = await asked(request, TokenWanted)
            if not 1 <= body.minutes <= _TOKEN_MINUTES_MAX:
                text = f"a token lives for 1 to {_TOKEN_MINUTES_MAX} minutes"
                return error(400, "BAD_REQUEST", text)
            token = secrets.token_urlsafe(32)
            until_ms = self.host.node.clock.wall_ms() + body.minutes * 60_000
            digest = hashlib.sha256(token.encode()).hexdigest()
            await proposed(self.host.node, AddToken(digest, until_ms))
        except Wrong as wrong:
            return wrong.answer
        return as_json(Token(token, until_ms), 201)

    async def settings(self, request: web.Request) -> web.Response:
        """The cluster's settings."""
        return as_json(self.host.node.cluster.state.settings)

    async def set_settings(self, request: web.Request) -> web.Response:
        """Change those that are named."""
        node = self.host.node
        try:
            given = await asked(request, dict[str, Any])
            before = msgspec.to_builtins(node.cluster.state.settings)
            unknown = [name for name in given if name not in before]
            if unknown:
                text = f"there is no setting {unknown[0]!r}; there are: {', '.join(before)}"
                return error(404, "NO_SUCH_SETTING", text)
            settings = msgspec.convert({**before, **given}, Settings)
            await proposed(node, SetSettings(settings))
        except Wrong as wrong:
            return wrong.answer
        except msgspec.ValidationError as reason:
            return error(400, "BAD_REQUEST", f"a setting does not fit: {reason}")
        return as_json(node.cluster.state.settings)


def _change_for(state: ClusterState, node: NodeRecord, action: str, body: NodeChange) -> Change:
    others = [one for one in state.nodes if one.state in HOLDERS and one.id != node.id]
    if action == "set":
        return SetNode(node.id, body.zone, body.weight)
    if action == "remove":
        return SetState(node.id, REMOVED)
    if action == "recommission":
        return SetState(node.id, LIVE)
    if action == "drain":
        if all(one.state != LIVE for one in others):
            raise Wrong(error(409, "REFUSED", f"no other node could lead instead of {node.name}"))
        return SetState(node.id, DRAINING)
    factor = state.settings.replication_factor
    if len(others) < factor:
        text = (
            f"without {node.name} there are {len(others)} nodes for {factor} replicas of each shard; "
            f"add a node first, or lower the number: quoit settings replication_factor {len(others)}"
        )
        raise Wrong(error(409, "REFUSED", text))
    return SetState(node.id, DECOMMISSIONING)
