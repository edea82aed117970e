"""Leadership transfer (thesis section 3.10): bring one follower up to date, then tell it to campaign.

The follower's votes override the voters' refusal, and its request may be delivered arbitrarily late;
so the lease ends before the request can exist, for the rest of the term, even if the transfer fails.
"""

from quoit.base.ids import NodeId
from quoit.raft.core import LEADER, Core
from quoit.raft.messages import TimeoutNow

__all__ = ["begin", "expire", "hand_over"]


def begin(core: Core, to: NodeId, now_us: int) -> None:
    """Hand leadership to `to`; proposals are refused until it worked or the time is over."""
    if core.role != LEADER or to not in core.progress or to not in core.members.voters:
        return
    core.lease.revoked = True
    core.transfer_to = to
    core.transfer_sent = False
    core.transfer_deadline_us = now_us + core.config.election_timeout_us
    core.trace("transfer", node=core.id, term=core.term, to=to)
    hand_over(core)


def hand_over(core: Core) -> None:
    """Once the follower has the whole log, it may campaign."""
    progress = core.progress.get(core.transfer_to)
    if progress is None:
        return
    if not core.transfer_sent and progress.match_index == core.log.last_index and progress.voting:
        core.transfer_sent = True
        core.send(core.transfer_to, TimeoutNow(core.term))


def expire(core: Core, now_us: int) -> None:
    """Go on leading if the follower did not take over in time."""
    if core.transfer_to and now_us >= core.transfer_deadline_us:
        core.trace("transfer_aborted", node=core.id, term=core.term, to=core.transfer_to)
        core.transfer_to = 0
