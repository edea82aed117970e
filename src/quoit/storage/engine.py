"""RocksDB as the engine, through rocksdict in raw mode. Nothing else imports rocksdict.

Its own log is off: the node's log has the effects, and is replayed from the applied index that was
flushed (one column family, so what is flushed is a prefix of what was written, atomic batch by atomic
batch). Facts this adapter relies on, each held by a test: a cursor made by `iter()` sees the moment it
was made, also after later seeks; its `status()` must be asked at the end, because damage ends it without
an error; a damaged table raises on each read of the block, and compaction passes it on to the next
write or flush. Damage to the manifest may open an older state, even an empty one: the applied index
in it, lower than the log's compaction point, tells.
Writes hold the GIL and are kept small; `flush` releases it.
"""

from collections.abc import Callable, Iterator
from typing import Any

from rocksdict import (
    BlockBasedOptions,
    Cache,
    Options,
    Rdict,
    ReadOptions,
    WriteBatch,
    WriteOptions,
)
from rocksdict import Checkpoint as RocksCheckpoint

from quoit.base.errors import DiskFault, DiskFull, EngineDamaged, WorldFault
from quoit.storage.api import Group

__all__ = ["RocksEngine"]

_MEMTABLE_BYTES = 32 * 1024 * 1024
_CACHE_BYTES = 32 * 1024 * 1024


class RocksEngine:
    """storage.api.Engine over a RocksDB directory."""

    def __init__(self, path: str) -> None:
        options = Options(raw_mode=True)
        options.create_if_missing(True)
        options.set_write_buffer_size(_MEMTABLE_BYTES)
        options.set_max_write_buffer_number(3)
        options.set_max_background_jobs(2)
        options.set_keep_log_file_num(2)
        options.set_max_open_files(256)
        table = BlockBasedOptions()
        table.set_block_cache(Cache(_CACHE_BYTES))
        table.set_bloom_filter(10, False)
        options.set_block_based_table_factory(table)
        write_options: Any = WriteOptions()
        write_options.disable_wal = True
        self._write_options = write_options
        try:
            self._db: Any = Rdict(path, options)
        except Exception as error:
            raise _translated(error, f"the data in {path} cannot be opened") from error
        self._db.set_write_options(self._write_options)
        self._closed = False

    def get(self, key: bytes) -> bytes | None:
        """The value of `key`, None if there is none."""
        try:
            value: bytes | None = self._db.get(key)
        except Exception as error:
            raise _translated(error, "a read failed") from error
        return value

    def write(self, groups: list[Group]) -> None:
        """Apply the groups in order, all or nothing."""
        batch: Any = WriteBatch(raw_mode=True)
        put, delete = batch.put, batch.delete
        for ranges, items in groups:
            for low, high in ranges:
                batch.delete_range(low, high)
            for key, value in items.items():
                if value is None:
                    delete(key)
                else:
                    put(key, value)
        try:
            self._db.write(batch, self._write_options)
        except Exception as error:
            raise _translated(error, "a write failed") from error

    def scan(
        self, low: bytes, high: bytes, *, reverse: bool = False
    ) -> Iterator[tuple[bytes, bytes]]:
        """Pairs with low <= key < high in order, as they are now."""
        options: Any = ReadOptions()
        options.set_iterate_lower_bound(low)
        options.set_iterate_upper_bound(high)
        try:
            # Why not items(): it ends at a damaged block as if that were the end of the data.
            cursor = self._db.iter(options)
            if reverse:
                cursor.seek_for_prev(high)
            else:
                cursor.seek(low)
        except Exception as error:
            raise _translated(error, "a scan failed") from error
        return _pairs(cursor, cursor.prev if reverse else cursor.next, low, high)

    @property
    def full(self) -> bool:
        """Nothing is buffered."""
        return False

    def settle(self, records: int) -> bool:
        """Nothing is buffered."""
        return True

    def flush(self) -> None:
        """Everything written before survives a crash."""
        try:
            self._db.flush(True)
        except Exception as error:
            raise _translated(error, "a flush failed") from error

    def checkpoint(self, path: str) -> None:
        """A consistent copy in a new directory."""
        try:
            RocksCheckpoint(self._db).create_checkpoint(path)
        except Exception as error:
            raise _translated(error, "a checkpoint failed") from error

    def bytes_used(self) -> int:
        """Size of tables and memtables."""
        total = 0
        for name in ("rocksdb.total-sst-files-size", "rocksdb.cur-size-all-mem-tables"):
            total += self._db.property_int_value(name) or 0
        return total

    def close(self) -> None:
        """Release the directory. Idempotent."""
        if not self._closed:
            self._closed = True
            self._db.close()


def _pairs(
    cursor: Any, step: Callable[[], None], low: bytes, high: bytes
) -> Iterator[tuple[bytes, bytes]]:
    key, value = cursor.key, cursor.value
    try:
        # Why compare: the lower bound of the options does not hold for steps backwards.
        while (found := key()) is not None and low <= found < high:
            yield found, value()
            step()
        # An error ends the cursor just as the last key does; only the status tells them apart.
        cursor.status()
    except Exception as error:
        raise _translated(error, "a scan failed") from error


def _translated(error: Exception, what: str) -> WorldFault:
    text = str(error)
    # A file that is gone is the same to us as one with wrong bytes in it.
    if "Corruption" in text or "No such file" in text:
        return EngineDamaged(f"{what}: {' '.join(text.split())}")
    if "No space left" in text:
        return DiskFull(f"{what}: the disk is full; make room, then start the node again")
    return DiskFault(f"{what}: {text}")
