"""Faults of processes, machines and clocks (faults.md, P1 to P5, D1, C1 to C3)."""

import random

import msgspec

from quoit.node.cluster.changes import Change, SetNode, SetState
from quoit.node.cluster.state import LIVE
from quoit.node.membership import Request
from quoit.sim.clock import PPM
from quoit.sim.crash_points import OFTEN, POINTS
from quoit.sim.fault_base import Faults
from quoit.sim.machine import TURN_US, Machine

__all__ = ["MachineFaults"]

_BEYOND_BOUND_PPM = 100_000


class MachineFaults(Faults):
    """See fault_base.Faults."""

    def _kill(
        self, kind: str, rng: random.Random, machines: list[Machine], *, power: bool = False
    ) -> None:
        for machine in machines:
            if machine.node is not None:
                self.world.hit(kind)
                machine.stop(power=power, reason=kind)
            self._start_again(rng, machine)

    def _start_again(self, rng: random.Random, machine: Machine) -> None:
        soon = rng.random() < 0.4
        delay = 1_000 if soon else 50_000 + self._spread(rng, self.options.fault_length_us)
        self.world.after(delay, self._revive, rng, machine)

    def _start_later(self, rng: random.Random, machine: Machine) -> None:
        """A node whose disk fails stops itself; somebody starts it again, until it runs."""
        delay = 300_000 + self._spread(rng, self.options.fault_length_us)
        self.world.after(delay, self._revive, rng, machine)

    def _revive(self, rng: random.Random, machine: Machine) -> None:
        if self.stopped or machine.node is not None:
            return
        self.world.start(machine.id)
        if machine.node is None:
            self._start_later(rng, machine)

    def _do_kill(self, rng: random.Random) -> None:
        self._kill("kill", rng, self._some(rng))

    def _do_kill_all(self, rng: random.Random) -> None:
        self._kill("kill_all", rng, list(self.world.machines.values()))

    def _do_power_cut(self, rng: random.Random) -> None:
        self._kill("power_cut", rng, self._some(rng), power=True)

    def _do_power_cut_all(self, rng: random.Random) -> None:
        self._kill("power_cut_all", rng, list(self.world.machines.values()), power=True)

    def _do_oust(self, rng: random.Random) -> None:
        machine = self.world.machines.get(self._newest_leader())
        if machine is None or machine.node is None:
            return
        self.world.hit("oust")
        machine.stop(power=rng.random() < 0.5, reason="oust")
        delay = 4 * self.options.election_timeout_us + self._spread(rng, 200_000)
        self.world.after(delay, self._revive, rng, machine)

    def _do_crash_point(self, rng: random.Random) -> None:
        """Some points are armed; whoever reaches one dies there. Those that every log write passes on
        one machine, the others on all, as nobody knows who will get there."""
        machines = list(self.world.machines.values())
        rare = [point for point in POINTS if point not in OFTEN]
        for point in [*rng.sample(OFTEN, 3), *rng.sample(rare, 4)]:
            chosen = [rng.choice(machines)] if point in OFTEN else machines
            if point.startswith("boot") and chosen[0].node is not None:
                chosen[0].stop(power=rng.random() < 0.5, reason="crash_point")
            for machine in chosen:
                machine.crashes.arm(point)
                self.world.note(machine.id, "armed", point=point)
        self.world.after(50_000, self._restart_the_dead, rng)

    def _restart_the_dead(self, rng: random.Random) -> None:
        """Whoever died at a point starts again soon, and may reach the next one."""
        if self.stopped:
            return
        for machine in self.world.machines.values():
            if machine.node is None and rng.random() < 0.3:
                self.world.start(machine.id)
        self.world.after(100_000, self._restart_the_dead, rng)

    def _do_boot_fail(self, rng: random.Random) -> None:
        """The process is killed and cannot start at first: its disk is read-only, full or failing."""
        machine = self._one(rng)
        disk = machine.disk
        if machine.node is None:
            return
        machine.stop(power=rng.random() < 0.5, reason="boot_fail")
        trouble = rng.choice((disk.readonly, disk.full, disk.sync_error))
        trouble()

        def end() -> None:
            disk.clear_faults()

        self.world.after(1_000, self._boot, rng, machine)
        self._lasting(end, self._length(rng))

    def _boot(self, rng: random.Random, machine: Machine) -> None:
        if self.stopped or machine.node is not None:
            return
        self.world.start(machine.id)
        if machine.node is None:
            self.world.hit("boot_fail")
        self._start_later(rng, machine)

    def _do_pause(self, rng: random.Random) -> None:
        machine = self._one(rng)
        if machine.node is not None and not machine.paused:
            machine.pause("pause")
            self._lasting(machine.resume, self._length(rng))

    def _do_suspend(self, rng: random.Random) -> None:
        """The machine sleeps: longer than any lease, and its connections do not survive it."""
        machine = self._one(rng)
        if machine.node is None or machine.paused:
            return
        machine.pause("suspend")

        def end() -> None:
            for link in self.world.network.links.values():
                if machine.id in (link.sender, link.receiver):
                    self.world.network.drop(link)
            machine.resume()

        self._lasting(end, 500_000 + self._length(rng))

    def _do_slow(self, rng: random.Random) -> None:
        machine = self._one(rng)
        machine.turn_us = rng.choice((3_000, 30_000, 100_000))

        def end() -> None:
            machine.turn_us = TURN_US

        self._lasting(end, self._length(rng))

    def _do_transfer(self, rng: random.Random) -> None:
        machine = self._one(rng)
        if machine.node is not None and not machine.paused:
            machine.post(machine.hand_over)

    def _do_members(self, rng: random.Random) -> None:
        """Somebody asks for a change of a shard's replicas, and asks again while that helps."""
        request = Request(
            kind=rng.choice(("add-replica", "remove-replica", "remove-replica", "move", "move")),
            shard=rng.randrange(0, self.options.shards),
            node=rng.choice(self._nodes()),
            source=rng.choice(self._nodes()),
        )
        self.world.note(0, "members", **msgspec.to_builtins(request))
        self._ask_members(request, 10)

    def _do_ring(self, rng: random.Random) -> None:
        """An operator changes what the cluster's record says of a node; some of it is called off later."""
        node = rng.choice(list(self.world.machines))
        what = rng.choice(("weight", "weight", "draining", "decommissioning"))
        if what == "weight":
            self.propose(SetNode(node, weight=rng.choice((0.5, 1.0, 2.0, 4.0))), 10)
            return
        self.propose(SetState(node, what), 10)
        later = self._spread(rng, 2 * self.options.fault_length_us)
        self.world.after(1 + later, self.propose, SetState(node, LIVE), 10)

    def propose(self, change: Change, times: int) -> None:
        """Some node is asked to change the record, again and again until that is done. Such changes done
        twice are as good as once, so also what may be applied is asked for again."""

        def done(outcome: str) -> None:
            if not outcome:
                self.world.hit("ring")
            elif times > 1:
                self.world.after(300_000, self.propose, change, times - 1)

        up = [one for one in self.world.machines.values() if one.node is not None]
        asked = up[times % len(up)] if up else None
        if asked is not None and asked.node is not None:
            asked.post(asked.node.cluster.propose, change, done)
        else:
            done("no node runs")

    def _ask_members(self, request: Request, left: int) -> None:
        if self.stopped or not left:
            return
        for machine in self.world.machines.values():
            if machine.node is not None and request.shard in machine.node.serving:
                machine.post(machine.change_members, request)
        self.world.after(300_000, self._ask_members, request, left - 1)

    # Clocks

    def _do_wall_jump(self, rng: random.Random) -> None:
        machine = self._one(rng)
        if machine.node is not None:
            self.world.hit("wall_jump")
        machine.clock.jump_wall(rng.choice((-3_600_000, -500, 500, 3_600_000)))

    def _do_drift(self, rng: random.Random) -> None:
        """Within the bound that leases survive; far beyond it where nothing uses a lease."""
        machine = self._one(rng)
        if machine.node is not None:
            self.world.hit("drift")
        half = self.options.drift_ppm // 2 if self.options.lease else _BEYOND_BOUND_PPM
        machine.clock.set_rate(PPM + rng.choice((-half, 0, half)))
