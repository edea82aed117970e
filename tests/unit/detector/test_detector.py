"""One detector, fed by hand: each transition, each message."""

import random
from typing import Any

import msgspec
import pytest

from quoit.base.errors import InvariantViolated
from quoit.detector.detector import Detector
from quoit.detector.messages import DetectorMessage, Ping, PingAck, PingRequest
from quoit.detector.peer import EventKind, PeerState
from quoit.detector.settings import DetectorSettings

TICK = 10_000
SECOND = 1_000_000


class Bench:
    """Node 1 of five, with a clock and peers that answer pings by themselves (`answering`)."""

    def __init__(self, peers: int = 5, **settings: Any) -> None:
        self.now = 0
        self.detector = Detector(
            DetectorSettings(**settings),
            node_id=1,
            incarnation=7,
            peers=list(range(1, peers + 1)),
            rng=random.Random(1),
            now_us=0,
        )
        self.answering = set(range(2, peers + 1))
        self.vouching: set[int] = set()
        """Peers that others reach, and this node does not."""
        self.events: list[tuple[int, EventKind]] = []
        self.sent: list[tuple[int, DetectorMessage]] = []

    def run(self, length_us: int) -> None:
        end = self.now + length_us
        while self.now < end:
            self.now += TICK
            self.detector.tick(self.now)
            self.turn()

    def turn(self) -> None:
        for to, message in self.detector.messages():
            self.sent.append((to, message))
            if to not in self.answering:
                continue
            if isinstance(message, Ping):
                self.detector.step(to, PingAck(message.probe, to, True, 1, 0), self.now)
            elif isinstance(message, PingRequest):
                reached = message.target in self.vouching
                ack = PingAck(message.probe, message.target, reached, int(reached), 0)
                self.detector.step(to, ack, self.now)
        self.events += [(event.peer, event.kind) for event in self.detector.events()]

    def told(self) -> list[tuple[int, EventKind]]:
        events, self.events = self.events, []
        return events

    def state(self, peer: int) -> PeerState:
        return self.detector.state(peer)


def test_peers_that_answer_stay_live() -> None:
    bench = Bench()
    bench.run(60 * SECOND)
    assert bench.told() == []
    assert bench.detector.health.score == 0


def test_a_busy_link_carries_no_ping_and_a_silent_one_does() -> None:
    bench = Bench(peers=3)
    for _ in range(100):
        bench.run(100_000)
        bench.detector.heard(2, bench.now)
    assert {to for to, _ in bench.sent} == {3}
    pings = len(bench.sent)
    assert 40 <= pings <= 50, "one for each interval of 200 ms"


def test_silence_becomes_suspicion_then_unreachable_then_death() -> None:
    bench = Bench(dead_after_us=20 * SECOND)
    bench.run(10 * SECOND)
    bench.answering.discard(2)
    silent_since = bench.now
    while not bench.events:
        bench.run(TICK)
    suspected = bench.now
    assert bench.told() == [(2, EventKind.SUSPECT)]
    assert 500_000 < suspected - silent_since < 1_200_000
    helpers = [to for to, message in bench.sent if isinstance(message, PingRequest)]
    assert sorted(helpers) == [3, 4, 5]
    while not bench.events:
        bench.run(TICK)
    assert bench.told() == [(2, EventKind.UNREACHABLE)]
    assert bench.now - suspected == pytest.approx(3 * SECOND, abs=2 * TICK)
    unreachable = bench.now
    while not bench.events:
        bench.run(TICK)
    assert bench.told() == [(2, EventKind.DEAD)]
    assert bench.now - unreachable == pytest.approx(20 * SECOND, abs=2 * TICK)
    assert bench.detector.health.score == 0, "a dead peer is not this node's fault"
    sent = len(bench.sent)
    bench.run(10 * SECOND)
    assert not [one for one in bench.sent[sent:] if one[0] == 2]


def test_direct_contact_refutes_at_any_time_before_death() -> None:
    for length in (2 * SECOND, 10 * SECOND):
        bench = Bench()
        bench.answering.discard(2)
        bench.run(length)
        assert bench.told()[-1][1] in (EventKind.SUSPECT, EventKind.UNREACHABLE)
        bench.detector.heard(2, bench.now)
        bench.answering.add(2)
        bench.run(10 * SECOND)
        assert bench.told() == [(2, EventKind.LIVE)]


