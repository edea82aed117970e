"""Probes that a node makes for others."""

import msgspec

from quoit.base.ids import NodeId
from quoit.detector.messages import PingRequest

__all__ = ["Relay", "Relays"]


class Relay(msgspec.Struct):
    """A probe for `origin`, which calls it `probe`."""

    origin: NodeId
    probe: int
    target: NodeId
    until_us: int


class Relays:
    """Own probe number -> whom to tell. Bounded: `full` says that no more should be begun."""

    __slots__ = ("_max", "_relays")

    def __init__(self, relays_max: int) -> None:
        self._max = relays_max
        self._relays: dict[int, Relay] = {}

    @property
    def full(self) -> bool:
        """There is no room."""
        return len(self._relays) >= self._max

    def add(self, own: int, origin: NodeId, request: PingRequest, now_us: int) -> None:
        """A probe with the number `own` went out. Its failure is told at four fifths of the time that the
        origin waits, so that the answer arrives in time (Lifeguard, section 4.1)."""
        until_us = now_us + max(0, request.wait_us) * 4 // 5
        self._relays[own] = Relay(origin, request.probe, request.target, until_us)

    def take(self, own: int, target: NodeId) -> Relay | None:
        """`target` answered the probe `own`. None if that was no relay, or is over."""
        relay = self._relays.get(own)
        if relay is None or relay.target != target:
            return None
        return self._relays.pop(own)

    def expire(self, now_us: int) -> list[Relay]:
        """Those that were not answered in time, which are then forgotten."""
        if not self._relays:
            return []
        over = [own for own, relay in self._relays.items() if now_us >= relay.until_us]
        return [self._relays.pop(own) for own in over]

    def shift(self, by_us: int) -> None:
        """This node was paused for so long."""
        for relay in self._relays.values():
            relay.until_us += by_us
