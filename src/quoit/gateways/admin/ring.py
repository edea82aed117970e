"""The admin port's part about placement and jobs.

    GET  /v1/ring                  where the replicas shall be, and each node's share
    GET  /v1/ring.svg              the same as a picture
    GET  /v1/ring/plan             what a rebalancing would move, and the least that any must
    POST /v1/ring/apply, /revert   begin it; go back to before a job
    GET  /v1/jobs, /v1/jobs/ID     long work, and how far it is
    POST /v1/jobs/ID/cancel        stop it; what was done stays

Plans and the progress of what runs are known where the meta shard is led: another node answers 421 and
names it; the client asks there.
"""

from typing import Any, Protocol

import msgspec
from aiohttp import web

from quoit.gateways.admin.answers import Wrong, as_json, asked, error
from quoit.gateways.admin.proposing import agreed, proposed
from quoit.gateways.admin.routes import Route
from quoit.node.cluster.changes import EndJob, NotYet, Plain, Refused
from quoit.node.cluster.jobs import JobView, job_view
from quoit.node.cluster.observed import Observed, actual
from quoit.node.cluster.planning import begin_plan, begin_revert, preview
from quoit.node.cluster.state import META_SHARD, ClusterState, holders
from quoit.placement.picture import ring_picture
from quoit.placement.plan import Step
from quoit.placement.shard_map import ShardMap, ShardRange
from quoit.placement.show import NodeRow, node_rows

__all__ = ["RingRoutes", "ring_routes"]


class Host(Protocol):
    """The node behind the gateway."""

    @property
    def node(self) -> Any:
        """The running node."""
        ...


class Revert(msgspec.Struct, forbid_unknown_fields=True):
    """The job to go back on; 0: the newest that can be."""

    job: int = 0


class Nothing(msgspec.Struct, forbid_unknown_fields=True):
    """`{}`: a POST must be JSON."""


class RingView(msgspec.Struct):
    """The wanted placement. bytes are known where the meta shard is led, and 0 elsewhere."""

    epoch: int
    nodes: list[NodeRow]
    shards: tuple[ShardRange, ...]


class PlanView(msgspec.Struct):
    """What would be done, beside the least that any plan would need."""

    steps: tuple[Step, ...]
    copies: int
    copies_min: int
    bytes: int
    bytes_min: int
    leaders: int


class Begun(msgspec.Struct):
    """The job's number; 0: there was nothing to do."""

    job: int


_ERRORS = {
    409: "it cannot be done now; the message says why",
    421: "another node knows; `admin` says which",
    503: "the cluster's record has no leader now; nothing was done",
    504: "the outcome is unknown; look before asking again",
}
_GONE = {404: "there is no such job"}


def ring_routes(host: Host) -> list[Route]:
    """The routes of this file."""
    routes = RingRoutes(host)
    return [
        Route("GET", "/v1/ring", routes.ring, "Where replicas shall be, and each node's share",
              answer=RingView, errors={503: _ERRORS[503]}),
        Route("GET", "/v1/ring.svg", routes.picture, "The same as a picture", answer="image/svg+xml"),
        Route("GET", "/v1/ring/plan", routes.plan, "What a rebalancing would move now",
              answer=PlanView, errors=_ERRORS),
        Route("POST", "/v1/ring/apply", routes.apply, "Begin what the plan says",
              body=Nothing, answer=Begun, status=202, errors=_ERRORS),
        Route("POST", "/v1/ring/revert", routes.revert, "Go back to before a job",
              body=Revert, answer=Begun, status=202, errors=_ERRORS),
        Route("GET", "/v1/jobs", routes.jobs, "All jobs that are remembered", answer=list[JobView]),
        Route("GET", "/v1/jobs/{job:[0-9]+}", routes.job, "One job with its log",
              {"live": "only where its progress is known"}, answer=JobView, errors={**_GONE, **_ERRORS}),
        Route("POST", "/v1/jobs/{job:[0-9]+}/cancel", routes.cancel, "Stop a job; what was done stays",
              body=Nothing, answer=JobView, errors={**_GONE, **_ERRORS}),
    ]  # fmt: skip


def _refused(reason: Refused) -> web.Response:
    if isinstance(reason, NotYet):
        return error(503, "NOT_YET", str(reason))
    return error(409, "REFUSED", str(reason))


