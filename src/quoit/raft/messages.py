"""What Raft replicas of one shard say to one another (Ongaro and Ousterhout, figure 2, with pre-vote
and leadership transfer from Ongaro's thesis, sections 9.6 and 3.10).

`round` numbers a leader's sends within its term; a reply echoes it. The leader alone knows when it
sent which round: no clock value ever travels.
"""

import msgspec

from quoit.base.ids import Index, Term
from quoit.quorum.agreement import Entry, SnapshotMeta

__all__ = [
    "AppendEntries",
    "AppendEntriesReply",
    "Heartbeat",
    "HeartbeatReply",
    "InstallSnapshot",
    "InstallSnapshotReply",
    "PreVote",
    "PreVoteReply",
    "RaftMessage",
    "RequestVote",
    "RequestVoteReply",
    "TimeoutNow",
]


class AppendEntries(msgspec.Struct, frozen=True, array_like=True, tag=1, gc=False):
    """Entries that follow (prev_index, prev_term); none: a probe."""

    term: Term
    prev_index: Index
    prev_term: Term
    commit: Index
    round: int
    entries: list[Entry]


class AppendEntriesReply(msgspec.Struct, frozen=True, array_like=True, tag=2, gc=False):
    """ok: the log matches up to match_index, durably. Not ok: the entry at match_index (the request's
    prev_index) did not match; the leader may go on below hint_index, whose term is hint_term."""

    term: Term
    round: int
    ok: bool
    match_index: Index
    hint_index: Index
    hint_term: Term
    voting: bool
    """False: this replica is damaged; it takes entries but must not be counted."""


class Heartbeat(msgspec.Struct, frozen=True, array_like=True, tag=3, gc=False):
    """The leader is alive; commit never exceeds what the receiver is known to have."""

    term: Term
    round: int
    commit: Index


class HeartbeatReply(msgspec.Struct, frozen=True, array_like=True, tag=4, gc=False):
    """The receiver follows the sender of that round."""

    term: Term
    round: int
    voting: bool


class PreVote(msgspec.Struct, frozen=True, array_like=True, tag=5, gc=False):
    """Would you vote for me in `term`? Changes nobody's state."""

    term: Term
    last_index: Index
    last_term: Term


class PreVoteReply(msgspec.Struct, frozen=True, array_like=True, tag=6, gc=False):
    """granted: term is the one asked about, else the replier's own."""

    term: Term
    granted: bool


class RequestVote(msgspec.Struct, frozen=True, array_like=True, tag=7, gc=False):
    """Vote for me in `term`. transfer: the leader asked for it and has given up its lease."""

    term: Term
    last_index: Index
    last_term: Term
    transfer: bool


class RequestVoteReply(msgspec.Struct, frozen=True, array_like=True, tag=8, gc=False):
    """The vote, durable before it left."""

    term: Term
    granted: bool


class TimeoutNow(msgspec.Struct, frozen=True, array_like=True, tag=9, gc=False):
    """Campaign at once: the leader of `term` hands over."""

    term: Term


class InstallSnapshot(msgspec.Struct, frozen=True, array_like=True, tag=10, gc=False):
    """The receiver's node holds the data of this snapshot; its log starts over behind it."""

    term: Term
    meta: SnapshotMeta


class InstallSnapshotReply(msgspec.Struct, frozen=True, array_like=True, tag=11, gc=False):
    """The receiver's state reaches match_index, durably."""

    term: Term
    match_index: Index


RaftMessage = (
    AppendEntries
    | AppendEntriesReply
    | Heartbeat
    | HeartbeatReply
    | PreVote
    | PreVoteReply
    | RequestVote
    | RequestVoteReply
    | TimeoutNow
    | InstallSnapshot
    | InstallSnapshotReply
)
