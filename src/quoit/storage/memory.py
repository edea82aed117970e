"""The engine's in-memory twin: same behaviour, and a crash that forgets what was not flushed."""

from bisect import bisect_left, insort
from collections.abc import Iterator

from quoit.storage.api import Group

__all__ = ["MemoryEngine"]


class MemoryEngine:
    """A sorted list of keys and a dict. `crash` returns to the last `flush`; like the real engine
    the image may also be newer than that (a memtable was written out by itself), never torn."""

    def __init__(self) -> None:
        self._data: dict[bytes, bytes] = {}
        self._keys: list[bytes] = []
        self._durable: dict[bytes, bytes] = {}

    def get(self, key: bytes) -> bytes | None:
        """The value of `key`, None if there is none."""
        return self._data.get(key)

    def write(self, groups: list[Group]) -> None:
        """Apply the groups in order, all or nothing."""
        for ranges, items in groups:
            for low, high in ranges:
                self._delete_range(low, high)
            for key, value in items.items():
                if value is None:
                    if self._data.pop(key, None) is not None:
                        del self._keys[bisect_left(self._keys, key)]
                else:
                    if key not in self._data:
                        insort(self._keys, key)
                    self._data[key] = value

    def _delete_range(self, low: bytes, high: bytes) -> None:
        start, end = bisect_left(self._keys, low), bisect_left(self._keys, high)
        for key in self._keys[start:end]:
            del self._data[key]
        del self._keys[start:end]

    def scan(
        self, low: bytes, high: bytes, *, reverse: bool = False
    ) -> Iterator[tuple[bytes, bytes]]:
        """Pairs with low <= key < high in order, as they are now."""
        start, end = bisect_left(self._keys, low), bisect_left(self._keys, high)
        pairs = [(key, self._data[key]) for key in self._keys[start:end]]
        return iter(reversed(pairs) if reverse else pairs)

    def flush(self) -> None:
        """Everything written before survives `crash`."""
        self._durable = dict(self._data)

    def crash(self) -> None:
        """Forget what was not flushed."""
        self._data = dict(self._durable)
        self._keys = sorted(self._data)

    def checkpoint(self, path: str) -> None:
        """Nothing to copy: memory has no directory."""

    def bytes_used(self) -> int:
        """Sum of all keys and values."""
        return sum(len(key) + len(value) for key, value in self._data.items())

    def close(self) -> None:
        """Nothing to release."""
