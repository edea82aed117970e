"""The nemesis: makes faults happen at random, and makes them end.

Which kinds, how often and how long comes from the run's options; the choices come from the nemesis'
own stream. Every fault ends by itself; `stop` ends all of them at once and for ever, which is how the
liveness part of a run begins.
"""

from collections.abc import Callable
from typing import Protocol

from quoit.sim.clock import PPM
from quoit.sim.machine import Machine
from quoit.sim.network import Link, Network
from quoit.sim.options import FAULTS, Options, stream
from quoit.sim.workload import Workload

__all__ = ["Nemesis"]


class World(Protocol):
    """What the nemesis works on."""

    @property
    def now_us(self) -> int:
        """True virtual time."""
        ...

    options: Options
    machines: dict[int, Machine]
    network: Network
    workload: Workload

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


class Nemesis:
    """Fault kinds are methods named `_do_KIND`; each begins its fault and plans its end.

    ending   ends of the faults under way, in order of their beginning
    """

    def __init__(self, world: World) -> None:
        self.world = world
        self.options = world.options
        self.rng = stream(world.options.seed, "nemesis")
        self.stopped = False
        self.ending: dict[int, Callable[[], None]] = {}
        self.count = 0

    def start(self) -> None:
        """Faults begin after the cluster had a moment to form."""
        self.world.after(800_000, self._next)

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
            machine.turn_us = 30
            machine.resume()
            if machine.node is None:
                self.world.start(machine.id)
        self.world.workload.drop_replies = 0.0

    def _next(self) -> None:
        if self.stopped:
            return
        kinds = self.options.faults
        if kinds:
            self.inflict(self.rng.choice(kinds))
        self.world.after(1 + self._spread(self.options.fault_gap_us), self._next)

    def inflict(self, kind: str) -> None:
        """Begin a fault of that kind now."""
        self.world.note(0, "fault", kind=kind, what=FAULTS[kind].split(" ", 1)[0])
        getattr(self, f"_do_{kind}")()

    def _spread(self, mean_us: int) -> int:
        return int(self.rng.expovariate(1.0) * mean_us)

    def _lasting(self, end: Callable[[], None], length_us: int = 0) -> None:
        """The fault that has begun ends after a while."""
        self.count += 1
        number = self.count
        self.ending[number] = end
        length = length_us or 20_000 + self._spread(self.options.fault_length_us)
        self.world.after(length, self._end, number)

    def _end(self, number: int) -> None:
        end = self.ending.pop(number, None)
        if end is not None:
            end()

    def _nodes(self) -> list[int]:
        return list(self.world.machines)

    def _one(self) -> Machine:
        """A machine; more often than not one that leads something."""
        machines = list(self.world.machines.values())
        leaders = [one for one in machines if one.node is not None and one.node.serving]
        return self.rng.choice(leaders if leaders and self.rng.random() < 0.6 else machines)

    # The network

    def _cut(self, pairs: list[tuple[int, int]], length_us: int = 0) -> None:
        network = self.world.network
        for sender, receiver in pairs:
            network.cut(sender, receiver)

        def end() -> None:
            for sender, receiver in pairs:
                network.mend(sender, receiver)

        self._lasting(end, length_us)

    def _between(self, left: list[int], right: list[int]) -> list[tuple[int, int]]:
        return [(a, b) for a in left for b in right] + [(b, a) for a in left for b in right]

    def _do_split(self) -> None:
        nodes = self._nodes()
        if len(nodes) < 2:
            return
        self.rng.shuffle(nodes)
        at = self.rng.randrange(1, len(nodes))
        if self.rng.random() < 0.5:
            alone = self._one().id
            nodes.remove(alone)
            nodes.insert(0, alone)
            at = 1
        self._cut(self._between(nodes[:at], nodes[at:]))

    def _do_oneway(self) -> None:
        nodes = self._nodes()
        if len(nodes) < 2:
            return
        one = self._one().id
        others = [node for node in nodes if node != one]
        if self.rng.random() < 0.5:
            others = [self.rng.choice(others)]
        if self.rng.random() < 0.5:
            self._cut([(one, other) for other in others])
        else:
            self._cut([(other, one) for other in others])

    def _do_pair(self) -> None:
        nodes = self._nodes()
        if len(nodes) >= 2:
            left, right = self.rng.sample(nodes, 2)
            self._cut(self._between([left], [right]))

    def _do_chase(self) -> None:
        self._chase(self.rng.randrange(2, 5), [])

    def _chase(self, left: int, cut: list[tuple[int, int]]) -> None:
        """Cut off the newest leader; as soon as there is another one, that one instead."""
        network = self.world.network
        if self.stopped:
            return
        leader = self._newest_leader()
        pairs = []
        if left and leader:
            pairs = self._between([leader], [node for node in self._nodes() if node != leader])
            for sender, receiver in pairs:
                network.cut(sender, receiver)
        for sender, receiver in cut:
            network.mend(sender, receiver)
        if pairs:
            self.world.after(self.rng.randrange(400_000, 1_200_000), self._chase, left - 1, pairs)

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

    def _do_bridge(self) -> None:
        nodes = self._nodes()
        if len(nodes) < 3:
            return
        self.rng.shuffle(nodes)
        middle = len(nodes) // 2
        if self.rng.random() < 0.5:
            self._cut(self._between(nodes[:middle], nodes[middle + 1 :]))
        else:
            apart = [
                (nodes[a], nodes[b])
                for a in range(len(nodes))
                for b in range(len(nodes))
                if abs(a - b) > 1
            ]
            self._cut(apart)

    def _do_swizzle(self) -> None:
        links = list(self.world.network.links)
        self.rng.shuffle(links)
        for link in links[: len(links) * 2 // 3]:
            begin = self._spread(self.options.fault_length_us // 2)
            length = 20_000 + self._spread(self.options.fault_length_us)
            self.world.after(begin, self._swizzle_one, link, length)

    def _swizzle_one(self, link: tuple[int, int], length_us: int) -> None:
        if not self.stopped:
            self._cut([link], length_us)

    def _links(self) -> list[Link]:
        links = list(self.world.network.links.values())
        if not links or self.rng.random() < 0.5:
            return links
        return self.rng.sample(links, self.rng.randrange(1, len(links) + 1))

    def _set_links(self, field: str, value: float | int) -> None:
        links = self._links()
        for link in links:
            setattr(link, field, value)

        def end() -> None:
            for link in links:
                setattr(link, field, 0)

        self._lasting(end)

    def _do_loss(self) -> None:
        self._set_links("loss", self.rng.choice((0.01, 0.05, 0.2, 0.5)))

    def _do_jitter(self) -> None:
        self._set_links("delay_us", self.rng.choice((5_000, 50_000, 200_000, 400_000)))
        self._set_links("reorder", self.rng.choice((0.0, 0.1, 0.4)))

    def _do_duplicate(self) -> None:
        self._set_links("repeat", self.rng.choice((0.05, 0.3)))

    def _do_slow_link(self) -> None:
        self._set_links("bytes_per_s", self.rng.choice((5_000, 20_000, 100_000)))

    def _do_small_frames(self) -> None:
        self._set_links("bytes_max", self.rng.choice((60, 150, 400)))

    def _do_reset(self) -> None:
        for link in self._links():
            self.world.network.reset(link)

    # Clients

    def _do_drop_reply(self) -> None:
        workload = self.world.workload
        workload.drop_replies = self.rng.choice((0.1, 0.5))

        def end() -> None:
            workload.drop_replies = 0.0
            if workload.dropped:
                self.world.hit("drop_reply")

        self._lasting(end)

    # Processes

    def _kill(self, machines: list[Machine], *, power: bool) -> None:
        for machine in machines:
            if machine.node is not None:
                self.world.hit("power_cut" if power else "kill")
                machine.stop(power=power, reason="nemesis")
            soon = self.rng.random() < 0.4
            delay = 1_000 if soon else 50_000 + self._spread(self.options.fault_length_us)
            self.world.after(delay, self._start_again, machine)

    def _start_again(self, machine: Machine) -> None:
        if machine.node is None and not self.stopped:
            self.world.start(machine.id)

    def _some(self) -> list[Machine]:
        """One machine, sometimes more."""
        if self.rng.random() < 0.7:
            return [self._one()]
        machines = list(self.world.machines.values())
        return self.rng.sample(machines, self.rng.randrange(1, len(machines) + 1))

    def _do_kill(self) -> None:
        self._kill(self._some(), power=False)

    def _do_kill_all(self) -> None:
        self._kill(list(self.world.machines.values()), power=False)

    def _do_power_cut(self) -> None:
        self._kill(self._some(), power=True)

    def _do_power_cut_all(self) -> None:
        self._kill(list(self.world.machines.values()), power=True)

    def _do_pause(self) -> None:
        machine = self._one()
        if machine.node is None or machine.paused:
            return
        self.world.hit("pause")
        machine.pause()
        self._lasting(machine.resume)

    def _do_slow(self) -> None:
        machine = self._one()
        self.world.hit("slow")
        machine.turn_us = self.rng.choice((3_000, 30_000, 100_000))

        def end() -> None:
            machine.turn_us = 30

        self._lasting(end)

    def _do_transfer(self) -> None:
        machine = self._one()
        if machine.node is None or machine.paused:
            return
        self.world.hit("transfer")
        machine.post(machine.hand_over)

    # Disks

    def _do_sync_error(self) -> None:
        machine = self._one()
        self.world.hit("sync_error")
        machine.disk.sync_error(times=1)
        self._lasting(machine.disk.clear_faults)
        self._start_later(machine)

    def _start_later(self, machine: Machine) -> None:
        """A node whose disk failed stops itself; somebody starts it again, until it runs."""
        self.world.after(
            300_000 + self._spread(self.options.fault_length_us), self._revive, machine
        )

    def _revive(self, machine: Machine) -> None:
        if self.stopped:
            return
        if machine.node is None:
            self.world.start(machine.id)
            if machine.node is None:
                self._start_later(machine)

    def _do_full(self) -> None:
        machine = self._one()
        self.world.hit("full")
        machine.disk.full(True)
        self._lasting(machine.disk.clear_faults)
        self._start_later(machine)

    def _do_slow_disk(self) -> None:
        machine = self._one()
        self.world.hit("slow_disk")
        machine.disk_us = self.rng.choice((20_000, 100_000, 400_000))

        def end() -> None:
            machine.disk_us = self.options.disk_us

        self._lasting(end)

    def _do_hang_disk(self) -> None:
        machine = self._one()
        self.world.hit("hang_disk")
        length = 200_000 + self._spread(2 * self.options.fault_length_us)
        machine.hang_until = self.world.now_us + length

    # Clocks

    def _do_wall_jump(self) -> None:
        self.world.hit("wall_jump")
        self._one().clock.jump_wall(self.rng.choice((-3_600_000, -500, 500, 3_600_000)))

    def _do_drift(self) -> None:
        machine = self._one()
        self.world.hit("drift")
        half = self.options.drift_ppm // 2
        machine.clock.set_rate(PPM + self.rng.choice((-half, 0, half)))
