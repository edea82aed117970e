"""Keeping the log short: flush the engine now and then, and forget entries that it holds durably.

The engine's own log is off, so an entry may go only when a flush that began after its application
has finished (design.md section 5). A tail is kept for followers that are a little slow, a longer one
for one that is connected and catching up: without what comes behind its snapshot it would need another.
"""

from collections.abc import Callable

from quoit.node.config import NodeConfig
from quoit.node.replica import Replica
from quoit.storage.api import Engine, ShardUpdate

__all__ = ["Compaction"]


class Compaction:
    """When to flush, and how far each shard's log may be cut afterwards.

    logged_bytes  log written since the last flush began
    token         number of the flush under way, or of the last one
    settling      the flush with that number waits for the engine's buffer
    flushing      a flush is under way
    durable       shard -> applied index that the engine held when the last finished flush began
    slowest       how far the slowest connected follower of a replica is
    """

    __slots__ = (
        "config", "durable", "flushing", "logged_bytes", "settling", "slowest", "started", "token",
        "wanted", "wanted_token",
    )  # fmt: skip

    def __init__(self, config: NodeConfig, slowest: Callable[[Replica], int]) -> None:
        self.config = config
        self.slowest = slowest
        self.logged_bytes = 0
        self.token = 0
        self.settling = False
        self.flushing = False
        self.wanted = False
        self.wanted_token = 0
        self.started: dict[int, int] = {}
        self.durable: dict[int, int] = {}

    def logged(self, size_bytes: int) -> None:
        """So much more was written to the log."""
        self.logged_bytes += size_bytes

    def want_flush(self) -> None:
        """A flush that begins from now on is needed soon."""
        self.wanted = True
        self.wanted_token = self.token + 1

    def forget(self, shard: int) -> None:
        """The replica here was dropped: what a later one applies was not flushed."""
        self.started.pop(shard, None)
        self.durable.pop(shard, None)

    def next_flush(self, replicas: dict[int, Replica], engine: Engine) -> int:
        """The token of a flush to start now, or 0. Before it, what the engine buffers is settled,
        a piece at each call."""
        if self.flushing:
            return 0
        if not self.settling:
            due = self.wanted or self.logged_bytes >= self.config.flush_log_bytes
            if not due and not engine.full:
                return 0
            self.settling = True
            self.wanted = False
            self.logged_bytes = 0
            self.token += 1
            self.started = {
                shard: replica.state.applied_index for shard, replica in replicas.items()
            }
        if not engine.settle(self.config.settle_records):
            return 0
        self.settling = False
        self.flushing = True
        return self.token

    def flushed(self, token: int) -> bool:
        """The flush is done. True: it began after the last `want_flush`."""
        self.flushing = False
        self.durable = self.started
        return token >= self.wanted_token and not self.wanted

    def compact(self, replica: Replica, *, all_of_it: bool) -> ShardUpdate | None:
        """Forget what the engine holds durably, but for a tail; the log update that says so.
        `all_of_it`: without a tail, because an idle shard would keep the segments of busy ones."""
        core = replica.core
        durable = min(self.durable.get(replica.id, 0), replica.state.applied_index)
        held = core.last_index - core.first_index + 1
        if held <= 0:
            return None
        upto = durable
        if not all_of_it:
            average = max(1, core.log_bytes() // held)
            most = self.config.log_tail_bytes // average
            needed = max(self.slowest(replica), durable - most)
            upto = min(durable - min(self.config.log_tail_entries, most), needed)
        if upto < core.first_index:
            return None
        term = core.term_at(upto)
        if term is None:
            return None
        core.compact(upto)
        return ShardUpdate(replica.id, None, [], None, (upto, term))
