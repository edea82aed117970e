"""The engine of a simulated node: the memory engine, plus what a crash leaves of it.

The real engine keeps no log of its own. After a crash it holds what the last finished flush covered,
and perhaps more: it flushes by itself whenever a table is full. Each write is atomic, and writes
become durable in order, so what survives is the durable part and any number of the writes after it.

Bits of what is durable can change. As in the real engine a checksum tells, when it is read and only then.
"""

import random
from collections.abc import Iterator

from quoit.base.errors import EngineDamaged
from quoit.storage.api import Group
from quoit.storage.memory import MemoryEngine

__all__ = ["SimEngine"]

_END = b"\xff" * 16
_BLOCK = 8
"""So many records share a block, at most."""


class SimEngine:
    """An implementation of storage.api.Engine.

    durable  pairs that survive a crash for certain
    pending  writes since then, oldest first
    damaged  durable keys whose bits changed -> the value that is there now
    """

    def __init__(
        self, durable: dict[bytes, bytes] | None = None, damaged: dict[bytes, bytes] | None = None
    ) -> None:
        self.durable = dict(durable or {})
        self.pending: list[list[Group]] = []
        self.damaged = dict(damaged or {})
        self._store = _filled(self.durable)
        self.get = self._checked_get if self.damaged else self._store.get

    def write(self, groups: list[Group]) -> None:
        """Apply the groups, all or nothing."""
        self._store.write(groups)
        self.pending.append([(list(ranges), dict(items)) for ranges, items in groups])

    def scan(
        self, low: bytes, high: bytes, *, reverse: bool = False
    ) -> Iterator[tuple[bytes, bytes]]:
        """Pairs in order, as they are now."""
        pairs = self._store.scan(low, high, reverse=reverse)
        return self._checked(pairs) if self.damaged else pairs

    def _checked_get(self, key: bytes) -> bytes | None:
        value = self._store.get(key)
        if value is not None and self.damaged.get(key) == value:
            raise EngineDamaged(f"a read failed: checksum mismatch at {key!r}")
        return value

    def _checked(self, pairs: Iterator[tuple[bytes, bytes]]) -> Iterator[tuple[bytes, bytes]]:
        for key, value in pairs:
            if self.damaged.get(key) == value:
                raise EngineDamaged(f"a scan failed: checksum mismatch at {key!r}")
            yield key, value

    def flip(self, rng: random.Random) -> bytes | None:
        """One bit changes in each record of a block of what is durable, unless newer ones hide it; the
        first key. None: nothing is durable."""
        keys = sorted(key for key, value in self.durable.items() if value)
        if not keys:
            return None
        first = rng.randrange(0, len(keys))
        for key in keys[first : first + rng.randrange(1, _BLOCK + 1)]:
            value = bytearray(self.durable[key])
            value[rng.randrange(0, len(value))] ^= 1 << rng.randrange(0, 8)
            if self._store.get(key) == self.durable[key]:
                self._store.write([([], {key: bytes(value)})])
            self.durable[key] = self.damaged[key] = bytes(value)
        self.get = self._checked_get
        return keys[first]

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
        for key in [key for key, value in self.damaged.items() if self.durable.get(key) != value]:
            del self.damaged[key]
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
        return self.copy()

    def copy(self) -> "SimEngine":
        """Another engine with what is durable here."""
        return SimEngine(self.durable, self.damaged)


def _filled(pairs: dict[bytes, bytes]) -> MemoryEngine:
    store = MemoryEngine()
    items: dict[bytes, bytes | None] = dict(pairs)
    store.write([([], items)])
    return store
