"""A whole node as one value machine: clients' commands, peers' frames, finished log writes and ticks
go in; frames, one log write, replies and wishes come out of `end_turn`.

It runs unchanged in production (runtime/driver.py) and in the simulator (sim/world.py). It knows
no clock, socket, thread or file beyond the seams it is given, and it must be entered from one
thread only.
"""

from functools import partial

import msgspec

from quoit.base.seams import Clock, Rng, Trace
from quoit.base.slots import META_DB
from quoit.data.table import Spec
from quoit.node.announce import Announcements
from quoit.node.book import NodeBook
from quoit.node.cluster.meta import ClusterMeta, meta_range
from quoit.node.cluster.rebalancer import Rebalancer
from quoit.node.cluster.state import META_SHARD, ClusterState
from quoit.node.compaction import Compaction
from quoit.node.config import NodeConfig, PeerInfo
from quoit.node.digests import Digests
from quoit.node.dispatcher import BUSY, Dispatcher, size_of
from quoit.node.expiry import Expiry
from quoit.node.fanout import fan_out
from quoit.node.inbox import deliver
from quoit.node.leadership import Leadership
from quoit.node.lifecycle import Lifecycle
from quoit.node.liveness import Liveness
from quoit.node.membership import Membership
from quoit.node.outbox import Outbox
from quoit.node.persistence import Persistence
from quoit.node.replica import Replica
from quoit.node.router import Router
from quoit.node.session import Item, Session
from quoit.node.setup import build_map, build_replicas, empty_replica, pinned_databases
from quoit.node.snapshots import Snapshots
from quoit.node.standings import Standing, Standings
from quoit.node.status import NodeStatus, node_status
from quoit.node.transactions import Transactions
from quoit.placement.shard_map import ShardRange
from quoit.quorum.agreement import Ready
from quoit.quorum.members import Members
from quoit.storage.api import Engine, Group, Recovery, ShardRecovery, ShardUpdate
from quoit.storage.log import Log, Write
from quoit.storage.peer_marks import PeerMark

__all__ = ["Node", "TurnEffects"]

_ROUNDS_MAX = 64


class TurnEffects(msgspec.Struct):
    """What the runtime must do after a turn, in any order."""

    frames: list[tuple[int, bytes]]
    """(peer, payload): send in this order."""
    urgent: list[tuple[int, bytes]]
    """(peer, payload): elections and heartbeats; may overtake `frames`."""
    write: Write | None
    """Make it durable on the log thread, then call `on_persisted(write)`. Never two at a time."""
    replies: list[tuple[Session, int, bytes]]
    """(session, ticket, reply)."""
    flush_engine: int
    """If not 0: call `engine.flush()` off the loop, then `on_engine_flushed(flush_engine)`."""
    deadline_us: int
    """Call `tick()` no later than this."""
    nodes: list[PeerInfo] = []
    """Nodes that are new or have another address: remember them, and connect."""
    left: list[int] = []
    """Nodes that are no part of the cluster any more: forget them, and disconnect."""


