"""What a detector knows of one peer, and what it tells of it."""

from enum import Enum

import msgspec

from quoit.base.ids import NodeId
from quoit.detector.phi import ArrivalWindow

__all__ = ["Event", "EventKind", "Peer", "PeerState"]


class PeerState(Enum):
    """How this node sees a peer."""

    LIVE = "live"
    SUSPECT = "suspect"
    """Silent here for too long; others are asked. It stays so while others reach it and we do not."""
    UNREACHABLE = "unreachable"
    """Silent here, and nobody who was asked reached it. It may well be alive."""
    DEAD = "dead"
    """Unreachable for `dead_after_us`. Stays so, even if it is heard again, until it is readmitted."""


class EventKind(Enum):
    """What happened to a peer."""

    LIVE = "live"
    """Heard again (or readmitted)."""
    SUSPECT = "suspect"
    UNREACHABLE = "unreachable"
    DEAD = "dead"
    """Its replicas may be rebuilt elsewhere."""
    RETURNED = "returned"
    """A dead peer was heard. Bring it up to date or retire it, then call `readmit` or `remove_peer`."""
    RESTARTED = "restarted"
    """It began another life: what was sent to the earlier one may be lost."""


class Event(msgspec.Struct, frozen=True):
    """One fact, in the order in which they were found."""

    peer: NodeId
    kind: EventKind
    incarnation: int
    """The peer's newest known life; 0 if it never told."""
    at_us: int


class Peer:
    """One peer. Times on this node's clock.

    unreachable_us  since when, moved on by this node's own pauses and isolation
    vouched_us      a helper reached it with a probe that was sent then; 0: not in this suspicion
    ping, pinged_us  the last ping's number, and when it was sent
    until_us        the present round of probes ends
    failed          rounds in a row without an answer
    probes          (probe, sent at) of the newest rounds
    asked           helpers of the present round that said nothing yet
    """

    __slots__ = (
        "asked", "failed", "health", "id", "incarnation", "ping", "pinged_us", "probes", "returned", "state",
        "unreachable_us", "until_us", "vouched_us", "window",
    )  # fmt: skip

    def __init__(self, peer: NodeId, window: ArrivalWindow) -> None:
        self.id = peer
        self.window = window
        self.state = PeerState.LIVE
        self.incarnation = 0
        self.health = 0
        self.returned = False
        self.unreachable_us = 0
        self.ping = 0
        self.pinged_us = 0
        self.calm()

    def calm(self) -> None:
        """No suspicion, or a new one begins."""
        self.failed = 0
        self.until_us = 0
        self.vouched_us = 0
        self.probes: list[tuple[int, int]] = []
        self.asked: list[NodeId] = []

    def shift(self, by_us: int) -> None:
        """This node was paused for so long."""
        self.window.shift(by_us)
        self.unreachable_us += by_us
        self.until_us += by_us
