"""One small write after another to each shard, to measure how long it answers nobody.

The recording clients cannot tell: each waits for its answer as long as a node does, and in a fault all
of them soon wait for something that is lost. A probe gives up early and asks another node. Probes
are not recorded (their keys are their own), so that what they gave up needs no place in the history.
"""

import asyncio
import itertools
import time

import hiredis

from quoit.base.slots import slot_of
from tests.chaos.wire import Broken, Connection

__all__ = ["Probe"]

PATIENCE_S = 0.5
EVERY_S = 0.06


class Probe:
    """Writes to the shard that has the slots from `low` to `high`.

    answered  moments (CLOCK_MONOTONIC, seconds) at which a write was acknowledged
    """

    def __init__(self, addresses: list[tuple[int, str, int]], low: int, high: int) -> None:
        self._places = itertools.cycle([(host, port) for _, host, port in addresses])
        names = (b"probe:%d" % number for number in itertools.count())
        self._key = next(name for name in names if low <= slot_of(name) <= high)
        self.began = time.monotonic()
        self.answered: list[float] = []
        self._stopping = False
        self._task = asyncio.create_task(self._run())

    def last(self) -> float:
        """When the shard last acknowledged; 0.0: never."""
        return self.answered[-1] if self.answered else 0.0

    def longest_pause(self) -> float:
        """The longest time without an acknowledgement, from the start to the last one, in seconds."""
        return max(
            (b - a for a, b in itertools.pairwise([self.began, *self.answered])), default=0.0
        )

    async def stop(self) -> None:
        """No more probes."""
        # Why both: in Python 3.11 `wait_for` may swallow a cancellation (fixed in 3.12).
        self._stopping = True
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        connection: Connection | None = None
        numbers = itertools.count()
        while not self._stopping:
            number = next(numbers)
            try:
                if connection is None:
                    connection = await Connection.open(*next(self._places), PATIENCE_S)
                command = (b"SET", self._key, b"%d" % number)
                (reply,) = await connection.call(command, timeout_s=PATIENCE_S)
                if isinstance(reply, hiredis.ReplyError):
                    raise Broken(str(reply))
                self.answered.append(time.monotonic())
            except Broken:
                if connection is not None:
                    connection.close()
                connection = None
            await asyncio.sleep(EVERY_S)
