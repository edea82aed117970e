"""What commands read and write: one shard's data as they are now, plus what this batch changed.

Two modes. A *batch* gathers writes in an overlay over the engine and ends in Effects; an expired
key that it meets is deleted, as an effect. Batches that were proposed and are not applied yet lie
between engine and overlay, so that the next one can be run before they are agreed on. A *read* has
no overlay and may not write; when it meets an expired key it says so in `saw_expired`, and the node
then runs the command in a batch, so that the deletion is agreed on before anybody acts on it.
"""

from collections.abc import Callable, Iterable, Iterator

from quoit.base import limits
from quoit.base.check import invariant
from quoit.base.ids import Slot
from quoit.data.deletions import ABSENT, Deletions, deletion_in
from quoit.data.effects import Effects
from quoit.data.errors import BATCH_FULL, KEY_TOO_LONG, WRONGTYPE, CommandError
from quoit.data.keys import HEAD_BYTES, database_ranges, physical_key, scan_start, slot_for
from quoit.data.record import (
    EXPIRES,
    STRING,
    Record,
    decode_record,
    encode_record,
    expiry_of,
    version_of,
)

__all__ = ["EngineGet", "EngineScan", "View"]

EngineGet = Callable[[bytes], bytes | None]
EngineScan = Callable[[bytes, bytes], Iterable[tuple[bytes, bytes]]]

_ABSENT = b""
"""No record is empty, so this can mark "not in the overlay" where None means "deleted"."""
_NO_KEY = b""

_Undo = tuple[bytes, bytes | None, int, int]
"""(physical key, overlay value before or _ABSENT, database, count change); _NO_KEY for a flush's
change of the count."""


