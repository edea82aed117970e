"""Seeded random worlds for the cores: partitions, loss, doubles, held messages, crashes, slow disks
and clocks that jump, under clients. Denser than what Hypothesis reaches; a seed replays exactly.

The harness asserts Raft's safety properties after each step; here the clients' view is added: what
was committed stays, a proven read sees what was committed before it was asked, and a valid lease
means that nobody else leads. In the end the faults stop, and progress is demanded."""

from random import Random
from typing import Any

import pytest

from quoit.quorum.progress import Mode
from quoit.raft.messages import TimeoutNow
from tests.golden.raft.cluster import Cluster, Member, Message

STEPS = 1500
BUS_MAX = 120


class Swarm:
    """One world, made and driven by one seed."""

    def __init__(self, seed: int) -> None:
        self.random = random = Random(seed)
        count = random.choice([2, 3, 3, 3, 4, 5])
        self.cluster = Cluster(
            count,
            rng=lambda node_id: Random(seed * 100 + node_id),
            append_bytes_max=random.choice([1, 4, 1000]),
            inflight_appends_max=random.choice([1, 3, 64]),
            cache_bytes_max=random.choice([4, 1000]),
        )
        self.held: list[Message] = []
        self.cut: dict[tuple[int, int], bool] = {}
        self.asked: dict[int, int] = {}
        self.number = 0
        self.crash_weight = random.choice([0, 1, 3])
        self.lazy_disk = random.random() < 0.5

    def alive(self) -> list[Member]:
        return [member for member in self.cluster.members.values() if member.core is not None]

    def leaders(self) -> list[Member]:
        return [member for member in self.alive() if member.raft.is_leader]

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
            (1, self.compact),
            (1, self.transfer),
            (2, self.end_snapshots),
        ]
        weights = [weight for weight, _ in acts]
        for _, act in self.random.choices(acts, weights, k=STEPS):
            act()
            for member in self.alive():
                if member.raft.has_ready:
                    self.cluster.drain(member.id)
            self.check()

    # What happens

    def deliver(self) -> None:
        bus = self.cluster.bus
        for _ in range(self.random.randrange(1, 6)):
            if not bus:
                return
            # Mostly in order, as a connection keeps it.
            position = 0 if self.random.random() < 0.7 else self.random.randrange(len(bus))
            luck = self.random.random()
            message = bus[position] if luck < 0.05 else bus.pop(position)
            if self.cut.get((message[0], message[1])):
                continue
            if luck > 0.95:
                self.held.append(message)
                continue
            self.cluster.deliver(message)
        del bus[:-BUS_MAX]

    def persist(self) -> None:
        for member in self.alive():
            if self.random.random() < 0.5:
                self.cluster.persist(member.id, self.random.choice([1, 2, 99]))

    def propose(self) -> None:
        for leader in self.leaders():
            if not leader.core.transfer_to:
                self.number += 1
                self.cluster.propose(leader.id, b"%d" % self.number)

    def read(self) -> None:
        for leader in self.leaders():
            self.number += 1
            self.asked[self.number] = max(self.cluster.committed, default=0)
            leader.core.read(self.number, self.cluster.now_us)

    def pass_time(self) -> None:
        self.cluster.now_us += self.random.choice([1, 10, 30, 60, 120]) * 1000
        for node_id in self.cluster.members:
            if self.random.random() < 0.8:
                self.cluster.tick(node_id)

    def crash(self) -> None:
        self.cluster.crash(self.random.choice(list(self.cluster.members)))

    def restart(self) -> None:
        for member in self.cluster.members.values():
            if member.core is None and self.random.random() < 0.7:
                self.cluster.restart(member.id)

    def partition(self) -> None:
        nodes = list(self.cluster.members)
        if self.random.random() < 0.4:
            self.cut = {}
            return
        side = [node for node in nodes if self.random.random() < 0.4]
        leaders = self.leaders()
        if leaders and self.random.random() < 0.5:
            # A leader that is cut off a moment after it was heard is what leases are about.
            leader = self.random.choice(leaders)
            side = [leader.id]
            if self.random.random() < 0.5:
                leader.core.transfer(self.random.choice(nodes), self.cluster.now_us)
                self.cluster.drain(leader.id)
                for message in list(self.cluster.bus):
                    if type(message[2]) is TimeoutNow:
                        self.cluster.deliver(message)
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
            self.cluster.deliver(message)

    def compact(self) -> None:
        for member in self.alive():
            self.cluster.compact(member.id, member.raft.applied_index)

    def transfer(self) -> None:
        for leader in self.leaders():
            leader.core.transfer(
                self.random.choice(list(self.cluster.members)), self.cluster.now_us
            )

    def end_snapshots(self) -> None:
        """A node learns in the end that a transfer worked or was lost."""
        for leader in self.leaders():
            for peer, progress in leader.core.progress.items():
                if progress.mode is Mode.SNAPSHOT:
                    index = self.cluster.members[peer].disk.compacted[0]
                    ok = self.random.random() < 0.3
                    leader.core.snapshot_done(peer, index, ok, self.cluster.now_us)

    # What must hold

    def check(self) -> None:
        cluster = self.cluster
        for read_id, index in cluster.reads.items():
            assert index is None or index >= self.asked[read_id], "a stale read was proven"
        cluster.reads.clear()
        newest = max(cluster.leaders, default=0)
        for leader in self.leaders():
            if leader.core.lease_valid(cluster.now_us):
                assert leader.core.term == newest, "a lease beside a newer leader"
                known = leader.core.commit_index
                assert known == max(cluster.committed), "a lease without all that was committed"

    def heal(self) -> None:
        """No more faults: a leader must be found, and commit, within a bound."""
        cluster = self.cluster
        self.cut, self.held = {}, []
        for member in cluster.members.values():
            if member.core is None:
                cluster.restart(member.id)
        committed = max(cluster.committed, default=0)
        for _ in range(60):
            self.end_snapshots()
            cluster.run_us(100_000)
            leaders = [one for one in self.leaders() if one.core.can_serve()]
            if leaders and not leaders[-1].raft.transfer_to:
                cluster.propose(leaders[-1].id, b"progress")
                break
        for _ in range(4):
            self.end_snapshots()
            cluster.run_us(100_000)
        assert max(cluster.committed) > committed, "no progress after the faults ended"
        last = max(cluster.committed)
        assert [member.state[-1][0] for member in self.alive()] == [last] * len(cluster.members)


@pytest.mark.parametrize("seed", range(100))
def test_safety_under_faults_and_progress_after_them(seed: int) -> None:
    swarm = Swarm(seed)
    swarm.run()
    swarm.heal()
