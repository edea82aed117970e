"""What happens when two simulated nodes connect, as in runtime/transport.py and driver.py: each looks at the
other's standing, and one that has lost what it had is refused for good.
"""

from typing import Protocol

from quoit.base.errors import DiskFault, DiskFull
from quoit.node.node import Node
from quoit.sim.disk import SimDisk
from quoit.storage.peer_marks import PeerMarks, read_peer_marks, write_peer_marks

__all__ = ["Peer", "meet", "recall", "remember"]


class Peer(Protocol):
    """A machine, as far as this goes."""

    id: int
    disk: SimDisk

    @property
    def process(self) -> Node | None:
        """The node that runs there."""
        ...

    def fail(self, reason: str) -> None:
        """The node stops itself."""
        ...


def recall(peer: Peer) -> PeerMarks:
    """What its directory says of the others, and whether they refused it."""
    return read_peer_marks(peer.disk) or PeerMarks()


def remember(peer: Peer) -> None:
    """Write down what the others said, if there is news. DiskFault stops the node."""
    node = peer.process
    if node is not None and node.standings.changed:
        try:
            write_peer_marks(peer.disk, node.standings.taken())
        except DiskFull:
            node.standings.changed = True


def meet(dialer: Peer, acceptor: Peer) -> bool:
    """True: the connection is made."""
    caller, called = dialer.process, acceptor.process
    if caller is None or called is None:
        return False
    refusal = called.standings.refusal(dialer.id, caller.standings.own)
    if refusal:
        marks = caller.standings.taken()
        marks.refused = refusal
        try:
            write_peer_marks(dialer.disk, marks)
        except DiskFault as error:
            refusal += f" ({error})"
        dialer.fail(refusal)
        return False
    if caller.standings.refusal(acceptor.id, called.standings.own):
        return False  # it learns it when it dials
    called.standings.met(dialer.id, caller.standings.own)
    caller.standings.met(acceptor.id, called.standings.own)
    return True
