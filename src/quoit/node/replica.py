"""One replica of one shard: its agreement core, its view, and the commands that wait here.

A leader has a few batches in flight. While they are, further commands gather in `queue`, so batches
grow with load by themselves. A batch is run on top of those before it that are not applied yet: they
are of the same term, so it can be agreed on only if they are (Raft's log matching).

A read is run at once, and answered when it is proven that this node led then, and so knew all that was
acknowledged. Without a lease that takes a round to a quorum. It is not run after that: a later write of
its session may be applied by then.
"""

from collections.abc import Callable
from typing import Protocol

import msgspec

from quoit.base import limits
from quoit.base.check import invariant
from quoit.base.seams import Trace
from quoit.data.deletions import Deletions
from quoit.data.effects import Effects, decode_effects, encode_effects
from quoit.data.table import Spec
from quoit.data.view import View
from quoit.node.batch import Runner
from quoit.node.config import NodeConfig
from quoit.node.session import Item
from quoit.node.state import ShardState, decode_state, encode_state, state_key
from quoit.placement.shard_map import ShardRange
from quoit.quorum.agreement import CONFIG, DIGEST, EFFECTS, Agreement, Entry, Ready
from quoit.quorum.members import Members, decode_members
from quoit.storage.api import Engine, Group

__all__ = ["Host", "Inflight", "Replica"]


class Host(Protocol):
    """What a replica asks of its node."""

    config: NodeConfig
    counters: dict[str, int]
    outcome_wait_us: int
    digest: Callable[["Replica"], None]
    """The replica has applied an entry of kind DIGEST, and nothing after it."""

    def answer(self, shard: int, item: Item, reply: bytes) -> None:
        """The item's reply is final."""
        ...

    def unknown(self, shard: int, item: Item) -> None:
        """The item's outcome is unknown."""
        ...

    def redispatch(self, shard: int, item: Item) -> None:
        """Proven not applied: find the shard's leader."""
        ...


class Inflight(msgspec.Struct, gc=False):
    """A proposed batch. Completed only by the entry with this index AND this term."""

    index: int
    term: int
    effects: Effects
    items: list[Item]
    replies: list[bytes]
    deadline_us: int
    read_id: int
    """Reads with lower ids were run before it."""


