"""The nemesis: makes faults happen at random, and makes them end.

Which kinds, how often and how long comes from the run's options; when and which comes from the
nemesis' own stream, the rest from each fault's. Every fault ends by itself; `stop` ends all of them at
once and for ever, which is how the liveness part of a run begins.
"""

from quoit.sim.fault_base import Fault, World
from quoit.sim.fault_data import DataFaults
from quoit.sim.fault_network import NetworkFaults
from quoit.sim.machine import TURN_US
from quoit.sim.options import FAULTS, stream

__all__ = ["Nemesis"]

_FIRST_US = 800_000


class Nemesis(NetworkFaults, DataFaults):
    """All kinds of faults, and when they happen.

    timeline  the faults so far
    """

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self.rng = stream(world.options.seed, "nemesis")
        self.timeline: list[Fault] = []

    def start(self) -> None:
        """Faults begin after the cluster had a moment to form."""
        self.world.after(_FIRST_US, self._next)
        self.world.after(self.options.safety_us // 2, self._make_sure)

    def stop(self) -> None:
        """No fault from now on; all that last are ended; all nodes run."""
        self.stopped = True
        for number in list(self.ending):
            self._end(number)
        self.world.network.heal()
        for machine in self.world.machines.values():
            machine.disk.clear_faults()
            machine.hang_until = 0
            machine.disk_us = self.options.disk_us
            machine.turn_us = TURN_US
            machine.crashes.armed = []
            machine.resume()
            machine.scrub()
            if machine.node is None:
                self.world.start(machine.id)
        workload = self.world.workload
        workload.drop_replies, workload.rush, workload.hot = 0.0, 1, -1

    def _next(self) -> None:
        if self.stopped:
            return
        kinds, weights = self.options.faults, self.options.weights
        if kinds:
            kind = self.rng.choices(kinds, weights or None)[0]
            self.inflict(kind, len(self.timeline) + 1)
        self.world.after(1 + self._spread(self.rng, self.options.fault_gap_us), self._next)

    def _make_sure(self) -> None:
        """A run in which nobody else ever led tests little: see to it that it happens."""
        options = self.options
        if options.faults and self.world.elections.changes <= options.shards:
            self.inflict("oust", len(self.timeline) + 1)

    def inflict(self, kind: str, number: int) -> None:
        """Begin a fault of that kind now; it draws from the stream with that number."""
        if self.stopped:
            return
        self.timeline.append(Fault(self.world.now_us, kind, number))
        self.world.note(0, "fault", kind=kind, what=FAULTS[kind].split(" ", 1)[0], number=number)
        getattr(self, f"_do_{kind}")(self.fault_stream(number))
