"""A cluster in which only the rebalancer is real: shards' members change as a simple executor says, with
delays, failures and changes of leaders drawn from a seed."""

import random
from types import SimpleNamespace

from quoit.node.cluster.changes import (
    EndJob,
    Found,
    Join,
    NodeSeen,
    Refused,
    SetNode,
    SetState,
    change_cluster,
    decode_change,
    encode_change,
)
from quoit.node.cluster.decide import decide
from quoit.node.cluster.messages import Load, NodeReport, OperationAsk, OperationTold, ShardReport
from quoit.node.cluster.observed import fingerprint
from quoit.node.cluster.rebalancer import Rebalancer
from quoit.node.cluster.state import META_SHARD, ClusterState, NodeRecord, Settings, holders
from quoit.placement.ring import NodeInfo
from quoit.placement.shard_map import ShardMap
from quoit.quorum.members import Members

TICK_US = 50_000
SIZE = 1000


class Shard:
    """index counts changes of members, as the shard's log does."""

    def __init__(self, number, voters):
        self.id = number
        self.members = Members(tuple(voters))
        self.leader = voters[0]
        self.term = 1
        self.index = 0
        self.operation = None


class Operation:
    def __init__(self, asker, asked, alive):
        self.asker, self.id, self.ask = asker, asked.id, asked.ask
        self.alive = alive
        self.state, self.next, self.bytes, self.due_us = "running", 0, 0, 0


class ModelRebalancer(Rebalancer):
    def _say(self, to, message):
        self.network.model.send(self.own, to, message)


