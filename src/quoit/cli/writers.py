"""The demo's stream of writes: threads that remember what was acknowledged, and when."""

import itertools
import threading
import time

import redis

from quoit.base.slots import slot_of
from quoit.cli.clients import connect

__all__ = ["Writers", "longest_pause", "missing"]

WRITERS = 4
READS_PER_BATCH = 500
REST_S = 0.02
"""After an error, so that a cluster without a leader is not hammered."""


class Writers:
    """Threads that write unique values.

    acknowledged  key -> value, only what the cluster said OK to
    moments       (when, slot) of each acknowledgement
    unanswered    writes that were not acknowledged: refused, or of unknown outcome
    """

    def __init__(self, ports: list[int]) -> None:
        self.ports = ports
        self.acknowledged: dict[bytes, bytes] = {}
        self.moments: list[tuple[float, int]] = []
        self.unanswered = 0
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._run, args=(number,), daemon=True)
            for number in range(WRITERS)
        ]

    def start(self) -> None:
        """Begin writing."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Finish the writes under way."""
        self._stop.set()
        for thread in self._threads:
            thread.join(timeout=20)

    def _run(self, number: int) -> None:
        clients = [connect(port) for port in self.ports]
        which = number % len(clients)
        for count in itertools.count():
            if self._stop.is_set():
                return
            key, value = b"demo:%d:%d" % (number, count), b"value %d of %d" % (count, number)
            try:
                clients[which].set(key, value)
            except redis.RedisError as error:
                self.unanswered += 1
                if not isinstance(error, redis.ResponseError):
                    which = (which + 1) % len(clients)
                time.sleep(REST_S)
            else:
                self.acknowledged[key] = value
                self.moments.append((time.monotonic(), slot_of(key)))


def longest_pause(
    moments: list[tuple[float, int]], slots: tuple[int, int], since: float, until: float
) -> float:
    """Longest time in [since, until] without an acknowledged write to a slot in `slots` (inclusive);
    the whole time if there was none."""
    low, high = slots
    inside = sorted(at for at, slot in moments if low <= slot <= high and since <= at <= until)
    return max(after - before for before, after in itertools.pairwise([since, *inside, until]))


def missing(expected: dict[bytes, bytes], ports: list[int]) -> int:
    """How many of the writes do not read back, asking the nodes at `ports` in turn.
    redis.RedisError when a node does not answer."""
    lost = 0
    keys = list(expected)
    for number, port in enumerate(ports):
        client = connect(port)
        mine = keys[number :: len(ports)]
        for start in range(0, len(mine), READS_PER_BATCH):
            part = mine[start : start + READS_PER_BATCH]
            with client.pipeline(transaction=False) as pipe:
                for key in part:
                    pipe.get(key)
                found = pipe.execute()
            lost += sum(1 for key, value in zip(part, found, strict=True) if value != expected[key])
    return lost
