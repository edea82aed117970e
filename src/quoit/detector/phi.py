"""Phi accrual: how surprising is this silence, given the intervals seen so far?

N. Hayashibara, X. Defago, R. Yared, T. Katayama: The phi Accrual Failure Detector, 2004 (the definition
of phi, and the normal distribution estimated from a window of arrival intervals). With a threshold of phi a
peer that is alive is suspected about once in 10^phi heartbeats, if intervals stay as they were.

What differs from the paper: frames within one interval count as one heartbeat; the window begins with
made-up intervals around the expected one (as Akka does) so that few samples do not count for much;
the deviation has a floor; long gaps are cut.
"""

import math

__all__ = ["ArrivalWindow", "phi_of"]

_PRIOR = 4
"""Intervals in a new window: expected - half, expected + half, twice."""
_ERFC_MAX = 25.0
"""erfc underflows soon after; beyond, its asymptotic series is exact to nine digits."""
_LN10 = math.log(10.0)


def phi_of(elapsed_us: float, mean_us: float, deviation_us: float) -> float:
    """-log10 of the probability that a heartbeat comes later than `elapsed_us` after the last one.

    The intervals are taken as normal with this mean and deviation (> 0). At least 0, rises with
    `elapsed_us`, always finite.
    """
    x = (elapsed_us - mean_us) / (deviation_us * math.sqrt(2.0))
    if x < _ERFC_MAX:
        return max(0.0, -math.log10(0.5 * math.erfc(x)))
    series = 1.0 - 1.0 / (2.0 * x * x)
    return (x * x + math.log(2.0 * x * math.sqrt(math.pi)) - math.log(series)) / _LN10


class ArrivalWindow:
    """The newest heartbeat intervals of one peer, as a ring with exact integer sums: O(1) per frame.

    heard_us    the last frame; silence counts from here
    counted_us  the last frame that counted as a heartbeat. Invariant: <= heard_us
    """

    __slots__ = (
        "_floor_us",
        "_interval_us",
        "_max_us",
        "_next",
        "_ring",
        "_size",
        "_squares",
        "_total",
        "counted_us",
        "heard_us",
    )  # fmt: skip

    def __init__(
        self, size: int, interval_us: int, min_deviation_us: int, max_us: int, now_us: int
    ) -> None:
        self._size = size
        self._interval_us = interval_us
        self._floor_us = min_deviation_us
        self._max_us = max_us
        self.restart(now_us)

    def restart(self, now_us: int) -> None:
        """Forget everything: this is another life of the peer. Silence counts from `now_us`."""
        half = self._interval_us // 2
        self._ring = [self._interval_us - half, self._interval_us + half] * (_PRIOR // 2)
        self._next = 0
        self._total = sum(self._ring)
        self._squares = sum(one * one for one in self._ring)
        self.heard_us = self.counted_us = now_us

    def heard(self, now_us: int) -> None:
        """A frame came."""
        gap = now_us - self.counted_us
        if now_us > self.heard_us:
            self.heard_us = now_us
        if gap >= self._interval_us:
            self._add(min(gap, self._max_us))
            self.counted_us = now_us

    def resume(self, now_us: int) -> None:
        """A frame came after an outage, whose length says nothing about heartbeats."""
        self.heard_us = self.counted_us = now_us

    def shift(self, by_us: int) -> None:
        """This node was not looking for so long: that was no silence of the peer."""
        self.heard_us += by_us
        self.counted_us += by_us

    def _add(self, interval_us: int) -> None:
        ring = self._ring
        if len(ring) < self._size:
            ring.append(interval_us)
        else:
            old = ring[self._next]
            self._total -= old
            self._squares -= old * old
            ring[self._next] = interval_us
            self._next = (self._next + 1) % self._size
        self._total += interval_us
        self._squares += interval_us * interval_us

    @property
    def mean_us(self) -> float:
        """Mean of the intervals."""
        return self._total / len(self._ring)

    @property
    def deviation_us(self) -> float:
        """Their standard deviation, at least the floor."""
        count = len(self._ring)
        variance = (count * self._squares - self._total * self._total) / (count * count)
        return max(float(self._floor_us), math.sqrt(variance))

    def phi(self, now_us: int, stretch: float = 1.0) -> float:
        """Phi of the present silence, where time passes `stretch` times (>= 1) as slowly."""
        silence = max(0, now_us - self.heard_us)
        return phi_of(silence / stretch, self.mean_us, self.deviation_us)
