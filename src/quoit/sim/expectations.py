"""What a scenario demands of its run, judged when the faults are over and before everything is healed.

A condition is a method `_expect_NAME(value)` of Expectations; it returns what is wrong, or "".
"""

from math import ceil, floor
from typing import Any, Protocol

from quoit.detector.peer import EventKind, PeerState
from quoit.node.cluster.state import META_SHARD, ClusterState, holders
from quoit.node.liveness import Liveness
from quoit.sim.history import GET, OK, Operation
from quoit.sim.world import CORRECTNESS, World

__all__ = ["CONDITIONS", "Expectations", "Witness"]

CONDITIONS: dict[str, str] = {
    "new_leader_within_s": "number",
    "elections_max": "number",
    "terms_growth_max": "number",
    "steady_s": "number",
    "terms_rise": "flag",
    "writes_flow": "number",
    "no_reads_from_leader_after_s": "number",
    "leader_stopped": "flag",
    "quiet_max_s": "number",
    "seen": "texts",
    "hit": "texts",
    "kept_by_none": "number",
    "dead_elsewhere": "number",
    "live_everywhere": "number",
    "declares_nobody_dead": "number",
    "states": "texts",
    "balanced": "flag",
    "least_copies": "flag",
}
"""Condition -> type of its value."""


class Witness(Protocol):
    """What conditions know of the story (story.Story)."""

    world: World
    roles: dict[str, int]
    first_us: int
    healed_us: int
    terms: dict[int, int]
    led: list[int]

    def term(self, shard: int) -> int:
        """The greatest term that any running replica knows."""
        ...


