"""The engine of a simulated node: the memory engine, plus what a crash leaves of it.

The real engine keeps no log of its own. After a crash it holds what the last finished flush covered,
and perhaps more: it flushes by itself whenever a table is full. Each write is atomic, and writes
become durable in order, so what survives is the durable part and any number of the writes after it.
"""

import random
from collections.abc import Iterator

from quoit.storage.api import Group
from quoit.storage.memory import MemoryEngine

__all__ = ["SimEngine"]

_END = b"\xff" * 16


class SimEngine:
    """An implementation of storage.api.Engine.

    durable  pairs that survive a crash for certain
    pending  writes since then, oldest first
    """

    def __init__(self, durable: dict[bytes, bytes] | None = None) -> None:
        self.durable = dict(durable or {})
        self.pending: list[list[Group]] = []
        self._store = _filled(self.durable)
        self.get = self._store.get

    def write(self, groups: list[Group]) -> None:
        """Apply the groups, all or nothing."""
        self._store.write(groups)
        self.pending.append([(list(ranges), dict(items)) for ranges, items in groups])

    def scan(
        self, low: bytes, high: bytes, *, reverse: bool = False
    ) -> Iterator[tuple[bytes, bytes]]:
        """Pairs in order, as they are now."""
        return self._store.scan(low, high, reverse=reverse)

    @property
    def full(self) -> bool:
        """Nothing is buffered."""
        return False

    def settle(self, records: int) -> bool:
        """Nothing is buffered."""
        return True

    def begin_flush(self) -> int:
        """A flush begins: it will cover the writes up to now."""
        return len(self.pending)

    def end_flush(self, count: int) -> None:
        """The flush of the first `count` pending writes is done."""
        store = _filled(self.durable)
        for groups in self.pending[:count]:
            store.write(groups)
        self.durable = dict(store.scan(b"", _END))
        del self.pending[:count]

    def flush(self) -> None:
        """Begin and end at once."""
        self.end_flush(self.begin_flush())

    def checkpoint(self, path: str) -> None:
        """Not used by a node."""
        raise NotImplementedError

    def bytes_used(self) -> int:
        """Bytes of keys and values."""
        return self._store.bytes_used()

    def close(self) -> None:
        """Nothing to release."""

    def after_crash(self, rng: random.Random) -> "SimEngine":
        """The engine as the next process finds it."""
        if self.pending and rng.random() < 0.5:
            self.end_flush(rng.randrange(0, len(self.pending) + 1))
        return SimEngine(self.durable)


def _filled(pairs: dict[bytes, bytes]) -> MemoryEngine:
    store = MemoryEngine()
    items: dict[bytes, bytes | None] = dict(pairs)
    store.write([([], items)])
    return store
