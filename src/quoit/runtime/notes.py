"""What a node writes down while it runs, beside its log and its data: how far the peers' logs were, and its
copy of the cluster's record. Off the loop, at most once a second, and again when there was no room."""

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Any

from quoit.base.errors import DiskFull
from quoit.base.seams import Disk
from quoit.node.node import Node
from quoit.runtime.record_file import write_record
from quoit.storage.peer_marks import write_peer_marks

__all__ = ["Notes"]

_EVERY_S = 1.0


class Notes:
    """fail  called with a message when the disk does not take them"""

    def __init__(
        self, node: Node, directory: Disk, executor: Executor, fail: Callable[[str], None]
    ) -> None:
        self.node = node
        self.directory = directory
        self.executor = executor
        self.fail = fail
        self._due_s = 0.0

    def tick(self, now_s: float) -> None:
        """Time passed."""
        if now_s < self._due_s:
            return
        if self.node.standings.changed:
            self._due_s = now_s + _EVERY_S
            self.peers()
        if self.node.cluster.changed:
            self._due_s = now_s + _EVERY_S
            self.record()

    def peers(self) -> None:
        """How far the peers' logs are, at once."""

        def again() -> None:
            self.node.standings.changed = True

        self._write(again, write_peer_marks, self.node.standings.taken())

    def record(self) -> None:
        """The copy of the cluster's record, at once."""

        def again() -> None:
            self.node.cluster.changed = True

        self.node.cluster.changed = False
        self._write(again, write_record, self.node.cluster.state)

    def _write(self, again: Callable[[], None], write: Callable[..., None], what: Any) -> None:
        def done(result: asyncio.Future[None]) -> None:
            error = result.exception()
            if isinstance(error, DiskFull):
                again()
            elif error is not None:
                self.fail(f"what other nodes said could not be written down: {error}")

        loop = asyncio.get_running_loop()
        loop.run_in_executor(self.executor, write, self.directory, what).add_done_callback(done)

    def close(self) -> None:
        """Write what was not written."""
        if self.node.standings.changed:
            write_peer_marks(self.directory, self.node.standings.taken())
        if self.node.cluster.changed:
            write_record(self.directory, self.node.cluster.state)
