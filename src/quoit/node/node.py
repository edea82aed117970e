"""A whole node as one value machine: clients' commands, peers' frames, finished log writes and ticks
go in; frames, one log write, replies and wishes come out of `end_turn`.

It runs unchanged in production (runtime/driver.py) and in the simulator (sim/world.py). It knows
no clock, socket, thread or file beyond the seams it is given, and it must be entered from one
thread only.
"""

import msgspec

from quoit.base.errors import Overloaded
from quoit.base.seams import Clock, Rng, Trace
from quoit.data.table import Spec
from quoit.node.batch import EXEC, VERSIONS, Transaction
from quoit.node.compaction import Compaction
from quoit.node.config import NodeConfig
from quoit.node.expiry import Expiry
from quoit.node.fanout import fan_out, settle
from quoit.node.forwarding import Forwarder
from quoit.node.messages import (
    SnapshotAck,
    SnapshotChunk,
    TransactionForward,
    decode_frame,
)
from quoit.node.outbox import Outbox
from quoit.node.replica import Replica
from quoit.node.router import CROSS_SHARD, Router
from quoit.node.session import Item, Session
from quoit.node.setup import build_map, build_replicas, pinned_databases
from quoit.node.snapshots import Snapshots
from quoit.node.status import NodeStatus, node_status
from quoit.node.watching import WatchOrigin
from quoit.quorum.agreement import HardState, Ready
from quoit.storage.api import Engine, Group, Recovery, ShardUpdate
from quoit.storage.log import Log, Write

__all__ = ["Node", "TurnEffects"]

Mark = tuple[Replica, int, int, HardState | None]
"""(replica, last index, its term, hard state) of one shard in a log write."""

BUSY = b"-BUSY too many commands wait on this node, nothing was changed; try again later\r\n"
UNKNOWN = (
    b"-UNKNOWN maybe applied: the outcome of this write was not learned in time; "
    b"read before you send it again\r\n"
)
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


