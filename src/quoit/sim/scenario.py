"""Scenarios: named stories, written as TOML files, each with its own conditions for passing.

    about = "what happens and why it matters"
    [options]            fields of sim.options.Options
    [[variant]]          runs of the same story with some options changed (may be left out)
    [[step]]             at = seconds, do = action, and the action's arguments
    [expect]             conditions, judged before everything is healed

Nodes in steps are numbers, or roles that are resolved when the first step that names one happens:
"leader" (of shard 0), "follower-1" and "follower-2" (the others, in order of their numbers).

Actions: cut (a, b), oneway (from, to), deaf (node), isolate (node), delay (to, seconds), heal,
power-cut-all (restart = seconds per node), sync-error (node, restart), hang-disk (node, seconds),
pause (node, seconds), kill (node, restart), read (key, node), write (key, node), split-every
(seconds, length).
"""

import tomllib
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import Any

import msgspec

from quoit.base.errors import BadRequest
from quoit.sim.history import GET, INCR, OK
from quoit.sim.nemesis import Nemesis
from quoit.sim.options import Options
from quoit.sim.run import Result, judge, settle
from quoit.sim.workload import Probe
from quoit.sim.world import CORRECTNESS, World

__all__ = ["Scenario", "load", "names", "run_scenario"]

Step = dict[str, Any]


class Scenario(msgspec.Struct):
    """One file."""

    name: str
    about: str
    options: dict[str, Any]
    step: list[Step] = []
    expect: dict[str, Any] = {}
    variant: list[dict[str, Any]] = []

    def runs(self, seed: int) -> list[Options]:
        """The options of each variant."""
        variants = self.variant or [{}]
        return [
            msgspec.convert({"seed": seed, **self.options, **changes}, Options)
            for changes in variants
        ]


def names() -> list[str]:
    """The scenarios that come with quoit."""
    folder = resources.files("quoit.sim") / "scenarios"
    return sorted(one.name[:-5] for one in folder.iterdir() if one.name.endswith(".toml"))


