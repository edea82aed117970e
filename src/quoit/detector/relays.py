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
    tell_us: int
    """Then the origin hears that the target has not been reached yet..."""
    until_us: int
    """...and until then it still hears if it was after all."""
    told: bool = False


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
        """A probe with the number `own` went out. Its failure is told at half of the time that the origin
        waits, so that the word arrives in time on a slow link too (Lifeguard's nack)."""
        wait_us = max(0, request.wait_us)
        self._relays[own] = Relay(
            origin, request.probe, request.target, now_us + wait_us // 2, now_us + wait_us
        )

    def take(self, own: int, target: NodeId) -> Relay | None:
        """`target` answered the probe `own`. None if that was no relay, or is over."""
        relay = self._relays.get(own)
        if relay is None or relay.target != target:
            return None
        return self._relays.pop(own)

    def overdue(self, now_us: int) -> list[Relay]:
        """Those whose failure is to be told now; each once. What is over is forgotten."""
        if not self._relays:
            return []
        for own in [own for own, relay in self._relays.items() if now_us >= relay.until_us]:
            if self._relays[own].told:
                del self._relays[own]
        late = [
            relay for relay in self._relays.values() if now_us >= relay.tell_us and not relay.told
        ]
        for relay in late:
            relay.told = True
        return late

    def shift(self, by_us: int) -> None:
        """This node was paused for so long."""
        for relay in self._relays.values():
            relay.tell_us += by_us
            relay.until_us += by_us
