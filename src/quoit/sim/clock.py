"""Clocks of simulated nodes: each has its own origin, rate and Unix time, all driven by one true time.

`now_us` of a node counts while the node is paused or suspended, as CLOCK_BOOTTIME does. Its origin
differs per start of the node, so that a value kept over a restart or sent to a peer shows up as
nonsense at once.
"""

__all__ = ["PPM", "NodeClock", "TrueTime", "World_us"]

World_us = int
"""True virtual time in microseconds; only the simulator and its checkers know it."""

PPM = 1_000_000


class TrueTime:
    """The world's own clock. `now_us` is set by the scheduler."""

    __slots__ = ("now_us",)

    def __init__(self) -> None:
        self.now_us: World_us = 0


class NodeClock:
    """One node's view of time; an implementation of base.seams.Clock.

    rate_ppm   speed against true time, in parts per million (1_000_000: the same)
    """

    __slots__ = ("_base_true", "_base_us", "_wall_offset_ms", "rate_ppm", "true")

    def __init__(self, true: TrueTime, origin_us: int, wall_ms: int, rate_ppm: int = PPM) -> None:
        self.true = true
        self.rate_ppm = rate_ppm
        self._base_true = true.now_us
        self._base_us = origin_us
        self._wall_offset_ms = wall_ms - origin_us // 1000

    def now_us(self) -> int:
        """Microseconds since this boot's origin."""
        return self._base_us + (self.true.now_us - self._base_true) * self.rate_ppm // PPM

    def wall_ms(self) -> int:
        """Unix time in milliseconds as this node believes it."""
        return self.now_us() // 1000 + self._wall_offset_ms

    def set_rate(self, rate_ppm: int) -> None:
        """Run faster or slower from now on (C2)."""
        self._base_us = self.now_us()
        self._base_true = self.true.now_us
        self.rate_ppm = rate_ppm

    def jump_wall(self, delta_ms: int) -> None:
        """Unix time jumps (C1)."""
        self._wall_offset_ms += delta_ms

    def reboot(self, origin_us: int) -> None:
        """The node starts again with another origin (C3); Unix time goes on."""
        wall = self.wall_ms()
        self._base_us = origin_us
        self._base_true = self.true.now_us
        self._wall_offset_ms = wall - origin_us // 1000

    def true_at(self, node_us: int) -> World_us:
        """The first true moment at which this clock shows at least `node_us`."""
        ahead = node_us - self._base_us
        return self._base_true + -(-ahead * PPM // self.rate_ppm)
