"""Some Raft cores on an in-memory bus, each with a disk that forgets what was not persisted.

Shared by the golden scripts, the paper tests and the Hypothesis machine. It performs the shell's
duties of quorum.agreement by hand, one at a time, so that a test decides when each happens; and it
watches the safety properties of Raft figure 3 over everything that any core ever did.
"""

from collections.abc import Callable
from typing import Any

from quoit.base.ids import Index, NodeId, Term
from quoit.quorum.agreement import CONFIG, Entry, HardState, Ready, SnapshotMeta
from quoit.quorum.members import Members, decode_members
from quoit.raft.config import RaftConfig
from quoit.raft.core import LEADER
from quoit.raft.messages import InstallSnapshot
from quoit.raft.raft import Raft

Message = tuple[NodeId, NodeId, Any]


class SpreadRng:
    """Not random: replica i always waits T + 10 ms * i."""

    def __init__(self, node_id: NodeId) -> None:
        self.node_id = node_id

    def randrange(self, start: int, stop: int) -> int:
        return min(stop - 1, start + 10_000 * self.node_id)

    def random(self) -> float:
        return 0.0


class Disk:
    """What survives a crash. Also the core's EntryReader."""

    def __init__(self) -> None:
        self.hard_state = HardState()
        self.compacted: tuple[Index, Term] = (0, 0)
        self.log: list[Entry] = []

    def write(self, ready: Ready) -> None:
        if ready.hard_state is not None:
            self.hard_state = ready.hard_state
        if ready.snapshot is not None:
            self.compacted, self.log = (ready.snapshot.index, ready.snapshot.term), []
        if ready.entries:
            del self.log[ready.entries[0].index - self.compacted[0] - 1 :]
            assert ready.entries[0].index == self.compacted[0] + len(self.log) + 1, "a hole"
            self.log.extend(ready.entries)

    def compact(self, index: Index, term: Term) -> None:
        del self.log[: index - self.compacted[0]]
        self.compacted = (index, term)

    def entries(self, low: Index, high: Index, bytes_max: int) -> list[Entry]:
        first = self.compacted[0] + 1
        return self.log[low - first : high - first]


class Member:
    """One replica: its core (None while crashed), its disk, its writes under way, its state."""

    def __init__(self, node_id: NodeId) -> None:
        self.id = node_id
        self.core: Raft | None = None
        self.disk = Disk()
        self.writes: list[Ready] = []
        self.state: list[tuple[Index, Term, bytes]] = []

    @property
    def raft(self) -> Raft:
        assert self.core is not None, f"replica {self.id} is down"
        return self.core


