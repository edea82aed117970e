"""Directories that were emptied or put back to an older copy (faults.md, D9), and disks that lie (D4).

The node that comes up on one must be refused by all others, for good. A world may do it only when every other
node has durably heard of something newer than the copy: what nobody remembers nobody can refuse.
And only to one machine, which is out of the game from then on, so that the others stay a majority.
"""

import random

import msgspec

from quoit.sim.disk import Image
from quoit.sim.engine import SimEngine
from quoit.sim.fault_disk import DiskFaults
from quoit.sim.machine import Machine
from quoit.sim.meeting import recall

__all__ = ["Copy", "LostFaults"]


class Copy(msgspec.Struct):
    """A backup of a machine's data directory. synced: what its log had reached."""

    disk: Image
    engine: SimEngine
    synced: int


class LostFaults(DiskFaults):
    """See fault_base.Faults."""

    def _do_rollback(self, rng: random.Random) -> None:
        machine = self._one(rng)
        copy = self.copy_of(machine)
        if copy is not None:
            delay = 500_000 + self._spread(rng, 1_500_000)
            self.world.after(delay, self._lose, "rollback", rng, machine, copy)

    def _do_wipe(self, rng: random.Random) -> None:
        self._lose("wipe", rng, self._one(rng), None)

    def _lose(self, kind: str, rng: random.Random, machine: Machine, copy: Copy | None) -> None:
        reached = copy.synced if copy is not None else 0
        if self.stopped or machine.node is None or not self._may_damage(machine):
            return
        if self.is_remembered(machine, reached):
            self.world.hit(kind)
            self.put_back(machine, copy)
            self._start_again(rng, machine)

    def copy_of(self, machine: Machine) -> Copy | None:
        """A backup of a running node's directory, as its disk holds it now."""
        if machine.node is None:
            return None
        synced = machine.node.outbox.synced or machine.node.standings.own.began
        return Copy(machine.disk.image(), machine.engine.copy(), synced)

    def is_remembered(self, machine: Machine, reached: int) -> bool:
        """Every other machine's disk knows that the machine's log had got further than `reached`."""
        for other in self.world.machines.values():
            if other is not machine:
                mark = recall(other).marks.get(machine.id)
                if mark is None or mark.directory != machine.directory or mark.synced <= reached:
                    return False
        return True

    def put_back(self, machine: Machine, copy: Copy | None) -> None:
        """The process is stopped and its directory replaced; None: emptied."""
        machine.stop(power=False, reason="restored" if copy is not None else "wiped")
        machine.restored = machine.unsound = True
        if copy is not None:
            machine.disk.restore(copy.disk)
            machine.replace_engine(copy.engine)
        else:
            machine.disk.wipe()
            machine.directory += 1
            machine.replace_engine(SimEngine())
        self.world.note(machine.id, "put_back", emptied=copy is None)
