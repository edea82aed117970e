"""Who takes part in keeping a shard's log, and how many of them are enough for what.

A write is accepted by a *write quorum*, a leader elected by an *election quorum*. All that safety needs
is that each election quorum meets each write quorum (Howard, Malkhi and Spiegelman, *Flexible Paxos:
Quorum Intersection Revisited*, section 3); two majorities are one way, all and any one another.
"""

import msgspec

from quoit.base.check import invariant
from quoit.base.errors import BadRequest, Corruption
from quoit.base.ids import NodeId

__all__ = ["MODES", "Members", "Quorums", "decode_members", "encode_members", "quorums"]

MODES = ("majority", "all")
"""How many replicas must accept a write: see `quorums`."""


class Members(msgspec.Struct, frozen=True, array_like=True):
    """A shard's replicas. Invariant: ids are distinct, in the order of preference for leading; a
    learner gets the log and counts for nothing."""

    voters: tuple[NodeId, ...]
    learners: tuple[NodeId, ...] = ()

    @property
    def everyone(self) -> tuple[NodeId, ...]:
        """Voters, then learners."""
        return self.voters + self.learners

    def check(self) -> None:
        """Refuse a list that no group can have."""
        everyone = self.everyone
        invariant(bool(self.voters), "a shard has at least one voter")
        invariant(len(dict.fromkeys(everyone)) == len(everyone), "a member is named twice")

    # The changes that can be asked for; BadRequest says why one makes no sense.

    def with_learner(self, node: NodeId) -> "Members":
        """`node` gets the log from now on."""
        if node in self.everyone:
            raise BadRequest(f"node {node} is a member already")
        return Members(self.voters, (*self.learners, node))

    def with_voter(self, node: NodeId) -> "Members":
        """The learner `node` votes."""
        if node not in self.learners:
            raise BadRequest(f"node {node} must be a learner, which has caught up, before it votes")
        rest = tuple(one for one in self.learners if one != node)
        return Members((*self.voters, node), rest)

    def without(self, node: NodeId) -> "Members":
        """`node` has no part in it any more."""
        if node not in self.everyone:
            raise BadRequest(f"node {node} is not a member")
        voters = tuple(one for one in self.voters if one != node)
        if not voters:
            raise BadRequest(f"node {node} is the only voter; add another one first")
        return Members(voters, tuple(one for one in self.learners if one != node))


class Quorums(msgspec.Struct, frozen=True):
    """How many of `voters` replicas are enough.

    write    accept an entry
    elect    promise to a new leader
    confirm  acknowledge a round, so that no newer leader can exist that they know nothing of
    """

    voters: int
    write: int
    elect: int
    confirm: int


def quorums(mode: str, voters: int) -> Quorums:
    """majority: more than half for everything. all: each write is accepted by every replica, so any
    single one can lead. Checked to intersect."""
    if mode == "majority":
        half = voters // 2 + 1
        found = Quorums(voters, half, half, half)
    elif mode == "all":
        found = Quorums(voters, voters, 1, voters)
    else:
        raise BadRequest(f"a write quorum is one of {', '.join(MODES)}, not {mode!r}")
    invariant(found.write + found.elect > voters, "every election meets every write", mode=mode)
    invariant(found.confirm + found.elect > voters, "every election meets every lease", mode=mode)
    return found


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Members).decode


def encode_members(members: Members) -> bytes:
    """The data of an entry of kind CONFIG."""
    return _encode(members)


def decode_members(data: bytes) -> Members:
    """The members in the data of an entry of kind CONFIG; Corruption when there are none."""
    try:
        members = _decode(data)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise Corruption(f"a change of membership cannot be read: {error}") from None
    members.check()
    return members
