"""Ballots, and what an instance holds.

A ballot is (round, node) as one ordered integer, so no two nodes ever make the same one (*The Part-Time
Parliament*, section 2.1: ballot numbers are partitioned among the priests). A node persists the round
before it uses it.

An entry's `term` is the ballot in which it was accepted here. Its *origin* is the ballot in which it was
first proposed: a leader proposes one value per instance and ballot, so (index, origin) names a value
for ever. A new leader that proposes an older leader's value again keeps the origin in front of the
data, marked by the kind's CARRIED bit.

Why the origin matters above: a leader runs each batch on top of those it has in flight. Multi-Paxos may
choose the second of them and not the first (the new leader has not seen it, and fills the gap), and
then the second must have no effect. So at application an entry counts only if the one before it has the
same origin and counted itself: see `Chain`. The first entry of a ballot is EMPTY and always counts.
(Junqueira, Reed and Serafini, *Zab: High-performance broadcast for primary-backup systems*, show that
pipelined Paxos lacks this, which they call primary order.)
"""

from quoit.base.ids import Index, NodeId, Term
from quoit.quorum.agreement import EMPTY, Entry

__all__ = [
    "CARRIED",
    "GAP",
    "Chain",
    "ballot",
    "carry",
    "kind_of",
    "node_of",
    "origin_of",
    "round_of",
]

CARRIED = 0x80
"""Kind flag: the data begin with 8 bytes of origin."""
GAP = 0x7F
"""Nothing was accepted in this instance; on disk the log has no holes."""

_NODE_BITS = 16
_NODE_MASK = (1 << _NODE_BITS) - 1


def ballot(round_number: int, node: NodeId) -> Term:
    """The ballot of `node` in `round_number`."""
    return round_number << _NODE_BITS | node


def round_of(term: Term) -> int:
    """The round of a ballot."""
    return term >> _NODE_BITS


def node_of(term: Term) -> NodeId:
    """The node that a ballot belongs to."""
    return term & _NODE_MASK


def origin_of(entry: Entry) -> Term:
    """The ballot in which the entry was first proposed; 0 for a gap."""
    return int.from_bytes(entry.data[:8], "big") if entry.kind & CARRIED else entry.term


def kind_of(entry: Entry) -> int:
    """The kind without the flag."""
    return entry.kind & ~CARRIED


def carry(entry: Entry, term: Term) -> Entry:
    """The same value, proposed again in ballot `term`."""
    if entry.kind & CARRIED:
        return Entry(entry.index, term, entry.kind, entry.data)
    data = entry.term.to_bytes(8, "big") + entry.data
    return Entry(entry.index, term, entry.kind | CARRIED, data)


class Chain:
    """Which chosen entries take effect.

    last  origin of the newest applied entry if that counted, else 0
    """

    __slots__ = ("last",)

    def __init__(self, last: Term) -> None:
        self.last = last

    def follow(self, entry: Entry) -> Entry:
        """The next chosen entry, as it is to be applied: under its origin, or, if it was built on
        something that was not chosen, as an EMPTY one of term 0."""
        origin = origin_of(entry)
        kind = kind_of(entry)
        if kind != EMPTY and origin != self.last:
            self.last = 0
            return Entry(entry.index, 0, EMPTY, b"")
        self.last = origin
        if entry.kind & CARRIED:
            return Entry(entry.index, origin, kind, entry.data[8:])
        return entry

    @staticmethod
    def first(index: Index, term: Term) -> Entry:
        """What a leader proposes first, and where an instance has no value."""
        return Entry(index, term, EMPTY, b"")