class View:
    """One shard's data. Invariant: at most one batch or read at a time; the engine does not change
    while one runs.

    now_ms       the stamped time against which keys expire
    saw_expired  this read met an expired key
    counts       database -> number of keys as of the engine, if the node said so, else None
    deletions    when keys of this shard were deleted last, as of the engine
    value_bytes_max  longest string that a command may make

    _below     effects of the batches before this one that are not in the engine yet, oldest first
    _overlay   physical key -> record, None for deleted; everything this batch changed
    _ranges    engine ranges deleted by this batch, before its overlay
    _deleted   slot -> write counter after its last deletion in this batch
    _deltas    database -> change of its number of keys
    _undo      how to take back what the current command did, oldest first; of `_ranges` the last
               `_undo_ranges`
    _bytes     size of the records in the overlay; Invariant: <= _bytes_max
    _last      the physical key that was read from the engine last, and its record: a command that
               reads and then writes a key must not pay for two engine reads
    """

    __slots__ = (
        "_batch", "_below", "_bytes", "_bytes_max", "_deleted", "_deltas", "_draws", "_engine_get",
        "_engine_scan", "_expiring", "_last", "_last_raw", "_overlay", "_ranges", "_seq", "_undo",
        "_undo_ranges", "counts", "deletions", "now_ms", "saw_expired", "slot_high", "slot_low",
        "value_bytes_max",
    )  # fmt: skip

    def __init__(
        self,
        engine_get: EngineGet,
        engine_scan: EngineScan,
        slot_low: Slot,
        slot_high: Slot,
        deletions: Deletions | None = None,
        value_bytes_max: int = limits.BULK_BYTES_DEFAULT,
    ) -> None:
        self._engine_get = engine_get
        self._engine_scan = engine_scan
        self.slot_low = slot_low
        self.slot_high = slot_high
        self.deletions = deletions or Deletions(0)
        self.value_bytes_max = value_bytes_max
        self._bytes_max = limits.BATCH_BYTES_MAX + 2 * value_bytes_max
        self._draws = 0
        self._reset(0, 0, None, batch=False)

    def _reset(self, now_ms: int, seq: int, counts: dict[int, int] | None, *, batch: bool) -> None:
        self.now_ms = now_ms
        self.counts = counts
        self.saw_expired = False
        self._batch = batch
        self._seq = seq
        self._below: list[Effects] = []
        self._overlay: dict[bytes, bytes | None] = {}
        self._ranges: list[tuple[bytes, bytes]] = []
        self._deleted: dict[bytes, int] = {}
        self._deltas: dict[int, int] = {}
        self._undo: list[_Undo] = []
        self._undo_ranges = 0
        self._bytes = 0
        self._expiring = False
        self._last = _NO_KEY
        self._last_raw: bytes | None = None

    # The life of a batch, of a read, of a command

    def begin_batch(
        self, now_ms: int, seq: int, counts: dict[int, int], below: list[Effects] | None = None
    ) -> None:
        """Start a batch at stamped time `now_ms`; `seq` and `counts` are the shard's so far, with
        the batches `below`, which are not in the engine yet."""
        self._reset(now_ms, seq, counts, batch=True)
        if below:
            self._below = below

    def begin_read(self, now_ms: int, counts: dict[int, int] | None = None) -> None:
        """Start a read. Without `counts` DBSIZE has to count by walking over the keys."""
        self.now_ms = now_ms
        self.saw_expired = False
        if self._batch:
            self._reset(now_ms, 0, counts, batch=False)
        self.counts = counts

    def command_start(self) -> None:
        """A command begins: what was written so far stays."""
        if self._undo:
            self._undo = []
            self._undo_ranges = 0

    def command_undo(self) -> None:
        """Take back everything that was written since `command_start`."""
        overlay = self._overlay
        deltas = self._deltas
        for physical, before, db, change in reversed(self._undo):
            after = overlay.pop(physical, None)
            if after is not None:
                self._bytes -= len(after)
            if before != _ABSENT:
                overlay[physical] = before
                if before is not None:
                    self._bytes += len(before)
            deltas[db] = deltas.get(db, 0) - change
        if self._undo_ranges:
            del self._ranges[-self._undo_ranges :]
        self._undo = []
        self._undo_ranges = 0
        self._last = _NO_KEY

    def finish(self) -> Effects | None:
        """End the batch: its effects, or None if it changed nothing."""
        invariant(self._batch, "only a batch has effects")
        effects = None
        if self._overlay or self._ranges:
            deltas = {db: delta for db, delta in self._deltas.items() if delta}
            effects = Effects(
                self.now_ms, self._seq, deltas, self._ranges, self._overlay, self._expiring
            )
        self._reset(self.now_ms, self._seq, None, batch=False)
        return effects

    # Reading

    def _raw(self, physical: bytes) -> bytes | None:
        """The record under an engine key, expired or not."""
        if self._batch:
            raw = self._overlay.get(physical, _ABSENT)
            if raw != _ABSENT:
                return raw
            if self._last == physical:
                return self._last_raw
            if self._ranges and _covered(self._ranges, physical):
                raw = None
            elif self._below:
                raw = self._from_below(physical)
            else:
                raw = self._engine_get(physical)
            self._last = physical
            self._last_raw = raw
            return raw
        return self._engine_get(physical)

    def _from_below(self, physical: bytes) -> bytes | None:
        for effects in reversed(self._below):
            raw = effects.items.get(physical, _ABSENT)
            if raw != _ABSENT:
                return raw
            if effects.ranges and _covered(effects.ranges, physical):
                return None
        return self._engine_get(physical)

    def _alive(self, physical: bytes) -> bytes | None:
        raw = self._raw(physical)
        if raw is not None and raw[0] & EXPIRES and self.now_ms > expiry_of(raw):
            self._expired(physical)
            return None
        return raw

    def _expired(self, physical: bytes) -> None:
        if self._batch:
            self._remove(physical, physical[1])
        else:
            self.saw_expired = True

    def get(self, db: int, key: bytes) -> Record | None:
        """The record of a key; None if there is none or it has expired."""
        raw = self._alive(physical_key(db, key))
        return None if raw is None else decode_record(raw)

    def get_string(self, db: int, key: bytes) -> bytes | None:
        """The value of a string; None if there is no key. CommandError if it is not a string."""
        physical = physical_key(db, key)
        if self._batch:
            raw = self._raw(physical)
        else:
            raw = self._engine_get(physical)
        if raw is None:
            return None
        head = raw[0]
        if head == STRING:
            return raw[9:]
        if head & EXPIRES:
            if self.now_ms > expiry_of(raw):
                self._expired(physical)
                return None
            if head == STRING | EXPIRES:
                return raw[17:]
        raise CommandError(WRONGTYPE)

    def get_string_record(self, db: int, key: bytes) -> Record | None:
        """Like `get`. CommandError if it is not a string."""
        record = self.get(db, key)
        if record is not None and record.type != STRING:
            raise CommandError(WRONGTYPE)
        return record

    def exists(self, db: int, key: bytes) -> bool:
        """There is such a key."""
        return self._alive(physical_key(db, key)) is not None

    def version(self, db: int, key: bytes) -> int:
        """The version of a key's record, or of its absence: see deletions.py."""
        physical = physical_key(db, key)
        raw = self._alive(physical)
        if raw is not None:
            return version_of(raw)
        last = self._seq if self._ranges else self._deleted.get(physical[2:4], 0)
        for effects in self._below:
            last = max(last, deletion_in(effects, physical))
        return ABSENT | max(last, self.deletions.last(physical))

    def owns(self, db: int, key: bytes) -> bool:
        """This shard keeps the key."""
        return self.slot_low <= slot_for(db, key) <= self.slot_high

    def count(self, db: int) -> int:
        """Number of keys of `db` in this shard, with those that expired but are not deleted yet."""
        if self.counts is None:
            pairs = (
                pair
                for low, high in database_ranges(db, self.slot_low, self.slot_high)
                for pair in self._merged(low, high)
            )
            return sum(1 for _ in pairs)
        return self.counts.get(db, 0) + self._deltas.get(db, 0)

    # Writing

    def put(self, db: int, key: bytes, type_: int, payload: bytes, expire_ms: int = 0) -> None:
        """Write a key's record, whatever was there. `expire_ms` 0: never expires. CommandError if
        the key is too long, or the batch would grow beyond what an entry can hold."""
        physical = physical_key(db, key)
        overlay = self._overlay
        before = overlay.get(physical, _ABSENT)
        seq = self._seq + 1
        raw = encode_record(type_, seq, expire_ms, payload)
        size = self._bytes + len(raw)
        change = 0
        if before is None:
            change = 1
        elif before == _ABSENT:
            invariant(self._batch, "a read must not write")
            if self._raw(physical) is None:
                change = 1
                if len(key) > limits.KEY_BYTES_MAX:
                    raise CommandError(KEY_TOO_LONG)
        else:
            size -= len(before)
        if size > self._bytes_max:
            raise CommandError(BATCH_FULL)
        self._undo.append((physical, before, db, change))
        self._seq = seq
        self._bytes = size
        overlay[physical] = raw
        if change:
            self._deltas[db] = self._deltas.get(db, 0) + 1
        if expire_ms:
            self._expiring = True

    def delete(self, db: int, key: bytes) -> bool:
        """Delete a key; False if there was none."""
        physical = physical_key(db, key)
        if self._alive(physical) is None:
            return False
        self._remove(physical, db)
        return True

    def _remove(self, physical: bytes, db: int) -> None:
        """Delete a record that is there."""
        invariant(self._batch, "a read must not write")
        before = self._overlay.get(physical, _ABSENT)
        self._undo.append((physical, before, db, -1))
        if before is not None:
            self._bytes -= len(before)
        self._overlay[physical] = None
        self._deltas[db] = self._deltas.get(db, 0) - 1
        self._seq += 1
        self._deleted[physical[2:4]] = self._seq

    def flush_db(self, db: int) -> None:
        """Delete all of `db` that this shard keeps."""
        invariant(self._batch, "a read must not write")
        overlay = self._overlay
        dropped = [physical for physical in overlay if physical[1] == db]
        total = (self.counts or {}).get(db, 0)
        if not total and not dropped:
            return
        undo = self._undo
        for physical in dropped:
            before = overlay.pop(physical)
            undo.append((physical, before, db, 0))
            if before is not None:
                self._bytes -= len(before)
        for pair in database_ranges(db, self.slot_low, self.slot_high):
            if pair not in self._ranges:
                self._ranges.append(pair)
                self._undo_ranges += 1
        change = -total - self._deltas.get(db, 0)
        self._deltas[db] = -total
        undo.append((_NO_KEY, _ABSENT, db, change))
        self._last = _NO_KEY
        self._seq += 1

    # Walking

    def _merged(self, low: bytes, high: bytes) -> Iterator[tuple[bytes, bytes]]:
        """(engine key, record) in [low, high) in order: the overlay over what lies below."""
        pairs = iter(self._engine_scan(low, high))
        for effects in self._below:
            pairs = _laid_over(pairs, effects.items, effects.ranges, low, high)
        if self._overlay or self._ranges:
            pairs = _laid_over(pairs, self._overlay, self._ranges, low, high)
        return pairs

    def scan(self, db: int, position: int = 0) -> Iterator[tuple[bytes, bytes]]:
        """(engine key, record) of the keys of `db` in this shard, by SCAN position from `position`
        on. Expired keys are left out (and deleted, in a batch)."""
        ranges = database_ranges(db, self.slot_low, self.slot_high)
        if not ranges:
            return
        low, high = ranges[0]
        start = scan_start(db, position)
        now_ms = self.now_ms
        for physical, raw in self._merged(max(low, start), high):
            if raw[0] & EXPIRES and now_ms > expiry_of(raw):
                self._expired(physical)
            else:
                yield physical, raw

    def keys(self, db: int) -> Iterator[bytes]:
        """The keys of `db` in this shard."""
        for physical, _ in self.scan(db):
            yield physical[HEAD_BYTES:]

    def draw(self, below: int) -> int:
        """A number in [0, below) that looks random and follows from the view's history alone.

        SplitMix64 (Steele, Lea and Flood, 2014) over the stamped time and a counter: RANDOMKEY
        needs no better, and the pure floors have no other randomness.
        """
        self._draws += 1
        mask = (1 << 64) - 1
        mixed = (self.now_ms + self._draws * 0x9E3779B97F4A7C15) & mask
        mixed = ((mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9) & mask
        mixed = ((mixed ^ (mixed >> 27)) * 0x94D049BB133111EB) & mask
        return (mixed ^ (mixed >> 31)) % below


def _covered(ranges: list[tuple[bytes, bytes]], physical: bytes) -> bool:
    return any(low <= physical < high for low, high in ranges)


def _laid_over(
    base: Iterator[tuple[bytes, bytes]],
    overlay: dict[bytes, bytes | None],
    ranges: list[tuple[bytes, bytes]],
    low: bytes,
    high: bytes,
) -> Iterator[tuple[bytes, bytes]]:
    """The pairs of `base`, without `ranges`, then changed by `overlay`; in order."""
    changed = sorted(physical for physical in overlay if low <= physical < high)
    values = [overlay[physical] for physical in changed]
    at = 0
    for physical, raw in base:
        while at < len(changed) and changed[at] < physical:
            value = values[at]
            if value is not None:
                yield changed[at], value
            at += 1
        if at < len(changed) and changed[at] == physical:
            continue
        if not (ranges and _covered(ranges, physical)):
            yield physical, raw
    for physical, value in zip(changed[at:], values[at:], strict=True):
        if value is not None:
            yield physical, value
