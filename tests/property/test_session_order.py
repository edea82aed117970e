"""Pipelines under changing leaders, cut links and moving replicas: a session's commands take effect in
the order in which it sent them, each once or not at all, as its replies say.

Every session appends numbers to keys of its own and reads them without waiting for replies, so what it
must see is known exactly, but for writes whose outcome is unknown.
"""

import random

import pytest

from quoit.base.errors import BadRequest, NotLeader
from quoit.node.membership import Request
from tests.unit.node import harness
from tests.unit.node.harness import Client, Cluster

FAILED = b"*-1\r\n"
REFUSED = (b"-CLUSTERDOWN", b"-BUSY")


class Pipeline:
    """One session and what it sent: (ticket, kind, key, number)."""

    def __init__(self, cluster, number, name, rng):
        self.client = Client(cluster, number)
        self.name = name
        self.rng = rng
        self.sent = []
        self.count = 0

    def send(self):
        rng, client = self.rng, self.client
        key = f"{{{self.name}}}{rng.randrange(2)}" if rng.random() < 0.8 else self.name
        kind = rng.choice(["append", "append", "get", "get", "exec", "mget", "nothing"])
        self.count += 1
        piece = f"{self.count},"
        if kind == "append":
            ticket = client.send("APPEND", key, piece)
        elif kind == "get":
            ticket = client.send("GET", key)
        elif kind == "mget":
            ticket = client.send("MGET", key, "other", "more", "else")
        elif kind == "nothing":
            ticket = client.send("DEL", f"{{{key}}}none")
        else:
            client.send_watch(key)
            ticket = client.send_exec(f"APPEND {key} {piece}", f"GET {key}")
        self.sent.append((ticket, kind, key, self.count))

    def judge(self, ended, final):
        """`ended`: the node died, so replies may be missing; `final`: key -> what it holds."""
        outcomes = {}
        for ticket, kind, _, number in self.sent:
            reply = self.client.replies.get(ticket)
            assert reply is not None or ended, (self.name, ticket, kind)
            if kind in ("append", "exec"):
                outcomes[number] = outcome_of(reply)
        for key, text in final.items():
            self._judge_text(key, text, self.count + 1, outcomes, "at the end")
        for ticket, kind, key, number in self.sent:
            reply = self.client.replies.get(ticket)
            if reply is None or reply[:1] == b"-" or reply == FAILED:
                continue
            if kind in ("get", "mget", "exec"):
                text = reply.split(b"$", 1)[1].split(b"\r\n")
                text = b"" if text[0] == b"-1" else text[1]
                upto = number if kind == "exec" else number - 1
                self._judge_text(key, text, upto, outcomes, f"command {number}, ticket {ticket}")

    def _judge_text(self, key, text, upto, outcomes, where):
        seen = [int(piece) for piece in text.split(b",") if piece]
        story = (self.name, key, where, seen)
        assert len(seen) == len(set(seen)), story
        known = [one for one in seen if outcomes[one] != "unknown"]
        assert known == sorted(known), story
        assert all(outcomes[one] != "refused" for one in seen), story
        assert all(one <= upto for one in seen), story
        expected = [
            number
            for _, kind, its_key, number in self.sent
            if its_key == key and number <= upto and outcomes.get(number) == "ok"
        ]
        assert known == expected, (*story, expected)


def outcome_of(reply):
    if reply is None or reply.startswith(b"-UNKNOWN"):
        return "unknown"
    if reply.startswith(REFUSED) or reply == FAILED:
        return "refused"
    assert reply[:1] in b":*", reply
    return "ok"


