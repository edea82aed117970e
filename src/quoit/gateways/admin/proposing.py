"""Changing the cluster's record for an HTTP request, from whichever node was asked."""

import asyncio
from collections.abc import Callable
from typing import Any

from aiohttp import web

from quoit.gateways.admin.answers import Wrong, error
from quoit.node.cluster.changes import STALE, Change, Guarded, Plain
from quoit.node.cluster.meta import UNKNOWN, Proposal
from quoit.node.cluster.state import ClusterState

__all__ = ["agreed", "no_record", "proposed"]

_PATIENCE_S = 5.0
_LOOK_AGAIN_S = 0.05


def no_record() -> web.Response:
    """Nothing is known of the cluster here yet."""
    return error(503, "NOT_YET", "the cluster has no record yet; try again in a second")


async def proposed(node: Any, change: Change) -> Proposal:
    """The record was changed. Wrong if it was not, or nobody knows."""
    proposal, stale = await _once(node, change)
    if stale:
        raise Wrong(error(503, "NOT_YET", f"{proposal.outcome}; nothing was done, try again"))
    return proposal


async def agreed(node: Any, judge: Callable[[ClusterState], Plain]) -> Proposal:
    """What `judge` made of this node's copy was applied to exactly that record. The copy may be old, and
    others change the record, too: then nothing was done, and the newer copy is judged.

    Wrong as for `proposed`; what `judge` raises ends it."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + _PATIENCE_S
    while True:
        state: ClusterState = node.cluster.state
        proposal, stale = await _once(node, Guarded(state.version, judge(state)))
        if not stale:
            return proposal
        if loop.time() > deadline:
            raise Wrong(
                error(503, "NOT_YET", "the cluster's record changes all the time; nothing was done")
            )
        await asyncio.sleep(_LOOK_AGAIN_S)


async def _once(node: Any, change: Change) -> tuple[Proposal, bool]:
    """(what was applied, False), or (what was not, True) since the record is at another version."""
    if not node.cluster.state.nodes:
        raise Wrong(no_record())
    future: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    def done(outcome: str) -> None:
        # Why: a handler that was cancelled has cancelled the future, and an error here would be one in
        # the node's own turn.
        if not future.done():
            future.set_result(outcome)

    proposal: Proposal = node.cluster.propose(change, done)
    outcome = await future
    if not outcome:
        return proposal, False
    if proposal.refused and outcome.startswith(STALE):
        return proposal, True
    if proposal.refused:
        raise Wrong(error(409, "REFUSED", outcome))
    if outcome == UNKNOWN:
        text = "the outcome is unknown: it may be applied; look before you ask again"
        raise Wrong(error(504, "MAYBE_APPLIED", text))
    raise Wrong(error(503, "NO_LEADER", f"the cluster's record cannot be changed now: {outcome}"))
