"""The one thread that writes and syncs the log, so that the event loop never waits for the disk."""

import asyncio
import threading
import time
from collections.abc import Callable
from queue import SimpleQueue

import structlog

from quoit.base.errors import DiskFault
from quoit.storage.log import Log, Write

__all__ = ["LogThread"]

_SLOW_S = 0.25

logger = structlog.get_logger("quoit")


class LogThread:
    """Takes one write at a time. `done(write, error)` is called on the loop; after an error the
    thread takes no more work, because a failed sync is never retried."""

    def __init__(
        self,
        log: Log,
        loop: asyncio.AbstractEventLoop,
        done: Callable[[Write, DiskFault | None], None],
    ) -> None:
        self._log = log
        self._loop = loop
        self._done = done
        self._queue: SimpleQueue[Write | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="quoit-log", daemon=True)
        self._thread.start()

    def submit(self, write: Write) -> None:
        """Make `write` durable."""
        self._queue.put(write)

    def _run(self) -> None:
        commit = self._log.commit
        notify = self._loop.call_soon_threadsafe
        while (write := self._queue.get()) is not None:
            try:
                begun = time.monotonic()
                commit(write)
                seconds = time.monotonic() - begun
                if seconds > _SLOW_S:
                    logger.warning(
                        "slow_disk", sync_ms=round(seconds * 1000), bytes=len(write.data)
                    )
            except DiskFault as error:
                notify(self._done, write, error)
                return
            except Exception as error:
                notify(self._done, write, DiskFault(f"the log thread failed: {error!r}"))
                return
            notify(self._done, write, None)
            try:
                self._log.note(write)
            except DiskFault as error:
                notify(self._done, write, error)
                return

    def stop(self) -> None:
        """Finish the write under way, then end the thread."""
        self._queue.put(None)
        self._thread.join(timeout=5)