class RingRoutes:
    """The handlers."""

    def __init__(self, host: Host) -> None:
        self.host = host

    def _map(self) -> ShardMap:
        state = self.host.node.cluster.state
        if not state.shards:
            raise Wrong(error(503, "NO_RECORD", "the cluster has no record yet; try again soon"))
        return ShardMap.of(state.shards, state.epoch)

    def _observed(self) -> Observed:
        """What the meta shard's leader sees. Wrong elsewhere."""
        node = self.host.node
        if not node.cluster.leads:
            leader = node.nodes.get(node.leader_of(META_SHARD))
            if leader is None or leader.id == node.config.node_id:
                text = "the cluster's record has no leader now; try again"
                raise Wrong(error(503, "NO_LEADER", text))
            host = f"[{leader.host}]" if ":" in leader.host else leader.host
            raise Wrong(
                error(
                    421, "NOT_LEADER", f"{leader.name} leads the meta shard; ask there",
                    leader=leader.id, admin=f"{host}:{leader.admin_port}",
                )
            )  # fmt: skip
        seen: Observed = node.rebalancer.observed(node.clock.now_us())
        return seen

    async def ring(self, request: web.Request) -> web.Response:
        """Nodes with their shares, and shards with their replicas."""
        state = self.host.node.cluster.state
        try:
            shards = self._map()
        except Wrong as wrong:
            return wrong.answer
        # Sizes are known where the meta shard is led; elsewhere the table goes without.
        leads = self.host.node.cluster.leads
        sizes = self._observed().sizes if leads else {}
        rows = node_rows(shards, holders(state), self._factor(), sizes)
        return as_json(RingView(state.epoch, rows, state.shards))

    def _factor(self) -> int:
        state = self.host.node.cluster.state
        factor: int = state.settings.replication_factor
        return min(factor, max(1, len(holders(state))))

    async def picture(self, request: web.Request) -> web.Response:
        """SVG."""
        try:
            text = ring_picture(self._map(), holders(self.host.node.cluster.state))
        except Wrong as wrong:
            return wrong.answer
        return web.Response(text=text, content_type="image/svg+xml")

    async def plan(self, request: web.Request) -> web.Response:
        """What would be done."""
        try:
            found = preview(self.host.node.cluster.state, self._observed())
        except Wrong as wrong:
            return wrong.answer
        except Refused as reason:
            return _refused(reason)
        return as_json(
            PlanView(
                found.steps, found.copies, found.copies_min, found.bytes, found.bytes_min,
                len(found.leaders),
            )
        )  # fmt: skip

    async def apply(self, request: web.Request) -> web.Response:
        """Begin what the plan says."""
        return await self._begin(request, Nothing, lambda state, seen, _: begin_plan(state, seen))

    async def revert(self, request: web.Request) -> web.Response:
        """Begin the way back."""
        return await self._begin(
            request, Revert, lambda state, seen, body: begin_revert(state, seen, body.job)
        )

    async def _begin(self, request: web.Request, shape: Any, begin: Any) -> web.Response:
        node = self.host.node
        try:
            body = await asked(request, shape)
            before = {job.id for job in node.cluster.state.jobs}
            await proposed(node, begin(node.cluster.state, self._observed(), body))
        except Wrong as wrong:
            return wrong.answer
        except Refused as reason:
            return _refused(reason)
        state = node.cluster.state
        new = [job for job in state.jobs if job.id not in before]
        return as_json(Begun(new[-1].id if new else 0), 202)

    async def jobs(self, request: web.Request) -> web.Response:
        """All jobs that are remembered."""
        node = self.host.node
        now_ms = node.clock.wall_ms()
        state = node.cluster.state
        return as_json([job_view(state, job, now_ms, *self._now()) for job in state.jobs])

    def _now(self) -> tuple[Observed | None, list[str]]:
        node = self.host.node
        if not node.cluster.leads:
            return None, []
        return self._observed(), list(node.rebalancer.why)

    async def job(self, request: web.Request) -> web.Response:
        """One job, with its log. `?live`: only where its progress is known."""
        node = self.host.node
        state = node.cluster.state
        job = state.job(int(request.match_info["job"]))
        if job is None:
            known = f"the newest is {state.jobs[-1].id}" if state.jobs else "there are none"
            return error(404, "NO_SUCH_JOB", f"there is no such job; {known}")
        try:
            if "live" in request.query:
                self._observed()
        except Wrong as wrong:
            return wrong.answer
        return as_json(job_view(state, job, node.clock.wall_ms(), *self._now()))

    async def cancel(self, request: web.Request) -> web.Response:
        """Stop a job; steps that are under way end."""
        node = self.host.node
        number = int(request.match_info["job"])
        try:
            await asked(request, Nothing)

            def end(state: ClusterState) -> Plain:
                shards = actual(state, self._observed())
                return EndJob(number, "cancelled", "cancelled by request", shards)

            await agreed(node, end)
        except Wrong as wrong:
            return wrong.answer
        return as_json(job_view(node.cluster.state, node.cluster.state.job(number), 0))
