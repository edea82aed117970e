"""Which nodes are live, as this one sees it: the failure detector (quoit/detector) between the node's frames,
ticks, connections and log writes.

Every frame from a peer is its heartbeat, so on a link with traffic the detector sends nothing. What it
does send goes out as frames of its own that may overtake (outbox.py): a peer that is busy sending values
must not look dead. Nothing here is agreed on; who acts on a death does so through the log.
"""

from collections import deque

import msgspec

from quoit.base.seams import Clock, Rng, Trace
from quoit.detector.detector import Detector
from quoit.detector.messages import DetectorMessage
from quoit.detector.peer import Event, EventKind, PeerState
from quoit.detector.settings import DetectorSettings
from quoit.node.config import NodeConfig
from quoit.node.outbox import Outbox
from quoit.node.persistence import Persistence

__all__ = ["Liveness"]

_RECENT_MAX = 256
_LAG_PERIOD_US = 10_000_000
_AWAY = (EventKind.UNREACHABLE, EventKind.DEAD)


class Liveness:
    """See the module's docstring. All times are of this node's own clock.

    heard   (peer, now_us): call it once for each frame that came, whatever is in it
    recent  the newest events, oldest first, at most 256
    away    peers that were said to be unreachable or dead, and not to be live again
    """

    def __init__(
        self,
        config: NodeConfig,
        clock: Clock,
        rng: Rng,
        outbox: Outbox,
        persistence: Persistence,
        trace: Trace,
    ) -> None:
        self.config = config
        self.clock = clock
        self.outbox = outbox
        self.persistence = persistence
        self.trace = trace
        now = clock.now_us()
        self.detector = Detector(
            DetectorSettings(
                tick_us=config.tick_us,
                dead_after_us=config.dead_after_us,
                phi_threshold=config.suspect_phi,
            ),
            node_id=config.node_id,
            # A clock that was set back only costs that helpers' word on this node is not believed.
            incarnation=max(1, clock.wall_ms()),
            peers=[node.id for node in config.nodes],
            rng=rng,
            now_us=now,
        )
        self.heard = self.detector.heard
        self.recent: deque[Event] = deque(maxlen=_RECENT_MAX)
        self.away: dict[int, None] = {}
        self._due_us = now + config.tick_us
        self._period_us = now
        self._lags_us = (0, 0)

    # What happened

    def step(self, peer: int, message: DetectorMessage, now_us: int) -> None:
        """A message of the detector at `peer`."""
        self.detector.step(peer, message, now_us)
        self._tell()

    def connection(self, peer: int, connected: bool, now_us: int) -> None:
        """The connection on which this node sends to `peer` was made or lost."""
        self.detector.connection(peer, connected, now_us)
        self._tell()

    def watch_disk(self, now_us: int) -> None:
        """Call at each tick, and when a log write is done, before that is told to anybody."""
        if self.persistence.write is not None:
            self.detector.synced(now_us - self.persistence.started_us)

    def tick(self, now_us: int) -> None:
        """Time passed. Best before all else that a tick does: what comes late here is lag."""
        lag = max(0, now_us - self._due_us)
        self._due_us = now_us + self.config.tick_us
        present, last = self._lags_us
        if now_us - self._period_us >= _LAG_PERIOD_US:
            self._period_us = now_us
            present, last = 0, present
        self._lags_us = (max(present, lag), last)
        self.watch_disk(now_us)
        self.detector.tick(now_us)
        self._tell()

    # Members

    def add_peer(self, peer: int) -> None:
        """There is such a node. It counts as heard now; nothing if it is watched already."""
        self.detector.add_peer(peer, self.clock.now_us())

    def remove_peer(self, peer: int) -> None:
        """It is no node of the cluster any more."""
        self.detector.remove_peer(peer)
        self.away.pop(peer, None)

    def dead_after(self, dead_after_us: int) -> None:
        """From now on an unreachable peer is dead after this time."""
        settings = self.detector.settings
        self.detector.settings = msgspec.structs.replace(settings, dead_after_us=dead_after_us)

    def mark_dead(self, peer: int) -> None:
        """The cluster holds this node for dead, whatever this one saw. Nothing if that is known."""
        if peer == self.config.node_id:
            return
        self.add_peer(peer)
        if self.state_of(peer) is not PeerState.DEAD:
            self.detector.mark_dead(peer, self.clock.now_us())
            self.away[peer] = None
            self.trace("peer_marked_dead", peer=peer)

    def readmit(self, peer: int) -> None:
        """A dead node is a member again: what it holds was brought up to date, or is gone. Nothing if it
        is not held for dead."""
        self.detector.readmit(peer, self.clock.now_us())
        self._tell()

    # What is known

    def state_of(self, peer: int) -> PeerState:
        """How this node sees `peer`; itself, and who it does not watch, it takes for live."""
        known = self.detector.peers.get(peer)
        return PeerState.LIVE if known is None else known.state

    def is_away(self, peer: int) -> bool:
        """It is unreachable or dead."""
        return self.state_of(peer) in (PeerState.UNREACHABLE, PeerState.DEAD)

    def phi_of(self, peer: int) -> float:
        """How surprising the silence of `peer` is by now; 0 for who is not watched."""
        if peer not in self.detector.peers:
            return 0.0
        return self.detector.phi(peer, self.clock.now_us())

    def dead(self) -> list[int]:
        """Whom this node holds for dead, in order of their numbers."""
        peers = self.detector.peers.values()
        return sorted(one.id for one in peers if one.state is PeerState.DEAD)

    def returned(self) -> list[int]:
        """Those of the dead that were heard since: to be brought up to date and readmitted, or removed."""
        return [peer for peer in self.dead() if self.detector.peers[peer].returned]

    @property
    def isolated(self) -> bool:
        """This node is in touch with no majority of the nodes it knows, so it declares nobody dead."""
        return self.detector.isolated

    @property
    def lag_us(self) -> int:
        """By how much the latest tick of the last ten to twenty seconds came late, stops included."""
        return max(self._lags_us)

    @property
    def health(self) -> int:
        """Local health: 0 is well; time-outs for peers are multiplied by 1 + this."""
        return self.detector.health.score

    # What comes out

    def _tell(self) -> None:
        for peer, message in self.detector.messages():
            self.outbox.overtake(peer, message)
        for event in self.detector.events():
            self.recent.append(event)
            self.trace(self._name(event), peer=event.peer, incarnation=event.incarnation)

    def _name(self, event: Event) -> str:
        if event.kind in _AWAY:
            self.away[event.peer] = None
        elif event.kind is EventKind.LIVE and event.peer in self.away:
            del self.away[event.peer]
            return "peer_live_again"
        return f"peer_{event.kind.value}"