def test_the_dead_stay_dead_until_readmitted() -> None:
    bench = Bench(dead_after_us=SECOND)
    bench.answering.discard(2)
    bench.run(10 * SECOND)
    assert bench.told()[-1] == (2, EventKind.DEAD)
    bench.detector.heard(2, bench.now)
    bench.detector.step(2, Ping(1, 9, 0), bench.now)
    bench.detector.connection(2, True, bench.now)
    bench.run(SECOND)
    assert bench.told() == [(2, EventKind.RETURNED)]
    assert bench.state(2) is PeerState.DEAD
    assert (2, PingAck(1, 1, True, 7, 0)) in bench.sent, "it is answered all the same"
    bench.answering.add(2)
    bench.detector.readmit(2, bench.now)
    bench.run(10 * SECOND)
    assert bench.told() == [(2, EventKind.LIVE)]
    bench.detector.readmit(2, bench.now)
    bench.run(SECOND)
    assert bench.told() == []


def test_marked_dead_by_the_cluster() -> None:
    bench = Bench()
    bench.answering.discard(2)
    bench.detector.mark_dead(2, bench.now)
    bench.run(10 * SECOND)
    assert bench.told() == []
    bench.detector.heard(2, bench.now)
    bench.run(TICK)
    assert bench.told() == [(2, EventKind.RETURNED)]


def test_a_cut_link_stays_a_suspicion_while_others_reach_the_peer() -> None:
    bench = Bench(dead_after_us=5 * SECOND)
    bench.answering.discard(2)
    bench.vouching.add(2)
    bench.run(60 * SECOND)
    assert bench.told() == [(2, EventKind.SUSPECT)]
    bench.vouching.discard(2)
    bench.run(5 * SECOND)
    assert bench.told() == [(2, EventKind.UNREACHABLE)]
    bench.vouching.add(2)
    bench.run(5 * SECOND)
    assert bench.told() == [(2, EventKind.SUSPECT)]


def test_a_late_or_foreign_word_of_a_helper_vouches_for_nothing() -> None:
    bench = Bench()
    bench.answering.clear()
    bench.run(30 * SECOND)
    bench.told()
    detector = bench.detector
    old = next(m.probe for _, m in bench.sent if isinstance(m, PingRequest) and m.target == 2)
    detector.heard(3, bench.now)
    detector.step(3, PingAck(old, 2, True, 1, 0), bench.now)
    detector.step(3, PingAck(12345, 2, True, 1, 0), bench.now)
    detector.step(3, PingAck(12345, 99, True, 1, 0), bench.now)
    assert detector.state(2) is PeerState.UNREACHABLE


def test_an_earlier_life_does_not_refute() -> None:
    bench = Bench()
    bench.detector.step(2, Ping(1, 5, 0), bench.now)
    bench.answering.discard(2)
    bench.vouching.add(2)
    # The helpers say that life 1 answered, and this node knows life 5.
    bench.run(10 * SECOND)
    assert bench.state(2) is PeerState.UNREACHABLE


def test_own_pause_is_not_held_against_others() -> None:
    bench = Bench()
    bench.run(5 * SECOND)
    bench.now += 30 * SECOND
    bench.run(TICK)
    assert bench.told() == []
    assert bench.detector.health.multiplier == 9
    blind = Bench(score_max=0, pause_us=1 << 60)
    blind.run(5 * SECOND)
    blind.now += 30 * SECOND
    blind.run(TICK)
    assert [kind for _, kind in blind.told()] == [EventKind.SUSPECT] * 4 + [EventKind.LIVE] * 4


def test_own_pause_does_not_hasten_a_death() -> None:
    bench = Bench(dead_after_us=60 * SECOND)
    bench.answering.discard(2)
    bench.run(10 * SECOND)
    assert bench.told()[-1] == (2, EventKind.UNREACHABLE)
    bench.now += 600 * SECOND
    bench.run(30 * SECOND)
    assert bench.told() == []
    bench.run(40 * SECOND)
    assert bench.told() == [(2, EventKind.DEAD)]


def test_who_is_alone_buries_nobody_and_counts_afresh() -> None:
    bench = Bench(dead_after_us=20 * SECOND)
    bench.answering.clear()
    bench.run(300 * SECOND)
    assert bench.detector.isolated
    assert not [one for one in bench.told() if one[1] is EventKind.DEAD]
    # The majority is back; the two others get their full time from now on.
    bench.answering.update((2, 3))
    bench.run(15 * SECOND)
    assert not bench.detector.isolated
    assert not [one for one in bench.told() if one[1] is EventKind.DEAD]
    bench.run(10 * SECOND)
    assert [one for one in bench.told() if one[1] is EventKind.DEAD] == [
        (4, EventKind.DEAD),
        (5, EventKind.DEAD),
    ]


def test_of_two_nodes_none_buries_the_other() -> None:
    bench = Bench(peers=2, dead_after_us=SECOND)
    bench.answering.clear()
    bench.run(60 * SECOND)
    assert bench.state(2) is PeerState.UNREACHABLE