class Storm:
    """Random trouble for a cluster of 4 whose shards are on 3."""

    def __init__(self, seed, consensus):
        self.rng = rng = random.Random(seed)
        harness.CONSENSUS = consensus
        self.cluster = Cluster(
            size=rng.choice([3, 4]), shards=rng.choice([1, 2]), replication_factor=3,
            lease_enabled=rng.random() < 0.6,
            outcome_wait_us=rng.choice([200_000, 1_000_000, 4_000_000]),
            leader_wait_us=rng.choice([300_000, 5_000_000]),
        )  # fmt: skip
        self.broken = set()
        self.cluster.pass_ms(100)

    def strike(self):
        cluster, rng = self.cluster, self.rng
        nodes = list(cluster.nodes)
        one, other = rng.sample(nodes, 2)
        what = rng.randrange(9)
        if what == 0:
            cluster.disconnect(one, other)
            self.broken.add((one, other))
        elif what == 1:
            self.mend()
        elif what in (2, 3):
            cluster.slow.add((one, other))
        elif what == 4:
            link = rng.choice(sorted(cluster.slow)) if cluster.slow else None
            if link is not None:
                self.let_through(link)
        elif what == 5:
            cluster.held = {one} if rng.random() < 0.5 else set()
        elif what in (6, 7):
            for replica in list(cluster.nodes[one].serving.values()):
                voters = [peer for peer in replica.core.members.voters if peer != one]
                if replica.core.is_leader and voters:
                    replica.core.transfer(rng.choice(voters), cluster.clock.now_us())
        else:
            self.move(rng.choice(nodes), other)

    def let_through(self, link):
        """What waits on one link arrives, in order."""
        cluster = self.cluster
        cluster.slow.discard(link)
        now = [frame for frame in cluster.waiting if frame[:2] == link]
        cluster.waiting = [frame for frame in cluster.waiting if frame[:2] != link]
        cluster.frames = now + cluster.frames

    def move(self, source, target):
        cluster = self.cluster
        for node in cluster.nodes.values():
            for shard in list(node.serving):
                kind = self.rng.choice(["move", "remove-replica", "add-replica"])
                try:
                    node.membership.begin(
                        Request(kind=kind, shard=shard, node=target, source=source)
                    )
                except (BadRequest, NotLeader):
                    continue
                return

    def mend(self):
        cluster = self.cluster
        for link in sorted(cluster.slow):
            self.let_through(link)
        for one, other in self.broken:
            cluster.connect(one, other)
        self.broken = set()
        cluster.held = set()


def storm(seed, consensus):
    world = Storm(seed, consensus)
    rng, cluster = world.rng, world.cluster
    pipelines = [
        Pipeline(cluster, number, f"s{number}.{copy}", rng)
        for number in cluster.nodes
        for copy in range(2)
    ]
    for _ in range(rng.randrange(20, 120)):
        if rng.random() < 0.4:
            world.strike()
        for pipeline in pipelines:
            for _ in range(rng.choice([0, 0, 1, 3])):
                pipeline.send()
                if rng.random() < 0.3:
                    cluster.turn(pipeline.client.number)
        pause = rng.choice([0, 0, 10, 10, 50, 400])
        if pause:
            cluster.pass_ms(pause)
        else:
            step(cluster, rng)
    world.mend()
    cluster.pass_ms(12_000)
    assert cluster.idle()
    reader = Client(cluster, 1)
    for pipeline in pipelines:
        final = {}
        for key in {key for _, _, key, _ in pipeline.sent}:
            # Without a lease a read needs a round of heartbeats, and so time.
            ticket = reader.send("GET", key)
            cluster.pass_ms(1_000)
            reply = reader.replies[ticket]
            final[key] = b"" if reply == b"$-1\r\n" else reply.split(b"\r\n")[1]
        pipeline.judge(False, final)


def step(cluster, rng):
    """Some nodes have a turn, some frames arrive; each link keeps its order."""
    for number in list(cluster.nodes):
        if rng.random() < 0.7:
            cluster.turn(number)
    frames, cluster.frames = cluster.frames, []
    late = {link for link in {frame[:2] for frame in frames} if rng.random() < 0.4}
    for frame in frames:
        if frame[:2] in late:
            cluster.frames.append(frame)
        else:
            cluster.deliver(*frame)


@pytest.mark.parametrize("consensus", ["raft", "paxos"])
@pytest.mark.parametrize("seed", range(12))
def test_sessions_keep_their_order_in_a_storm(seed, consensus, monkeypatch):
    monkeypatch.setattr(harness, "CONSENSUS", consensus)
    storm(seed, consensus)
