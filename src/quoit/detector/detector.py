"""The failure detector of one node: what it heard and when goes in; messages and events come out.

Each node judges for itself; nothing here is agreed on. See the package's docstring for the contract.
A. Das, I. Gupta, A. Motivala: SWIM, 2002, section 3.1, is the source of indirect probes.
"""

from quoit.base.ids import NodeId
from quoit.base.seams import Rng
from quoit.detector.health import LocalHealth
from quoit.detector.messages import DetectorMessage, Ping, PingAck, PingRequest
from quoit.detector.peer import Event, EventKind, Peer, PeerState
from quoit.detector.phi import ArrivalWindow
from quoit.detector.relays import Relays
from quoit.detector.settings import DetectorSettings

__all__ = ["Detector"]

_PROBE_START_MAX = 1 << 48
_SILENT = (PeerState.SUSPECT, PeerState.UNREACHABLE)


class Detector:
    """See the module's docstring.

    incarnation  this node's life: higher than that of all its earlier lives
    peers        peer -> what is known of it
    """

    __slots__ = (
        "_events",
        "_messages",
        "_next_probe",
        "_relays",
        "_rng",
        "_tick_us",
        "health",
        "incarnation",
        "node_id",
        "peers",
        "settings",
    )  # fmt: skip

    def __init__(
        self,
        settings: DetectorSettings,
        *,
        node_id: NodeId,
        incarnation: int,
        peers: list[NodeId],
        rng: Rng,
        now_us: int,
    ) -> None:
        self.settings = settings
        self.node_id = node_id
        self.incarnation = incarnation
        self.health = LocalHealth(settings, now_us)
        self.peers: dict[NodeId, Peer] = {}
        self._rng = rng
        self._events: list[Event] = []
        self._messages: list[tuple[NodeId, DetectorMessage]] = []
        # An answer to an earlier life's probe must not fit one of this life.
        self._next_probe = rng.randrange(1, _PROBE_START_MAX)
        self._relays = Relays(settings.relays_max)
        self._tick_us = now_us
        for peer in peers:
            self.add_peer(peer, now_us)

    # Members

    def add_peer(self, peer: NodeId, now_us: int) -> None:
        """Watch this node. It counts as heard now. Nothing if it is watched already."""
        if peer == self.node_id or peer in self.peers:
            return
        settings = self.settings
        window = ArrivalWindow(
            settings.window, settings.interval_us, settings.min_deviation_us,
            settings.sample_max_us, now_us,
        )  # fmt: skip
        self.peers[peer] = Peer(peer, window)

    def remove_peer(self, peer: NodeId) -> None:
        """It left the cluster, or was retired."""
        self.peers.pop(peer, None)

    def mark_dead(self, peer: NodeId, now_us: int) -> None:
        """The cluster holds this peer for dead, whatever this node saw. No event."""
        known = self.peers.get(peer)
        if known is not None and known.state is not PeerState.DEAD:
            known.state = PeerState.DEAD
            known.returned = False
            known.calm()

    def readmit(self, peer: NodeId, now_us: int) -> None:
        """A dead peer is a member again: its old data was brought up to date or is gone."""
        known = self.peers.get(peer)
        if known is not None and known.state is PeerState.DEAD:
            known.window.restart(now_us)
            self._live(known, now_us)

    # What happened

    def heard(self, sender: NodeId, now_us: int) -> None:
        """Any frame came from `sender` itself. Cheap: call it for each."""
        self._awake(now_us)
        peer = self.peers.get(sender)
        if peer is not None:
            self._contact(peer, now_us)

    def connection(self, peer: NodeId, connected: bool, now_us: int) -> None:
        """The connection to `peer` was made (it answered the handshake) or lost."""
        self._awake(now_us)
        known = self.peers.get(peer)
        if known is None:
            return
        if connected:
            self._contact(known, now_us)
            # On a busy link no other ping may ever be needed; this one tells the lives.
            self._ping(known, now_us)
        elif known.state is PeerState.LIVE:
            # The kernel knows before the silence is long enough.
            self._suspect(known, now_us)

    def synced(self, latency_us: int) -> None:
        """A sync of the own log took so long, or has been under way for so long."""
        self.health.synced(latency_us)

    def step(self, sender: NodeId, message: DetectorMessage, now_us: int) -> None:
        """A message of the detector at `sender`. From a node that is not watched: nothing."""
        self.heard(sender, now_us)
        peer = self.peers.get(sender)
        if peer is None:
            return
        peer.health = message.health
        if isinstance(message, Ping):
            self._lives(peer, message.incarnation, now_us)
            self._ack(sender, message.probe, self.node_id, self.incarnation)
        elif isinstance(message, PingRequest):
            self._lives(peer, message.incarnation, now_us)
            self._relay(sender, message, now_us)
        elif message.target == sender:
            self._lives(peer, message.target_incarnation, now_us)
            if message.probe == peer.ping and now_us - peer.pinged_us <= self.settings.probe_us:
                self.health.answered()
            relay = self._relays.take(message.probe, sender)
            if relay is not None:
                self._ack(relay.origin, relay.probe, sender, message.target_incarnation)
        else:
            self._told(sender, message, now_us)

    def tick(self, now_us: int) -> None:
        """Time passed. Call every `tick_us`, after the frames that had arrived were given."""
        self._awake(now_us)
        self.health.tick(now_us)
        passed = now_us - self._tick_us
        self._tick_us = now_us
        isolated = self.isolated
        for relay in self._relays.overdue(now_us):
            self._ack(relay.origin, relay.probe, relay.target, 0)
        stretch = self.health.multiplier
        interval_us = self.settings.interval_us
        for peer in self.peers.values():
            if peer.state is PeerState.LIVE:
                if now_us - peer.window.heard_us < interval_us:
                    # No interval in the window's mean is shorter, so phi is at most 0.3: the usual case, and
                    # there is one per peer and tick.
                    continue
                if peer.window.phi(now_us, stretch) >= self.settings.phi_threshold:
                    self._suspect(peer, now_us)
                elif now_us - peer.pinged_us >= interval_us:
                    self._ping(peer, now_us)
            elif peer.state in _SILENT:
                if isolated:
                    peer.unreachable_us += passed
                if now_us >= peer.until_us:
                    self._round_over(peer, now_us)
                if (
                    peer.state is PeerState.UNREACHABLE
                    and now_us - peer.unreachable_us >= self.settings.dead_after_us
                ):
                    peer.state = PeerState.DEAD
                    peer.returned = False
                    peer.calm()
                    self._event(peer, EventKind.DEAD, now_us)

    # What comes out

    def messages(self) -> list[tuple[NodeId, DetectorMessage]]:
        """(to, message): send these; none of them needs to arrive."""
        messages, self._messages = self._messages, []
        return messages

    def events(self) -> list[Event]:
        """What happened since the last call, in order."""
        events, self._events = self._events, []
        return events

    def state(self, peer: NodeId) -> PeerState:
        """How this node sees a watched peer."""
        return self.peers[peer].state

    def phi(self, peer: NodeId, now_us: int) -> float:
        """The suspicion level of a watched peer's silence, not stretched by local health."""
        return self.peers[peer].window.phi(now_us)

    @property
    def isolated(self) -> bool:
        """This node is in touch with no majority of the nodes it knows, dead ones included."""
        touch = 1
        for peer in self.peers.values():
            touch += peer.state is PeerState.LIVE or peer.state is PeerState.SUSPECT
        return touch * 2 <= len(self.peers) + 1

    # Suspicion

    def _awake(self, now_us: int) -> None:
        paused = self.health.awake(now_us)
        if paused:
            self._tick_us += paused
            self._relays.shift(paused)
            for peer in self.peers.values():
                peer.shift(paused)

    def _contact(self, peer: Peer, now_us: int) -> None:
        if peer.state is PeerState.LIVE:
            peer.window.heard(now_us)
        elif peer.state is PeerState.SUSPECT:
            # Late, not lost: such a gap is what the window should learn.
            peer.window.heard(now_us)
            self._live(peer, now_us)
        elif peer.state is PeerState.UNREACHABLE:
            peer.window.resume(now_us)
            self._live(peer, now_us)
        else:
            peer.window.resume(now_us)
            if not peer.returned:
                peer.returned = True
                self._event(peer, EventKind.RETURNED, now_us)

    def _lives(self, peer: Peer, incarnation: int, now_us: int) -> None:
        """A sign of this life of the peer."""
        if incarnation <= peer.incarnation:
            return
        first = peer.incarnation == 0
        peer.incarnation = incarnation
        if not first:
            peer.window.restart(now_us)
            self._event(peer, EventKind.RESTARTED, now_us)

    def _live(self, peer: Peer, now_us: int) -> None:
        peer.state = PeerState.LIVE
        peer.calm()
        self._event(peer, EventKind.LIVE, now_us)

    def _suspect(self, peer: Peer, now_us: int) -> None:
        # One silent peer has a problem of its own; if another falls silent, it may be ours.
        if any(other.state is PeerState.SUSPECT for other in self.peers.values()):
            self.health.missed(now_us)
        peer.state = PeerState.SUSPECT
        peer.calm()
        self._event(peer, EventKind.SUSPECT, now_us)
        self._round(peer, now_us)

    def _round(self, peer: Peer, now_us: int) -> None:
        """Ask the peer, and others about it. All with one number: any answer will do."""
        wait_us = self.settings.probe_us * self.health.multiplier
        peer.until_us = now_us + wait_us
        probe = self._ping(peer, now_us)
        peer.probes = [*peer.probes, (probe, now_us)][-self.settings.rounds :]
        peer.asked = self._helpers(peer.id)
        request = PingRequest(probe, peer.id, wait_us, self.incarnation, self.health.score)
        self._messages.extend((helper, request) for helper in peer.asked)

    def _round_over(self, peer: Peer, now_us: int) -> None:
        began_us = peer.probes[-1][1]
        for helper in peer.asked:
            # A helper that is well would at least have said that it failed (Lifeguard, missed nack).
            other = self.peers.get(helper)
            if other is not None and other.state is PeerState.LIVE:
                self.health.missed(now_us)
        peer.failed = 0 if peer.vouched_us >= began_us else peer.failed + 1
        if peer.failed >= self.settings.rounds and peer.state is PeerState.SUSPECT:
            peer.state = PeerState.UNREACHABLE
            peer.unreachable_us = now_us
            self._event(peer, EventKind.UNREACHABLE, now_us)
        self._round(peer, now_us)

    def _told(self, helper: NodeId, ack: PingAck, now_us: int) -> None:
        """A helper says whether it reached a peer."""
        peer = self.peers.get(ack.target)
        if peer is None or peer.state not in _SILENT:
            return
        sent = dict(peer.probes).get(ack.probe)
        if sent is None:
            return
        if ack.probe == peer.probes[-1][0] and helper in peer.asked:
            peer.asked.remove(helper)
        if not ack.reached or ack.target_incarnation < peer.incarnation:
            return
        self._lives(peer, ack.target_incarnation, now_us)
        peer.vouched_us = max(peer.vouched_us, sent)
        peer.failed = 0
        if peer.state is PeerState.UNREACHABLE:
            peer.state = PeerState.SUSPECT
            self._event(peer, EventKind.SUSPECT, now_us)

    def _event(self, peer: Peer, kind: EventKind, now_us: int) -> None:
        self._events.append(Event(peer.id, kind, peer.incarnation, now_us))

    # Messages

    def _ping(self, peer: Peer, now_us: int) -> int:
        self._next_probe += 1
        peer.pinged_us = now_us
        peer.ping = self._next_probe
        ping = Ping(self._next_probe, self.incarnation, self.health.score)
        self._messages.append((peer.id, ping))
        return self._next_probe

    def _ack(self, to: NodeId, probe: int, target: NodeId, incarnation: int) -> None:
        ack = PingAck(probe, target, incarnation > 0, incarnation, self.health.score)
        self._messages.append((to, ack))

    def _helpers(self, target: NodeId) -> list[NodeId]:
        """Live peers at random, at most `helpers`."""
        live = [
            peer.id
            for peer in self.peers.values()
            if peer.state is PeerState.LIVE and peer.id != target
        ]
        chosen: list[NodeId] = []
        while live and len(chosen) < self.settings.helpers:
            chosen.append(live.pop(self._rng.randrange(0, len(live))))
        return chosen

    def _relay(self, origin: NodeId, request: PingRequest, now_us: int) -> None:
        if request.target == self.node_id:
            self._ack(origin, request.probe, self.node_id, self.incarnation)
        elif request.target not in self.peers or self._relays.full:
            self._ack(origin, request.probe, request.target, 0)
        else:
            probe = self._ping(self.peers[request.target], now_us)
            self._relays.add(probe, origin, request, now_us)