class Cluster:
    """Replicas 1..n. `bus` holds what was sent and neither delivered nor lost."""

    def __init__(
        self,
        count: int,
        *,
        rng: Callable[[NodeId], Any] = SpreadRng,
        voters: int | None = None,
        trace: Callable[..., None] = lambda event, /, **facts: None,
        on_ready: Callable[[NodeId, Ready], None] = lambda node_id, ready: None,
        **settings: Any,
    ) -> None:
        self.now_us = 1_000_000
        self.rng = rng
        self.trace = trace
        self.on_ready = on_ready
        self.settings = settings
        self.bus: list[Message] = []
        self.members = {node_id: Member(node_id) for node_id in range(1, count + 1)}
        self.first_members = Members(tuple(range(1, (voters or count) + 1)))
        self.leaders: dict[Term, NodeId] = {}
        self.committed: dict[Index, Entry] = {}
        self.reads: dict[int, Index | None] = {}
        for member in self.members.values():
            self._start(member, fresh=True)

    def members_at(self, index: Index) -> Members:
        """Those of the state at `index`."""
        changes = [
            entry
            for entry in self.committed.values()
            if entry.kind == CONFIG and entry.index <= index
        ]
        if not changes:
            return self.first_members
        return decode_members(max(changes, key=lambda entry: entry.index).data)

    # Life

    def add_node(self) -> NodeId:
        """A node without a past, which nobody knows yet."""
        node_id = max(self.members) + 1
        self.members[node_id] = Member(node_id)
        self._start(self.members[node_id], fresh=True)
        return node_id

    def _start(self, member: Member, *, fresh: bool, **damage: Any) -> None:
        disk = member.disk
        member.core = Raft(
            RaftConfig(node_id=member.id, **self.settings),
            members=self.members_at(disk.compacted[0]),
            hard_state=disk.hard_state,
            entries=list(disk.log),
            first=disk.compacted,
            applied=disk.compacted[0],
            rng=self.rng(member.id),
            reader=disk,
            trace=self.trace,
            now_us=self.now_us,
            fresh=fresh,
            **damage,
        )
        member.state = [one for one in member.state if one[0] <= disk.compacted[0]]

    def crash(self, node_id: NodeId) -> None:
        """Lose everything but what was persisted."""
        member = self.members[node_id]
        member.core = None
        member.writes = []

    def restart(self, node_id: NodeId, **damage: Any) -> None:
        self._start(self.members[node_id], fresh=False, **damage)

    # The shell's duties

    def drain(self, node_id: NodeId) -> None:
        """Take one replica's effects; its write waits for `persist`."""
        member = self.members[node_id]
        while member.core is not None:
            ready = member.core.ready()
            if ready is None:
                break
            self.on_ready(node_id, ready)
            self.bus.extend((node_id, to, message) for to, message in ready.messages)
            if ready.hard_state or ready.entries or ready.snapshot:
                member.writes.append(ready)
            elif member.writes:
                member.writes[-1].messages_after_persist.extend(ready.messages_after_persist)
            else:
                self._send_after(node_id, ready)
            self._apply(member, ready.committed)
            for read_id, index in ready.reads:
                self.reads[read_id] = index
            for read_id in ready.reads_failed:
                self.reads[read_id] = None
            for peer in ready.snapshot_wanted:
                self._send_snapshot(member, peer)
        self.watch()

    def _send_after(self, node_id: NodeId, ready: Ready) -> None:
        self.bus.extend((node_id, to, message) for to, message in ready.messages_after_persist)

    def _send_snapshot(self, member: Member, peer: NodeId) -> None:
        index, term, _ = member.state[-1]
        meta = SnapshotMeta(index, term, self.members_at(index))
        self.bus.append((member.id, peer, InstallSnapshot(member.raft.term, meta)))

    def _apply(self, member: Member, committed: list[Entry]) -> None:
        for entry in committed:
            last = member.state[-1][0] if member.state else 0
            assert entry.index == last + 1, f"{member.id} applies {entry.index} after {last}"
            known = self.committed.setdefault(entry.index, entry)
            assert known == entry, f"State Machine Safety: {known} and {entry}"
            member.state.append((entry.index, entry.term, entry.data))
        if committed:
            member.raft.applied_to(committed[-1].index)

    def persist(self, node_id: NodeId, count: int = 1 << 30) -> None:
        """Make the oldest `count` writes of one replica durable."""
        member = self.members[node_id]
        for ready in member.writes[:count]:
            member.disk.write(ready)
            if ready.entries:
                member.raft.persisted(ready.entries[-1].index, ready.entries[-1].term)
            elif ready.snapshot is not None:
                member.raft.persisted(ready.snapshot.index, ready.snapshot.term)
            if ready.hard_state is not None:
                member.raft.promised(ready.hard_state)
            self._send_after(node_id, ready)
        del member.writes[:count]
        self.drain(node_id)

    def compact(self, node_id: NodeId, index: Index) -> None:
        """Forget log entries that the engine holds durably."""
        member = self.members[node_id]
        log = member.raft.log
        before = log.compacted_index
        # The disk is told at once, and so only of what it has.
        member.raft.compact(min(index, member.raft.stable_index))
        if log.compacted_index > before:
            member.disk.compact(log.compacted_index, log.compacted_term)

    def deliver(self, message: Message) -> None:
        """Hand a message that was taken from the bus to its receiver, if that is alive."""
        sender, to, body = message
        member = self.members[to]
        if member.core is None:
            return
        if isinstance(body, InstallSnapshot):
            if not member.raft.accepts_snapshot(body.term, body.meta.index):
                return
            self._install(member, body.meta)
        member.raft.step(sender, body, self.now_us)
        self.drain(to)

    def _install(self, member: Member, meta: SnapshotMeta) -> None:
        """The state up to meta.index, and durable, as the node would have done it before."""
        member.state = [
            (entry.index, entry.term, entry.data)
            for index, entry in sorted(self.committed.items())
            if index <= meta.index
        ]

    def tick(self, node_id: NodeId) -> None:
        member = self.members[node_id]
        if member.core is not None and self.now_us >= member.core.next_deadline_us():
            member.core.tick(self.now_us)
            self.drain(node_id)

    # Conveniences

    def campaign(self, node_id: NodeId) -> None:
        """Let one replica's patience end; the others' clocks are not looked at."""
        raft = self.members[node_id].raft
        self.now_us = max(self.now_us, raft.election_us)
        self.tick(node_id)

    def settle(self, rounds: int = 2000) -> None:
        """Persist and deliver until nothing is under way."""
        for _ in range(rounds):
            for member in self.members.values():
                if member.core is not None:
                    self.persist(member.id)
            messages, self.bus = self.bus, []
            if not messages:
                return
            for message in messages:
                self.deliver(message)
        raise AssertionError("the cluster does not come to rest")

    def elect(self, node_id: NodeId) -> Raft:
        """Make one replica the leader, through a real election."""
        self.campaign(node_id)
        self.settle()
        raft = self.members[node_id].raft
        assert raft.is_leader, f"{node_id} is {raft.role}"
        return raft

    def propose(self, node_id: NodeId, data: bytes) -> tuple[Index, Term]:
        placed = self.members[node_id].raft.propose(data, self.now_us)
        self.drain(node_id)
        return placed

    def change(self, node_id: NodeId, members: Members) -> Index:
        index = self.members[node_id].raft.change(members, self.now_us)
        self.drain(node_id)
        return index

    def run_us(self, duration_us: int, step_us: int = 5_000) -> None:
        """Let time pass with a perfect network and quick disks."""
        end = self.now_us + duration_us
        while self.now_us < end:
            self.now_us += step_us
            for node_id in self.members:
                self.tick(node_id)
            self.settle()

    # What must hold always

    def watch(self) -> None:
        """Raft figure 3: Election Safety, Log Matching, Leader Completeness; and each core's own
        invariants."""
        logs = []
        for member in self.members.values():
            if member.core is None:
                continue
            raft = member.core
            raft.check()
            if raft.role == LEADER:
                known = self.leaders.setdefault(raft.term, member.id)
                assert known == member.id, f"Election Safety: {known}, {member.id} in {raft.term}"
                if raft.term >= max(self.leaders):
                    self._watch_completeness(raft)
            logs.append(raft.log)
        for position, one in enumerate(logs):
            for other in logs[position + 1 :]:
                _watch_matching(one, other)

    def _watch_completeness(self, leader: Raft) -> None:
        last = max(self.committed, default=0)
        assert leader.last_index >= last, f"Leader Completeness: {leader.last_index} < {last}"
        for index in range(leader.first_index, last + 1):
            term = leader.term_at(index)
            assert term == self.committed[index].term, f"Leader Completeness at {index}"


def _watch_matching(one: Any, other: Any) -> None:
    """Equal terms at an index mean equal terms at every index before it."""
    low = max(one.compacted_index, other.compacted_index) + 1
    agreed = False
    for index in range(min(one.last_index, other.last_index), low - 1, -1):
        same = one.term(index) == other.term(index)
        assert same or not agreed, f"Log Matching at {index}"
        agreed = agreed or same