class Node:
    """One node. See the module's docstring.

    replicas  shard -> this node's replica of it
    serving   shard -> replica, only those that lead and may run commands
    parked    shard -> commands (with their deadlines) that wait for a leader
    hints     shard -> leader, for shards without a replica here
    pending   commands accepted and not answered; Invariant: <= config.pending_commands_max * 2
    write     the log write that is not durable yet, or None
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
    ) -> None:
        self.config = config
        self.clock = clock
        self.rng = rng
        self.engine = engine
        self.log = log
        self.trace = trace
        self.outcome_wait_us = config.outcome_wait_us
        self.started_us = clock.now_us()
        self.map = build_map(config)
        self.router = Router(self.map)
        self.slot_to_shard = self.map.slot_to_shard
        self.home_dbs = pinned_databases(self.router)
        self.counters: dict[str, int] = dict.fromkeys(
            (
                "commands", "reads_local", "reads_indexed", "batches", "batch_commands", "forwards",
                "forwards_received", "refused", "unknown_outcomes", "elections_won", "log_writes",
                "log_entries", "log_bytes", "snapshots_sent", "snapshots_installed", "flushes",
                "frames_received", "busy",
            ),
            0,
        )  # fmt: skip
        self.connected: dict[int, int] = {}
        self.heard_us: dict[int, int] = {}
        self.hints: dict[int, int] = {}
        self.outbox = Outbox()
        self.outgoing = self.outbox.outgoing
        self.replies: list[tuple[Session, int, bytes]] = []
        self.serving: dict[int, Replica] = {}
        self.parked: dict[int, list[tuple[Item, int]]] = {}
        self.retry_us: dict[int, int] = {}
        self.pending = 0
        self.pending_bytes = 0
        self.stopping = False
        first_id = rng.randrange(1, 1 << 48)
        self.forwarder = Forwarder(self, first_id)
        self.snapshots = Snapshots(self, first_id)
        self.expiry = Expiry(self)
        self.compaction = Compaction(config)
        self.updates: list[ShardUpdate] = []
        self.marks: list[Mark] = []
        self.after: list[tuple[int, int, object]] = []
        self.write: Write | None = None
        self.write_started_us = 0
        self.suspended = False
        self.write_marks: list[Mark] = []
        self.write_after: list[tuple[int, int, object]] = []
        self.log_held = False
        self.wall_ms = clock.wall_ms()
        self.replicas = build_replicas(self, recovery)
        self.next_tick_us = self.started_us
        self.leader_seen: dict[int, int] = {}

    # Clients

    def submit(self, session: Session, ticket: int, spec: Spec, args: list[bytes]) -> bytes | None:
        """Run a data command. The reply at once, or None: it comes out of a later `end_turn`."""
        if spec.first_key == 0:
            return self._guarded_fan_out(session, ticket, spec, args)
        db = session.db
        if db:
            shard = self.router.home[db]
        elif spec.last_key == 1:
            shard = self.router.shard(0, args[1])
        else:
            shards = self.router.shards_of(0, spec, args)
            if len(shards) != 1:
                return self._guarded_fan_out(session, ticket, spec, args)
            shard = shards[0]
        unanswered = session.unanswered
        if spec.write:
            if self.pending >= self.config.pending_commands_max:
                self.counters["busy"] += 1
                return BUSY
            self.pending += 1
            unanswered[shard] = unanswered.get(shard, 0) + 1
            self._place(shard, (session, ticket, spec, args, db, session.proto), False)
            return None
        replica = self.serving.get(shard)
        after_write = shard in unanswered
        if (
            replica is not None
            and not after_write
            and replica.raft.lease_valid(self.clock.now_us())
        ):
            reply = replica.read_now(spec, args, db, session.proto, self.wall_ms)
            if reply is not None:
                self.counters["reads_local"] += 1
                return reply
            after_write = True
        if self.pending >= self.config.pending_commands_max:
            self.counters["busy"] += 1
            return BUSY
        self.pending += 1
        self._place(shard, (session, ticket, spec, args, db, session.proto), after_write)
        return None

    def _guarded_fan_out(
        self, session: Session, ticket: int, spec: Spec, args: list[bytes]
    ) -> bytes | None:
        if self.pending >= self.config.pending_commands_max:
            self.counters["busy"] += 1
            return BUSY
        return fan_out(self, session, ticket, spec, args)

    def submit_transaction(
        self, session: Session, ticket: int, commands: list[tuple[int, Spec, list[bytes]]]
    ) -> bytes | None:
        """EXEC: run `commands` (database, spec, arguments) atomically if nothing watched changed."""
        if session.watch_pending:
            session.deferred.append((ticket, commands))
            return None
        shards = self.router.transaction(session, commands)
        watched = [(db, key, version) for (db, key), version in session.watched.items()]
        session.watched.clear()
        if not shards:
            return b"*0\r\n"
        if len(shards) > 1:
            return CROSS_SHARD
        if self.pending >= self.config.pending_commands_max:
            return BUSY
        shard = shards[0]
        self.pending += 1
        session.unanswered[shard] = session.unanswered.get(shard, 0) + 1
        transaction = Transaction(watched, commands)
        self._place(shard, (session, ticket, EXEC, transaction, session.db, session.proto), False)
        return None

    def watch(self, session: Session, ticket: int, keys: list[bytes]) -> bytes | None:
        """WATCH: remember the keys' versions in the session."""
        db = session.db
        shards = {self.router.shard(db, key): None for key in keys}
        for watched_db, key in session.watched:
            shards[self.router.shard(watched_db, key)] = None
        if len(shards) != 1:
            return CROSS_SHARD
        session.watch_pending += 1
        origin = WatchOrigin(self, session, keys)
        item = (origin, ticket, VERSIONS, [b"WATCH", *keys], db, session.proto)
        shard = next(iter(shards))
        self.dispatch(shard, item, shard in session.unanswered)
        return None

    def close_session(self, session: Session) -> None:
        """The client is gone. What it sent goes on; its replies are dropped."""
        session.closed = True
        session.watched.clear()

    # Placing commands

    def dispatch(self, shard: int, item: Item, after_write: bool) -> None:
        """Run the item on the shard, wherever it is led; for parts of commands."""
        self.pending += 1
        self._place(shard, item, after_write)

    def _place(self, shard: int, item: Item, after_write: bool) -> None:
        if shard in self.parked:
            self._park(shard, item)
            return
        replica = self.serving.get(shard)
        if replica is not None:
            if after_write or item[2].write:
                replica.queue.append(item)
            else:
                replica.reads.append(item)
            return
        leader = self.leader_of(shard)
        if leader and leader != self.config.node_id and leader in self.connected:
            self.counters["forwards"] += 1
            self.forwarder.send(shard, leader, item, after_write, self.clock.now_us())
        else:
            self._park(shard, item)

    def _park(self, shard: int, item: Item) -> None:
        deadline = self.clock.now_us() + self.config.leader_wait_us
        self.parked.setdefault(shard, []).append((item, deadline))

    def _release_parked(self, now_us: int) -> None:
        for shard in list(self.parked):
            waiting = self.parked[shard]
            ready = shard in self.serving
            if not ready and now_us >= self.retry_us.get(shard, 0):
                leader = self.leader_of(shard)
                ready = leader != self.config.node_id and leader in self.connected
            if ready:
                del self.parked[shard]
                for item, _ in waiting:
                    session = item[0] if item[0].direct else None
                    after = session is not None and shard in session.unanswered
                    self._place(shard, item, after)
                continue
            overdue = [item for item, deadline in waiting if deadline <= now_us]
            if overdue:
                rest = [pair for pair in waiting if pair[1] > now_us]
                if rest:
                    self.parked[shard] = rest
                else:
                    del self.parked[shard]
                text = b"-CLUSTERDOWN shard %d has no leader; nothing was changed, try again\r\n"
                for item in overdue:
                    self.counters["refused"] += 1
                    self.answer(shard, item, text % shard)

    def leader_of(self, shard: int) -> int:
        """The shard's leader as this node knows it; 0 if it does not."""
        replica = self.replicas.get(shard)
        return replica.raft.leader if replica is not None else self.hints.get(shard, 0)

    def receive(self, shard: int, item: Item, after_write: bool) -> bool:
        """A command that a peer forwarded. False: not led here."""
        replica = self.serving.get(shard)
        if replica is None or shard in self.parked:
            return False
        if self.pending >= 2 * self.config.pending_commands_max:
            raise Overloaded("too many commands wait on this node")
        self.counters["forwards_received"] += 1
        spec = item[2]
        if after_write or spec.write:
            replica.queue.append(item)
        elif replica.raft.lease_valid(self.clock.now_us()):
            reply = replica.read_now(spec, item[3], item[4], item[5], self.wall_ms)
            if reply is not None:
                self.counters["reads_local"] += 1
                item[0].deliver(item[1], reply)
                return True
            replica.queue.append(item)
        else:
            replica.reads.append(item)
        self.pending += 1
        return True

    # Answers

    def reply(self, session: Session, ticket: int, reply: bytes) -> None:
        """Answer a client."""
        if not session.closed:
            self.replies.append((session, ticket, reply))

    def answer(self, shard: int, item: Item, reply: bytes) -> None:
        """The item's reply is final."""
        self.pending -= 1
        origin = item[0]
        if origin.direct:
            if item[2].write:
                settle(origin, shard)
            if not origin.closed:
                self.replies.append((origin, item[1], reply))
        else:
            origin.deliver(item[1], reply)

    def unknown(self, shard: int, item: Item) -> None:
        """The item's outcome is unknown. A read is simply asked again."""
        if not item[2].write:
            self.redispatch(shard, item)
            return
        self.counters["unknown_outcomes"] += 1
        self.answer(shard, item, UNKNOWN)

    def redispatch(self, shard: int, item: Item) -> None:
        """Proven not applied: let it wait for the shard's leader, or tell the node it came from."""
        origin = item[0]
        if not origin.direct and origin.refuse(item[1], self.leader_of(shard)):
            self.pending -= 1
            return
        self._park(shard, item)

    # Peers

    def on_peer(self, peer: int, connected: bool) -> None:
        """A connection to `peer` was made or lost."""
        now = self.clock.now_us()
        if connected:
            self.connected[peer] = now
            # The preferred replica looks for votes as soon as somebody can give them.
            for replica in self.replicas.values():
                if replica.range.replicas[0] == self.config.node_id:
                    replica.raft.campaign_soon(now + self.config.tick_us)
        else:
            self.connected.pop(peer, None)
            self.outbox.drop(peer)
            self.forwarder.lost(peer)
            self.snapshots.lost(peer, now)

    def on_frame(self, peer: int, payload: bytes) -> None:
        """A frame from `peer`. PeerFault when it cannot be read."""
        frame = decode_frame(payload)
        now = self.clock.now_us()
        self.heard_us[peer] = now
        self.counters["frames_received"] += 1
        replicas = self.replicas
        for shard, message in frame.raft:
            replica = replicas.get(shard)
            if replica is not None:
                replica.raft.step(peer, message, now)
        if frame.replies or frame.refused:
            self._hints(self.forwarder.answered(frame), now)
        if frame.forwards:
            self.forwarder.received(peer, frame)
        for shard, _ in frame.leading:
            if shard not in replicas:
                self.hints[shard] = peer
        for other in frame.other:
            if isinstance(other, TransactionForward):
                self.forwarder.received_transaction(peer, other)
            elif isinstance(other, SnapshotChunk):
                self.snapshots.received(peer, other, now)
            elif isinstance(other, SnapshotAck):
                self.snapshots.acknowledged(peer, other, now)

    def _hints(self, hints: list[tuple[int, int]], now_us: int) -> None:
        for shard, leader in hints:
            if leader and shard not in self.replicas:
                self.hints[shard] = leader
            # Why: two nodes with different views must not bounce a command between them.
            self.retry_us[shard] = now_us + 2 * self.config.tick_us

    # The log and the engine

    def on_persisted(self, write: Write) -> None:
        """The log write is durable."""
        self.log.publish(write)
        marks, after = self.write_marks, self.write_after
        self.write = None
        self.write_marks, self.write_after = [], []
        for replica, index, term, hard_state in marks:
            if hard_state is not None:
                replica.raft.promised(hard_state)
            if index:
                replica.raft.persisted(index, term)
        for shard, peer, message in after:
            self.outgoing(peer).raft.append((shard, message))  # type: ignore[arg-type]
        self.log.release()

    def hold_log_for_flush(self) -> None:
        """Write nothing more to the log before the engine has been flushed."""
        self.log_held = True
        self.compaction.want_flush()

    def on_engine_flushed(self, token: int) -> None:
        """The engine's flush that `end_turn` asked for is done."""
        self.counters["flushes"] += 1
        if self.compaction.flushed(token):
            self.log_held = False
        for replica in self.replicas.values():
            update = self.compaction.compact(replica)
            if update is not None:
                self.updates.append(update)

    # Time

    def tick(self) -> None:
        """Time passed."""
        now = self.clock.now_us()
        self.wall_ms = self.clock.wall_ms()
        if now < self.next_tick_us:
            return
        self.next_tick_us = now + self.config.tick_us
        self._watch_disk(now)
        for replica in self.replicas.values():
            if now >= replica.raft.next_deadline_us():
                replica.raft.tick(now)
            replica.expire_waits(now)
        self.forwarder.expire(now)
        self.snapshots.tick(now)
        self.expiry.tick(now, self.wall_ms)
        if self.map_is_partial:
            self._announce()

    def _watch_disk(self, now_us: int) -> None:
        """A node whose log write hangs keeps its network and so its leaderships, yet can promise
        nothing: it hands them over, and campaigns for none, until the disk answers."""
        hangs = (
            self.write is not None
            and now_us - self.write_started_us > self.config.disk_hang_us
        )
        if hangs and self.suspended:
            return
        if hangs != self.suspended:
            self.suspended = hangs
            self.trace("disk_hangs" if hangs else "disk_answers")
            for replica in self.replicas.values():
                replica.raft.suspended = hangs
            if hangs:
                self._hand_over(now_us)

    def _hand_over(self, now_us: int) -> None:
        """Transfer every leadership to the follower that is furthest."""
        for replica in self.serving.values():
            others = [
                peer
                for peer in replica.range.replicas
                if peer in self.connected and peer != self.config.node_id
            ]
            if others:
                replica.raft.transfer(replica.raft.most_advanced(others), now_us)

    @property
    def map_is_partial(self) -> bool:
        """Some node of the cluster holds no replica of some shard."""
        return len(self.config.nodes) > self.config.replication_factor

    def _announce(self) -> None:
        for shard, replica in self.serving.items():
            for peer in self.connected:
                if peer not in replica.range.replicas:
                    self.outgoing(peer).leading.append((shard, replica.raft.term))

    def begin_stop(self) -> None:
        """Hand over every leadership that can be handed over."""
        self.stopping = True
        self._hand_over(self.clock.now_us())

    # The turn

    def end_turn(self) -> TurnEffects:
        """Let everything that came in take effect; what the runtime must do now."""
        now = self.clock.now_us()
        for _ in range(_ROUNDS_MAX):
            if not self._round(now):
                break
        write = None
        if self.write is None and self.updates and not self.log_held:
            write = self._next_write()
        frames, urgent = self.outbox.drain(self.connected)
        replies, self.replies = self.replies, []
        flush = self.compaction.next_flush(self.replicas)
        return TurnEffects(frames, urgent, write, replies, flush, self.next_tick_us)

    def _round(self, now: int) -> bool:
        groups: list[Group] = []
        progressed: list[Replica] = []
        for replica in self.replicas.values():
            if replica.raft.has_ready:
                ready = replica.raft.ready()
                if ready is not None:
                    self._take(replica, ready, groups, now)
                    progressed.append(replica)
        if groups:
            self.engine.write(groups)
        for replica in progressed:
            replica.complete(now, self.wall_ms)
        self._refresh_serving()
        if self.parked:
            self._release_parked(now)
        ran = False
        for replica in self.serving.values():
            if replica.reads or replica.can_propose():
                replica.run(now, self.wall_ms)
                ran = True
        return bool(progressed) or ran

    def _take(self, replica: Replica, ready: Ready, groups: list[Group], now: int) -> None:
        shard = replica.id
        outgoing = self.outgoing
        for peer, message in ready.messages:
            outgoing(peer).raft.append((shard, message))
        if ready.hard_state is not None or ready.entries or ready.snapshot is not None:
            entries = ready.entries
            self.updates.append(ShardUpdate(shard, ready.hard_state, entries, ready.snapshot, None))
            index = term = 0
            if entries:
                index, term = entries[-1].index, entries[-1].term
                self.counters["log_entries"] += len(entries)
            self.marks.append((replica, index, term, ready.hard_state))
        after = ready.messages_after_persist
        if after:
            if self.updates:
                self.after.extend((shard, peer, message) for peer, message in after)
            elif self.write is not None:
                self.write_after.extend((shard, peer, message) for peer, message in after)
            else:
                for peer, message in after:
                    outgoing(peer).raft.append((shard, message))
        if replica.damaged and not replica.raft.damaged:
            replica.damaged = False
            self.updates.append(ShardUpdate(shard, None, [], None, None, True))
        replica.absorb(ready, groups, now, self.wall_ms)
        for peer in ready.snapshot_wanted:
            replica.snapshot_for.append(peer)

    def _refresh_serving(self) -> None:
        for replica in self.replicas.values():
            serving = replica.serving()
            if serving != replica.was_serving:
                replica.was_serving = serving
                if serving:
                    self.serving[replica.id] = replica
                    self.counters["elections_won"] += 1
                    if self.map_is_partial:
                        self._announce()
                else:
                    self.serving.pop(replica.id, None)
                    replica.step_aside()
            leader = replica.raft.leader
            if leader != self.leader_seen.get(replica.id, 0):
                self.leader_seen[replica.id] = leader
                self.trace("leader", shard=replica.id, leader=leader, term=replica.raft.term)
                self.forwarder.leader_changed(replica.id, leader)
            if replica.snapshot_for:
                wanted, replica.snapshot_for = replica.snapshot_for, []
                for peer in wanted:
                    self.snapshots.start(replica, peer, self.clock.now_us())

    def _next_write(self) -> Write:
        updates, self.updates = self.updates, []
        self.write = write = self.log.prepare(updates)
        self.write_started_us = self.clock.now_us()
        self.write_marks, self.marks = self.marks, []
        self.write_after, self.after = self.after, []
        self.counters["log_writes"] += 1
        size = len(write.data)
        self.counters["log_bytes"] += size
        self.compaction.logged(size)
        return write

    # Telling

    def status(self) -> NodeStatus:
        """What this node knows of itself and the cluster."""
        return node_status(self)

    def check(self) -> None:
        """Assert every invariant; the simulator calls this after each step."""
        for replica in self.replicas.values():
            replica.raft.check()
