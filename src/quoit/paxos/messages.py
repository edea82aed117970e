"""What Paxos replicas of one shard say to one another (*Paxos Made Simple*, section 2.2: prepare, promise,
accept, accepted), with a question before the prepare that disturbs nobody, heartbeats and transfer.

`round` numbers a leader's sends within its ballot; a reply echoes it. No clock value ever travels.
"""

import msgspec

from quoit.base.ids import Index, Term
from quoit.quorum.agreement import Entry, SnapshotMeta

__all__ = [
    "Accept",
    "Accepted",
    "Ask",
    "AskReply",
    "Beat",
    "BeatReply",
    "PaxosMessage",
    "Prepare",
    "Promise",
    "TakeOver",
    "TakeSnapshot",
    "TakeSnapshotReply",
]


class Ask(msgspec.Struct, frozen=True, array_like=True, tag=21, gc=False):
    """Would you promise `term` to me? Changes nobody's state."""

    term: Term
    commit: Index


class AskReply(msgspec.Struct, frozen=True, array_like=True, tag=22, gc=False):
    """granted: term is the ballot asked about, else what the replier has promised."""

    term: Term
    granted: bool


class Prepare(msgspec.Struct, frozen=True, array_like=True, tag=23, gc=False):
    """Phase 1a, for all instances above `commit` at once. transfer: the leader asked for it and has
    given up its lease."""

    term: Term
    commit: Index
    transfer: bool


class Promise(msgspec.Struct, frozen=True, array_like=True, tag=24, gc=False):
    """Phase 1b, durable before it left. granted: nothing below `term` will be accepted any more, and
    `entries` is all that was accepted above the candidate's commit index; those up to `commit` are
    known to be chosen. Not granted: term is what the replier has promised."""

    term: Term
    granted: bool
    commit: Index
    entries: list[Entry]


class Accept(msgspec.Struct, frozen=True, array_like=True, tag=25, gc=False):
    """Phase 2a for several instances. Entries up to `commit` are chosen and may bear an older ballot, the
    others bear this one. commit: everything up to here is chosen. heal: see acceptor.py."""

    term: Term
    commit: Index
    heal: Index
    round: int
    entries: list[Entry]


class Accepted(msgspec.Struct, frozen=True, array_like=True, tag=26, gc=False):
    """Phase 2b. ok: instances first..last are accepted durably, and everything up to `match` is
    accepted in this ballot or known to be chosen. Not ok: term is what the replier has promised."""

    term: Term
    round: int
    ok: bool
    first: Index
    last: Index
    match: Index
    voting: bool
    """False: this replica is damaged; it takes entries but must not be counted."""


class Beat(msgspec.Struct, frozen=True, array_like=True, tag=27, gc=False):
    """The leader is alive, and everything up to `commit` is chosen."""

    term: Term
    round: int
    commit: Index
    heal: Index


class BeatReply(msgspec.Struct, frozen=True, array_like=True, tag=28, gc=False):
    """The receiver follows the sender of that round. received: it has everything up to there, in this
    ballot or chosen; match: durably; last: the last instance in which it accepted anything, ever."""

    term: Term
    round: int
    received: Index
    match: Index
    last: Index
    voting: bool


class TakeOver(msgspec.Struct, frozen=True, array_like=True, tag=29, gc=False):
    """Campaign at once: the leader of `term` hands over."""

    term: Term


class TakeSnapshot(msgspec.Struct, frozen=True, array_like=True, tag=30, gc=False):
    """The receiver's node holds the data of this snapshot; its log starts over behind it."""

    term: Term
    meta: SnapshotMeta


class TakeSnapshotReply(msgspec.Struct, frozen=True, array_like=True, tag=31, gc=False):
    """The receiver's state reaches match, durably."""

    term: Term
    match: Index


PaxosMessage = (
    Ask
    | AskReply
    | Prepare
    | Promise
    | Accept
    | Accepted
    | Beat
    | BeatReply
    | TakeOver
    | TakeSnapshot
    | TakeSnapshotReply
)
