"""Seeded random worlds: partitions, loss, doubles, held messages, crashes that forget, damage, changes of
members and clocks that jump, under clients. A seed replays exactly. In the end the faults stop, and
progress is demanded."""

from random import Random
from typing import Any

import pytest

from quoit.base.errors import BadRequest, NotLeader
from tests.cores.world import Message, World, followers

STEPS = 1200
BUS_MAX = 150
INFLIGHT = {"raft": "inflight_appends_max", "paxos": "inflight_accepts_max"}


class Swarm:
    """One world, made and driven by one seed."""

    def __init__(self, seed: int, consensus: str, quorum: str, changes: bool) -> None:
        self.random = random = Random(seed)
        voters = random.choice([1, 2, 3, 3, 3, 4, 5])
        self.world = World(
            voters + (2 if changes else 0),
            voters=voters,
            consensus=consensus,
            quorum=quorum,
            seed=seed,
            append_bytes_max=random.choice([1, 4, 1000]),
            **{INFLIGHT[consensus]: random.choice([1, 3, 64])},
            cache_bytes_max=random.choice([4, 1000]),
            committed_bytes_max=random.choice([1, 1000]),
        )
        self.world.lease = random.random() < 0.7
        self.changes = changes
        self.begun = dict.fromkeys(range(1, voters + 1))
        self.held: list[Message] = []
        self.cut: dict[tuple[int, int], bool] = {}
        self.asked: dict[int, int] = {}
        self.number = 0
        self.crash_weight = random.choice([0, 1, 3])
        self.lazy_disk = random.random() < 0.5
        # With changes a damaged one may be one of two, and nobody can heal it.
        self.damage = voters >= 3 and not changes and random.random() < 0.6

    def run(self) -> None:
        acts: list[tuple[int, Any]] = [
            (30, self.deliver),
            (4 if self.lazy_disk else 15, self.persist),
            (10, self.propose),
            (4, self.read),
            (8, self.pass_time),
            (self.crash_weight, self.crash),
            (2 * self.crash_weight, self.restart),
            (3, self.partition),
            (2, self.release),
            (2, self.flush),
            (1, self.transfer),
            (2, self.end_snapshots),
            (1 if self.changes else 0, self.change),
        ]
        weights = [weight for weight, _ in acts]
        for _, act in self.random.choices(acts, weights, k=STEPS):
            act()
            for number in self.world.members:
                self.world.drain(number)
            self.check()

    # What happens

    def deliver(self) -> None:
        bus = self.world.bus
        for _ in range(self.random.randrange(1, 6)):
            if not bus:
                return
            position = 0 if self.random.random() < 0.7 else self.random.randrange(len(bus))
            luck = self.random.random()
            message = bus[position] if luck < 0.05 else bus.pop(position)
            if self.cut.get((message[0], message[1])):
                continue
            if luck > 0.95:
                self.held.append(message)
                continue
            self.world.deliver(message)
        del bus[:-BUS_MAX]

    def persist(self) -> None:
        for number in self.world.members:
            if self.random.random() < 0.5:
                self.world.persist(number, self.random.choice([1, 2, 99]))

    def propose(self) -> None:
        for core in self.world.alive():
            if core.can_serve() and core.takes_proposals():
                self.number += 1
                core.propose(b"%d" % self.number, self.world.now_us)

    def read(self) -> None:
        for core in self.world.alive():
            if core.is_leader:
                self.number += 1
                self.asked[self.number] = max(self.world.committed, default=0)
                core.read(self.number, self.world.now_us)

    def pass_time(self) -> None:
        self.world.now_us += self.random.choice([1, 10, 30, 60, 120]) * 1000
        for number in self.world.members:
            if self.random.random() < 0.8:
                self.world.tick(number)

    def crash(self) -> None:
        number = self.random.choice(list(self.world.members))
        members = self.world.members.values()
        sound = all(member.disk.damaged is None for member in members)
        if self.damage and sound and self.random.random() < 0.3:
            if not self.world.members[number].was_damaged:
                self.world.forget(number, self.random.randrange(4))
            return
        self.world.crash(number)

    def restart(self) -> None:
        for member in self.world.members.values():
            begun = member.disk.known or member.id in self.begun
            if member.core is None and begun and self.random.random() < 0.7:
                self.world.start(member.id)

    def partition(self) -> None:
        nodes = list(self.world.members)
        if self.random.random() < 0.4:
            self.cut = {}
            return
        side = [node for node in nodes if self.random.random() < 0.4]
        leaders = [core for core in self.world.alive() if core.is_leader]
        if leaders and self.random.random() < 0.5:
            side = [self.random.choice(leaders).id]
        one_way = self.random.random() < 0.3
        self.cut = {
            (one, other): True
            for one in nodes
            for other in nodes
            if (one in side) != (other in side) and not (one_way and one in side)
        }

    def release(self) -> None:
        if self.held:
            message = self.random.choice(self.held)
            if self.random.random() < 0.5:
                self.held.remove(message)
            self.world.deliver(message)

    def flush(self) -> None:
        for number in self.world.members:
            if self.random.random() < 0.5:
                self.world.flush(number)
            if self.random.random() < 0.3:
                self.world.compact(number, self.random.choice([0, 3]))

    def transfer(self) -> None:
        for core in self.world.alive():
            if core.is_leader:
                core.transfer(self.random.choice(list(self.world.members)), self.world.now_us)

    def end_snapshots(self) -> None:
        for core in self.world.alive():
            for peer, follower in followers(core).items():
                if follower.mode.value == "snapshot":
                    core.snapshot_done(peer, core.applied_index, False, self.world.now_us)

    def change(self) -> None:
        if any(member.disk.damaged for member in self.world.members.values()):
            return  # who changes members then may leave too few sound ones
        for core in self.world.alive():
            if not core.is_leader:
                continue
            members = core.members
            node = self.random.choice(list(self.world.members))
            try:
                if node not in members.everyone:
                    new = members.with_learner(node)
                elif node in members.learners and self.random.random() < 0.7:
                    new = members.with_voter(node)
                else:
                    new = members.without(node)
                core.change(new, self.world.now_us)
            except (BadRequest, NotLeader):
                continue
            # The node would be invited; it begins with nothing.
            other = self.world.members[node]
            if other.core is None and not other.disk.known:
                other.disk.flushed.members = other.state.members = members
                self.begun[node] = None
                self.world.start(node)

    # What must hold

    def check(self) -> None:
        for read_id, index in self.world.reads.items():
            assert index is None or index >= self.asked[read_id], "a stale read was proven"
        self.world.reads.clear()

    def heal(self) -> None:
        """No more faults: a leader must be found, and commit, within a bound."""
        world = self.world
        self.cut, self.held = {}, []
        for member in world.members.values():
            if member.core is None and (member.disk.known or member.id in self.begun):
                world.start(member.id)
        committed = max(world.committed, default=0)
        for _ in range(60):
            world.run(100_000)
            leaders = [core for core in world.alive() if core.can_serve()]
            if leaders and leaders[-1].takes_proposals():
                leaders[-1].propose(b"progress", world.now_us)
                break
        world.run(1_500_000)
        assert max(world.committed, default=0) > committed, "no progress after the faults ended"
        voters = world.leader().members.voters
        last = max(world.committed)
        assert [len(world.members[one].state.applied) for one in voters] == [last] * len(voters)
        assert not any(world.members[one].up.damaged for one in voters)


@pytest.mark.parametrize(
    ("consensus", "quorum"), [("raft", "majority"), ("paxos", "majority"), ("paxos", "all")]
)
@pytest.mark.parametrize("changes", [False, True], ids=["fixed", "changing"])
@pytest.mark.parametrize("seed", range(40))
def test_safety_under_faults_and_progress_after_them(
    seed: int, consensus: str, quorum: str, changes: bool
) -> None:
    swarm = Swarm(seed, consensus, quorum, changes)
    swarm.run()
    swarm.heal()
