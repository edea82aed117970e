"""Hot records and fresh writes in front of the engine, in memory.

*The cache* is two generations of one dict each: new entries go into the young one; when it is full it
becomes the old one and the previous old one is forgotten. A hit in the old generation moves to the
young, so what is used stays. Never stale: the only writer of the engine is this object.

*The buffer* keeps what was written until `settle` moves it into the engine, in pieces. Why: a put into
RocksDB's memtable costs 1-2 us with the interpreter held, on every node, and a memtable is memory, too:
until it is flushed it survives no crash, so nothing is lost by waiting. A record that is written often
is put once. Measured, SET at depth 16 on one node: 11.3 -> 7.4 us each.

What a crash may leave: records that are newer than the node's own ("!": how far the data are), never
older ones, because those go last. Applying the log from there on again ends in the same state, since
effects say what a record is, not how it changes.
"""

from collections.abc import Iterator
from itertools import islice

from quoit.storage.api import Engine, Group

__all__ = ["BufferedEngine"]

_OVERHEAD_BYTES = 160
"""What a dict entry and two bytes objects cost besides their contents."""
_MISSING = b"\0not here"
_EMPTY = b""
"""In the cache: there is no such key. No user's record is empty."""
_DATA = 0x6D
_INDEX = 0x78
_RECORDS_MAX = 100_000

Items = dict[bytes, bytes | None]


class BufferedEngine:
    """storage.api.Engine over another. `cache_bytes` bounds the cache of users' records (prefix "m"),
    `buffer_bytes` what waits to be settled; both roughly.

    _data, _index, _rest  written and not settled: users' records, the expiry index ("x"), the node's own
    _frozen               the part that is being settled, None if none is; _moving walks over it
    """

    __slots__ = (
        "_buffer_bytes", "_buffered_bytes", "_data", "_engine", "_frozen", "_generation_bytes",
        "_index", "_moving", "_old", "_rest", "_young", "_young_bytes",
    )  # fmt: skip

    def __init__(self, engine: Engine, cache_bytes: int, buffer_bytes: int) -> None:
        self._engine = engine
        self._generation_bytes = cache_bytes // 2
        self._buffer_bytes = buffer_bytes
        self._young: Items = {}
        self._old: Items = {}
        self._young_bytes = 0
        self._data: Items = {}
        self._index: Items = {}
        self._rest: Items = {}
        self._buffered_bytes = 0
        self._frozen: Items | None = None
        self._moving: Iterator[tuple[bytes, bytes | None]] = iter(())

    # Reading

    def get(self, key: bytes) -> bytes | None:
        """The value of `key`, None if there is none."""
        value = self._young.get(key)
        if value is None:
            value = self._get_older(key)
        return value or (None if key[:1] == b"m" else value)

    def _get_older(self, key: bytes) -> bytes | None:
        value = self._old.get(key)
        if value is None:
            value = self._unsettled(key)
            if value is _MISSING:
                value = self._engine.get(key)
            if key[:1] != b"m":
                return value
            value = value or _EMPTY
        self._young[key] = value
        self._grown(len(key) + len(value) + _OVERHEAD_BYTES)
        return value

    def _unsettled(self, key: bytes) -> bytes | None:
        for items in (self._data, self._index, self._rest, self._frozen):
            if items:
                value = items.get(key, _MISSING)
                if value is not _MISSING:
                    return value
        return _MISSING

    def _grown(self, size: int) -> None:
        self._young_bytes += size
        if self._young_bytes > self._generation_bytes:
            self._old = self._young
            self._young = {}
            self._young_bytes = 0

    def scan(
        self, low: bytes, high: bytes, *, reverse: bool = False
    ) -> Iterator[tuple[bytes, bytes]]:
        """Pairs with low <= key < high in order, as they are now. What is buffered goes into the
        engine first; of the expiry index, which is looked at often, only the index."""
        if low[:1] == high[:1] == b"x":
            self._settle_index()
        else:
            self._settle_all()
        return self._engine.scan(low, high, reverse=reverse)

    # Writing

    def write(self, groups: list[Group]) -> None:
        """Apply the groups in order, all or nothing."""
        for ranges, items in groups:
            if ranges or (items and next(iter(items))[0] != next(reversed(items))[0]):
                self._write_through(groups)
                return
        for _, items in groups:
            if not items:
                continue
            first = next(iter(items))[0]
            if first == _DATA:
                self._data.update(items)
                self._cache(items)
            elif first == _INDEX:
                self._index.update(items)
            else:
                self._rest.update(items)

    def _cache(self, items: Items) -> None:
        size = len(items) * _OVERHEAD_BYTES + sum(map(len, items))
        if None in items.values():
            self._young.update({key: value or _EMPTY for key, value in items.items()})
            size += sum(len(value) for value in items.values() if value)
        else:
            self._young.update(items)
            size += sum(map(len, items.values()))  # type: ignore[arg-type]
        self._buffered_bytes += size
        self._grown(size)

    def _write_through(self, groups: list[Group]) -> None:
        """Deleting ranges, or a mixture: atomically in the engine, behind all that came before."""
        self._settle_all()
        self._engine.write(groups)
        self._young = {}
        self._old = {}
        self._young_bytes = 0

    # Settling

    @property
    def full(self) -> bool:
        """So much is buffered that it should be settled."""
        return len(self._data) > _RECORDS_MAX or self._buffered_bytes > self._buffer_bytes

    def settle(self, records: int) -> bool:
        """Move up to so many buffered records into the engine. True: what was buffered when the
        settling began is in the engine."""
        if self._frozen is None:
            self._freeze()
        piece = dict(islice(self._moving, records))
        if piece:
            self._engine.write([([], piece)])
        if len(piece) < records:
            self._frozen = None
            return True
        return False

    def _freeze(self) -> None:
        self._settle_index()
        frozen, self._data = self._data, {}
        # Last, so that the node's own records never promise data that are not there.
        frozen.update(self._rest)
        self._rest = {}
        self._buffered_bytes = 0
        self._frozen = frozen
        self._moving = iter(frozen.items())

    def _settle_index(self) -> None:
        if self._index:
            index, self._index = self._index, {}
            self._engine.write([([], index)])

    def _settle_all(self) -> None:
        """Everything, now. A settling under way has nothing left to do afterwards, but is not over."""
        under_way = self._frozen is not None
        if under_way:
            rest = dict(self._moving)
            if rest:
                self._engine.write([([], rest)])
        if self._data or self._index or self._rest:
            self._freeze()
            self._engine.write([([], dict(self._moving))])
        self._frozen = {} if under_way else None
        self._moving = iter(())

    # The engine's own

    def flush(self) -> None:
        """See Engine: what was settled before survives a crash."""
        self._engine.flush()

    def checkpoint(self, path: str) -> None:
        """See Engine."""
        self._settle_all()
        self._engine.checkpoint(path)

    def bytes_used(self) -> int:
        """See Engine."""
        return self._engine.bytes_used()

    def close(self) -> None:
        """See Engine."""
        self._engine.close()
