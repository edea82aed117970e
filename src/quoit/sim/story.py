"""A scenario that happens in a world: its steps, carried out at their times.

An action of a scenario file is a method `_do_ACTION(step)`; actions.py lists them with their arguments.
"""

from collections.abc import Callable
from typing import Any

from quoit.node.cluster.changes import SetState
from quoit.node.membership import Request
from quoit.sim.clock import PPM
from quoit.sim.fault_lost import Copy
from quoit.sim.history import GET, INCR
from quoit.sim.machine import TURN_US, Machine
from quoit.sim.nemesis import Nemesis
from quoit.sim.network import Link
from quoit.sim.options import stream
from quoit.sim.workload import Probe
from quoit.sim.world import World

__all__ = ["Step", "Story"]

Step = dict[str, Any]


def _us(seconds: float) -> int:
    return round(seconds * 1e6)


class Story:
    """See the module's docstring.

    roles       "leader" and so on -> node, once resolved
    first_us    when the first step happened
    terms       shard -> greatest term at that time
    led         shards that the node called "leader" led at that time
    """

    def __init__(self, world: World, steps: list[Step]) -> None:
        self.world = world
        self.steps = steps
        self.nemesis = Nemesis(world)
        self.rng = stream(world.options.seed, "story")
        self.roles: dict[str, int] = {}
        self.first_us = 0
        self.healed_us = 0
        self.terms: dict[int, int] = {}
        self.led: list[int] = []
        self.cuts: list[tuple[int, int]] = []
        self.probes = 0
        self.copies: dict[int, Copy | None] = {}

    def plan(self) -> None:
        """Put every step on the world's schedule."""
        for step in self.steps:
            action = getattr(self, "_do_" + step["do"].replace("-", "_"))
            self.world.after(_us(step["at"]), self._happen, action, step)

    def _happen(self, action: Callable[[Step], None], step: Step) -> None:
        if not self.first_us:
            self._look_around()
        if step["do"] != "fault":
            self.world.note(0, "step", **step)
            self.world.hit(step["do"])
        action(step)

    def _look_around(self) -> None:
        world = self.world
        self.first_us = world.now_us
        leader = next(
            (
                machine.id
                for machine in world.machines.values()
                if machine.node is not None and 0 in machine.node.serving
            ),
            1,
        )
        others = [number for number in world.machines if number != leader]
        self.roles = {"leader": leader}
        self.roles.update({f"follower-{at}": node for at, node in enumerate(others, 1)})
        self.terms = {shard: self.term(shard) for shard in range(world.options.shards)}
        node = world.machines[leader].node
        self.led = sorted(node.serving) if node is not None else []

    def term(self, shard: int) -> int:
        """The greatest term that any running replica knows."""
        return max(
            (
                machine.node.replicas[shard].core.term
                for machine in self.world.machines.values()
                if machine.node is not None and shard in machine.node.replicas
            ),
            default=0,
        )

    def _node(self, name: object) -> int:
        return self.roles[name] if isinstance(name, str) else int(str(name))

    def _machine(self, step: Step) -> Machine:
        return self.world.machines[self._node(step["node"])]

    # The network

    def _cut(self, pairs: list[tuple[int, int]]) -> None:
        for sender, receiver in pairs:
            self.world.network.cut(sender, receiver)
        self.cuts += pairs

    def _both_ways(self, left: list[int], right: list[int]) -> None:
        self._cut([(a, b) for a in left for b in right] + [(b, a) for a in left for b in right])

    def _do_cut(self, step: Step) -> None:
        self._both_ways([self._node(step["a"])], [self._node(step["b"])])

    def _do_oneway(self, step: Step) -> None:
        self._cut([(self._node(step["from"]), self._node(step["to"]))])

    def _do_deaf(self, step: Step) -> None:
        node = self._node(step["node"])
        self._cut([(other, node) for other in self.world.machines if other != node])

    def _do_isolate(self, step: Step) -> None:
        node = self._node(step["node"])
        self._both_ways([node], [other for other in self.world.machines if other != node])

    def _do_split(self, step: Step) -> None:
        sides = [[self._node(node) for node in side] for side in step["sides"]]
        for at, side in enumerate(sides):
            for other in sides[at + 1 :]:
                self._both_ways(side, other)

    def _do_split_every(self, step: Step) -> None:
        nodes = list(self.world.machines)
        alone = nodes[int(self.world.now_us / 1e6 / step["seconds"]) % len(nodes)]
        self._do_isolate({"node": alone})
        self.world.after(_us(step["length"]), self._do_heal, step)
        if self.world.now_us + step["seconds"] * 1e6 < self.world.options.safety_us:
            self.world.after(_us(step["seconds"]), self._do_split_every, step)

    def _do_heal(self, step: Step) -> None:
        self.healed_us = self.world.now_us
        for sender, receiver in self.cuts:
            self.world.network.mend(sender, receiver)
        self.cuts = []

    def _do_delay(self, step: Step) -> None:
        """What is sent to the node takes long; what it sends does not."""
        node = self._node(step["to"])
        for link in self.world.network.links.values():
            if link.receiver == node:
                link.delay_us = _us(step["seconds"])

    def _links(self, step: Step, field: str, value: float | int, links: list[Link]) -> None:
        for link in links:
            setattr(link, field, value)

        def end() -> None:
            for link in links:
                setattr(link, field, 0)

        self.world.after(_us(step["seconds"]), end)

    def _all_links(self) -> list[Link]:
        return list(self.world.network.links.values())

    def _links_from(self, step: Step) -> list[Link]:
        return [one for one in self._all_links() if one.sender == self._node(step["from"])]

    def _do_loss(self, step: Step) -> None:
        self._links(step, "loss", step["share"], self._all_links())

    def _do_duplicate(self, step: Step) -> None:
        self._links(step, "repeat", step["share"], self._all_links())

    def _do_reorder(self, step: Step) -> None:
        self._links(step, "reorder", step["share"], self._all_links())

    def _do_slow_link(self, step: Step) -> None:
        self._links(step, "bytes_per_s", step["bytes_per_s"], self._links_from(step))

    def _do_small_frames(self, step: Step) -> None:
        self._links(step, "bytes_max", step["bytes_max"], self._links_from(step))

    def _do_reset(self, step: Step) -> None:
        node = self._node(step["node"])
        for link in self._all_links():
            if node in (link.sender, link.receiver):
                self.world.network.reset(link)

    def _do_drop_replies(self, step: Step) -> None:
        workload = self.world.workload
        workload.drop_replies = step["share"]

        def end() -> None:
            workload.drop_replies = 0.0

        self.world.after(_us(step["seconds"]), end)

    # Processes

    def _do_kill(self, step: Step) -> None:
        machine = self._machine(step)
        machine.stop(power=step.get("power", False), reason="scenario")
        self.world.after(_us(step["restart"]), self.world.start, machine.id)

    def _do_power_cut_all(self, step: Step) -> None:
        for machine in self.world.machines.values():
            machine.stop(power=True, reason="scenario")
        for number, delay in enumerate(step["restart"], 1):
            self.world.after(1_000 + _us(delay), self.world.start, number)

    def _do_drain(self, step: Step) -> None:
        machine = self._machine(step)
        machine.post(machine.hand_over)

    def _do_pause(self, step: Step) -> None:
        machine = self._machine(step)
        machine.pause()
        self.world.after(_us(step["seconds"]), machine.resume)

    def _do_slow(self, step: Step) -> None:
        machine = self._machine(step)
        machine.turn_us = _us(step["turn"])

        def end() -> None:
            machine.turn_us = TURN_US

        self.world.after(_us(step["seconds"]), end)

    # Disks and clocks

    def _do_sync_error(self, step: Step) -> None:
        machine = self._machine(step)
        machine.disk.sync_error(times=1)
        self.world.after(_us(step["restart"]), self.world.start, machine.id)

    def _do_full_disk(self, step: Step) -> None:
        machine = self._machine(step)
        machine.disk.full(True)

        def end() -> None:
            machine.disk.full(False)
            if machine.node is None:
                self.world.start(machine.id)

        self.world.after(_us(step["seconds"]), end)

    def _do_slow_disk(self, step: Step) -> None:
        machine = self._machine(step)
        machine.disk_us = _us(step["latency"])

        def end() -> None:
            machine.disk_us = self.world.options.disk_us

        self.world.after(_us(step["seconds"]), end)

    def _do_hang_disk(self, step: Step) -> None:
        self._machine(step).hang_until = self.world.now_us + _us(step["seconds"])

    def _do_flip(self, step: Step) -> None:
        """The node is killed, one bit on its disk changes, it starts again."""
        machine = self._machine(step)
        machine.stop(power=False, reason="scenario")
        if machine.disk.flip(step.get("zone", "log")) is not None:
            machine.unsound = True
        self.world.after(_us(step["restart"]), self.world.start, machine.id)

    def _do_lie(self, step: Step) -> None:
        """Syncs do nothing and say that they did."""
        machine = self._machine(step)
        machine.disk.lie(True)
        self.world.after(_us(step["seconds"]), machine.disk.lie, False)

    def _do_copy(self, step: Step) -> None:
        """Somebody makes a backup of the running node's directory."""
        machine = self._machine(step)
        self.copies[machine.id] = self.nemesis.copy_of(machine)

    def _do_put_back(self, step: Step) -> None:
        """The node is killed and comes back with the backup."""
        machine = self._machine(step)
        self._lose(step, machine, self.copies.get(machine.id))

    def _do_wipe(self, step: Step) -> None:
        """The node is killed and comes back with an empty directory."""
        self._lose(step, self._machine(step), None)

    def _lose(self, step: Step, machine: Machine, copy: Copy | None) -> None:
        self.nemesis.put_back(machine, copy)
        self.world.after(_us(step["restart"]), self.world.start, machine.id)

    def _do_replace(self, step: Step) -> None:
        """An operator gives the node's replicas to others, and asks until it is done."""
        gone = self._node(step["node"])
        for shard in range(self.world.options.shards):
            for node in step["by"]:
                request = Request(kind="move", shard=shard, node=self._node(node), source=gone)
                self.nemesis._ask_members(request, 20)

    def _do_join(self, step: Step) -> None:
        """A node that was not there when the cluster began starts, with an empty disk."""
        machine = self._machine(step)
        machine.retired = ""
        self.world.start(machine.id)

    def _do_die(self, step: Step) -> None:
        """The machine is gone for good."""
        machine = self._machine(step)
        machine.stop(power=True, reason="scenario")
        machine.retired = "it died"

    def _do_set_state(self, step: Step) -> None:
        """An operator changes a node's state in the cluster's record, and asks until that is done."""
        self.nemesis.propose(SetState(self._node(step["node"]), step["state"]), 60)

    def _do_readmit(self, step: Step) -> None:
        """All nodes are told that a dead one is a member again."""
        node = self._node(step["node"])
        for machine in self.world.machines.values():
            if machine.node is not None:
                machine.post(machine.node.liveness.readmit, node)

    def _do_wall_jump(self, step: Step) -> None:
        self._machine(step).clock.jump_wall(int(step["seconds"] * 1000))

    def _do_clock_rate(self, step: Step) -> None:
        self._machine(step).clock.set_rate(int(step["rate"] * PPM))

    # Clients

    def _do_read(self, step: Step) -> None:
        self._probe(GET, step)

    def _do_write(self, step: Step) -> None:
        self._probe(INCR, step)

    def _probe(self, kind: str, step: Step) -> None:
        self.probes += 1
        key = step["key"].encode()
        self.world.workload.db_of.setdefault(key, 0)
        Probe(self.world.workload, self._node(step["node"]), kind, key, f"s{self.probes}").act()

    def _do_change(self, step: Step) -> None:
        """Whoever believes to lead the shard is asked to change its members, once."""
        request = Request(
            kind=step["kind"],
            shard=step["shard"],
            node=self._node(step["node"]),
            source=self._node(step.get("source", 0)),
        )
        for machine in self.world.machines.values():
            if machine.node is not None and request.shard in machine.node.serving:
                machine.post(machine.change_members, request)

    # The nemesis' own faults

    def _do_mix(self, step: Step) -> None:
        """Every so often a fault of one of the kinds, chosen by the seed."""
        number = len(self.nemesis.timeline) + 1
        self.nemesis.inflict(self.rng.choice(step["kinds"]), number)
        if self.world.now_us + _us(step["every"]) < _us(step["until"]):
            self.world.after(_us(step["every"]), self._do_mix, step)

    def _do_fault(self, step: Step) -> None:
        """The fault as the seed has it under that number (see `quoit sim shrink`)."""
        self.nemesis.inflict(step["kind"], step["number"])
