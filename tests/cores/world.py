"""Some Raft or Paxos cores on an in-memory bus, each with a disk that forgets what was not persisted.

It performs the shell's duties of quorum.agreement by hand, one at a time, restores cores exactly as a
node does (node/cores.py), and watches over everything that any core ever did: one value per instance,
one leader per ballot, nothing acknowledged is forgotten.
"""

from random import Random
from types import SimpleNamespace
from typing import Any

from quoit.base.ids import Index, NodeId, Term
from quoit.node.config import NodeConfig
from quoit.node.cores import build_core
from quoit.node.state import ShardState
from quoit.quorum.agreement import CONFIG, Entry, HardState, Ready, SnapshotMeta
from quoit.quorum.members import Members, decode_members
from quoit.storage.api import ShardRecovery, ShardUpdate

Message = tuple[NodeId, NodeId, Any]
SHARD = 0


class Disk:
    """What survives a crash: the log as storage/log.py keeps it, and the engine's last flush."""

    def __init__(self, members: Members) -> None:
        self.known = False
        self.hard_state = HardState()
        self.compacted: tuple[Index, Term] = (0, 0)
        self.log: list[Entry] = []
        self.chosen: Index = 0
        self.damaged: tuple[Index, Term] | None = None
        self.flushed = State(members)

    def write(self, update: ShardUpdate) -> None:
        self.known = True
        if update.hard_state is not None:
            self.hard_state = update.hard_state
        if update.reset is not None:
            self.compacted, self.log = (update.reset.index, update.reset.term), []
            self.chosen = 0
        if update.entries:
            del self.log[update.entries[0].index - self.compacted[0] - 1 :]
            assert update.entries[0].index == self.compacted[0] + len(self.log) + 1, "a hole"
            self.log.extend(update.entries)
        if update.chosen:
            self.chosen = update.chosen
        if update.damaged is not None:
            self.damaged = update.damaged
        if update.healed:
            self.damaged = None

    def recovery(self) -> ShardRecovery:
        found = ShardRecovery(
            SHARD, self.hard_state, self.compacted, list(self.log), chosen=self.chosen
        )
        if self.damaged is not None:
            found.damaged = True
            found.must_reach, found.must_term = self.damaged
        return found

    def entries(self, low: Index, high: Index, bytes_max: int) -> list[Entry]:
        first = self.compacted[0] + 1
        return self.log[low - first : high - first]


def followers(core: Any) -> dict[NodeId, Any]:
    """What a leader knows of the others."""
    found: dict[NodeId, Any] = core.progress if hasattr(core, "progress") else core.followers
    return found


class State:
    """What an engine holds."""

    def __init__(self, members: Members) -> None:
        self.applied: list[tuple[Term, int, bytes]] = []
        self.members = members

    def copy(self) -> "State":
        other = State(self.members)
        other.applied = list(self.applied)
        return other


class Member:
    """One replica: its core (None while crashed), its disk, its writes under way, its state."""

    def __init__(self, node_id: NodeId, members: Members) -> None:
        self.id = node_id
        self.core: Any = None
        self.disk = Disk(members)
        self.state = State(members)
        self.writes: list[tuple[Ready, ShardUpdate]] = []
        self.was_damaged = False

    @property
    def up(self) -> Any:
        assert self.core is not None, f"replica {self.id} is down"
        return self.core


