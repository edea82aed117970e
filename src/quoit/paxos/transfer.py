"""Leadership transfer: bring one follower up to date, then tell it to campaign.

The acceptors' refusal does not hold for a candidate that the leader asked for, and its request may be
delivered arbitrarily late; so the lease ends before the request can exist, for the rest of the ballot.
"""

from quoit.base.ids import NodeId
from quoit.paxos.core import LEADER, Core
from quoit.paxos.messages import TakeOver

__all__ = ["begin", "expire", "hand_over"]


def begin(core: Core, to: NodeId, now_us: int) -> None:
    """Hand leadership to `to`; proposals are refused until it worked or the time is over."""
    if core.role != LEADER or to not in core.followers or to not in core.members.voters:
        return
    core.lease.revoked = True
    core.transfer_to = to
    core.transfer_sent = False
    core.transfer_deadline_us = now_us + core.config.election_timeout_us
    core.trace("transfer", node=core.id, term=core.term, to=to)
    hand_over(core)


def hand_over(core: Core) -> None:
    """Once the follower has everything, it may campaign."""
    follower = core.followers[core.transfer_to]
    if not core.transfer_sent and follower.match_index == core.proposed and follower.voting:
        core.transfer_sent = True
        core.send(core.transfer_to, TakeOver(core.term))


def expire(core: Core, now_us: int) -> None:
    """Go on leading if the follower did not take over in time."""
    if core.transfer_to and now_us >= core.transfer_deadline_us:
        core.trace("transfer_aborted", node=core.id, term=core.term, to=core.transfer_to)
        core.transfer_to = 0