class Model:
    """
    up       nodes that run and are connected to all others
    copies   (shard, node) -> how often a replica was begun there
    made     job -> replicas that were begun for it
    trouble  chance that an operation's step goes wrong
    crash_at the meta shard's leader crashes when so many things have happened; None: never
    """

    def __init__(self, seed, nodes=3, shards=8, factor=3, zones=1, **settings):
        self.rng = random.Random(seed)
        self.now_us = 1_000_000
        self.trouble = 0.0
        self.troubled = False
        self.crash_at = None
        self.events = 0
        self.made = {}
        self.loads = {}
        self.sent = []
        self.later = []
        self.asks = []
        self.crashes = 0
        self.cut = set()
        infos = [NodeInfo(one, f"n{one}", f"z{one % zones}") for one in range(1, nodes + 1)]
        placed = ShardMap.create(shards, infos, min(factor, nodes)).shards
        records = tuple(
            NodeRecord(id=one.id, name=one.name, zone=one.zone, state="live") for one in infos
        )
        self.zones = zones
        self.up = {one.id for one in infos}
        self.state = ClusterState()
        self.change(Found(records, placed, Settings(replication_factor=factor, **settings)))
        self.shards = {one.id: Shard(one.id, one.replicas) for one in placed}
        founders = [one.id for one in infos][: min(factor, nodes)]
        self.shards[META_SHARD] = Shard(META_SHARD, founders)
        self.start(founders[0])

    # The record

    def change(self, change):
        change = decode_change(encode_change(change))
        self.state = change_cluster(self.state, change, self.now_us // 1000)

    def propose(self, change, done):
        """Applied or not, and the answer may be lost or say that nobody knows."""
        self.happened()
        luck = self.rng.random()
        outcome = ""
        if luck < self.trouble / 2:
            outcome = "unknown"
        else:
            try:
                self.change(change)
            except Refused as error:
                outcome = str(error)
            if luck < self.trouble:
                outcome = "unknown"
        self.later.append((self.now_us + self.rng.randrange(100_000), done, outcome))

    # The leader of the meta shard

    def start(self, own):
        network = SimpleNamespace(
            model=self,
            config=SimpleNamespace(node_id=own, tick_us=TICK_US),
            cluster=self.cluster_of(own),
            serving={},
            membership=SimpleNamespace(operations={}),
            snapshots=SimpleNamespace(budget=SimpleNamespace(bytes_per_s=0), sent_to={}),
            persistence=SimpleNamespace(write=None, slowest_us=0),
            engine=None,
            home_dbs={},
            leader_of=lambda shard: own,
            connected={},
            trace=lambda event, **detail: None,
            liveness=SimpleNamespace(is_away=lambda node: not self.reaches(node)),
            outgoing=None,
        )
        self.rebalancer = ModelRebalancer(network, own, self.rng.randrange(1 << 40))
        self.shards[META_SHARD].leader = own

    def cluster_of(self, own):
        model = self

        class Cluster:
            @property
            def state(self):
                return model.state

            @property
            def leads(self):
                return model.rebalancer.own == own

            def propose(self, change, done):
                model.propose(change, done)

        return Cluster()

    def reaches(self, node):
        return node in self.up and node not in self.cut

    def crash(self, node=None):
        """The leader of the meta shard forgets all and another voter leads; it runs again at once."""
        self.crashes += 1
        meta = self.shards[META_SHARD]
        others = [one for one in meta.members.voters if one in self.up and one != meta.leader]
        self.later, self.sent = [], []
        meta.term += 1
        self.start(self.rng.choice(others or [meta.leader]))

    def happened(self):
        self.events += 1
        if self.crash_at is not None and self.events >= self.crash_at:
            self.crash_at = None
            self.crash_due = True

    crash_due = False

    # Messages

    def send(self, sender, to, message):
        if isinstance(message, OperationAsk):
            self.asks.append(message.ask)
        if isinstance(message, NodeReport):
            return  # the model reports itself
        delay = self.rng.randrange(30_000)
        self.sent.append((self.now_us + delay, sender, to, message))

    def deliver(self):
        due = [one for one in self.sent if one[0] <= self.now_us]
        self.sent = [one for one in self.sent if one[0] > self.now_us]
        for _, sender, to, message in sorted(due, key=lambda one: one[0]):
            if to not in self.up or sender not in self.up:
                continue
            if self.rng.random() < self.trouble:
                continue  # lost
            self.happened()
            if isinstance(message, OperationAsk):
                self.asked(sender, to, message)
            elif to == self.rebalancer.own:
                self.rebalancer.received(sender, message, self.now_us)

    def report(self, node):
        shards = [
            ShardReport(
                one.id, one.term, one.index, one.members,
                one.operation.ask if one.operation is not None else None, 10, SIZE, 1.0,
            )
            for one in self.shards.values()
            if one.leader == node
        ]  # fmt: skip
        message = NodeReport(self.loads.get(node, Load()), shards)
        if node in self.up and self.reaches(node):
            self.rebalancer.received(node, message, self.now_us)

    # A shard's leader

    def asked(self, sender, node, asked):
        shard = self.shards[asked.ask.shard]

        def tell(state, **more):
            self.send(node, sender, OperationTold(asked.id, shard.id, state, **more))

        if shard.leader != node:
            tell("not-leader", next=shard.leader)
        elif shard.operation is not None and shard.operation.id == asked.id:
            tell("running", bytes=shard.operation.bytes)
        elif shard.operation is not None:
            tell("busy")
        elif shard.index != asked.ask.index:
            tell("changed")
        elif asked.ask.node not in self.up and asked.ask.kind != "remove-replica":
            tell("refused", reason="not connected")
        else:
            shard.operation = Operation(sender, asked, len(holders(self.state)))
            shard.operation.due_us = self.now_us + self.rng.randrange(400_000)

    def end(self, shard, state, **more):
        operation, shard.operation = shard.operation, None
        told = OperationTold(operation.id, shard.id, state, bytes=operation.bytes, **more)
        self.report(shard.leader)
        self.send(shard.leader, operation.asker, told)

    def advance(self, shard):
        """One step of an operation, as node/membership.py does it."""
        operation = shard.operation
        ask, members = operation.ask, shard.members
        operation.due_us = self.now_us + self.rng.randrange(400_000)
        if self.rng.random() < self.trouble:
            self.troubled = True
            voters = [one for one in members.voters if one in self.up]
            if self.rng.random() < 0.5 and voters:
                shard.leader = self.rng.choice(voters)
                shard.term += 1
                self.end(shard, "interrupted", reason="the leader changed")
            else:
                self.end(shard, "failed", reason="bad luck")
            return
        comes = ask.node if ask.kind in ("move", "add-replica") else 0
        goes = ask.source if ask.kind == "move" else ask.node if not comes else 0
        if comes and comes not in members.everyone:
            job = self.state.running()
            if job is not None and shard.id != META_SHARD:
                self.made[job.id] = self.made.get(job.id, 0) + 1
            operation.bytes += SIZE
            self.set(shard, members.with_learner(comes))
        elif comes and comes not in members.voters:
            if comes not in self.up:
                self.end(shard, "failed", reason="it is gone")
                return
            self.set(shard, members.with_voter(comes))
        elif goes and goes in members.everyone:
            if goes == shard.leader:
                heirs = [one for one in members.voters if one != goes and one in self.up]
                if heirs:
                    shard.leader = self.rng.choice(heirs)
                    shard.term += 1
                    self.end(shard, "handed-over", next=shard.leader)
                return
            after = members.without(goes)
            if goes in members.voters:
                least = min(self.state.settings.replication_factor, operation.alive)
                assert len(after.voters) >= least, (shard.id, members, ask)
            self.set(shard, after)
        else:
            self.end(shard, "done")

    def set(self, shard, members):
        self.happened()
        shard.members, shard.index = members, shard.index + 1

    # Nodes and people

    def join(self, weight=1.0):
        number = max(node.id for node in self.state.nodes) + 1
        zone = f"z{number % self.zones}"
        node = NodeRecord(id=number, name=f"n{number}", zone=zone, weight=weight)
        self.change(Join(node))
        self.change(NodeSeen(node))
        self.up.add(number)
        return number

    def decommission(self, node):
        self.change(SetState(node, "decommissioning"))

    def weigh(self, node, weight):
        self.change(SetNode(node, weight=weight))

    def kill(self, node):
        """It loses power and does not come back."""
        self.up.discard(node)
        for shard in self.shards.values():
            if shard.leader == node:
                heirs = [one for one in shard.members.voters if one in self.up]
                assert 2 * len(heirs) > len(shard.members.voters), "the model keeps quorums"
                shard.leader = self.rng.choice(heirs)
                shard.term += 1
                shard.operation = None
        if self.rebalancer.own == node:
            self.later, self.sent = [], []
            self.start(self.shards[META_SHARD].leader)

    def cancel(self):
        job = self.state.running()
        if job is not None:
            self.change(EndJob(job.id, "cancelled", "somebody said so"))

    # Time

    def step(self):
        self.now_us += TICK_US
        rebalancer = self.rebalancer
        rebalancer.network.connected = dict.fromkeys(
            (one for one in self.up if one != rebalancer.own and self.reaches(one)), 1
        )
        due = [one for one in self.later if one[0] <= self.now_us]
        self.later = [one for one in self.later if one[0] > self.now_us]
        for _, done, outcome in due:
            done(outcome)
        self.deliver()
        for shard in self.shards.values():
            if shard.operation is not None and shard.operation.due_us <= self.now_us:
                self.advance(shard)
        if self.now_us % 1_000_000 < TICK_US:
            for node in sorted(self.up):
                self.report(node)
        meta = self.shards[META_SHARD]
        if meta.leader != self.rebalancer.own:
            self.later, self.sent = [], []
            self.start(meta.leader)
        if self.crash_due:
            self.crash_due = False
            self.crash()
        self.rebalancer.tick(self.now_us)

    def run(self, seconds):
        for _ in range(int(seconds * 1_000_000 / TICK_US)):
            self.step()

    def settled(self):
        allowed = {node.id for node in holders(self.state)}
        meta = self.shards[META_SHARD].members
        few = len(allowed) < self.state.settings.replication_factor
        return (
            self.state.running() is None
            and (few or set(meta.everyone) <= allowed)
            and all(one.operation is None for one in self.shards.values())
            and fingerprint(self.state) == self.state.placed_for
            and not self.rebalancer.asking
            and all(
                set(self.shards[one.id].members.everyone) == set(one.replicas)
                for one in self.state.shards
            )
        )

    def until_settled(self, seconds=1800):
        quiet = 0
        for _ in range(int(seconds * 1_000_000 / TICK_US)):
            self.step()
            quiet = quiet + 1 if self.settled() else 0
            if quiet * TICK_US > 13_000_000:
                return
        job = self.state.running()
        raise AssertionError(
            f"not settled: {job and (job.kind, job.done, job.log[-3:])} {self.rebalancer.why} "
            f"{self.rebalancer.asking} {decide(self.state, self.rebalancer.observed(self.now_us))}"
        )

    # What must be true in the end

    def check_jobs(self, near=True):
        """Every job that ended as planned copied each replica once. With trouble it may find learners
        that an earlier job left behind, and copy less. near: its plan is near the least there could be
        (a bound that is loose where an earlier job ended half-way)."""
        for job in self.state.jobs:
            if job.state == "done":
                assert list(job.done) == list(range(len(job.steps)))
                made = self.made.get(job.id, 0)
                assert made == job.copies or (self.troubled and made < job.copies), (job, made)
                assert not near or job.copies <= max(job.copies_min + 1, 1.1 * job.copies_min)

    def check_placement(self):
        """All shards are where a plan would leave them."""
        nodes = holders(self.state)
        factor = min(self.state.settings.replication_factor, len(nodes))
        allowed = {node.id for node in nodes}
        for shard in self.shards.values():
            assert len(shard.members.voters) == factor, (shard.id, shard.members)
            assert set(shard.members.everyone) <= allowed, (shard.id, shard.members)
        for node in self.state.nodes:
            assert node.state != "decommissioning"
