"""What all faults share: a world to happen in, choices of their own, and an end.

Each fault draws from a stream of its own, named by the seed and the fault's number. So a run in which
some of the faults are left out (shrink.py) draws the same for those that stay.
"""

import random
from collections.abc import Callable
from typing import Protocol

import msgspec

from quoit.sim.checkers.election import ElectionChecker
from quoit.sim.machine import Machine
from quoit.sim.network import Network
from quoit.sim.options import Options, stream
from quoit.sim.workload import Workload

__all__ = ["Fault", "Faults", "World"]


class World(Protocol):
    """What faults work on."""

    @property
    def now_us(self) -> int:
        """True virtual time."""
        ...

    options: Options
    machines: dict[int, Machine]
    network: Network
    workload: Workload
    elections: ElectionChecker

    def after(self, delay_us: int, call: Callable[..., None], *args: object) -> None:
        """Call later."""
        ...

    def start(self, node: int) -> None:
        """A dead node's process starts again."""
        ...

    def note(self, node: int, event: str, /, **facts: object) -> None:
        """A fact for the trace."""
        ...

    def hit(self, kind: str) -> None:
        """A fault touched something."""
        ...


class Fault(msgspec.Struct, frozen=True):
    """One fault of a timeline: when it began, what it was, and which stream it draws from."""

    at_us: int
    kind: str
    number: int


class Faults:
    """Base of the fault families. Fault kinds are methods `_do_KIND(rng)`, each of which begins its
    fault and plans its end.

    ending   ends of the faults under way, in order of their beginning
    stopped  no fault begins or goes on any more
    """

    def __init__(self, world: World) -> None:
        self.world = world
        self.options = world.options
        self.stopped = False
        self.ending: dict[int, Callable[[], None]] = {}
        self.count = 0

    def fault_stream(self, number: int) -> random.Random:
        """What the fault with that number draws from."""
        return stream(self.options.seed, f"nemesis/{number}")

    def _spread(self, rng: random.Random, mean_us: int) -> int:
        return int(rng.expovariate(1.0) * mean_us)

    def _length(self, rng: random.Random) -> int:
        return 20_000 + self._spread(rng, self.options.fault_length_us)

    def _lasting(self, end: Callable[[], None], length_us: int) -> None:
        """The fault that has begun ends after a while."""
        self.count += 1
        number = self.count
        self.ending[number] = end
        self.world.after(length_us, self._end, number)

    def _end(self, number: int) -> None:
        end = self.ending.pop(number, None)
        if end is not None:
            end()

    def _nodes(self) -> list[int]:
        return list(self.world.machines)

    def _one(self, rng: random.Random) -> Machine:
        """A machine; more often than not one that leads something."""
        machines = list(self.world.machines.values())
        leaders = [one for one in machines if one.node is not None and one.node.serving]
        return rng.choice(leaders if leaders and rng.random() < 0.6 else machines)

    def _some(self, rng: random.Random) -> list[Machine]:
        """One machine, sometimes more."""
        if rng.random() < 0.7:
            return [self._one(rng)]
        machines = list(self.world.machines.values())
        return rng.sample(machines, rng.randrange(1, len(machines) + 1))

    def _newest_leader(self) -> int:
        """The node whose leadership, of any shard, has the greatest term; 0 if nobody leads."""
        found = [
            (replica.core.term, machine.id)
            for machine in self.world.machines.values()
            if machine.node is not None
            for replica in machine.node.replicas.values()
            if replica.core.is_leader
        ]
        return max(found, default=(0, 0))[1]