class Expectations:
    """Judges a story."""

    def __init__(self, story: Witness) -> None:
        self.story = story
        self.world = story.world

    def judge(self, expect: dict[str, Any]) -> None:
        """Judge every condition; the world fails at the first that does not hold."""
        for name, value in expect.items():
            problem = getattr(self, f"_expect_{name}")(value)
            if problem:
                self.world.fail(CORRECTNESS, "EXPECT", f"{name}: {problem}")

    def _elections(self) -> list[tuple[int, int, int, int]]:
        return [one for one in self.world.leaderships if one[0] > self.story.first_us]

    def _expect_new_leader_within_s(self, seconds: float) -> str:
        """The shards that the leader's node led are led elsewhere soon."""
        old = self.story.roles["leader"]
        for shard in self.story.led:
            times = [
                time_us - self.story.first_us
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
        for shard, term in self.story.terms.items():
            if self.story.term(shard) > term + count:
                return f"shard {shard} went from term {term} to {self.story.term(shard)}"
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
        served: dict[int, None] = {}
        for operation in self.world.history.operations:
            late = operation.completed_us > since
            if late and operation.writes and operation.outcome == OK:
                served[self._shard_of(operation.key)] = None
        missing = [shard for shard in range(self.world.options.shards) if shard not in served]
        return f"not in shards {missing}" if missing else ""

    def _expect_no_reads_from_leader_after_s(self, seconds: float) -> str:
        """The old leader answers no read that arrived later, until it is healed."""
        since = self.story.first_us + seconds * 1e6
        until = self.story.healed_us or self.world.now_us
        for one in self.world.history.operations:
            inside = since < one.invoked_us and 0 <= one.completed_us < until
            if one.node == self.story.roles["leader"] and one.kind == GET and one.outcome == OK:
                if inside:
                    return one.line()
        return ""

    def _expect_leader_stopped(self, wanted: bool) -> str:
        """The leader's node stopped itself."""
        machine = self.world.machines[self.story.roles["leader"]]
        return "" if machine.life > 1 or machine.node is None else "it is still running"

    def _expect_quiet_max_s(self, seconds: float) -> str:
        """From the first step on no shard that is asked something goes longer without an answer."""
        asked: dict[int, list[Operation]] = {}
        for one in self.world.history.operations:
            asked.setdefault(self._shard_of(one.key), []).append(one)
        for shard, operations in asked.items():
            answers = sorted(one.completed_us for one in operations if one.outcome == OK)
            before = self.story.first_us
            for at_us in [*answers, self.world.now_us]:
                if at_us - before > seconds * 1e6:
                    waiting = [
                        max(one.invoked_us, before)
                        for one in operations
                        if before <= one.invoked_us < at_us or one.completed_us > before
                    ]
                    if waiting and at_us - min(waiting) > seconds * 1e6:
                        return (
                            f"shard {shard} from {min(waiting) / 1e6:.2f} s to {at_us / 1e6:.2f} s"
                        )
                before = max(before, at_us)
        return ""

    def _shard_of(self, key: bytes) -> int:
        machine = next(one for one in self.world.machines.values() if one.node is not None)
        db = self.world.workload.db_of.get(key, 0)
        return machine.node.router.shard(db, key) if machine.node is not None else 0

    def _expect_seen(self, names: list[str]) -> str:
        """These transitions happened."""
        for machine in self.world.machines.values():
            machine.count_up()
        missing = [name for name in names if not self.world.seen.get(name)]
        return f"{', '.join(missing)} did not happen" if missing else ""

    def _expect_kept_by_none(self, node: int) -> str:
        """That node is a member of no shard any more."""
        kept = {shard: None for shard, voters in self.world.voters.items() if node in voters}
        return f"node {node} is still a voter of shards {list(kept)}" if kept else ""

    def _liveness(self) -> dict[int, Liveness]:
        """Of the nodes that run."""
        machines = self.world.machines.values()
        return {one.id: one.node.liveness for one in machines if one.node is not None}

    def _expect_dead_elsewhere(self, node: int) -> str:
        """All other nodes hold it for dead, found it unreachable before, and heard it since."""
        for observer, liveness in self._liveness().items():
            if observer == node:
                continue
            kinds = [event.kind for event in liveness.recent if event.peer == node]
            told = [EventKind.SUSPECT, EventKind.UNREACHABLE, EventKind.DEAD, EventKind.RETURNED]
            if liveness.state_of(node) is not PeerState.DEAD or node not in liveness.dead():
                return f"node {observer} sees it as {liveness.state_of(node).value}"
            if node not in liveness.returned() or kinds[-len(told) :] != told:
                return f"node {observer} was told {', '.join(kind.value for kind in kinds)}"
        return ""

    def _expect_live_everywhere(self, node: int) -> str:
        """All other nodes hold it for live."""
        for observer, liveness in self._liveness().items():
            if liveness.state_of(node) is not PeerState.LIVE:
                return f"node {observer} sees it as {liveness.state_of(node).value}"
        return ""

    def _expect_declares_nobody_dead(self, node: int) -> str:
        """That node runs, and never held another for dead."""
        liveness = self._liveness().get(node)
        if liveness is None:
            return "it does not run"
        dead = [event.peer for event in liveness.recent if event.kind is EventKind.DEAD]
        return f"it declared {dead} dead" if dead else ""

    def _record(self) -> ClusterState:
        """The newest copy of the cluster's record."""
        nodes = [one.node for one in self.world.machines.values() if one.node is not None]
        return max((node.cluster.state for node in nodes), key=lambda state: state.version)

    def _expect_states(self, wanted: list[str]) -> str:
        """The nodes, in order of their numbers, are in these states."""
        found = [node.state for node in self._record().nodes]
        return "" if found == wanted else f"they are {found}"

    def _expect_balanced(self, wanted: bool) -> str:
        """No job is left; every shard is kept by as many nodes as it shall, which may keep it, none of
        which keeps more than 1.15 of its share; each node that leads is the preferred one."""
        state = self._record()
        running = state.running()
        if running is not None:
            return f"job {running.id} ({running.kind}) is under way"
        nodes = holders(state)
        allowed = [node.id for node in nodes]
        copies = min(state.settings.replication_factor, len(nodes))
        kept = dict.fromkeys(allowed, 0)
        for shard, voters in self.world.voters.items():
            strange = [node for node in voters if node not in kept]
            if strange or len(voters) != copies:
                return f"shard {shard} is kept by {list(voters)}; there are {allowed}"
            for node in voters:
                kept[node] += shard != META_SHARD
        share = self.world.options.shards * copies / len(nodes)
        most = max(ceil(share), floor(1.15 * share))
        full = {node: count for node, count in kept.items() if count > most}
        return f"a share is {share:.1f} replicas, but nodes keep {full}" if full else ""

    def _expect_least_copies(self, wanted: bool) -> str:
        """No job copied more replicas than any plan had to."""
        for job in self._record().jobs:
            if job.copies > job.copies_min:
                return f"job {job.id} ({job.kind}): {job.copies}, {job.copies_min} would do"
        return ""

    def _expect_hit(self, names: list[str]) -> str:
        """These faults touched something."""
        missing = [name for name in names if not self.world.hits.get(name)]
        return f"{', '.join(missing)} touched nothing" if missing else ""