class Node:
    """One node. See the module's docstring.

    transactions MULTI and WATCH
    dispatcher   where commands go and how they are answered
    persistence  what waits for the log
    leadership   which leaderships are given away
    liveness     which nodes this one holds for live, unreachable, dead
    replicas     shard -> this node's replica of it
    serving      shard -> replica, only those that lead and may run commands
    cluster      its record; rebalancer: brings replicas to where that says
    rebuilding   why the data here come anew from the peers; "" when they do not (for people)
    """

    def __init__(
        self,
        config: NodeConfig,
        clock: Clock,
        rng: Rng,
        engine: Engine,
        log: Log,
        recovery: Recovery,
        trace: Trace,
        peer_marks: dict[int, PeerMark] | None = None,
        cluster: ClusterState | None = None,
    ) -> None:
        self.config = config
        self.clock = clock
        self.rng = rng
        self.engine = engine
        self.log = log
        self.trace = trace
        self.started_us = clock.now_us()
        self.map = build_map(config)
        self.meta_range = meta_range(config, self.map)
        self.router = Router(self.map)
        self.slot_to_shard = self.map.slot_to_shard
        self.home_dbs = {**pinned_databases(self.router), META_SHARD: [META_DB]}
        self.counters: dict[str, int] = dict.fromkeys(
            (
                "commands", "reads_local", "reads_indexed", "batches", "batch_commands", "forwards",
                "forwards_received", "refused", "unknown_outcomes", "elections_won", "log_writes",
                "log_entries", "log_bytes", "snapshots_sent", "snapshots_installed", "flushes",
                "snapshot_chunks", "snapshot_bytes", "snapshots_damaged",
                "frames_received", "busy", "digests_compared", "digests_differ",
            ),
            0,
        )  # fmt: skip
        self.heard_us: dict[int, int] = {}
        self.outbox = Outbox()
        self.outgoing = self.outbox.outgoing
        first_id = rng.randrange(1, 1 << 48)
        own = Standing(config.directory, first_id, recovery.sequence)
        self.standings = Standings(own, peer_marks or {})
        self.dispatcher = dispatcher = Dispatcher(
            config, clock, rng, self.router, self.counters, self.outgoing, first_id
        )
        self.transactions = Transactions(self)
        self.connected = dispatcher.connected
        self.serving = dispatcher.serving
        self.forwarder = dispatcher.forwarder
        self.compaction = Compaction(config, self.slowest)
        self.persistence = Persistence(log, clock, self.outbox, self.compaction, self.counters)
        self.leadership = Leadership(config, dispatcher, self.persistence, trace, self._record)
        self.snapshots = Snapshots(self, first_id)
        self.lifecycle = Lifecycle(self)
        self.announcements = Announcements(self)
        self.liveness = Liveness(config, clock, rng, self.outbox, self.persistence, trace)
        self.book = NodeBook(config, self.outgoing, self.connected, self.liveness.add_peer)
        self.cluster = ClusterMeta(self, cluster)
        self.membership = Membership(self, first_id)
        self.rebalancer = Rebalancer(self, config.node_id, first_id)
        self.expiry = Expiry(self)
        self.digests = Digests(self)
        dispatcher.digest = self.digests.begin
        self.stopping = False
        self.rebuilding = ""
        self.reads_anywhere = config.quorum == "all"
        self.wall_ms = dispatcher.wall_ms
        self.replicas = dispatcher.replicas
        self.replicas.update(build_replicas(self, recovery))
        self.next_tick_us = self.started_us
        self.leader_seen: dict[int, int] = {}

    @property
    def pending(self) -> int:
        """Commands that were accepted and are not answered."""
        return self.dispatcher.pending

    # Clients

    def submit(self, session: Session, ticket: int, spec: Spec, args: list[bytes]) -> bytes | None:
        """Run a data command. The reply at once, or None: it comes out of a later `end_turn`."""
        if session.deferred:
            start = partial(self.submit, session, ticket, spec, args)
            return self.transactions.defer(session, ticket, start, size_of(args))
        if spec.first_key == 0:
            return self._fan_out(session, ticket, spec, args)
        db = session.db
        if db:
            shard = self.router.home[db]
        elif spec.last_key == 1:
            shard = self.router.shard(0, args[1])
        else:
            shards = self.router.shards_of(0, spec, args)
            if len(shards) != 1:
                return self._fan_out(session, ticket, spec, args)
            shard = shards[0]
        dispatcher = self.dispatcher
        unanswered = session.unanswered
        item = (session, ticket, spec, args, db, session.proto)
        if spec.write:
            if dispatcher.full():
                return BUSY
            unanswered[shard] = unanswered.get(shard, 0) + 1
            dispatcher.dispatch(shard, item, False)
            return None
        after_write = shard in unanswered
        if not after_write:
            replica = dispatcher.settled.get(shard)
            if replica is None and self.reads_anywhere:
                replica = self.replicas.get(shard)
            if replica is not None and replica.core.lease_valid(self.clock.now_us()):
                reply = replica.read_now(spec, args, db, session.proto, self.wall_ms)
                if reply is not None:
                    self.counters["reads_local"] += 1
                    return reply
                after_write = True
        if dispatcher.full():
            return BUSY
        dispatcher.dispatch(shard, item, after_write)
        return None

    def _fan_out(
        self, session: Session, ticket: int, spec: Spec, args: list[bytes]
    ) -> bytes | None:
        if self.dispatcher.full():
            return BUSY
        return fan_out(self.dispatcher, session, ticket, spec, args)

    def submit_transaction(
        self, session: Session, ticket: int, commands: list[tuple[int, Spec, list[bytes]]]
    ) -> bytes | None:
        """EXEC: run `commands` (database, spec, arguments) atomically if nothing watched changed."""
        return self.transactions.execute(session, ticket, commands)

    def watch(self, session: Session, ticket: int, keys: list[bytes]) -> bytes | None:
        """WATCH: remember the keys' versions in the session."""
        return self.transactions.watch(session, ticket, keys)

    def close_session(self, session: Session) -> None:
        """The client is gone. What it sent goes on; its replies are dropped."""
        session.closed = True
        session.unwatch()

    def reply(self, session: Session, ticket: int, reply: bytes) -> None:
        """Answer a client."""
        self.dispatcher.reply(session, ticket, reply)

    def dispatch(self, shard: int, item: Item, after_write: bool) -> None:
        """Run the item on the shard, wherever it is led."""
        self.dispatcher.dispatch(shard, item, after_write)

    def leader_of(self, shard: int) -> int:
        """The shard's leader as this node knows it; 0 if it does not."""
        return self.dispatcher.leader_of(shard)

    # Peers

    def on_peer(self, peer: int, connected: bool) -> None:
        """A connection to `peer` was made or lost."""
        now = self.clock.now_us()
        if connected:
            self.connected[peer] = now
            self.announcements.connected()
            self.book.tell([peer])
            self.snapshots.found(peer, now)
            # The preferred replica looks for votes as soon as somebody can give them.
            for replica in self.replicas.values():
                if self.leadership.preferred(replica) == self.config.node_id:
                    replica.core.campaign_soon(now + self.config.tick_us)
        else:
            self.connected.pop(peer, None)
            self.outbox.drop(peer)
            self.forwarder.lost(peer)
            self.snapshots.lost(peer, now)
        self.liveness.connection(peer, connected, now)

    def on_frame(self, peer: int, payload: bytes) -> None:
        """A frame from `peer`. PeerFault when it cannot be read."""
        deliver(self, peer, payload)

    # The log and the engine

    def on_persisted(self, write: Write) -> None:
        """The log write is durable."""
        self.liveness.watch_disk(self.clock.now_us())
        self.persistence.persisted(write)

    @property
    def log_held(self) -> bool:
        """Nothing is written to the log before the engine has been flushed."""
        return self.persistence.held

    def slowest(self, replica: Replica) -> int:
        """How far the slowest follower is that is connected; the last index if none is behind."""
        core = replica.core
        reached = core.last_index
        if core.is_leader:
            for peer in core.members.everyone:
                if peer in self.connected:
                    brings = self.snapshots.floor(replica.id, peer)
                    reached = min(reached, max(core.reached(peer), brings))
        return reached

    def hold_log_for_flush(self) -> None:
        """Write nothing more to the log before the engine has been flushed."""
        self.persistence.hold_for_flush()

    def on_engine_flushed(self, token: int) -> None:
        """The engine's flush that `end_turn` asked for is done."""
        self.persistence.flushed(token, self.replicas)
        self.lifecycle.flushed(token)

    # Time

    def tick(self) -> None:
        """Time passed."""
        now = self.clock.now_us()
        self.wall_ms = self.dispatcher.wall_ms = self.clock.wall_ms()
        if now < self.next_tick_us:
            return
        self.next_tick_us = now + self.config.tick_us
        self.liveness.tick(now)
        self.leadership.watch_disk(now)
        for replica in self.replicas.values():
            if now >= replica.core.next_deadline_us():
                replica.core.tick(now)
            replica.expire_waits(now)
        self.forwarder.expire(now)
        self.snapshots.tick(now)
        self.expiry.tick(now, self.wall_ms)
        self.digests.tick(now)
        if not self.stopping:
            self.leadership.give_back(now)
        self.announcements.tick(now)
        self.standings.tell(self.outbox, self.connected, now)
        self.membership.tick(now)
        self.cluster.tick(now)
        self.rebalancer.tick(now)

    def begin_stop(self) -> None:
        """Hand over every leadership that can be handed over."""
        self.stopping = True
        self.leadership.hand_over(self.clock.now_us())

    # The turn

    def end_turn(self) -> TurnEffects:
        """Let everything that came in take effect; what the runtime must do now."""
        now = self.clock.now_us()
        for _ in range(_ROUNDS_MAX):
            if not self._round(now):
                break
        write = self.persistence.next_write()
        frames, urgent = self.outbox.drain(self.connected)
        replies, self.dispatcher.replies = self.dispatcher.replies, []
        flush = self.compaction.next_flush(self.replicas, self.engine)
        nodes, left = self.book.take()
        return TurnEffects(frames, urgent, write, replies, flush, self.next_tick_us, nodes, left)

    def _round(self, now: int) -> bool:
        groups: list[Group] = []
        progressed: list[Replica] = []
        for replica in self.replicas.values():
            if replica.core.has_ready:
                ready = replica.core.ready()
                if ready is not None:
                    self._take(replica, ready, groups)
                    progressed.append(replica)
        if groups:
            self.engine.write(groups)
        for replica in progressed:
            replica.complete()
        self._refresh_serving()
        if self.dispatcher.parked:
            self.dispatcher.release_parked(now)
        if len(self.dispatcher.settled) != len(self.serving):
            self.dispatcher.settle()
        ran = False
        for replica in self.serving.values():
            if replica.reads or replica.can_propose():
                replica.run(now, self.wall_ms)
                ran = True
        return bool(progressed) or ran

    def _take(self, replica: Replica, ready: Ready, groups: list[Group]) -> None:
        shard = replica.id
        outgoing = self.outgoing
        learners = replica.core.members.learners
        for peer, message in ready.messages:
            outgoing(peer).core.append((shard, message))
            if learners and peer in learners:
                self.snapshots.count(shard, peer, message)
        self.persistence.take(replica, ready)
        if replica.damaged and not replica.core.damaged:
            replica.damaged = False
            healed = ShardUpdate(shard, None, [], None, None, healed=True)
            self.persistence.updates.append(healed)
        replica.absorb(ready, groups)
        for peer in ready.snapshot_wanted:
            replica.snapshot_for.append(peer)

    def _refresh_serving(self) -> None:
        for replica in self.replicas.values():
            serving = replica.serving()
            if serving != replica.was_serving:
                replica.was_serving = serving
                if serving:
                    self.serving[replica.id] = replica
                    self.leadership.since[replica.id] = self.clock.now_us()
                    self.counters["elections_won"] += 1
                    self.announcements.changed(replica, self.clock.now_us())
                else:
                    self.serving.pop(replica.id, None)
                    self.dispatcher.settled.pop(replica.id, None)
                    replica.step_aside()
            if replica.config_changed:
                replica.config_changed = False
                self.announcements.changed(replica, self.clock.now_us())
            leader = replica.core.leader
            if leader != self.leader_seen.get(replica.id, 0):
                self.leader_seen[replica.id] = leader
                self.trace("leader", shard=replica.id, leader=leader, term=replica.core.term)
                self.forwarder.leader_changed(replica.id, leader, self.clock.now_us())
            if replica.snapshot_for:
                wanted, replica.snapshot_for = replica.snapshot_for, []
                for peer in wanted:
                    self.snapshots.start(replica, peer, self.clock.now_us())

    # Members

    def _record(self) -> ClusterState:
        return self.cluster.state

    def ranges(self) -> tuple[ShardRange, ...]:
        """All shards, the meta shard included."""
        return (*self.map.shards, self.meta_range) if self.config.meta_shard else self.map.shards

    @property
    def replication_factor(self) -> int:
        """How many replicas a shard shall have."""
        state = self.cluster.state
        return state.settings.replication_factor if state.nodes else self.config.replication_factor

    @property
    def nodes(self) -> dict[int, PeerInfo]:
        """All nodes that this one knows, itself included."""
        return self.book.nodes

    def add_node(self, info: PeerInfo) -> bool:
        """There is such a node, at this address. True if that is news."""
        return self.book.add(info)

    def begin_replica(
        self,
        shard: ShardRange,
        members: Members,
        config_index: int,
        former: ShardRecovery | None,
    ) -> Replica:
        """An empty replica of a shard to which this node was invited."""
        return empty_replica(self, shard, members, config_index, former)

    def forget_replica(self, shard: int) -> None:
        """The replica here was dropped."""
        self.serving.pop(shard, None)
        self.dispatcher.settled.pop(shard, None)
        self.leader_seen.pop(shard, None)
        self.leadership.since.pop(shard, None)

    def members_of(self, shard: int) -> Members:
        """The shard's members, as far as this node knows."""
        return self.announcements.members_of(shard)

    # Telling

    def status(self) -> NodeStatus:
        """What this node knows of itself and the cluster."""
        return node_status(self)

    def check(self) -> None:
        """Assert every invariant; the simulator calls this after each step."""
        for replica in self.replicas.values():
            replica.core.check()
