"""The engine's in-memory twin: same behaviour, and, if asked to, a crash that forgets.

The keys are kept in one sorted list beside the dict. New and deleted keys are taken into it only when
a scan needs the order, so that reads and writes cost what a dict costs.
"""

from bisect import bisect_left, insort
from collections.abc import Iterator
from weakref import ReferenceType, ref

from quoit.base.check import invariant
from quoit.storage.api import Group

__all__ = ["MemoryEngine"]

_FEW = 32
"""Up to so many changed keys are put into their places one by one; more are merged in at once."""


class _Scan:
    """An iterator over keys [at, end) of the sorted list. It reads the store as it goes; before the
    store changes, `detach` takes along what is left, so it always shows the moment it was made."""

    __slots__ = ("__weakref__", "_at", "_data", "_end", "_keys", "_step", "_taken")

    def __init__(
        self, engine: "MemoryEngine", keys: list[bytes], low: int, high: int, *, reverse: bool
    ) -> None:
        self._data = engine.data
        self._keys = keys
        self._at, self._end, self._step = (high - 1, low - 1, -1) if reverse else (low, high, 1)
        self._taken: Iterator[tuple[bytes, bytes]] | None = None

    def __iter__(self) -> "_Scan":
        return self

    def __next__(self) -> tuple[bytes, bytes]:
        if self._taken is not None:
            return next(self._taken)
        if self._at == self._end:
            raise StopIteration
        key = self._keys[self._at]
        self._at += self._step
        return key, self._data[key]

    def detach(self) -> None:
        """Become independent of the store."""
        if self._taken is None:
            data = self._data
            places = range(self._at, self._end, self._step)
            keys = [self._keys[place] for place in places]
            self._taken = iter([(key, data[key]) for key in keys])
            self._keys = []


class MemoryEngine:
    """An implementation of storage.api.Engine.

    data     the pairs
    durable  with `crashable`: what survives a crash for certain; pending: the writes since then
    """

    def __init__(self, *, crashable: bool = False) -> None:
        self.data: dict[bytes, bytes] = {}
        self.get = self.data.get
        self._keys: list[bytes] = []
        self._added: dict[bytes, None] = {}
        self._removed: dict[bytes, None] = {}
        self._scans: list[ReferenceType[_Scan]] = []
        self._crashable = crashable
        self._durable: dict[bytes, bytes] = {}
        self._pending: list[list[Group]] = []

    def write(self, groups: list[Group]) -> None:
        """Apply the groups in order, all or nothing."""
        if self._scans:
            self._detach()
        if self._crashable:
            self._pending.append([(list(ranges), dict(items)) for ranges, items in groups])
        data, added, removed = self.data, self._added, self._removed
        for ranges, items in groups:
            for low, high in ranges:
                self._delete_range(low, high)
            for key, value in items.items():
                if value is not None:
                    if key not in data:
                        if key in removed:
                            del removed[key]
                        else:
                            added[key] = None
                    data[key] = value
                elif data.pop(key, None) is not None:
                    if key in added:
                        del added[key]
                    else:
                        removed[key] = None

    def _delete_range(self, low: bytes, high: bytes) -> None:
        self._sort()
        keys = self._keys
        start, end = bisect_left(keys, low), bisect_left(keys, high)
        for key in keys[start:end]:
            del self.data[key]
        del keys[start:end]

    def _sort(self) -> None:
        """Take the changed keys into the sorted list."""
        keys, added, removed = self._keys, self._added, self._removed
        if removed:
            if len(removed) <= _FEW:
                for key in removed:
                    del keys[bisect_left(keys, key)]
            else:
                keys[:] = [key for key in keys if key not in removed]
            removed.clear()
        if added:
            if len(added) <= _FEW:
                for key in added:
                    insort(keys, key)
            else:
                keys += sorted(added)
                keys.sort()
            added.clear()

    def scan(
        self, low: bytes, high: bytes, *, reverse: bool = False
    ) -> Iterator[tuple[bytes, bytes]]:
        """Pairs with low <= key < high in order, as they are now."""
        if self._added or self._removed:
            # A live scan knows places in the list.
            self._detach()
            self._sort()
        keys = self._keys
        start, end = bisect_left(keys, low), bisect_left(keys, high)
        scan = _Scan(self, keys, start, max(start, end), reverse=reverse)
        self._scans.append(ref(scan))
        return scan

    def _detach(self) -> None:
        for scan_ref in self._scans:
            scan = scan_ref()
            if scan is not None:
                scan.detach()
        self._scans.clear()

    @property
    def full(self) -> bool:
        """Nothing is buffered."""
        return False

    def settle(self, records: int) -> bool:
        """Nothing is buffered."""
        return True

    def begin_flush(self) -> int:
        """A flush begins: it will cover so many of the pending writes."""
        return len(self._pending)

    def end_flush(self, count: int) -> None:
        """The first `count` pending writes survive a crash."""
        if self._crashable:
            self._durable = self._survivors(count)
            del self._pending[:count]

    def flush(self) -> None:
        """Everything written before survives `crash`."""
        self.end_flush(self.begin_flush())

    def _survivors(self, count: int) -> dict[bytes, bytes]:
        twin = MemoryEngine()
        twin.data.update(self._durable)
        twin._added = dict.fromkeys(self._durable)
        for groups in self._pending[:count]:
            twin.write(groups)
        return twin.data

    def crash(self, kept: int = 0) -> "MemoryEngine":
        """The engine as the next process finds it: what was flushed and the first `kept` writes after
        that (the real engine also flushes by itself). Never a part of a write, never out of order."""
        invariant(self._crashable, "only a crashable engine knows what was flushed")
        twin = MemoryEngine(crashable=True)
        twin._durable = self._survivors(kept)
        twin.data.update(twin._durable)
        twin._keys = sorted(twin._durable)
        return twin

    def checkpoint(self, path: str) -> None:
        """Memory has no directory, and no copy survives the process."""

    def bytes_used(self) -> int:
        """Sum of all keys and values."""
        return sum(len(key) + len(value) for key, value in self.data.items())

    def close(self) -> None:
        """Nothing to release."""