def load(name: str) -> Scenario:
    """The scenario called `name`, or in the file `name`. BadRequest if there is none."""
    if name.endswith(".toml"):
        path = Path(name)
        if not path.is_file():
            raise BadRequest(f"there is no file {name}")
        text, title = path.read_text(), path.stem
    elif name in names():
        text = (resources.files("quoit.sim") / "scenarios" / f"{name}.toml").read_text()
        title = name
    else:
        raise BadRequest(f"there is no scenario {name}; there are: {', '.join(names())}")
    try:
        return msgspec.convert({"name": title, **tomllib.loads(text)}, Scenario)
    except (tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
        raise BadRequest(f"scenario {name}: {error}") from None


def run_scenario(
    scenario: Scenario, options: Options, trace: Callable[[str], None] | None = None
) -> Result:
    """One variant of a scenario, to its verdict."""
    world = World(options, trace=trace)
    story = Story(world, scenario)
    world.start_all()
    world.workload.start()
    story.plan()
    world.run_until(options.safety_us)
    if world.failure is None:
        story.judge()
    story.nemesis.stop()
    settle(world)
    return judge(world, story.nemesis.timeline)


class Story:
    """A scenario that happens in a world.

    roles       "leader" and so on -> node, once resolved
    first_us    when the first step happened
    terms       shard -> greatest term at that time
    led         shards that the node called "leader" led at that time
    """

    def __init__(self, world: World, scenario: Scenario) -> None:
        self.world = world
        self.scenario = scenario
        self.nemesis = Nemesis(world)
        self.roles: dict[str, int] = {}
        self.first_us = 0
        self.healed_us = 0
        self.terms: dict[int, int] = {}
        self.led: list[int] = []
        self.cuts: list[tuple[int, int]] = []
        self.probes = 0

    def plan(self) -> None:
        """Put every step on the world's schedule."""
        for step in self.scenario.step:
            action = getattr(self, "_do_" + step["do"].replace("-", "_"), None)
            if action is None:
                raise BadRequest(f"scenario {self.scenario.name}: no action {step['do']}")
            self.world.after(int(step["at"] * 1e6), self._happen, action, step)

    def _happen(self, action: Callable[[Step], None], step: Step) -> None:
        if not self.first_us:
            self._look_around()
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
        self.terms = {shard: self._term(shard) for shard in range(world.options.shards)}
        node = world.machines[leader].node
        self.led = sorted(node.serving) if node is not None else []

    def _term(self, shard: int) -> int:
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

    # Actions

    def _cut(self, pairs: list[tuple[int, int]]) -> None:
        for sender, receiver in pairs:
            self.world.network.cut(sender, receiver)
        self.cuts += pairs

    def _do_cut(self, step: Step) -> None:
        a, b = self._node(step["a"]), self._node(step["b"])
        self._cut([(a, b), (b, a)])

    def _do_oneway(self, step: Step) -> None:
        self._cut([(self._node(step["from"]), self._node(step["to"]))])

    def _do_deaf(self, step: Step) -> None:
        node = self._node(step["node"])
        self._cut([(other, node) for other in self.world.machines if other != node])

    def _do_isolate(self, step: Step) -> None:
        node = self._node(step["node"])
        others = [other for other in self.world.machines if other != node]
        self._cut([(node, other) for other in others] + [(other, node) for other in others])

    def _do_delay(self, step: Step) -> None:
        """What is sent to the node takes long; what it sends does not."""
        node = self._node(step["to"])
        for link in self.world.network.links.values():
            if link.receiver == node:
                link.delay_us = int(step["seconds"] * 1e6)

    def _do_heal(self, step: Step) -> None:
        self.healed_us = self.world.now_us
        for sender, receiver in self.cuts:
            self.world.network.mend(sender, receiver)
        self.cuts = []

    def _do_split_every(self, step: Step) -> None:
        nodes = list(self.world.machines)
        alone = nodes[int(self.world.now_us / 1e6 / step["seconds"]) % len(nodes)]
        self._do_isolate({"node": alone})
        self.world.after(int(step["length"] * 1e6), self._do_heal, step)
        if self.world.now_us + step["seconds"] * 1e6 < self.world.options.safety_us:
            self.world.after(int(step["seconds"] * 1e6), self._do_split_every, step)

    def _do_power_cut_all(self, step: Step) -> None:
        for machine in self.world.machines.values():
            machine.stop(power=True, reason="scenario")
        for number, delay in enumerate(step["restart"], 1):
            self.world.after(1_000 + int(delay * 1e6), self.world.start, number)

    def _do_kill(self, step: Step) -> None:
        node = self._node(step["node"])
        self.world.machines[node].stop(power=step.get("power", False), reason="scenario")
        self.world.after(int(step["restart"] * 1e6), self.world.start, node)

    def _do_sync_error(self, step: Step) -> None:
        node = self._node(step["node"])
        self.world.machines[node].disk.sync_error(times=1)
        self.world.after(int(step["restart"] * 1e6), self.world.start, node)

    def _do_hang_disk(self, step: Step) -> None:
        machine = self.world.machines[self._node(step["node"])]
        machine.hang_until = self.world.now_us + int(step["seconds"] * 1e6)

    def _do_pause(self, step: Step) -> None:
        machine = self.world.machines[self._node(step["node"])]
        machine.pause()
        self.world.after(int(step["seconds"] * 1e6), machine.resume)

    def _do_read(self, step: Step) -> None:
        self._probe(GET, step)

    def _do_write(self, step: Step) -> None:
        self._probe(INCR, step)

    def _probe(self, kind: str, step: Step) -> None:
        self.probes += 1
        key = step["key"].encode()
        self.world.workload.db_of.setdefault(key, 0)
        Probe(self.world.workload, self._node(step["node"]), kind, key, f"s{self.probes}").act()

    # Conditions

    def judge(self) -> None:
        """Judge every condition of the scenario."""
        for name, value in self.scenario.expect.items():
            check = getattr(self, f"_expect_{name}", None)
            if check is None:
                raise BadRequest(f"scenario {self.scenario.name}: no condition {name}")
            problem = check(value)
            if problem:
                self.world.fail(CORRECTNESS, "EXPECT", f"{name}: {problem}")

    def _elections(self) -> list[tuple[int, int, int, int]]:
        return [one for one in self.world.leaderships if one[0] > self.first_us]

    def _expect_new_leader_within_s(self, seconds: float) -> str:
        """The shards that the leader's node led are led elsewhere soon."""
        old = self.roles["leader"]
        for shard in self.led:
            times = [
                time_us - self.first_us
                for time_us, one, _, node in self._elections()
                if one == shard and node != old
            ]
            if not times:
                return f"shard {shard} got no new leader"
            if times[0] > seconds * 1e6:
                return f"shard {shard} got a new leader after {times[0] / 1e6:.2f} s"
        return ""

    def _expect_elections_max(self, count: int) -> str:
        """So few leaderships begin after the first step, per shard."""
        for shard in range(self.world.options.shards):
            found = [one for one in self._elections() if one[1] == shard]
            if len(found) > count:
                return f"shard {shard} had {len(found)}"
        return ""

    def _expect_terms_growth_max(self, count: int) -> str:
        """No replica's term grows by more."""
        for shard, term in self.terms.items():
            if self._term(shard) > term + count:
                return f"shard {shard} went from term {term} to {self._term(shard)}"
        return ""

    def _expect_steady_s(self, seconds: float) -> str:
        """No leadership begins in the last seconds."""
        since = self.world.options.safety_us - seconds * 1e6
        late = [one for one in self.world.leaderships if one[0] > since]
        return f"node {late[-1][3]} began to lead at {late[-1][0] / 1e6:.1f} s" if late else ""

    def _expect_terms_rise(self, wanted: bool) -> str:
        """Each leadership of a shard has a greater term than the one before."""
        newest: dict[int, int] = {}
        for _, shard, term, node in self.world.leaderships:
            if term <= newest.get(shard, 0):
                return f"node {node} led shard {shard} in term {term} after {newest[shard]}"
            newest[shard] = term
        return ""

    def _expect_writes_flow(self, seconds: float) -> str:
        """In the last seconds a write was acknowledged in every shard."""
        since = self.world.options.safety_us - seconds * 1e6
        machine = next(one for one in self.world.machines.values() if one.node is not None)
        router = machine.node.router if machine.node is not None else None
        served: dict[int, None] = {}
        for operation in self.world.history.operations:
            late = operation.completed_us > since
            if router is not None and late and operation.writes and operation.outcome == OK:
                db = self.world.workload.db_of.get(operation.key, 0)
                served[router.shard(db, operation.key)] = None
        missing = [shard for shard in range(self.world.options.shards) if shard not in served]
        return f"not in shards {missing}" if missing else ""

    def _expect_no_reads_from_leader_after_s(self, seconds: float) -> str:
        """The old leader answers no read that arrived later, until it is healed."""
        since = self.first_us + seconds * 1e6
        until = self.healed_us or self.world.now_us
        for one in self.world.history.operations:
            inside = since < one.invoked_us and 0 <= one.completed_us < until
            if one.node == self.roles["leader"] and one.kind == GET and one.outcome == OK:
                if inside:
                    return one.line()
        return ""

    def _expect_leader_stopped(self, wanted: bool) -> str:
        """The leader's node stopped itself."""
        machine = self.world.machines[self.roles["leader"]]
        return "" if machine.life > 1 or machine.node is None else "it is still running"
