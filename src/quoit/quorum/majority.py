"""Majority arithmetic: how many are enough, and what so many agree on.

Any two majorities of the same voters share one of them; all of Raft's safety rests on that.
"""

from enum import Enum

from quoit.base.ids import NodeId

__all__ = ["VoteResult", "agreed_value", "quorum_size", "vote_result"]


class VoteResult(Enum):
    """How an election stands."""

    PENDING = "pending"
    WON = "won"
    LOST = "lost"


def quorum_size(voters: int) -> int:
    """The least number of `voters` of which any two groups intersect."""
    return voters // 2 + 1


def agreed_value(values: list[int], quorum: int) -> int:
    """The greatest value that at least `quorum` of the voters' `values` have reached. Sorts
    `values` in place: it is called once per acknowledgement, with a list made for it."""
    values.sort(reverse=True)
    return values[quorum - 1]


def vote_result(votes: dict[NodeId, bool], voters: int) -> VoteResult:
    """`votes` holds the answers so far, of `voters` in all."""
    quorum = quorum_size(voters)
    granted = sum(votes.values())
    if granted >= quorum:
        return VoteResult.WON
    if len(votes) - granted > voters - quorum:
        return VoteResult.LOST
    return VoteResult.PENDING
