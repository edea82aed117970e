"""Failure detection in worlds with bad links and bad nodes. Each idea is switched off once, and then it
must be worse: a test that passes without the idea would test nothing."""

from dataclasses import replace

import pytest

from quoit.detector.peer import PeerState
from quoit.detector.settings import DetectorSettings
from quoit.sim.detection import Conditions, simulate

TICK = 50_000
DEFAULTS = DetectorSettings(tick_us=TICK)
BLIND = {"score_max": 0, "pause_us": 1 << 60}
NO_LOCAL_HEALTH = DetectorSettings(tick_us=TICK, **BLIND)
NO_HELPERS = DetectorSettings(tick_us=TICK, helpers=0)
SHORT = Conditions(hours=0.1)
TINY = Conditions(hours=0.03)


def test_the_same_seed_is_the_same_world() -> None:
    bad = replace(TINY, loss=0.1, pauses=60.0, crashes=20.0)
    assert simulate(DEFAULTS, bad, 3) == simulate(DEFAULTS, bad, 3)
    assert simulate(DEFAULTS, bad, 3) != simulate(DEFAULTS, bad, 4)


def test_a_quiet_world_is_quiet() -> None:
    outcome = simulate(DEFAULTS, SHORT, 1)
    assert (outcome.suspected, outcome.unreachable) == (0, 0)
    assert outcome.messages == 0, "heartbeats are frames that are sent anyway"


@pytest.mark.parametrize("loss", [0.0, 0.05, 0.2])
def test_crashes_are_seen_by_everybody_and_live_nodes_are_left_alone(loss: float) -> None:
    world = replace(SHORT, hours=0.15, loss=loss, crashes=12.0)
    outcome = simulate(DEFAULTS, world, 1)
    assert len(outcome.detected_us) >= 10
    assert outcome.missed == 0
    assert outcome.detection_s(0.5) < (5.0 if loss < 0.2 else 12.0)
    assert outcome.rate(outcome.unreachable) <= 0.5


def test_pauses_up_to_three_seconds_are_no_failure() -> None:
    outcome = simulate(DEFAULTS, replace(SHORT, hours=0.25, pauses=60.0), 1)
    assert outcome.unreachable == 0


def test_without_local_health_a_starved_node_accuses_others() -> None:
    world = replace(SHORT, hours=0.25, starved=60.0, starved_gap_us=(500_000, 4_000_000), sick=1)
    with_health = simulate(DetectorSettings(tick_us=TICK, rounds=1), world, 1)
    without = simulate(DetectorSettings(tick_us=TICK, rounds=1, **BLIND), world, 1)
    assert without.by_sick >= 10
    assert with_health.by_sick * 5 <= without.by_sick


def test_without_local_health_the_defaults_are_no_better() -> None:
    world = replace(SHORT, hours=0.4, starved=20.0, crashes=8.0, down_us=15_000_000)
    assert simulate(DEFAULTS, world, 1).by_sick <= 2
    assert simulate(NO_LOCAL_HEALTH, world, 1).by_sick >= 20


def test_without_local_health_a_pause_makes_a_node_suspect_others() -> None:
    world = replace(SHORT, pauses=120.0, sick=1)
    with_health = simulate(DEFAULTS, world, 1)
    without = simulate(NO_LOCAL_HEALTH, world, 1)
    # The others suspect the paused node either way, and rightly ask.
    assert with_health.suspected * 1.5 < without.suspected


def test_without_helpers_a_one_way_cut_marks_a_live_node() -> None:
    world = replace(TINY, cut=(2, 1))
    with_helpers = simulate(DEFAULTS, world, 1)
    assert with_helpers.unreachable == 0
    assert with_helpers.states[1, 2] is PeerState.SUSPECT
    assert with_helpers.states[2, 1] is PeerState.LIVE
    without = simulate(NO_HELPERS, world, 1)
    assert without.unreachable == 1
    assert without.states[1, 2] is PeerState.UNREACHABLE


def test_without_helpers_a_one_way_cut_kills_a_live_node_in_the_end() -> None:
    world = replace(TINY, cut=(2, 1))
    quick = {"tick_us": TICK, "dead_after_us": 60_000_000}
    assert simulate(DetectorSettings(**quick), world, 1).states[1, 2] is PeerState.SUSPECT
    killed = simulate(DetectorSettings(**quick, helpers=0), world, 1)
    assert killed.states[1, 2] is PeerState.DEAD


def test_a_higher_threshold_is_slower_and_suspects_less() -> None:
    world = replace(SHORT, loss=0.05, crashes=12.0)
    eager, patient = (
        simulate(DetectorSettings(tick_us=TICK, phi_threshold=phi), world, 1) for phi in (2.0, 12.0)
    )
    assert eager.suspected > 5 * patient.suspected
    assert eager.detection_s(0.5) < patient.detection_s(0.5)
