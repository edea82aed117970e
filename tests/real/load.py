"""A load of real redis-py clients that records what it did, for the linearizability checker.

Every client is a thread with its own connection to one node; it moves on to another node when that
one does not answer. Values are unique (client, counter). An operation whose outcome is not certain
is recorded as unknown, and its client goes on under a new name (faults.md section 4, rule 1).
"""

import itertools
import random
import threading
import time
from dataclasses import dataclass, field

import redis

from quoit.sim.history import FAIL, OK, UNKNOWN, History
from quoit.sim.history import Operation as Recorded

# Errors that prove that nothing was applied.
REFUSED = ("CLUSTERDOWN", "BUSY", "LOADING", "TRYAGAIN")


@dataclass
class Operation:
    """One operation: what was asked, when, and what is known of it. Times in ns, one clock."""

    client: str
    name: str
    key: str
    argument: str | None
    invoked: int
    completed: int = 0
    outcome: str = "unknown"
    result: object = None


@dataclass
class Load:
    """Runs `clients` threads against `ports` until `stop`."""

    ports: list[int]
    clients: int = 8
    keys_per_round: int = 20
    pause: float = 0.002
    seed: int = 1
    operations: list[Operation] = field(default_factory=list)
    _stopped: threading.Event = field(default_factory=threading.Event)
    _round: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def start(self) -> None:
        self._threads = [
            threading.Thread(target=self._run, args=(number,), daemon=True)
            for number in range(self.clients)
        ]
        for thread in self._threads:
            thread.start()

    def rotate_keys(self) -> None:
        """Go on with fresh keys, so that the history of each stays small."""
        self._round += 1

    def stop(self) -> None:
        self._stopped.set()
        for thread in self._threads:
            thread.join(timeout=30)
            assert not thread.is_alive(), "a client hangs"

    def acknowledged(self) -> int:
        return sum(1 for operation in self.operations if operation.outcome == "ok")

    def _run(self, number: int) -> None:
        rng = random.Random(self.seed * 1000 + number)
        names = itertools.count()
        counter = itertools.count()
        client = f"c{number}.{next(names)}"
        connection: redis.Redis | None = None
        port = self.ports[number % len(self.ports)]
        while not self._stopped.is_set():
            if connection is None:
                connection = redis.Redis(
                    port=port, socket_timeout=8, socket_connect_timeout=1, retry=None
                )
                try:
                    connection.ping()
                except redis.RedisError:
                    connection = None
                    port = rng.choice(self.ports)
                    time.sleep(0.05)
                    continue
            operation = self._one(rng, client, f"{number}-{next(counter)}")
            self._do(connection, operation)
            with self._lock:
                self.operations.append(operation)
            if operation.outcome != "ok":
                if operation.outcome == "unknown":
                    client = f"c{number}.{next(names)}"
                connection.close()
                connection = None
                port = rng.choice(self.ports)
            time.sleep(self.pause)

    def _one(self, rng: random.Random, client: str, value: str) -> Operation:
        kind = rng.random()
        which = rng.randrange(self.keys_per_round)
        if kind < 0.1:
            key = f"count:{self._round}:{which % 4}"
            return Operation(client, "INCR", key, None, time.monotonic_ns())
        key = f"key:{self._round}:{which}"
        if kind < 0.5:
            return Operation(client, "GET", key, None, time.monotonic_ns())
        return Operation(client, "SET", key, value, time.monotonic_ns())

    def _do(self, connection: redis.Redis, operation: Operation) -> None:
        try:
            if operation.name == "SET":
                connection.set(operation.key, operation.argument)
            elif operation.name == "GET":
                value = connection.get(operation.key)
                operation.result = None if value is None else value.decode()
            else:
                operation.result = connection.incr(operation.key)
            operation.outcome = "ok"
        except redis.ResponseError as error:
            refused = str(error).startswith(REFUSED) or isinstance(
                error, (redis.exceptions.ClusterDownError, redis.exceptions.TryAgainError)
            )
            operation.outcome = "fail" if refused else "unknown"
            operation.result = str(error)
        except redis.RedisError as error:
            operation.outcome = "unknown"
            operation.result = repr(error)
        operation.completed = time.monotonic_ns()


def to_history(load: Load) -> History:
    """What the checker reads: moments are the order of all events on this machine's one clock."""
    history = History()
    events: list[tuple[int, int, Operation]] = []
    for operation in load.operations:
        events.append((operation.invoked, 0, operation))
        events.append((operation.completed, 1, operation))
    opened: dict[int, Recorded] = {}
    # Why: of two events at one instant the invocation comes first, which is the weaker claim.
    for at, end, operation in sorted(events, key=lambda event: event[:2]):
        key = operation.key.encode()
        if not end:
            argument = (operation.argument or "").encode()
            opened[id(operation)] = history.invoke(
                operation.client, operation.name.lower(), key, argument, now_us=at // 1000
            )
            continue
        result = operation.result
        if operation.name == "SET":
            result = None
        elif isinstance(result, str):
            result = result.encode()
        outcome = {"ok": OK, "fail": FAIL, "unknown": UNKNOWN}[operation.outcome]
        history.complete(opened[id(operation)], outcome, result, now_us=at // 1000)
    return history
