"""Bits that change in an engine's files (faults.md, D7 in data), while its node is stopped or runs."""

import random

from quoit.sim.fault_lost import LostFaults

__all__ = ["DataFaults"]


class DataFaults(LostFaults):
    """See fault_base.Faults."""

    def _do_flip_data(self, rng: random.Random) -> None:
        machine = self._one(rng)
        if machine.node is None or not self._may_damage(machine):
            return
        if rng.random() < 0.5:
            machine.stop(power=False, reason="flip_data")
            self._start_again(rng, machine)
        key = machine.engine.flip(rng)
        if key is not None:
            machine.unsound = True
            self.world.hit("flip_data")
            self.world.note(machine.id, "flip_data", key=key.hex())
