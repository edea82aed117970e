"""Local health: how far this node should doubt itself before it doubts others.

A. Dadgar, J. Phillips, J. Currey: Lifeguard: Local Health Awareness for More Accurate Failure
Detection, 2017 (arXiv 1707.00788): a node that misses answers it should have got, or is slow itself,
is likely the one with the problem, so it gives others more time. The paper's local health
multiplier counts missed and got answers; here the node's own pauses, its event loop's lag and
the latency of its syncs count too, because they can be measured directly.
"""

from quoit.detector.settings import DetectorSettings

__all__ = ["LocalHealth"]


class LocalHealth:
    """The score: 0 is well, `score_max` is as bad as it gets.

    points   for pauses and missed answers; one is forgiven for each answer, and with time
    lag_us   greatest lag of the event loop lately, halved every `recovery_us`
    sync_us  greatest latency of a sync lately, the same
    """

    __slots__ = ("_life_us", "_recover_us", "_settings", "_tick_us", "lag_us", "points", "sync_us")

    def __init__(self, settings: DetectorSettings, now_us: int) -> None:
        self._settings = settings
        self.points = 0
        self.lag_us = 0
        self.sync_us = 0
        self._life_us = self._tick_us = now_us
        self._recover_us = now_us + settings.recovery_us

    @property
    def score(self) -> int:
        """0 to `score_max`."""
        settings = self._settings
        score = self.points + self.lag_us // settings.lag_us + self.sync_us // settings.sync_us
        return min(score, settings.score_max)

    @property
    def multiplier(self) -> int:
        """What time-outs are multiplied by, 1 to 1 + `score_max`."""
        return 1 + self.score

    def awake(self, now_us: int) -> int:
        """This node runs at `now_us`. How long it was paused before that, in microseconds; mostly 0."""
        settings = self._settings
        late = now_us - self._life_us - settings.tick_us
        self._life_us = max(self._life_us, now_us)
        if late < settings.pause_us:
            return 0
        self._add(1 + late // settings.pause_score_us, now_us)
        # What was a pause is not counted as lag as well.
        self._tick_us += late
        return late

    def tick(self, now_us: int) -> None:
        """Call after `awake`, at each tick."""
        settings = self._settings
        lag = now_us - self._tick_us - settings.tick_us
        self._tick_us = now_us
        if lag > self.lag_us:
            self.lag_us = lag
        while now_us >= self._recover_us:
            self._recover_us += settings.recovery_us
            self.lag_us //= 2
            self.sync_us //= 2
            self.points -= self.points > 0
            if not (self.points or self.lag_us or self.sync_us):
                self._recover_us = now_us + settings.recovery_us

    def synced(self, latency_us: int) -> None:
        """A sync of the own log took so long, or is taking so long already."""
        if latency_us > self.sync_us:
            self.sync_us = latency_us

    def missed(self, now_us: int) -> None:
        """An answer that should have come did not."""
        self._add(1, now_us)

    def answered(self) -> None:
        """A probe was answered in time."""
        self.points -= self.points > 0

    def _add(self, points: int, now_us: int) -> None:
        settings = self._settings
        self.points = min(self.points + points, settings.score_max)
        # Forgiveness begins afresh: at once after a pause would be none.
        self._recover_us = max(self._recover_us, now_us + settings.recovery_us)
