"""Random changes of members among power cuts, cut links and writes: nothing acknowledged is lost, and in
the end exactly the members hold the shard, all of them the same."""

import random

import pytest

from quoit.base.errors import BadRequest, NotLeader
from quoit.node.membership import KINDS, Request
from tests.unit.node.harness import Client, Cluster

NODES = 6
STEPS = 120


class Story:
    """One cluster and what happens to it.

    acknowledged  keys whose SET was answered with OK
    """

    def __init__(self, seed):
        self.rng = random.Random(seed)
        self.cluster = Cluster(
            NODES, founders=(1, 2, 3), flush_log_bytes=3_000, log_tail_entries=4, settle_records=5
        )
        self.down = set()
        self.cut = []
        self.waiting = []
        self.acknowledged = set()
        self.written = 0
        self.begun = 0

    def step(self):
        cluster, rng = self.cluster, self.rng
        action = rng.random()
        if action < 0.35:
            self.operate()
        elif action < 0.42 and not self.down:
            number = rng.choice(sorted(cluster.nodes))
            cluster.power_off(number, rng.randrange(3))
            self.waiting = [one for one in self.waiting if one[0].number != number]
            self.cut = [pair for pair in self.cut if number not in pair]
            self.down.add(number)
        elif action < 0.52 and self.down:
            self.start(self.down.pop())
        elif action < 0.60 and len(self.cut) < 2 and len(cluster.nodes) > 1:
            pair = tuple(rng.sample(sorted(cluster.nodes), 2))
            cluster.disconnect(*pair)
            self.cut.append(pair)
        elif action < 0.68 and self.cut:
            cluster.connect(*self.cut.pop())
        self.write()
        cluster.pass_ms(rng.choice((10, 10, 50, 300)))
        self.note()

    def start(self, number):
        self.cluster.start(number)
        for one, other in self.cut:
            self.cluster.disconnect(one, other)

    def operate(self):
        rng = self.rng
        leaders = [number for number, node in self.cluster.nodes.items() if 0 in node.serving]
        if not leaders:
            return
        membership = self.cluster.nodes[rng.choice(leaders)].membership
        source = rng.randrange(1, NODES + 1)
        request = Request(
            kind=rng.choice(KINDS), shard=0, node=rng.randrange(1, NODES + 1), source=source
        )
        try:
            membership.begin(request)
            self.begun += 1
        except (BadRequest, NotLeader):
            return

    def write(self):
        number = self.rng.choice(sorted(self.cluster.nodes))
        client = Client(self.cluster, number)
        for _ in range(3):
            key = f"k{self.written}"
            self.written += 1
            self.waiting.append((client, client.send("SET", key, "x" * 50), key))

    def note(self):
        rest = []
        for client, ticket, key in self.waiting:
            reply = client.replies.get(ticket)
            if reply == b"+OK\r\n":
                self.acknowledged.add(key)
            elif reply is None:
                rest.append((client, ticket, key))
        self.waiting = rest

    def heal(self):
        for number in sorted(self.down):
            self.start(number)
        self.down.clear()
        for pair in self.cut:
            self.cluster.connect(*pair)
        self.cut.clear()
        self.cluster.pass_ms(6000)
        self.note()


@pytest.mark.parametrize("seed", range(12))
def test_members_change_among_faults(seed):
    story = Story(seed)
    cluster = story.cluster
    for _ in range(STEPS):
        story.step()
    story.heal()
    assert story.begun >= 3
    assert len(story.acknowledged) > STEPS
    client = Client(cluster, 1)
    missing = [key for key in sorted(story.acknowledged) if client.ask("EXISTS", key) != b":1\r\n"]
    assert missing == []
    leader = cluster.nodes[cluster.leader()].replicas[0]
    members = leader.state.members
    assert {number for number, node in cluster.nodes.items() if node.replicas} == set(
        members.everyone
    )
    for number in members.everyone:
        state = cluster.nodes[number].replicas[0].state
        assert (state.applied_index, state.counts) == (
            leader.state.applied_index,
            leader.state.counts,
        )
        assert state.members == members
    for node in cluster.nodes.values():
        assert node.members_of(0) == members
