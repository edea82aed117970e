"""A cache of hot records in front of the engine: what was written or read lately costs no engine read.

Two generations of one dict each: new entries go into the young one; when it is full it becomes the
old one and the previous old one is forgotten. A hit in the old generation moves to the young, so what
is used stays; each operation is one or two dict look-ups. Never stale: the only writer of the engine
is this object, and it changes the cache in the same call.
"""

from collections.abc import Iterator

from quoit.storage.api import Engine, Group

__all__ = ["CachedEngine"]

_OVERHEAD_BYTES = 160
"""What a dict entry and two bytes objects cost besides their contents."""
_ABSENT = b""
"""No value in the engine under a cached key is empty, so this marks a key that is not there."""


class CachedEngine:
    """storage.api.Engine with a cache of at most about `bytes_max` for keys of users."""

    __slots__ = ("_engine", "_generation_bytes", "_old", "_young", "_young_bytes", "hits", "misses")

    def __init__(self, engine: Engine, bytes_max: int) -> None:
        self._engine = engine
        self._generation_bytes = bytes_max // 2
        self._young: dict[bytes, bytes] = {}
        self._old: dict[bytes, bytes] = {}
        self._young_bytes = 0
        self.hits = 0
        self.misses = 0

    def get(self, key: bytes) -> bytes | None:
        """The value of `key`, None if there is none."""
        value = self._young.get(key)
        if value is None:
            value = self._old.get(key)
            if value is None:
                self.misses += 1
                found = self._engine.get(key)
                self._keep(key, _ABSENT if found is None else found)
                return found
            self._keep(key, value)
        self.hits += 1
        return value or None

    def _keep(self, key: bytes, value: bytes) -> None:
        self._young[key] = value
        self._young_bytes += len(key) + len(value) + _OVERHEAD_BYTES
        if self._young_bytes > self._generation_bytes:
            self._turn()

    def _turn(self) -> None:
        self._old = self._young
        self._young = {}
        self._young_bytes = 0

    def write(self, groups: list[Group]) -> None:
        """Apply the groups in order, all or nothing."""
        self._engine.write(groups)
        young = self._young
        added = 0
        for ranges, items in groups:
            if ranges:
                self._old = {}
                self._young = young = {}
                self._young_bytes = added = 0
            for key, value in items.items():
                # Only keys of users: the node's own records and the expiry index are not read hot.
                if key[0] == 0x6D:
                    young[key] = value or _ABSENT
                    added += len(key) + (len(value) if value else 0) + _OVERHEAD_BYTES
        self._young_bytes += added
        if self._young_bytes > self._generation_bytes:
            self._turn()

    def scan(
        self, low: bytes, high: bytes, *, reverse: bool = False
    ) -> Iterator[tuple[bytes, bytes]]:
        """Pairs with low <= key < high in order, as they are now. Passes the cache by."""
        return self._engine.scan(low, high, reverse=reverse)

    def flush(self) -> None:
        """See Engine."""
        self._engine.flush()

    def checkpoint(self, path: str) -> None:
        """See Engine."""
        self._engine.checkpoint(path)

    def bytes_used(self) -> int:
        """See Engine."""
        return self._engine.bytes_used()

    def close(self) -> None:
        """See Engine."""
        self._engine.close()
