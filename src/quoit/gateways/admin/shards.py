"""The admin port's part that changes things: operations on a shard's members, and what a joining node asks.

    GET  /v1/cluster                  what all nodes have in common: for `quoit serve --join`
    POST /v1/shards/ID/operations     {"kind", "node", "source", "dry_run"}: begin, or only plan
    GET  /v1/shards/ID/operation      the newest operation that was begun on this node

Operations run on the shard's leader. Another node answers 421 and names it; the client asks there.
"""

from typing import Any, Protocol

import msgspec
from aiohttp import web

from quoit.base.errors import BadRequest, NotLeader
from quoit.gateways.admin.answers import Wrong, as_json, asked, error
from quoit.gateways.admin.routes import Route
from quoit.node.config import PeerInfo
from quoit.node.membership import Operation, Plan, Request
from quoit.runtime.nodes_file import ClusterView, view_of
from quoit.runtime.options import NodeOptions

__all__ = ["ShardRoutes", "shard_routes"]


class Host(Protocol):
    """The node behind the gateway."""

    options: NodeOptions

    @property
    def node(self) -> Any:
        """The running node."""
        ...


class OperationWanted(msgspec.Struct, forbid_unknown_fields=True):
    """add-replica, remove-replica, move (from source to node) or leader."""

    kind: str
    node: int
    source: int = 0
    dry_run: bool = False


class OperationView(msgspec.Struct):
    """An operation for people and programs."""

    id: int
    kind: str
    shard: int
    node: int
    source: int
    state: str
    steps: list[tuple[str, int]]
    finished: int
    waits_for: str
    reason: str
    next: int


_ERRORS = {
    404: "there is no such shard or operation",
    409: "it cannot be done now; the message says why",
    421: "another node leads the shard; `admin` says which",
    503: "the shard has no leader now; nothing was done",
}


def shard_routes(host: Host) -> list[Route]:
    """The routes of this file."""
    routes = ShardRoutes(host)
    shard = "/v1/shards/{shard:[0-9]+}"
    return [
        Route("GET", "/v1/cluster", routes.cluster, "What all nodes have in common: for joining",
              answer=ClusterView),
        Route("GET", shard + "/operation", routes.progress, "The newest operation begun on this node",
              answer=OperationView, errors=_ERRORS),
        Route("POST", shard + "/operations", routes.begin, "Begin an operation, or plan it (dry_run)",
              body=OperationWanted, answer=OperationView, status=202, errors=_ERRORS),
    ]  # fmt: skip


class ShardRoutes:
    """The handlers."""

    def __init__(self, host: Host) -> None:
        self.host = host

    async def cluster(self, request: web.Request) -> web.Response:
        """The view that a joining node needs; nothing in it is a secret."""
        return as_json(view_of(self.host.options))

    async def progress(self, request: web.Request) -> web.Response:
        """How far the newest operation is."""
        operation = self.host.node.membership.operations.get(_shard(request))
        if operation is None:
            return error(404, "NO_OPERATION", "no operation on this shard was begun here")
        return as_json(_told(operation))

    async def begin(self, request: web.Request) -> web.Response:
        """Begin an operation, or say what it would do."""
        try:
            body = await asked(request, OperationWanted)
        except Wrong as wrong:
            return wrong.answer
        node = self.host.node
        shard = _shard(request)
        if all(one.id != shard for one in node.map.shards):
            return error(404, "NO_SUCH_SHARD", f"there is no shard {shard}")
        wanted = Request(kind=body.kind, shard=shard, node=body.node, source=body.source)
        try:
            if body.dry_run:
                return as_json(_planned(node.membership.plan(wanted)))
            return as_json(_told(node.membership.begin(wanted)), 202)
        except NotLeader as reason:
            return self._elsewhere(shard, node.nodes.get(reason.leader))
        except BadRequest as reason:
            return error(409, "REFUSED", str(reason))

    def _elsewhere(self, shard: int, leader: PeerInfo | None) -> web.Response:
        if leader is None:
            return error(503, "NO_LEADER", f"shard {shard} has no leader now; try again")
        host = f"[{leader.host}]" if ":" in leader.host else leader.host
        return error(
            421, "NOT_LEADER", f"shard {shard} is led by {leader.name}; ask there",
            leader=leader.id, admin=f"{host}:{leader.admin_port}",
        )  # fmt: skip


def _shard(request: web.Request) -> int:
    return int(request.match_info["shard"])


def _told(operation: Operation) -> OperationView:
    request = operation.request
    return OperationView(
        operation.id, request.kind, request.shard, request.node, request.source, operation.state,
        operation.steps, operation.step, operation.waits_for, operation.reason, operation.next,
    )  # fmt: skip


def _planned(plan: Plan) -> dict[str, object]:
    return {
        "kind": plan.request.kind, "shard": plan.request.shard, "node": plan.request.node,
        "source": plan.request.source, "voters": plan.members.voters,
        "learners": plan.members.learners, "steps": plan.steps, "against": plan.against,
        "notes": plan.notes,
    }  # fmt: skip
