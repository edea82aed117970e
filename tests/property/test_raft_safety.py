"""Hypothesis drives cores through loss, duplication, reordering, slow and lost writes, crashes and
jumps of time. The cluster harness asserts, after each step, Election Safety, Log Matching, Leader
Completeness, State Machine Safety and every core's own invariants; here we add the client's view:
what was applied by a leader stays, a proven read sees it, and no lease outlives a later leader."""

from random import Random
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tests.golden.raft.cluster import Cluster, Message

NODES = st.integers(min_value=1, max_value=5)
PICK = st.integers(min_value=0, max_value=1 << 30)


class RaftMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.kept: list[Message] = []
        self.asked: dict[int, int] = {}
        self.next_id = 0

    @initialize(count=st.sampled_from([2, 3, 3, 4, 5]), seed=st.integers(0, 1000))
    def begin(self, count: int, seed: int) -> None:
        self.cluster = Cluster(
            count,
            rng=lambda node_id: Random(seed * 10 + node_id),
            append_bytes_max=4,
            inflight_appends_max=3,
            cache_bytes_max=8,
        )
        if seed % 2:
            self.cluster.elect(1)

    def _member(self, number: int) -> Any:
        members = self.cluster.members
        return members[(number - 1) % len(members) + 1]

    def _leaders(self) -> list[Any]:
        members = self.cluster.members.values()
        return [one for one in members if one.core is not None and one.core.is_leader]

    # Clients

    @rule(pick=PICK)
    def propose(self, pick: int) -> None:
        leaders = [one for one in self._leaders() if not one.core.transfer_to]
        if leaders:
            self.next_id += 1
            chosen = leaders[pick % len(leaders)]
            self.cluster.propose(chosen.id, b"%d" % self.next_id)

    @rule(pick=PICK)
    def read(self, pick: int) -> None:
        leaders = self._leaders()
        if leaders:
            self.next_id += 1
            self.asked[self.next_id] = max(self.cluster.committed, default=0)
            leaders[pick % len(leaders)].raft.read(self.next_id, self.cluster.now_us)

    # Network

    @rule(pick=PICK, again=st.sampled_from([False, False, False, True]))
    def deliver_one(self, pick: int, again: bool) -> None:
        bus = self.cluster.bus
        if bus:
            message = bus[pick % len(bus)] if again else bus.pop(pick % len(bus))
            self.cluster.deliver(message)

    @rule()
    def deliver_all(self) -> None:
        bus, self.cluster.bus = self.cluster.bus, []
        for message in bus:
            self.cluster.deliver(message)

    @rule(pick=PICK)
    def keep_a_copy(self, pick: int) -> None:
        bus = self.cluster.bus
        if bus:
            self.kept.append(bus[pick % len(bus)])

    @precondition(lambda self: self.kept)
    @rule(pick=PICK)
    def deliver_very_late(self, pick: int) -> None:
        self.cluster.deliver(self.kept[pick % len(self.kept)])

    @rule(number=NODES)
    def lose_all_from(self, number: int) -> None:
        member = self._member(number)
        self.cluster.bus = [one for one in self.cluster.bus if one[0] != member.id]

    # Machines

    @rule(number=NODES, count=st.integers(1, 3))
    def persist(self, number: int, count: int) -> None:
        member = self._member(number)
        if member.core is not None:
            self.cluster.persist(member.id, count)

    @rule(number=NODES)
    def crash(self, number: int) -> None:
        self.cluster.crash(self._member(number).id)

    @rule(number=NODES)
    def restart(self, number: int) -> None:
        member = self._member(number)
        if member.core is None:
            self.cluster.restart(member.id)

    @rule(number=NODES)
    def compact(self, number: int) -> None:
        member = self._member(number)
        if member.core is not None:
            self.cluster.compact(member.id, member.raft.applied_index)

    @rule(number=NODES, to=NODES)
    def transfer(self, number: int, to: int) -> None:
        member = self._member(number)
        if member.core is not None:
            member.raft.transfer(self._member(to).id, self.cluster.now_us)

    # Time

    @rule(ms=st.sampled_from([1, 20, 60, 200, 400, 700]), number=NODES)
    def time_passes(self, ms: int, number: int) -> None:
        self.cluster.now_us += ms * 1000
        self.cluster.tick(self._member(number).id)

    @rule(number=NODES)
    def whole_election(self, number: int) -> None:
        """Without this few runs would ever have a second leader."""
        member = self._member(number)
        if member.core is None or member.raft.is_leader:
            return
        self.cluster.now_us = max(self.cluster.now_us + 300_000, member.raft.election_us)
        self.cluster.tick(member.id)
        for _ in range(6):
            for one in self.cluster.members.values():
                if one.core is not None:
                    self.cluster.persist(one.id)
            self.deliver_all()

    # Client's view

    @invariant()
    def outputs_are_taken(self) -> None:
        for member in getattr(self, "cluster", Cluster(1)).members.values():
            if member.core is not None and member.core.has_ready:
                self.cluster.drain(member.id)

    @invariant()
    def proven_reads_see_what_was_committed_before(self) -> None:
        if hasattr(self, "cluster"):
            for read_id, index in self.cluster.reads.items():
                assert index is None or index >= self.asked[read_id]
            self.cluster.reads.clear()

    @invariant()
    def a_lease_means_that_no_later_leader_exists(self) -> None:
        if hasattr(self, "cluster"):
            newest = max(self.cluster.leaders, default=0)
            for leader in self._leaders():
                if leader.core.lease_valid(self.cluster.now_us):
                    assert leader.core.term == newest, "stale lease"
                    committed = max(self.cluster.committed, default=0)
                    assert leader.core.commit_index == committed


TestRaftSafety = RaftMachine.TestCase
TestRaftSafety.settings = settings(
    max_examples=60,
    stateful_step_count=60,
    deadline=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
)