class World:
    """Replicas 1..count; the first `voters` of them make up the shard."""

    def __init__(
        self,
        count: int,
        *,
        voters: int = 0,
        consensus: str = "paxos",
        quorum: str = "majority",
        seed: int = 0,
        **limits: Any,
    ) -> None:
        self.now_us = 1_000_000
        self.random = Random(seed)
        self.limits = limits
        self.quorum = quorum
        self.consensus = consensus
        self.bus: list[Message] = []
        self.events: dict[str, int] = {}
        first = Members(tuple(range(1, (voters or count) + 1)))
        self.members = {number: Member(number, first) for number in range(1, count + 1)}
        self.leaders: dict[Term, NodeId] = {}
        self.committed: dict[Index, tuple[Term, int, bytes]] = {}
        self.reads: dict[int, Index | None] = {}
        self.lease = True
        for number in first.voters:
            self.start(number)

    def trace(self, event: str, /, **facts: Any) -> None:
        self.events[event] = self.events.get(event, 0) + 1

    # Life

    def start(self, number: NodeId) -> None:
        member = self.members[number]
        disk = member.disk
        member.state = disk.flushed.copy()
        member.writes = []
        applied = member.state.applied
        config = NodeConfig(
            node_id=number, cluster_id="t", nodes=(), consensus=self.consensus, quorum=self.quorum,
            lease_enabled=self.lease,
        )  # fmt: skip
        owner = SimpleNamespace(
            config=config, log=SimpleNamespace(reader=lambda shard: disk),
            persistence=SimpleNamespace(updates=[]), rng=Random(self.random.random()),
            trace=self.trace, clock=SimpleNamespace(now_us=lambda: self.now_us),
        )  # fmt: skip
        state = ShardState(len(applied), applied[-1][0] if applied else 0)
        fresh = not disk.known and not applied
        core = build_core(owner, member.state.members, disk.recovery(), state, fresh=fresh)
        for update in owner.persistence.updates:
            disk.write(update)
        for name, value in self.limits.items():
            core.config = type(core.config)(
                **{
                    **{f: getattr(core.config, f) for f in core.config.__struct_fields__},
                    name: value,
                }
            )
        member.core = core
        member.was_damaged = core.damaged

    def crash(self, number: NodeId) -> None:
        self.members[number].core = None
        self.members[number].writes = []

    def forget(self, number: NodeId, count: int) -> None:
        """Crash, and the newest `count` synced entries are gone; the disk knows that it was more."""
        self.crash(number)
        disk = self.members[number].disk
        last = disk.compacted[0] + len(disk.log)
        reach, term = disk.damaged or (0, 0)
        disk.damaged = (max(reach, last), max(term, disk.hard_state.term))
        if count:
            del disk.log[-count:]
        disk.known = True

    # The shell's duties

    def drain(self, number: NodeId) -> None:
        member = self.members[number]
        for _ in range(100):
            core = member.core
            if core is None or not core.has_ready:
                break
            ready = core.ready()
            if ready is None:
                break
            self._take(member, core, ready)
        self.watch()

    def _take(self, member: Member, core: Any, ready: Ready) -> None:
        self.bus.extend((member.id, to, message) for to, message in ready.messages)
        update = ShardUpdate(
            SHARD, ready.hard_state, ready.entries, ready.snapshot, None, chosen=ready.chosen
        )
        if member.was_damaged and not core.damaged:
            member.was_damaged = False
            update.healed = True
        if ready.hard_state or ready.entries or ready.snapshot or update.healed:
            member.writes.append((ready, update))
        elif member.writes:
            member.writes[-1][0].messages_after_persist.extend(ready.messages_after_persist)
        else:
            self._send_after(member.id, ready)
        for entry in ready.committed:
            self._apply(member, entry)
        if ready.committed:
            core.applied_to(ready.committed[-1].index)
        for read_id, index in ready.reads:
            self.reads[read_id] = index
        for read_id in ready.reads_failed:
            self.reads[read_id] = None
        for peer in ready.snapshot_wanted:
            self._send_snapshot(member, peer)

    def _send_after(self, number: NodeId, ready: Ready) -> None:
        self.bus.extend((number, to, message) for to, message in ready.messages_after_persist)

    def _apply(self, member: Member, entry: Entry) -> None:
        assert entry.index == len(member.state.applied) + 1, "applied in order, once"
        what = (entry.term, entry.kind, entry.data)
        known = self.committed.setdefault(entry.index, what)
        assert known == what, f"instance {entry.index}: {known} and {what} (node {member.id})"
        member.state.applied.append(what)
        if entry.kind == CONFIG:
            member.state.members = decode_members(entry.data)

    def _send_snapshot(self, member: Member, peer: NodeId) -> None:
        applied = member.state.applied
        meta = SnapshotMeta(len(applied), applied[-1][0], member.state.members)
        self.bus.append((member.id, peer, ("snapshot", member.up.term, meta, list(applied))))

    def persist(self, number: NodeId, count: int = 1 << 30) -> None:
        """Make the oldest `count` writes of one replica durable."""
        member = self.members[number]
        if member.core is None:
            return
        writes, member.writes = member.writes[:count], member.writes[count:]
        for ready, update in writes:
            member.disk.write(update)
            if ready.hard_state is not None:
                member.core.promised(ready.hard_state)
            if ready.entries:
                member.core.persisted(ready.entries[-1].index, ready.entries[-1].term)
            self._send_after(number, ready)
        self.drain(number)

    def flush(self, number: NodeId) -> None:
        """The engine is durable as it is."""
        member = self.members[number]
        if member.core is not None:
            member.disk.flushed = member.state.copy()

    def compact(self, number: NodeId, keep: int = 0) -> None:
        member = self.members[number]
        core, disk = member.core, member.disk
        if core is None or member.writes:
            return
        upto = min(len(disk.flushed.applied) - keep, core.applied_index)
        if upto > disk.compacted[0] and upto <= disk.compacted[0] + len(disk.log):
            core.compact(upto)
            del disk.log[: upto - disk.compacted[0]]
            disk.compacted = (upto, core.log.compacted_term)

    def deliver(self, message: Message) -> None:
        sender, to, body = message
        member = self.members[to]
        core = member.core
        if core is None:
            return
        if type(body) is tuple and body[0] == "snapshot":
            _, term, meta, applied = body
            if not core.accepts_snapshot(term, meta.index):
                return
            member.state.applied = list(applied)
            member.state.members = meta.members
            member.disk.flushed = member.state.copy()
            core.install(sender, term, meta, self.now_us)
        else:
            core.step(sender, body, self.now_us)
        self.drain(to)

    def tick(self, number: NodeId) -> None:
        core = self.members[number].core
        if core is not None and self.now_us >= core.next_deadline_us():
            core.tick(self.now_us)
        self.drain(number)

    def run(self, us: int = 100_000) -> None:
        """Everything works for a while: all messages arrive, all writes end at once."""
        end = self.now_us + us
        while self.now_us < end:
            self.now_us += 10_000
            for number in self.members:
                self.tick(number)
            while self.bus or any(member.writes for member in self.members.values()):
                bus, self.bus = self.bus, []
                for message in bus:
                    self.deliver(message)
                for number in self.members:
                    self.persist(number)
            for member in self.members.values():
                if member.core is not None and member.core.is_leader:
                    for peer, follower in followers(member.core).items():
                        if follower.mode.value == "snapshot":
                            index = member.core.commit_index
                            member.core.snapshot_done(peer, index, False, self.now_us)

    # What must hold

    def alive(self) -> list[Any]:
        return [member.core for member in self.members.values() if member.core is not None]

    def leader(self) -> Any:
        """The newest leader that can serve."""
        leading = [core for core in self.alive() if core.is_leader and core.can_serve()]
        assert leading, "nobody leads"
        return max(leading, key=lambda core: core.term)

    def watch(self) -> None:
        newest = max(self.committed, default=0)
        for core in self.alive():
            core.check()
            if core.is_leader:
                other = self.leaders.setdefault(core.term, core.id)
                assert other == core.id, "one leader per ballot"
            if core.lease_valid(self.now_us):
                assert core.commit_index >= newest, "a lease without all that was chosen"
