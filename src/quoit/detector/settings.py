"""Settings of the failure detector."""

import msgspec

from quoit.base.check import invariant

__all__ = ["DetectorSettings"]


class DetectorSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Times in microseconds. What the defaults cost and bring: docs/explanation/failure-detection.md."""

    interval_us: int = 200_000
    """A peer that was silent for so long is pinged. Frames that come more often count as one heartbeat
    per interval, so bursts do not teach the detector to expect bursts."""
    phi_threshold: float = 8.0
    """Suspicion begins at this phi: a silence that was expected once in 10^phi heartbeats."""
    window: int = 200
    """Heartbeat intervals that are remembered per peer."""
    min_deviation_us: int = 100_000
    """Floor of the standard deviation: on a very regular link one scheduling delay is no failure."""
    sample_max_us: int = 2_000_000
    """A longer interval is remembered as this: one outage must not make the next one hard to see."""

    probe_us: int = 1_000_000
    """A round of probes waits so long, times the local health multiplier."""
    rounds: int = 3
    """So many rounds without any answer in a row make a suspect unreachable."""
    helpers: int = 3
    """Peers that are asked to probe a suspect in each round; 0: nobody (then a cut between two nodes
    looks like a failure)."""
    relays_max: int = 1024
    """Probes for others that are under way at once; more are answered with `not reached`."""
    dead_after_us: int = 600_000_000
    """An unreachable peer is dead after this time, as far as this node was itself well placed to
    know: its own pauses and the time in which it heard no majority do not count."""

    tick_us: int = 10_000
    """How often `tick` is called when all is well."""
    pause_us: int = 100_000
    """A gap between two signs of own life that is longer than a tick by this much is a pause: it
    is not held against the peers."""
    pause_score_us: int = 500_000
    """A pause costs one point of local health, and another for each further such time."""
    lag_us: int = 50_000
    """Each such amount of event-loop lag costs a point."""
    sync_us: int = 500_000
    """Each such amount of latency of the own log's sync costs a point."""
    recovery_us: int = 2_000_000
    """A point is forgiven after this time; lag and sync latency fall by half."""
    score_max: int = 8
    """The worst local health; time-outs are multiplied by 1 + score. 0: no local health."""

    def __post_init__(self) -> None:
        """Refuse settings that make no sense."""
        invariant(
            min(
                self.interval_us, self.min_deviation_us, self.probe_us, self.tick_us, self.pause_us,
                self.pause_score_us, self.lag_us, self.sync_us, self.recovery_us, self.dead_after_us,
            ) > 0,
            "times are positive",
        )  # fmt: skip
        # Below, ordinary intervals would begin suspicions (and `tick` does not look at them).
        invariant(self.phi_threshold >= 0.5, "phi is at least 0.5", phi=self.phi_threshold)
        invariant(self.window >= 4, "a window holds at least four intervals", window=self.window)
        invariant(self.sample_max_us >= 2 * self.interval_us, "intervals must fit under their cap")
        invariant(self.rounds >= 1, "somebody must be asked", rounds=self.rounds)
        invariant(
            min(self.helpers, self.relays_max, self.score_max) >= 0, "counts are not negative"
        )
