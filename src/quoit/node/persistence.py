"""What waits for the disk: the shards' updates of the log, and what may be said once they are durable.

One write at a time for all shards (group commit): while one is under way, updates gather for the next.
"""

from quoit.base.seams import Clock
from quoit.node.compaction import Compaction
from quoit.node.messages import CoreMessage
from quoit.node.outbox import Outbox
from quoit.node.replica import Replica
from quoit.quorum.agreement import HardState, Ready
from quoit.storage.api import ShardUpdate
from quoit.storage.log import Log, Write

__all__ = ["Persistence"]

Mark = tuple[Replica, int, int, HardState | None]
"""(replica, last index, its term, hard state) of one shard in a log write."""
Message = tuple[int, int, CoreMessage]
"""(shard, peer, message)."""

_ROOM_RETRY_US = 1_000_000
_SEGMENTS_KEPT = 4


class Persistence:
    """See the module's docstring.

    updates  for the next write; marks and after: what to tell the cores and the peers behind it
    write    the write that is not durable yet, or None; write_marks and write_after belong to it
    held     nothing more may be written before the engine has been flushed
    slowest_us  the longest that a write took since somebody looked (reports.py)
    postponed  shard -> what the log must say before anything replaces what it has of the shard
    """

    def __init__(
        self,
        log: Log,
        clock: Clock,
        outbox: Outbox,
        compaction: Compaction,
        counters: dict[str, int],
    ) -> None:
        self.log = log
        self.clock = clock
        self.outbox = outbox
        self.compaction = compaction
        self.counters = counters
        self.updates: list[ShardUpdate] = []
        self.marks: list[Mark] = []
        self.after: list[Message] = []
        self.write: Write | None = None
        self.write_marks: list[Mark] = []
        self.write_after: list[Message] = []
        self.started_us = 0
        self.slowest_us = 0
        self.held = False
        self.postponed: dict[int, ShardUpdate] = {}
        self.ask_for_room_us = 0

    def take(self, replica: Replica, ready: Ready) -> None:
        """What `ready` wants durable, and the messages that have to wait for it."""
        shard = replica.id
        if ready.hard_state is not None or ready.entries or ready.snapshot is not None:
            entries = ready.entries
            if shard in self.postponed and (entries or ready.snapshot is not None):
                self.updates.append(self.postponed.pop(shard))
            self.updates.append(
                ShardUpdate(
                    shard, ready.hard_state, entries, ready.snapshot, None, chosen=ready.chosen
                )
            )
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
                    self.outbox.outgoing(peer).core.append((shard, message))

    def next_write(self) -> Write | None:
        """The write to start now, if there is something to write and nothing under way."""
        if self.write is not None or self.held:
            return None
        now = self.clock.now_us()
        if not self.updates and not self._asks_for_room(now):
            return None
        updates, self.updates = self.updates, []
        self.write = write = self.log.prepare(updates)
        self.started_us = now
        self.write_marks, self.marks = self.marks, []
        self.write_after, self.after = self.after, []
        self.counters["log_writes"] += 1
        size = len(write.data)
        self.counters["log_bytes"] += size
        self.compaction.logged(size)
        return write

    def _asks_for_room(self, now_us: int) -> bool:
        """Without room no new work is taken, so nothing would ask for room again: an empty write does."""
        if self.log.has_room or now_us < self.ask_for_room_us:
            return False
        self.ask_for_room_us = now_us + _ROOM_RETRY_US
        return True

    def persisted(self, write: Write) -> None:
        """The write is durable."""
        self.log.publish(write)
        self.outbox.synced = write.sequence
        marks, after = self.write_marks, self.write_after
        self.write = None
        self.slowest_us = max(self.slowest_us, self.clock.now_us() - self.started_us)
        self.write_marks, self.write_after = [], []
        for replica, index, term, hard_state in marks:
            if hard_state is not None:
                replica.core.promised(hard_state)
            if index:
                replica.core.persisted(index, term)
        for shard, peer, message in after:
            self.outbox.outgoing(peer).core.append((shard, message))
        self.log.release()

    def hangs(self, now_us: int, limit_us: int) -> bool:
        """The write under way takes longer than `limit_us`."""
        return self.write is not None and now_us - self.started_us > limit_us

    def forget(self, shard: int) -> None:
        """The replica here is being dropped: nothing that waits for the log may be said any more, or
        its acknowledgements would count for the empty one that may come after it."""
        self.updates = [update for update in self.updates if update.shard != shard]
        self.postponed.pop(shard, None)
        self.marks = [mark for mark in self.marks if mark[0].id != shard]
        self.write_marks = [mark for mark in self.write_marks if mark[0].id != shard]
        self.after = [message for message in self.after if message[0] != shard]
        self.write_after = [message for message in self.write_after if message[0] != shard]
        self.compaction.forget(shard)

    # The engine's flush

    def hold_for_flush(self) -> None:
        """Write nothing more before the engine has been flushed."""
        self.held = True
        self.compaction.want_flush()

    def flushed(self, token: int, replicas: dict[int, Replica]) -> None:
        """The engine's flush is done: go on, and forget entries that it holds now."""
        self.counters["flushes"] += 1
        if self.compaction.flushed(token):
            self.held = False
        holding = self.log.holding(_SEGMENTS_KEPT)
        for replica in replicas.values():
            update = self.compaction.compact(replica, all_of_it=replica.id in holding)
            if update is not None:
                self.updates.append(update)
