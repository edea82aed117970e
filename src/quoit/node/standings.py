"""Refusing a peer whose data directory knows less than the peer said before (faults.md, D9).

A replica counts towards a quorum because what it acknowledged stays on its disk. An emptied directory, or
one put back to an older copy, breaks that: together with a minority it could elect a leader that
never heard of an acknowledged write (etcd issue 13406, rqlite issue 1717). So nodes tell one another how
far their log is durable, and a connection is made only if the peer still has what it had then.

The limit: only a peer that heard it knows. It hears in every frame, at least ten times a second while there
are writes, and writes it down every second and when it loses the peer. A directory that was put
back, while all who heard of it since the copy was made are away or have forgotten, is more than one
fault at once.
"""

from collections.abc import Iterable

import msgspec

from quoit.node.outbox import Outbox
from quoit.storage.peer_marks import PeerMark, PeerMarks

__all__ = ["Standing", "Standings"]

_TELL_US = 100_000


class Standing(msgspec.Struct, frozen=True, array_like=True):
    """What a node says of its log when a connection is made."""

    directory: int
    """The number that its data directory got when it was new."""
    life: int
    """Of its process."""
    began: int
    """Sequence of the newest record that the log had when the process began."""


class Standings:
    """known: what each peer said last. changed: there is news since `taken`. told: what all were told."""

    __slots__ = ("changed", "known", "own", "tell_us", "told")

    def __init__(self, own: Standing, known: dict[int, PeerMark]) -> None:
        self.own = own
        self.known = known
        self.changed = False
        self.told = self.tell_us = 0

    def refusal(self, peer: int, standing: Standing) -> str:
        """Why there must be no connection to `peer`, who says this of itself; or ""."""
        known = self.known.get(peer)
        if known is not None:
            if standing.directory != known.directory:
                return _refusal(peer, "is not the one that it had: it was emptied or replaced")
            if standing.life == known.life:
                return ""
            if standing.began < known.synced:
                lost = f"its log ends at record {standing.began}, and had reached {known.synced}"
                return _refusal(peer, f"was put back to an older copy: {lost}")
        return ""

    def met(self, peer: int, standing: Standing) -> None:
        """`peer` proved who it is, and was not refused."""
        known = self.known.get(peer)
        if known is None or known.life != standing.life:
            self.known[peer] = PeerMark(standing.directory, standing.life, standing.began)
            self.changed = True

    def heard(self, peer: int, synced: int) -> None:
        """A frame of `peer` says that its log is durable up to there."""
        known = self.known.get(peer)
        # Frames may be late: what was durable once stays so, whatever they say.
        if known is not None and synced > known.synced:
            self.known[peer] = msgspec.structs.replace(known, synced=synced)
            self.changed = True

    def tell(self, outbox: Outbox, peers: Iterable[int], now_us: int) -> None:
        """Now and then everybody hears how far this node's log is, also those it says nothing else to."""
        if now_us >= self.tell_us and outbox.synced != self.told:
            self.tell_us = now_us + _TELL_US
            self.told = outbox.synced
            for peer in peers:
                outbox.outgoing(peer)  # every frame says it

    def taken(self) -> PeerMarks:
        """What to write down now."""
        self.changed = False
        return PeerMarks(dict(self.known))


def _refusal(peer: int, what: str) -> str:
    return (
        f"node {peer}'s data directory {what}. It may have forgotten writes that it acknowledged, so it "
        "takes part no more. Start a new node instead (quoit serve --join ANY_NODE, with an empty "
        f"directory), then give it node {peer}'s replicas (quoit shard move)"
    )
