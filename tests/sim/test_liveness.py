"""Failure detection in whole nodes: who is cut off is declared dead by the others and stays so until it
is readmitted; who is alone declares nobody dead. Each rule is taken away once, and then it must be worse."""

import pytest

from quoit.detector.detector import Detector
from quoit.detector.peer import PeerState
from quoit.sim import scenario
from quoit.sim.options import Options
from quoit.sim.story import Step, Story
from quoit.sim.world import World


def run(name: str, **changes: object) -> scenario.Result:
    story = scenario.load(name)
    (options,) = story.runs(seed=3)
    for field, value in changes.items():
        setattr(options, field, value)
    return scenario.run_scenario(story, options)


@pytest.mark.parametrize("consensus", ["raft", "paxos"])
@pytest.mark.parametrize("name", ["dead-and-returned", "dead-and-readmitted"])
def test_scenario(name: str, consensus: str) -> None:
    result = run(name, consensus=consensus)
    assert result.failure is None, result.failure


@pytest.mark.source_text
def test_without_the_rule_for_the_isolated_a_lonely_node_declares_all_dead(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Detector, "isolated", False)
    failure = run("dead-and-returned").failure
    assert failure is not None
    assert "declares_nobody_dead: it declared [" in failure.reason


@pytest.mark.source_text
def test_without_the_rule_for_the_dead_one_that_returns_would_just_be_live(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    contact = Detector._contact

    def forgiving(self: Detector, peer: object, now_us: int) -> None:
        contact(self, peer, now_us)  # type: ignore[arg-type]
        if peer.state is PeerState.DEAD:  # type: ignore[attr-defined]
            self._live(peer, now_us)  # type: ignore[arg-type]

    monkeypatch.setattr(Detector, "_contact", forgiving)
    failure = run("dead-and-returned").failure
    assert failure is not None
    assert failure.reason.startswith("dead_elsewhere: node 1 sees it as live")


def told(steps: list[Step], until_s: float, **options: object) -> tuple[World, Story]:
    world = World(Options(seed=5, shards=1, dead_after_us=3_000_000, **options))  # type: ignore[arg-type]
    story = Story(world, steps)
    world.start_all()
    story.plan()
    world.run_until(int(until_s * 1e6))
    assert world.failure is None, world.failure
    return world, story


def state(world: World, observer: int, peer: int) -> PeerState:
    node = world.machines[observer].node
    assert node is not None
    return node.liveness.state_of(peer)


def test_a_cut_between_two_nodes_kills_none_while_a_third_reaches_both() -> None:
    world, _ = told([{"at": 3, "do": "cut", "a": 1, "b": 2}], 20)
    assert {state(world, 1, 2), state(world, 2, 1)} == {PeerState.SUSPECT}
    assert state(world, 3, 1) is state(world, 3, 2) is PeerState.LIVE
    assert not world.seen.get("peer_unreachable")


def test_a_stopped_process_is_unreachable_soon_and_dead_after_the_time_given() -> None:
    world, _ = told([{"at": 4, "do": "pause", "node": 3, "seconds": 60}], 6)
    assert state(world, 1, 3) is state(world, 2, 3) is PeerState.SUSPECT
    world.run_until(9_500_000)
    assert state(world, 1, 3) is state(world, 2, 3) is PeerState.UNREACHABLE
    world.run_until(13_500_000)
    assert state(world, 1, 3) is state(world, 2, 3) is PeerState.DEAD
    assert not world.machines[1].node.liveness.returned()  # type: ignore[union-attr]


def test_a_process_that_was_stopped_accuses_nobody_when_it_goes_on() -> None:
    world, _ = told([{"at": 4, "do": "pause", "node": 3, "seconds": 4}], 8.1)
    node = world.machines[3].node
    assert node is not None
    assert [event for event in node.liveness.recent if event.at_us > 0] == []
    assert node.liveness.lag_us >= 3_900_000
    assert node.liveness.health > 0


def test_a_hanging_disk_makes_its_node_doubt_itself() -> None:
    steps: list[Step] = [
        {"at": 4, "do": "write", "node": "leader", "key": "k"},
        {"at": 3.9, "do": "hang-disk", "node": "leader", "seconds": 3},
    ]
    world, story = told(steps, 6.5)
    scores = {one.id: one.node.liveness.health for one in world.machines.values() if one.node}
    sick = story.roles["leader"]
    assert scores.pop(sick) >= 4
    assert list(scores.values()) == [0, 0]


def test_a_restarted_node_is_live_at_once_in_its_next_life() -> None:
    world, _ = told([{"at": 4, "do": "kill", "node": 3, "restart": 5}], 8.9)
    assert state(world, 1, 3) is PeerState.UNREACHABLE
    world.run_until(9_600_000)
    assert state(world, 1, 3) is state(world, 2, 3) is PeerState.LIVE
    assert world.seen["peer_restarted"] == 2
