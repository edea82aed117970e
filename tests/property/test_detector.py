"""Whatever arrives in whatever order: a peer's states follow one another as the contract says, nothing
grows without bound, and the same inputs give the same outputs."""

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from quoit.detector.detector import Detector
from quoit.detector.messages import Ping, PingAck, PingRequest
from quoit.detector.peer import EventKind, PeerState
from quoit.detector.settings import DetectorSettings

PEERS = (2, 3, 4, 5)
BEFORE = {
    EventKind.LIVE: (PeerState.SUSPECT, PeerState.UNREACHABLE, PeerState.DEAD),
    EventKind.SUSPECT: (PeerState.LIVE, PeerState.UNREACHABLE),
    EventKind.UNREACHABLE: (PeerState.SUSPECT,),
    EventKind.DEAD: (PeerState.UNREACHABLE,),
    EventKind.RETURNED: (PeerState.DEAD,),
    EventKind.RESTARTED: tuple(PeerState),
}
AFTER = {
    EventKind.LIVE: PeerState.LIVE,
    EventKind.SUSPECT: PeerState.SUSPECT,
    EventKind.UNREACHABLE: PeerState.UNREACHABLE,
    EventKind.DEAD: PeerState.DEAD,
    EventKind.RETURNED: PeerState.DEAD,
}

peer = st.sampled_from((*PEERS, 9))
small = st.integers(0, 3)
actions = st.one_of(
    st.tuples(st.just("tick"), st.sampled_from((10_000, 90_000, 250_000, 1_000_000, 8_000_000))),
    st.tuples(st.just("quiet"), st.integers(1, 30)),
    st.tuples(st.just("heard"), peer),
    st.tuples(st.just("ping"), peer, small),
    st.tuples(st.just("request"), peer, st.sampled_from((1, *PEERS, 9)), small),
    st.tuples(st.just("ack"), peer, peer, st.integers(0, 5), st.booleans(), small),
    st.tuples(st.just("connection"), peer, st.booleans()),
    st.tuples(st.just("synced"), st.integers(0, 10_000_000)),
    st.tuples(st.just("readmit"), peer),
    st.tuples(st.just("mark_dead"), peer),
)


class Run:
    """One detector under a list of actions; checks the contract after each."""

    def __init__(self) -> None:
        self.now = 0
        self.detector = Detector(
            DetectorSettings(dead_after_us=10_000_000, relays_max=8),
            node_id=1,
            incarnation=1,
            peers=list(PEERS),
            rng=random.Random(5),
            now_us=0,
        )
        self.states = dict.fromkeys(PEERS, PeerState.LIVE)
        self.probes = [0]
        self.out: list[object] = []

    def act(self, action: tuple) -> None:
        detector, now = self.detector, self.now
        kind, *rest = action
        if kind == "tick":
            self.tick(rest[0])
        elif kind == "quiet":
            for _ in range(rest[0] * 10):
                self.tick(50_000)
        elif kind == "heard":
            detector.heard(rest[0], now)
        elif kind == "ping":
            detector.step(rest[0], Ping(1, rest[1], 0), now)
        elif kind == "request":
            detector.step(rest[0], PingRequest(1, rest[1], 500_000, rest[2], 0), now)
        elif kind == "ack":
            sender, target, age, reached, incarnation = rest
            probe = self.probes[-1 - min(age, len(self.probes) - 1)]
            detector.step(sender, PingAck(probe, target, reached, incarnation, 0), now)
        elif kind == "connection":
            detector.connection(rest[0], rest[1], now)
        elif kind == "synced":
            detector.synced(rest[0])
        elif kind == "readmit":
            detector.readmit(rest[0], now)
        else:
            detector.mark_dead(rest[0], now)
            if rest[0] in self.states:
                self.check()
                self.states[rest[0]] = PeerState.DEAD
        self.check()

    def tick(self, length: int) -> None:
        self.now += length
        self.detector.tick(self.now)
        self.check()

    def check(self) -> None:
        detector = self.detector
        for event in detector.events():
            self.out.append(event)
            assert self.states[event.peer] in BEFORE[event.kind], event
            self.states[event.peer] = AFTER.get(event.kind, self.states[event.peer])
            if event.kind is EventKind.DEAD:
                assert not detector.isolated
        for number, known in detector.peers.items():
            if known.state is not PeerState.DEAD:
                assert self.states[number] is known.state
            assert len(known.probes) <= detector.settings.rounds
            assert len(known.asked) <= detector.settings.helpers
            assert known.window.counted_us <= known.window.heard_us <= self.now
            assert len(known.window._ring) <= detector.settings.window
        assert len(detector._relays._relays) <= 8
        assert 0 <= detector.health.score <= detector.settings.score_max
        for to, message in detector.messages():
            self.out.append((to, message))
            assert to in PEERS
            if isinstance(message, Ping):
                assert message.probe > self.probes[-1]
                self.probes.append(message.probe)


@settings(deadline=None)
@given(st.lists(actions, max_size=40))
def test_states_follow_one_another_as_promised(actions: list[tuple]) -> None:
    run = Run()
    for action in actions:
        run.act(action)


@settings(deadline=None)
@given(st.lists(actions, max_size=25))
def test_it_is_a_function_of_its_inputs(actions: list[tuple]) -> None:
    one, other = Run(), Run()
    for action in actions:
        one.act(action)
        other.act(action)
    assert one.out == other.out


@settings(deadline=None, max_examples=30)
@given(st.lists(actions, max_size=25))
def test_silence_for_good_is_always_found(actions: list[tuple]) -> None:
    """After anything at all: who is silent from now on is found, within the worst multiplier's time."""
    run = Run()
    for action in actions:
        run.act(action)
    for _ in range(60 * 20):
        run.tick(50_000)
    for known in run.detector.peers.values():
        assert known.state in (PeerState.UNREACHABLE, PeerState.DEAD)
