"""A small discrete-event simulation of failure detectors alone: how often is a node that is alive held
for unreachable, and how long until a crash is seen?

Nodes exchange a frame every `heartbeat_us`, as quoit's leaders do. A link behaves as TCP does: what is lost
comes later (retransmission after 200 ms, doubling), in order. A node may pause (nothing runs; what arrives
waits) or starve (short slices of time, few frames in each). Crashes are silent, as when power fails:
no connection tells of them. Everything follows from the seed.
"""

import heapq
import random
from collections import deque
from dataclasses import dataclass, field

from quoit.detector.detector import Detector
from quoit.detector.messages import DetectorMessage
from quoit.detector.peer import EventKind, PeerState
from quoit.detector.settings import DetectorSettings

__all__ = ["Conditions", "Outcome", "simulate"]

_SECOND = 1_000_000
_RETRANSMIT_US = 200_000
_RETRANSMIT_MAX_US = 10 * _SECOND
_SLICE_US = 30_000
"""A starved node runs for so long..."""
_SLICE_FRAMES = 4
"""...and handles so many frames then."""
_SETTLE_US = 5 * _SECOND

_TICK, _BEAT, _FRAME, _CRASH, _START, _PAUSE, _STARVE = range(7)


@dataclass(frozen=True)
class Conditions:
    """What the world does. Times in microseconds; rates are per node and hour."""

    nodes: int = 5
    hours: float = 1.0
    heartbeat_us: int = 100_000
    delay_us: int = 500
    jitter_us: int = 500
    """Mean of an exponential delay on top."""
    loss: float = 0.0
    """Probability that a frame, or its retransmission, is lost."""
    pauses: float = 0.0
    pause_us: tuple[int, int] = (100_000, 3 * _SECOND)
    starved: float = 0.0
    """Episodes of CPU starvation, of 10 to 40 seconds."""
    starved_gap_us: tuple[int, int] = (200_000, 1_500_000)
    """Between slices in which the node runs."""
    crashes: float = 0.0
    down_us: int = 30 * _SECOND
    cut: tuple[int, int] | None = None
    """(from, to): nothing arrives this way, all the time."""
    sick: int = 0
    """If not 0: pauses and starvation only happen to this node."""


@dataclass
class Outcome:
    """What was seen.

    suspected, unreachable  wrong events: the peer was alive (perhaps paused), and not just back
    by_sick                 of `unreachable`: found by a node that paused or starved itself, or just had
    detected_us             for each crash and observer that saw it: how long it took
    missed                  crashes that an observer did not see before the node was back
    node_hours              observed time
    states                  (observer, peer) -> state at the end
    """

    suspected: int = 0
    unreachable: int = 0
    by_sick: int = 0
    detected_us: list[int] = field(default_factory=list)
    missed: int = 0
    messages: int = 0
    node_hours: float = 0.0
    states: dict[tuple[int, int], PeerState] = field(default_factory=dict)

    def rate(self, count: int) -> float:
        """Per node and hour."""
        return count / self.node_hours

    def detection_s(self, share: float) -> float:
        """The time in seconds within which this share of the crashes was seen; nan without crashes."""
        times = sorted(self.detected_us)
        return times[min(len(times) - 1, int(share * len(times)))] / 1e6 if times else float("nan")


class _Node:
    def __init__(self, number: int) -> None:
        self.id = number
        self.up = True
        self.detector: Detector | None = None
        self.inbox: deque[tuple[int, DetectorMessage | None]] = deque()
        self.asleep_until = 0
        self.starved_until = 0
        self.slice_until = 0
        self.sick_until = 0
        self.crashed_us = 0
        self.began_us = 0
        self.life = 0


