"""What a node does about damaged files of its engine: set them aside, start over empty, be rebuilt by its
peers (docs/decisions/0012-a-damaged-engine-is-set-aside.md).

    found     damage was met: `damage.json` says so durably, then the process starts itself again
    set aside the next start renames `data` to `data.damaged` before anything is opened, and clears that
              note; the engine begins empty, so node/cores.py finds it behind the log's compaction
              point: such replicas neither vote, lead nor are counted until a leader rebuilt them
    released  all replicas are whole: `data.damaged` is deleted

A crash between any two of these steps leads to the same end. Until the last one nothing is deleted, so
that people can still look into what there was.

Damage met in the log makes the process start itself again, too: reading the log is what tells what is
left of it (storage/recovery.py). A disk that damages files again and again is not asked a fourth time
within an hour: somebody has to look at it.
"""

import shutil
from pathlib import Path

import msgspec
import structlog

from quoit.base.errors import Corruption, DiskFault, Diverged, EngineDamaged
from quoit.runtime.disk import RealDisk

__all__ = ["HEALS", "STAYS", "Quarantine"]

HEALS = "; it starts again, and its peers repair what is damaged"
STAYS = (
    "; nothing was changed or removed. It is not repaired by itself, because there are no peers, or "
    "because this was the fourth time within an hour: check disk and memory"
)
"""What to add to the reason, for people."""

_NAME = "damage.json"
_DATA = "data"
_ASIDE = "data.damaged"
_HOUR_MS = 3_600_000
_TIMES_MAX = 3

logger = structlog.get_logger("quoit")


class _Note(msgspec.Struct):
    """The file. `found_ms`: Unix times of the last damages; `reason`: of the damage that the peers are
    to repair, or ""; `waits`: `data` is still to be set aside because of it."""

    found_ms: list[int] = []
    reason: str = ""
    waits: bool = False


class Quarantine:
    """The damage in one node's data directory."""

    def __init__(self, path: str, *, alone: bool) -> None:
        """`alone`: there are no peers to be rebuilt from, so nothing is set aside."""
        self._path = Path(path)
        self._disk = RealDisk(path)
        self._alone = alone
        self._note = self._read()

    @property
    def rebuilding(self) -> str:
        """Why the engine is being rebuilt; "" when it is not."""
        return self._note.reason

    def found(self, error: BaseException, wall_ms: int) -> bool:
        """Something raised `error`. True: the process should start again, it then heals by itself.
        False: it is no damage, or none that a new start would heal."""
        if not isinstance(error, Corruption) or isinstance(error, Diverged) or self._alone:
            return False
        recent = [one for one in self._note.found_ms if 0 <= wall_ms - one < _HOUR_MS]
        if len(recent) >= _TIMES_MAX:
            logger.error("damage_again", times=len(recent) + 1, hint="check memory and disk")
            return False
        engine = isinstance(error, EngineDamaged)
        note = _Note([*recent, wall_ms], self._note.reason, self._note.waits)
        if engine:
            note.reason, note.waits = str(error), True
        try:
            self._write(note)
        except DiskFault as fault:
            logger.error("damage_not_noted", reason=str(fault))
            return False
        logger.error("engine_damaged" if engine else "log_damaged", reason=str(error))
        return True

    def set_aside(self) -> None:
        """At the start, before the engine is opened. DiskFault when it cannot be done."""
        note = self._note
        if not note.waits:
            return
        aside, data = self._path / _ASIDE, self._path / _DATA
        try:
            if data.exists() and aside.exists():
                # Damaged again while it was being rebuilt: what was there at first is worth keeping.
                shutil.rmtree(data)
            elif data.exists():
                data.rename(aside)
        except OSError as error:
            raise DiskFault(f"the damaged data could not be set aside: {error}") from error
        self._disk.sync_directory()
        self._write(_Note(note.found_ms, note.reason, False))
        logger.warning(
            "engine_set_aside", reason=note.reason, kept=str(aside),
            meaning="this node's data are rebuilt from its peers",
        )  # fmt: skip

    def release(self) -> None:
        """The data were rebuilt: what was set aside is not needed any more. Blocks."""
        shutil.rmtree(self._path / _ASIDE, ignore_errors=True)
        self._write(_Note(self._note.found_ms))
        logger.warning("engine_rebuilt")

    def _read(self) -> _Note:
        if _NAME not in self._disk.list():
            return _Note()
        try:
            return msgspec.json.decode((self._path / _NAME).read_bytes(), type=_Note)
        except (OSError, msgspec.MsgspecError) as error:
            # A note that cannot be read is no reason to throw data away: they are checked when read.
            logger.warning("damage_note_unreadable", reason=str(error))
            return _Note()

    def _write(self, note: _Note) -> None:
        file = self._disk.open(_NAME + ".new", create=True)
        file.truncate(0)
        file.pwrite(0, msgspec.json.encode(note) + b"\n")
        file.sync()
        file.close()
        self._disk.rename(_NAME + ".new", _NAME)
        self._disk.sync_directory()
        self._note = note