class Replica:
    """One shard's copy on this node.

    id        the shard
    core      its agreement core
    state     what the engine holds of this shard; Invariant: state.applied_index <= commit index
    queue     commands that will form the next batch, oldest first
    reads     reads that follow no unanswered write of their session; run before the next batch
    inflight  batches that were proposed and are not applied yet, oldest first
    orphans   batches of an earlier leadership of this node whose outcome the log has yet to tell
    proving   read id -> (items, replies): run, and not yet proven to have been current
    proven    those of them that have just been
    ops       commands that were run here since the start
    config_changed  an entry that changes the members was applied; the node has not looked yet
    """

    __slots__ = (
        "config_changed", "core", "damaged", "deletions", "engine", "host", "id", "inflight",
        "next_read_id", "ops", "orphans", "proven", "proving", "queue", "range", "reads", "runner",
        "snapshot_for", "state", "state_key", "was_serving",
    )  # fmt: skip

    def __init__(
        self, host: Host, shard_range: ShardRange, core: Agreement, engine: Engine, trace: Trace
    ) -> None:
        self.host = host
        self.range = shard_range
        self.id = shard_range.id
        self.core = core
        self.engine = engine
        self.state_key = state_key(self.id)
        self.state = decode_state(engine.get(self.state_key))
        self.deletions = Deletions(self.state.seq)
        view = View(
            engine.get, engine.scan, shard_range.slot_low, shard_range.slot_high, self.deletions
        )
        self.runner = Runner(view, trace)
        self.queue: list[Item] = []
        self.reads: list[Item] = []
        self.inflight: list[Inflight] = []
        self.orphans: list[Inflight] = []
        self.proving: dict[int, tuple[list[Item], list[bytes]]] = {}
        self.proven: list[tuple[list[Item], list[bytes]]] = []
        self.next_read_id = 1
        self.was_serving = False
        self.snapshot_for: list[int] = []
        self.damaged = core.damaged
        self.config_changed = False
        self.ops = 0

    def started_with(self, members: Members) -> None:
        """A shard without a state record, or with one of an older format, has its first members."""
        state = self.state
        if state.members is None:
            state.members = members
        state.slot_low, state.slot_high = self.range.slot_low, self.range.slot_high

    def serving(self) -> bool:
        """May run commands: leads, and an entry of its own term is committed and applied, and no
        batch of an earlier leadership of this node is undecided."""
        core = self.core
        return core.is_leader and core.can_serve() and self.state.applied_index >= core.commit_index

    # Reads

    def read_now(
        self, spec: Spec, args: list[bytes], db: int, proto: int, wall_ms: int
    ) -> bytes | None:
        """Run a read whose proof exists. None: it has to join a batch."""
        self.ops += 1
        state = self.state
        now_ms = wall_ms if wall_ms > state.stamp_ms else state.stamp_ms
        return self.runner.read(spec, args, db, proto, now_ms, state.counts)

    def _run_reads(self, reads: list[Item], now_us: int, wall_ms: int) -> None:
        items: list[Item] = []
        replies: list[bytes] = []
        late: list[Item] = []
        for item in reads:
            reply = self.read_now(item[2], item[3], item[4], item[5], wall_ms)
            if reply is None:
                late.append(item)
            else:
                items.append(item)
                replies.append(reply)
        # In front: later writes of their sessions may wait there already.
        self.queue[:0] = late
        if items:
            self._answer_proven(items, replies, now_us)

    # One turn as leader

    def run(self, now_us: int, wall_ms: int) -> None:
        """Start what can start: prove waiting reads, propose the next batch."""
        if self.reads:
            reads, self.reads = self.reads, []
            self._run_reads(reads, now_us, wall_ms)
        if self.can_propose():
            self._propose(now_us, wall_ms)

    def can_propose(self) -> bool:
        """Commands wait and may form a batch: few enough are in flight, and leadership is not being
        handed over (a core that hands over takes no proposals, until it is done or gives up)."""
        queue = self.queue
        if not queue or not self.core.takes_proposals():
            return False
        inflight = len(self.inflight)
        if not inflight:
            return True
        config = self.host.config
        return (
            inflight < config.inflight_batches_max and len(queue) >= config.pipelined_commands_min
        )

    def _answer_proven(self, items: list[Item], replies: list[bytes], now_us: int) -> None:
        """These were run just now and changed nothing: answer when that was surely current."""
        if self.core.lease_valid(now_us):
            self._answer(items, replies)
            return
        read_id = self.next_read_id
        self.next_read_id += 1
        self.proving[read_id] = (items, replies)
        self.host.counters["reads_indexed"] += len(items)
        self.core.read(read_id, now_us)

    def _answer(self, items: list[Item], replies: list[bytes]) -> None:
        answer = self.host.answer
        for item, reply in zip(items, replies, strict=True):
            answer(self.id, item, reply)

    def _take_batch(self) -> list[Item]:
        queue = self.queue
        if len(queue) <= 64:
            self.queue = []
            return queue
        total = count = 0
        for item in queue:
            args = item[3]
            total += len(args[-1]) if type(args) is list else 4096
            count += 1
            if total > limits.BATCH_BYTES_MAX or count >= limits.BATCH_COMMANDS_MAX:
                break
        self.queue = queue[count:]
        return queue[:count]

    def _propose(self, now_us: int, wall_ms: int) -> None:
        items = self._take_batch()
        self.ops += len(items)
        state = self.state
        stamp, seq, counts = state.stamp_ms, state.seq, state.counts
        below = [batch.effects for batch in self.inflight]
        if below:
            stamp, seq, counts = below[-1].stamp_ms, below[-1].seq, dict(counts)
            for earlier in below:
                earlier.count_into(counts)
        stamp = max(wall_ms, stamp)
        effects, replies = self.runner.batch(items, stamp, seq, counts, below)
        counters = self.host.counters
        counters["batches"] += 1
        counters["batch_commands"] += len(items)
        if effects is None:
            if below:
                # What these saw is true if the last batch in flight is: they share its outcome.
                self.inflight[-1].items += items
                self.inflight[-1].replies += replies
            else:
                # A batch without effects is a read, and needs a read's proof before it is answered.
                self._answer_proven(items, replies, now_us)
            return
        index, term = self.core.propose(encode_effects(effects), now_us)
        deadline = now_us + self.host.outcome_wait_us
        batch = Inflight(index, term, effects, items, replies, deadline, self.next_read_id)
        self.inflight.append(batch)

    # Results of agreement

    def absorb(self, ready: Ready, groups: list[Group]) -> None:
        """Take in what was committed and proven. The engine's changes are added to `groups`; the
        node writes them all at once, then calls `complete`."""
        if ready.committed:
            self._apply(ready.committed, groups)
        for read_id, _ in ready.reads:
            # It was run when everything up to that index was applied.
            found = self.proving.pop(read_id, None)
            if found is not None:
                self.proven.append(found)
        for read_id in ready.reads_failed:
            self._unproven(read_id)

    def _apply(self, committed: list[Entry], groups: list[Group]) -> None:
        state = self.state
        own = {batch.index: batch for batch in self.inflight}
        for entry in committed:
            invariant(
                entry.index == state.applied_index + 1,
                "entries are applied in order, once",
                shard=self.id, index=entry.index, applied=state.applied_index,
            )  # fmt: skip
            state.applied_index = entry.index
            state.applied_term = entry.term
            if entry.kind == EFFECTS:
                batch = own.get(entry.index)
                if batch is not None and batch.term == entry.term:
                    effects = batch.effects
                else:
                    effects = decode_effects(entry.data)
                state.stamp_ms = max(state.stamp_ms, effects.stamp_ms)
                state.seq = effects.seq
                effects.count_into(state.counts)
                self.deletions.note(effects)
                groups.extend(effects.groups())
            elif entry.kind == DIGEST:
                groups.append(([], {self.state_key: encode_state(state)}))
                # The data as they are at this very index: what follows must not be in yet.
                self.engine.write(groups)
                groups.clear()
                self.host.digest(self)
            elif entry.kind == CONFIG:
                state.members = decode_members(entry.data)
                state.config_index = entry.index
                self.config_changed = True
        groups.append(([], {self.state_key: encode_state(state)}))
        self.core.applied_to(state.applied_index)

    def complete(self) -> None:
        """The engine holds everything applied so far: answer whom it answers."""
        applied = self.state.applied_index
        while self.inflight and self.inflight[0].index <= applied:
            self._decide(self.inflight.pop(0))
        if self.orphans:
            orphans, self.orphans = self.orphans, []
            term = self.state.applied_term
            for orphan in orphans:
                if orphan.index <= applied:
                    self._decide(orphan)
                elif orphan.term < term:
                    # Later terms come later in the log: nothing of its own can follow.
                    self._ask_again(orphan)
                else:
                    self.orphans.append(orphan)
        if self.proven:
            proven, self.proven = self.proven, []
            for items, replies in proven:
                self._answer(items, replies)

    def _unproven(self, read_id: int) -> None:
        """No longer the leader, and the read has no proof. If a later batch was proposed it shares that
        one's fate, for there may be a later write of its session in it, or behind it: that the batch
        is agreed on proves that nothing else was before it was proposed; if it is not, both are run
        again, in their order."""
        found = self.proving.pop(read_id, None)
        if found is None:
            return
        items, replies = found
        for batch in self.inflight:
            if batch.read_id > read_id:
                batch.items += items
                batch.replies += replies
                return
        for item in items:
            self.host.redispatch(self.id, item)

    def _decide(self, inflight: Inflight) -> None:
        """The log reached the batch's index: it was this batch, or provably never will be."""
        host = self.host
        entry_term = self.core.term_at(inflight.index)
        if entry_term == inflight.term:
            # It proves what was read before it, as well (see `_unproven`).
            for read_id in [one for one in self.proving if one < inflight.read_id]:
                self._answer(*self.proving.pop(read_id))
            self._answer(inflight.items, inflight.replies)
        elif entry_term is None:
            for item in inflight.items:
                host.unknown(self.id, item)
        else:
            self._ask_again(inflight)

    def _ask_again(self, batch: Inflight) -> None:
        for item in batch.items:
            self.host.redispatch(self.id, item)

    # Losing leadership

    def step_aside(self) -> None:
        """No longer serving: what was not proposed goes to the new leader; what was proposed waits
        for the log to tell, as an orphan."""
        queue, self.queue = self.queue, []
        reads, self.reads = self.reads, []
        for item in queue + reads:
            self.host.redispatch(self.id, item)
        for read_id in list(self.proving):
            self._unproven(read_id)
        self.orphans += self.inflight
        self.inflight = []

    def expire_waits(self, now_us: int) -> None:
        """Give up waiting for outcomes that did not come in time."""
        for batch in self.inflight + self.orphans:
            if now_us >= batch.deadline_us:
                # A batch in flight keeps its place: what comes after it was run on top of it.
                items, batch.items, batch.replies = batch.items, [], []
                for item in items:
                    self.host.unknown(self.id, item)
        self.orphans = [orphan for orphan in self.orphans if orphan.items]

    def pending(self) -> int:
        """Commands that wait here."""
        waiting = len(self.queue) + len(self.reads)
        waiting += sum(len(batch.items) for batch in self.inflight)
        return waiting + sum(len(items) for items, _ in self.proving.values())

    def reset_to(self, state: ShardState) -> None:
        """A snapshot replaced the data."""
        self.state = state
        self.config_changed = True
        self.deletions.reset(state.seq)