class _World:
    def __init__(self, settings: DetectorSettings, conditions: Conditions, seed: int) -> None:
        self.settings = settings
        self.conditions = conditions
        self.rng = random.Random(seed)
        self.now = 0
        self.queue: list[tuple[int, int, int, int, int, DetectorMessage | None]] = []
        self.sequence = 0
        self.nodes = {number: _Node(number) for number in range(1, conditions.nodes + 1)}
        self.arrival: dict[tuple[int, int], int] = {}
        self.seen: set[tuple[int, int]] = set()
        self.outcome = Outcome()

    def at(
        self,
        when: int,
        what: int,
        node: int,
        other: int = 0,
        message: DetectorMessage | None = None,
    ) -> None:
        self.sequence += 1
        heapq.heappush(self.queue, (when, self.sequence, what, node, other, message))

    def run(self) -> Outcome:
        conditions = self.conditions
        end = int(conditions.hours * 3600 * _SECOND)
        for node in self.nodes.values():
            self.begin(node)
            well = conditions.sick not in (0, node.id)
            self.plan(conditions.crashes, end, _CRASH, node.id)
            self.plan(0.0 if well else conditions.pauses, end, _PAUSE, node.id)
            self.plan(0.0 if well else conditions.starved, end, _STARVE, node.id)
        while self.queue and self.queue[0][0] < end:
            self.now, _, what, number, other, message = heapq.heappop(self.queue)
            self.happen(what, self.nodes[number], other, message)
        outcome = self.outcome
        outcome.node_hours = conditions.hours * conditions.nodes
        for node in self.nodes.values():
            if node.detector is not None:
                for peer in node.detector.peers.values():
                    outcome.states[node.id, peer.id] = peer.state
        return outcome

    def plan(self, rate: float, end: int, what: int, node: int) -> None:
        when = 0.0
        while rate > 0.0:
            when += self.rng.expovariate(rate / 3600.0) * _SECOND
            if when >= end:
                return
            self.at(int(when), what, node)

    def begin(self, node: _Node) -> None:
        node.up = True
        node.began_us = self.now
        node.life += 1
        node.detector = Detector(
            self.settings,
            node_id=node.id,
            incarnation=node.life,
            peers=list(self.nodes),
            rng=self.rng,
            now_us=self.now,
        )
        self.at(self.now + self.rng.randrange(0, self.settings.tick_us), _TICK, node.id, node.life)
        self.at(self.now + self.rng.randrange(0, 100_000), _BEAT, node.id, node.life)

    def happen(self, what: int, node: _Node, other: int, message: DetectorMessage | None) -> None:
        if what == _FRAME:
            if node.up:
                self.frame(node, other, message)
        elif what == _TICK:
            if node.up and other == node.life:
                self.tick(node)
        elif what == _BEAT:
            if node.up and other == node.life:
                self.beat(node)
        elif what == _CRASH:
            self.crash(node)
        elif what == _START:
            self.restart(node)
        elif what == _PAUSE:
            low, high = self.conditions.pause_us
            if self.now >= node.asleep_until:
                self.sleep(node, self.rng.randrange(low, high))
        else:
            node.starved_until = self.now + self.rng.randrange(10 * _SECOND, 40 * _SECOND)
            node.sick_until = max(node.sick_until, node.starved_until + _SETTLE_US)

    def sleep(self, node: _Node, length: int) -> None:
        node.asleep_until = max(node.asleep_until, self.now + length)
        node.sick_until = max(node.sick_until, node.asleep_until + _SETTLE_US)

    def crash(self, node: _Node) -> None:
        if node.up:
            node.up = False
            node.detector = None
            node.inbox.clear()
            node.asleep_until = node.starved_until = 0
            node.crashed_us = self.now
            self.at(self.now + self.conditions.down_us, _START, node.id)

    def restart(self, node: _Node) -> None:
        for observer in self.nodes.values():
            # Who was there and well all the time should have seen it.
            pair = (observer.id, node.id)
            well = max(observer.sick_until, observer.began_us) < node.crashed_us
            if well and observer.up and pair not in self.seen and observer.id != node.id:
                self.outcome.missed += 1
            self.seen.discard(pair)
        self.begin(node)

    def beat(self, node: _Node) -> None:
        if self.now < node.asleep_until:
            self.at(node.asleep_until, _BEAT, node.id, node.life)
            return
        for peer in self.nodes:
            if peer != node.id:
                self.send(node.id, peer, None)
        self.at(self.now + self.conditions.heartbeat_us, _BEAT, node.id, node.life)

    def tick(self, node: _Node) -> None:
        if self.now < node.asleep_until:
            self.at(node.asleep_until, _TICK, node.id, node.life)
            return
        detector = node.detector
        if detector is None:
            return
        if self.now < node.starved_until and self.now >= node.slice_until:
            if node.slice_until:
                node.slice_until = 0
                low, high = self.conditions.starved_gap_us
                self.sleep(node, self.rng.randrange(low, high))
                self.at(node.asleep_until, _TICK, node.id, node.life)
                return
            node.slice_until = self.now + _SLICE_US
        # Timers first: what waits in the sockets is handled after them.
        detector.tick(self.now)
        budget = len(node.inbox)
        if self.now < node.starved_until:
            budget = min(budget, _SLICE_FRAMES)
        for _ in range(budget):
            self.handle(detector, *node.inbox.popleft())
        self.after(node, detector)
        self.at(self.now + self.settings.tick_us, _TICK, node.id, node.life)

    def frame(self, node: _Node, sender: int, message: DetectorMessage | None) -> None:
        detector = node.detector
        if self.now < node.asleep_until or self.now < node.starved_until or node.inbox:
            node.inbox.append((sender, message))
        elif detector is not None:
            self.handle(detector, sender, message)
            self.after(node, detector)

    def handle(self, detector: Detector, sender: int, message: DetectorMessage | None) -> None:
        if message is None:
            detector.heard(sender, self.now)
        else:
            detector.step(sender, message, self.now)

    def after(self, node: _Node, detector: Detector) -> None:
        for to, message in detector.messages():
            self.outcome.messages += 1
            self.send(node.id, to, message)
        for event in detector.events():
            peer = self.nodes[event.peer]
            # While a node comes back, others have not heard of it yet; that is no mistake.
            wrong = peer.up and (peer.life == 1 or self.now > peer.began_us + _SETTLE_US)
            if event.kind is EventKind.SUSPECT:
                self.outcome.suspected += wrong
            elif event.kind is EventKind.UNREACHABLE:
                if peer.up:
                    self.outcome.unreachable += wrong
                    self.outcome.by_sick += wrong and self.now < node.sick_until
                elif (node.id, peer.id) not in self.seen and node.began_us < peer.crashed_us:
                    self.seen.add((node.id, peer.id))
                    self.outcome.detected_us.append(self.now - peer.crashed_us)

    def send(self, sender: int, to: int, message: DetectorMessage | None) -> None:
        conditions = self.conditions
        if conditions.cut == (sender, to):
            return
        rng = self.rng
        delay = conditions.delay_us + int(rng.expovariate(1.0 / max(1, conditions.jitter_us)))
        wait = _RETRANSMIT_US
        while conditions.loss and rng.random() < conditions.loss and wait < _RETRANSMIT_MAX_US:
            delay += wait
            wait *= 2
        # One ordered connection: nothing overtakes.
        when = max(self.now + delay, self.arrival.get((sender, to), 0))
        self.arrival[sender, to] = when
        self.at(when, _FRAME, to, sender, message)


def simulate(settings: DetectorSettings, conditions: Conditions, seed: int) -> Outcome:
    """Run one world to its end. The same arguments give the same outcome."""
    return _World(settings, conditions, seed).run()
