"""The simulated network: one directed link per ordered pair of nodes, each carrying frames.

A link stands for the connection on which `sender` writes to `receiver`. Frames of one connection
keep their order, and a frame of a broken connection never arrives, as with TCP. Beyond TCP, frames
may be lost one by one, and messages of the agreement cores may be repeated, overtake one another or
arrive much later (forwarded commands may not: for them the connection's promise is part of the
protocol). The node must survive all of that.
"""

from collections.abc import Callable
from typing import Protocol

import msgspec

from quoit.node.messages import (
    Frame,
    Other,
    SnapshotAck,
    SnapshotChunk,
    decode_frame,
    encode_frame,
)
from quoit.sim.options import Options, stream

__all__ = ["Link", "Network"]

_RETRANSMIT_US = 200_000
_TAIL = 20


class Scheduler(Protocol):
    """What the network asks of the world."""

    @property
    def now_us(self) -> int:
        """True virtual time."""
        ...

    def after(self, delay_us: int, call: Callable[..., None], *args: object) -> None:
        """Call later."""
        ...

    def deliver(self, receiver: int, sender: int, payload: bytes) -> None:
        """A frame arrives."""
        ...

    def link_changed(self, sender: int, receiver: int, connected: bool) -> None:
        """`sender` learns that its connection to `receiver` was made or lost."""
        ...

    def meet(self, sender: int, receiver: int) -> bool:
        """`sender` dials `receiver`: are they connected now?"""
        ...

    def is_up(self, node: int) -> bool:
        """The node's process runs (perhaps paused)."""
        ...

    def hit(self, kind: str) -> None:
        """A fault touched traffic."""
        ...


class Link(msgspec.Struct):
    """One direction between two nodes.

    number     of the present connection; frames of older ones are dropped
    connected  `sender` believes that it has a connection
    cuts       kinds of the faults that keep this link dead; it works when there are none
    held       frames that wait for a cut to end, as in a TCP send buffer
    """

    sender: int
    receiver: int
    number: int = 0
    connected: bool = False
    dialing: bool = False
    cuts: list[str] = []
    held: list[bytes] = []
    last_arrival_us: int = 0
    free_us: int = 0
    loss: float = 0.0
    repeat: float = 0.0
    reorder: float = 0.0
    hold: float = 0.0
    """Share of frames whose agreement messages arrive seconds late."""
    delay_us: int = 0
    """Mean of a further exponential delay."""
    bytes_per_s: int = 0
    bytes_max: int = 0


