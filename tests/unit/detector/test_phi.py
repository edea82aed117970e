"""Phi against the standard library's normal distribution, and the window against a slow twin."""

import math
from statistics import NormalDist, fmean, pstdev

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quoit.detector.phi import ArrivalWindow, phi_of

INTERVAL = 200_000
FLOOR = 100_000
MAX = 2_000_000


def window(size: int = 10, now_us: int = 0) -> ArrivalWindow:
    return ArrivalWindow(size, INTERVAL, FLOOR, MAX, now_us)


@pytest.mark.parametrize("z", [-3.0, -1.0, 0.0, 0.5, 1.0, 2.0, 4.0, 5.5])
def test_phi_is_the_normal_tail(z: float) -> None:
    tail = 1.0 - NormalDist().cdf(z)
    assert phi_of(1e6 + z * 1e5, 1e6, 1e5) == pytest.approx(-math.log10(tail), abs=1e-6)


def test_phi_one_is_one_heartbeat_in_ten() -> None:
    assert phi_of(NormalDist(1e6, 1e5).inv_cdf(0.9), 1e6, 1e5) == pytest.approx(1.0)


def test_the_series_continues_where_erfc_underflows() -> None:
    edge = 25.0 * math.sqrt(2.0)
    below, above = phi_of(edge - 1e-9, 0.0, 1.0), phi_of(edge, 0.0, 1.0)
    assert above == pytest.approx(below, abs=1e-6)
    assert phi_of(1e15, 0.0, 1.0) > phi_of(1e14, 0.0, 1.0)
    assert math.isfinite(phi_of(1e18, 0.0, 1.0))


times = st.floats(-1e9, 1e12, allow_nan=False)


@settings(deadline=None)
@given(times, times, st.floats(1.0, 1e9), st.floats(1.0, 1e9))
def test_phi_never_falls_as_time_passes(
    one: float, other: float, mean: float, deviation: float
) -> None:
    early, late = sorted((one, other))
    found = phi_of(early, mean, deviation)
    assert 0.0 <= found <= phi_of(late, mean, deviation) + 1e-6


@settings(deadline=None)
@given(st.lists(st.integers(1, 5_000_000), max_size=60), st.integers(4, 20))
def test_the_ring_is_the_newest_intervals(gaps: list[int], size: int) -> None:
    ours = window(size)
    kept = [INTERVAL // 2, INTERVAL * 3 // 2] * 2
    now = counted = 0
    for gap in gaps:
        now += gap
        ours.heard(now)
        if now - counted >= INTERVAL:
            kept.append(min(now - counted, MAX))
            counted = now
    kept = kept[-size:]
    assert ours.mean_us == pytest.approx(fmean(kept))
    assert ours.deviation_us == pytest.approx(max(FLOOR, pstdev(kept)), rel=1e-9)
    assert ours.heard_us == now
    assert ours.phi(now) <= 1.0


def test_bursts_do_not_teach_to_expect_bursts() -> None:
    ours = window(200)
    for now in range(0, 60_000_000, 1_000):
        ours.heard(now)
    assert ours.mean_us >= INTERVAL
    # Then only the heartbeats are left, each of which is 60 bursts' intervals away.
    assert ours.phi(59_999_000 + 300_000) < 2.0


def test_an_unsteady_link_is_given_more_time() -> None:
    steady, unsteady = window(100), window(100)
    now = 0
    for beat in range(200):
        now += 600_000 if beat % 2 else 200_000
        unsteady.heard(now)
        steady.heard(beat * 400_000)
    assert steady.phi(199 * 400_000 + 1_200_000) > 8.0
    assert unsteady.phi(now + 1_200_000) < 8.0


def test_few_samples_do_not_make_it_sure() -> None:
    ours = window()
    assert ours.phi(500_000) < 8.0
    ours.heard(200_000)
    assert ours.phi(700_000) < 8.0
    assert ours.phi(5_000_000) > 8.0


def test_stretched_time_passes_more_slowly() -> None:
    ours = window()
    assert ours.phi(3_000_000, 3.0) == ours.phi(1_000_000)


def test_one_outage_does_not_blind_it() -> None:
    ours = window(200)
    now = 0
    for _ in range(200):
        now += INTERVAL
        ours.heard(now)
    now += 3_600_000_000
    ours.heard(now)
    assert ours.phi(now + 1_500_000) > 8.0


def test_an_older_frame_changes_nothing() -> None:
    ours = window(now_us=1_000_000)
    ours.heard(500_000)
    assert ours.heard_us == ours.counted_us == 1_000_000
