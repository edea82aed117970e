"""Faults of disks (faults.md, D3, D5 to D8).

Damage to what was synced is spread by an atlas: at any moment so many replicas are intact that what was
acknowledged can be found again. Without that a run would demand the impossible.
"""

import random

from quoit.sim.fault_machine import MachineFaults
from quoit.sim.machine import Machine

__all__ = ["DiskFaults"]


class DiskFaults(MachineFaults):
    """See fault_base.Faults."""

    def _do_sync_error(self, rng: random.Random) -> None:
        machine = self._one(rng)
        machine.disk.sync_error(times=1)
        self._lasting(machine.disk.clear_faults, self._length(rng))
        self._start_later(rng, machine)

    def _do_full(self, rng: random.Random) -> None:
        machine = self._one(rng)
        machine.disk.full(True)
        self._lasting(machine.disk.clear_faults, self._length(rng))
        self._start_later(rng, machine)

    def _do_readonly(self, rng: random.Random) -> None:
        machine = self._one(rng)
        machine.disk.readonly(True)
        self._lasting(machine.disk.clear_faults, self._length(rng))
        self._start_later(rng, machine)

    def _do_slow_disk(self, rng: random.Random) -> None:
        machine = self._one(rng)
        machine.disk_us = rng.choice((20_000, 100_000, 400_000))

        def end() -> None:
            machine.disk_us = self.options.disk_us

        self._lasting(end, self._length(rng))

    def _do_hang_disk(self, rng: random.Random) -> None:
        length = 200_000 + self._spread(rng, 2 * self.options.fault_length_us)
        self._one(rng).hang_until = self.world.now_us + length

    # Damage

    def _do_flip(self, rng: random.Random) -> None:
        self._damage("flip", rng, rng.choice(("log", "log", "log", "mark")))

    def _do_misdirect(self, rng: random.Random) -> None:
        self._damage("misdirect", rng, "log")

    def _do_stale(self, rng: random.Random) -> None:
        self._damage("stale", rng, "log")

    def _damage(self, kind: str, rng: random.Random, zone: str) -> None:
        """Kill a node whose damage the others survive, damage its disk, start it again."""
        machine = self._one(rng)
        if machine.node is None or not self._may_damage(machine):
            return
        machine.stop(power=False, reason=kind)
        place = getattr(machine.disk, kind)(zone)
        if place is not None:
            machine.unsound = True
            self.world.hit(kind)
            self.world.note(machine.id, kind, file=place[0], byte=place[1])
        self._start_again(rng, machine)

    def _may_damage(self, machine: Machine) -> bool:
        """The atlas: fewer than half of a shard's replicas are damaged at a time."""
        options = self.options
        copies = min(options.replication_factor, options.nodes)
        others = [one for one in self.world.machines.values() if one is not machine]
        return 1 + sum(one.unsound for one in others) <= (copies - 1) // 2
