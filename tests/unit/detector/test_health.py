"""The local health score: what it takes from it, and what gives it back."""

from hypothesis import given, settings
from hypothesis import strategies as st

from quoit.detector.health import LocalHealth
from quoit.detector.settings import DetectorSettings

SETTINGS = DetectorSettings()
TICK = SETTINGS.tick_us


def run(health: LocalHealth, start_us: int, until_us: int) -> int:
    """Regular ticks. The time of the last."""
    now = start_us
    while now + TICK <= until_us:
        now += TICK
        assert health.awake(now) == 0
        health.tick(now)
    return now


def test_a_node_that_runs_regularly_is_well() -> None:
    health = LocalHealth(SETTINGS, 0)
    run(health, 0, 10_000_000)
    assert (health.score, health.multiplier) == (0, 1)


def test_a_pause_is_measured_and_costs_by_its_length() -> None:
    health = LocalHealth(SETTINGS, 0)
    assert health.awake(TICK + SETTINGS.pause_us - 1) == 0
    assert health.score == 0
    health = LocalHealth(SETTINGS, 0)
    assert health.awake(TICK + SETTINGS.pause_us) == SETTINGS.pause_us
    health.tick(TICK + SETTINGS.pause_us)
    assert (health.score, health.lag_us) == (1, 0)
    health = LocalHealth(SETTINGS, 0)
    assert health.awake(TICK + 1_200_000) == 1_200_000
    assert health.score == 3


def test_a_frame_is_a_sign_of_life_as_a_tick_is() -> None:
    health = LocalHealth(SETTINGS, 0)
    for now in range(0, 1_000_000, 50_000):
        assert health.awake(now) == 0
    health.tick(950_000)
    assert health.points == 0
    assert health.score == SETTINGS.score_max, "the loop is not paused, but its timers are late"


def test_lag_and_slow_syncs_count_and_fade() -> None:
    health = LocalHealth(SETTINGS, 0)
    health.synced(SETTINGS.sync_us - 1)
    assert health.score == 0
    health.synced(2 * SETTINGS.sync_us)
    health.synced(1)
    assert health.score == 2
    now = run(health, 0, SETTINGS.recovery_us)
    assert health.score == 1
    run(health, now, 10 * SETTINGS.recovery_us)
    assert health.score == 0
    health.awake(now + TICK)
    assert health.score == 0


def test_missed_answers_count_until_others_come_or_time_passes() -> None:
    health = LocalHealth(SETTINGS, 0)
    for _ in range(3):
        health.missed(0)
    health.answered()
    assert health.score == 2
    now = run(health, 0, SETTINGS.recovery_us)
    assert health.score == 1
    run(health, now, 2 * SETTINGS.recovery_us)
    assert health.score == 0
    health.answered()
    assert health.points == 0


def test_waking_up_is_not_forgiven_at_once() -> None:
    health = LocalHealth(SETTINGS, 0)
    pause = 10 * SETTINGS.recovery_us
    health.awake(pause)
    health.tick(pause)
    assert health.score == SETTINGS.score_max
    run(health, pause, pause + SETTINGS.recovery_us - TICK)
    assert health.score == SETTINGS.score_max


def test_no_local_health_is_a_setting() -> None:
    health = LocalHealth(DetectorSettings(score_max=0), 0)
    health.awake(60_000_000)
    health.missed(60_000_000)
    assert health.multiplier == 1


steps = st.tuples(
    st.sampled_from(("tick", "missed", "answered", "synced")), st.integers(0, 5_000_000)
)


@settings(deadline=None)
@given(st.lists(steps, max_size=50))
def test_the_score_stays_within_bounds_and_returns_to_zero(steps: list[tuple[str, int]]) -> None:
    health = LocalHealth(SETTINGS, 0)
    now = 0
    for kind, value in steps:
        if kind == "tick":
            now += value
            assert 0 <= health.awake(now) <= value
            health.tick(now)
        elif kind == "missed":
            health.missed(now)
        elif kind == "answered":
            health.answered()
        else:
            health.synced(value)
        assert 0 <= health.score <= SETTINGS.score_max
        assert 0 <= health.points <= SETTINGS.score_max
    run(health, now, now + 30 * SETTINGS.recovery_us)
    assert health.score == 0