def test_several_silent_at_once_make_it_doubt_itself() -> None:
    bench = Bench()
    bench.answering.clear()
    while len(bench.events) < 4:
        bench.run(TICK)
    assert bench.detector.health.score >= 1
    one = Bench()
    one.answering.discard(2)
    while not one.events:
        one.run(TICK)
    assert one.detector.health.score == 0


def test_a_lost_connection_is_suspected_at_once() -> None:
    bench = Bench()
    bench.run(5 * SECOND)
    bench.answering.discard(2)
    bench.detector.connection(2, False, bench.now)
    bench.run(TICK)
    assert bench.told() == [(2, EventKind.SUSPECT)]
    bench.answering.add(2)
    bench.detector.connection(2, True, bench.now)
    bench.run(TICK)
    assert bench.told() == [(2, EventKind.LIVE)]


def test_a_new_life_is_told_and_starts_afresh() -> None:
    bench = Bench()
    bench.run(SECOND)
    assert bench.detector.peers[2].incarnation == 1
    bench.detector.step(2, Ping(1, 2, 3), bench.now)
    bench.run(TICK)
    assert bench.told() == [(2, EventKind.RESTARTED)]
    assert bench.detector.peers[2].health in (0, 3)
    bench.detector.step(2, Ping(1, 1, 0), bench.now)
    bench.run(TICK)
    assert bench.told() == []


def test_it_probes_for_others_and_says_so_when_that_fails() -> None:
    bench = Bench()
    bench.run(TICK)
    bench.sent.clear()
    bench.detector.step(3, PingRequest(55, 2, SECOND, 1, 0), bench.now)
    bench.turn()
    bench.turn()
    assert [one for one in bench.sent if one[0] == 3] == [(3, PingAck(55, 2, True, 1, 0))]
    bench.answering.discard(2)
    bench.sent.clear()
    bench.detector.step(3, PingRequest(56, 2, SECOND, 1, 0), bench.now)
    begun = bench.now
    failed = (3, PingAck(56, 2, False, 0, 0))
    while failed not in bench.sent:
        bench.run(TICK)
    assert bench.now - begun == pytest.approx(500_000, abs=2 * TICK)
    late = next(m.probe for to, m in reversed(bench.sent) if to == 2 and isinstance(m, Ping))
    first = next(m.probe for to, m in bench.sent if to == 2 and isinstance(m, Ping))
    assert late > first, "it pinged the silent peer on its own behalf too"
    bench.detector.step(2, PingAck(first, 2, True, 1, 0), bench.now)
    bench.turn()
    assert bench.sent[-1] == (3, PingAck(56, 2, True, 1, 0)), "better late than never"
    bench.run(2 * SECOND)
    assert bench.sent.count(failed) == 1


def test_it_answers_for_itself_and_says_no_for_strangers_and_floods() -> None:
    bench = Bench(relays_max=1)
    bench.answering.clear()
    detector = bench.detector
    detector.step(3, PingRequest(1, 1, SECOND, 1, 0), 0)
    detector.step(3, PingRequest(2, 99, SECOND, 1, 0), 0)
    detector.step(3, PingRequest(3, 2, SECOND, 1, 0), 0)
    detector.step(3, PingRequest(4, 2, SECOND, 1, 0), 0)
    acks = [message for _, message in detector.messages() if isinstance(message, PingAck)]
    assert acks == [
        PingAck(1, 1, True, 7, 0),
        PingAck(2, 99, False, 0, 0),
        PingAck(4, 2, False, 0, 0),
    ]


def test_strangers_and_removed_nodes_are_nobody() -> None:
    bench = Bench()
    bench.detector.remove_peer(2)
    for peer in (2, 99):
        bench.detector.heard(peer, 0)
        bench.detector.step(peer, Ping(1, 1, 0), 0)
        bench.detector.connection(peer, True, 0)
        bench.detector.mark_dead(peer, 0)
        bench.detector.readmit(peer, 0)
    assert bench.detector.messages() == []
    bench.detector.add_peer(2, 0)
    bench.detector.add_peer(1, 0)
    assert sorted(bench.detector.peers) == [2, 3, 4, 5]


def test_messages_survive_the_wire() -> None:
    codec = msgspec.msgpack.Decoder(list[DetectorMessage])
    messages = [Ping(1, 2, 3), PingRequest(1, 2, 3, 4, 5), PingAck(1, 2, True, 4, 5)]
    assert codec.decode(msgspec.msgpack.encode(messages)) == messages


@pytest.mark.parametrize(
    "wrong",
    [{"phi_threshold": 0.0}, {"window": 1}, {"rounds": 0}, {"probe_us": 0}, {"helpers": -1},
     {"sample_max_us": 1}],
)  # fmt: skip
def test_settings_without_sense_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(InvariantViolated):
        DetectorSettings(**wrong)