class Network:
    """All links of a cluster.

    links   (sender, receiver) -> link
    frames  frames sent
    """

    def __init__(self, world: Scheduler, options: Options) -> None:
        self.world = world
        self.rng = stream(options.seed, "network")
        self.latency_us = options.latency_us
        self.jitter_us = options.jitter_us
        self.tail_share = options.tail_share
        self.frames = 0
        ids = range(1, options.nodes + 1)
        self.links = {(a, b): Link(a, b) for a in ids for b in ids if a != b}

    # Frames

    def send(self, sender: int, receiver: int, payload: bytes, *, urgent: bool) -> None:
        """Put a frame on its way."""
        self.frames += 1
        link = self.links[sender, receiver]
        if not link.connected:
            return
        if link.bytes_max and len(payload) > link.bytes_max:
            self.world.hit("small_frames")
            return
        if link.cuts:
            for kind in dict.fromkeys(link.cuts):
                self.world.hit(kind)
            link.held.append(payload)
            return
        self._transmit(link, payload, urgent)

    def _transmit(self, link: Link, payload: bytes, urgent: bool) -> None:
        rng = self.rng
        now = self.world.now_us
        delay = self.latency_us + self._spread(self.jitter_us)
        if self.tail_share and rng.random() < self.tail_share:
            delay *= _TAIL
        if link.delay_us:
            delay += self._spread(link.delay_us)
            self.world.hit("jitter")
        if link.loss and rng.random() < link.loss:
            self.world.hit("loss")
            if rng.random() < 0.5:
                return
            delay += _RETRANSMIT_US
        if link.bytes_per_s:
            self.world.hit("slow_link")
            link.free_us = max(link.free_us, now) + len(payload) * 1_000_000 // link.bytes_per_s
            delay += link.free_us - now
        arrival = now + delay
        if link.repeat and rng.random() < link.repeat:
            self._repeat(link, payload, delay)
        if link.reorder and rng.random() < link.reorder:
            payload = self._late("reorder", link, payload, delay + self._spread(100_000))
        if link.hold and rng.random() < link.hold:
            late = delay + rng.randrange(1_000_000, 6_000_000)
            payload = self._late("hold", link, payload, late)
        if not urgent:
            arrival = max(arrival, link.last_arrival_us + 1)
            link.last_arrival_us = arrival
        self.world.after(arrival - now, self._arrive, link, link.number, payload)

    def _spread(self, mean_us: int) -> int:
        return int(self.rng.expovariate(1.0) * mean_us)

    def _late(self, kind: str, link: Link, payload: bytes, delay: int) -> bytes:
        """The agreement's messages of a frame arrive late, whatever becomes of the connection; what
        may not overtake keeps its place and is returned."""
        late = _agreement_only(payload)
        if late is None:
            return payload
        self.world.hit(kind)
        self.world.after(delay, self._arrive, link, -1, late)
        return _without_agreement(payload)

    def _repeat(self, link: Link, payload: bytes, delay: int) -> None:
        """The agreement's messages of a frame arrive once more, perhaps seconds later."""
        again = _agreement_only(payload)
        if again is not None:
            self.world.hit("duplicate")
            later = self._spread(self.rng.choice((2_000, 200_000, 3_000_000)))
            self.world.after(delay + later, self._arrive, link, -1, again)

    def _arrive(self, link: Link, number: int, payload: bytes) -> None:
        if number >= 0 and number != link.number:
            return
        self.world.deliver(link.receiver, link.sender, payload)

    # Connections

    def connect_all(self, node: int) -> None:
        """The node has started: it and its peers dial one another."""
        for link in self.links.values():
            if link.receiver == node and link.connected:
                # A peer that had not noticed the death: the new process refuses its old connection.
                self._break(link, link.number)
            elif node in (link.sender, link.receiver):
                self._dial_later(link)

    def disconnect_all(self, node: int, *, told: bool) -> None:
        """The node died. `told`: its machine lives on and resets the connections at once; otherwise
        the peers notice after a while."""
        for link in self.links.values():
            if link.sender == node:
                self._forget(link)
            elif link.receiver == node:
                if told:
                    self.world.after(200, self._break, link, link.number)
                else:
                    wait = self.rng.randrange(300_000, 1_500_000)
                    self.world.after(wait, self._break, link, link.number)

    def reset(self, link: Link) -> None:
        """The connection breaks: what is under way is lost, both ends learn it."""
        if link.connected:
            self.world.hit("reset")
            self._break(link, link.number)

    def drop(self, link: Link) -> None:
        """As `reset`, for reasons of its own."""
        self._break(link, link.number)

    def _forget(self, link: Link) -> None:
        link.connected = False
        link.number += 1
        link.held = []

    def _break(self, link: Link, number: int) -> None:
        if link.number != number or not link.connected:
            return
        self._forget(link)
        if self.world.is_up(link.sender):
            self.world.link_changed(link.sender, link.receiver, False)
            self._dial_later(link)

    def _dial_later(self, link: Link) -> None:
        if link.dialing:
            return
        link.dialing = True
        self.world.after(self.rng.randrange(1_000, 100_000), self._dial, link)

    def _dial(self, link: Link) -> None:
        link.dialing = False
        if link.connected or not self.world.is_up(link.sender):
            return
        if link.cuts or not self.world.meet(link.sender, link.receiver):
            self._dial_later(link)
            return
        link.connected = True
        link.number += 1
        link.last_arrival_us = self.world.now_us
        self.world.link_changed(link.sender, link.receiver, True)

    # Cuts

    def cut(self, sender: int, receiver: int, kind: str = "cut") -> None:
        """Nothing passes in this direction. The sender notices after a while, if it lasts."""
        link = self.links[sender, receiver]
        link.cuts.append(kind)
        if len(link.cuts) == 1:
            wait = self.rng.randrange(400_000, 3_000_000)
            self.world.after(wait, self._time_out, link, link.number)

    def _time_out(self, link: Link, number: int) -> None:
        if link.cuts:
            self._break(link, number)

    def mend(self, sender: int, receiver: int, kind: str = "cut") -> None:
        """Ends one cut of that kind. What TCP still holds is sent now."""
        link = self.links[sender, receiver]
        if kind not in link.cuts:
            return
        link.cuts.remove(kind)
        if not link.cuts:
            held, link.held = link.held, []
            for payload in held:
                self._transmit(link, payload, False)

    def heal(self) -> None:
        """A perfect network from now on."""
        for link in self.links.values():
            link.loss = link.repeat = link.reorder = link.hold = 0.0
            link.delay_us = link.bytes_per_s = link.bytes_max = 0
            while link.cuts:
                self.mend(link.sender, link.receiver, link.cuts[0])


def _agreement_only(payload: bytes) -> bytes | None:
    """The parts of a frame that may arrive at any time, any number of times."""
    frame = decode_frame(payload)
    other: list[Other] = [
        one for one in frame.other if isinstance(one, SnapshotChunk | SnapshotAck)
    ]
    if not frame.core and not other:
        return None
    return encode_frame(Frame(frame.core, [], [], [], [], other))


def _without_agreement(payload: bytes) -> bytes:
    """The other parts."""
    frame = decode_frame(payload)
    frame.core = []
    frame.other = [one for one in frame.other if not isinstance(one, SnapshotChunk | SnapshotAck)]
    return encode_frame(frame)
