"""Pure nodes in one process: frames, log writes and time move only when a test says so."""

import random

from quoit.data import commands
from quoit.data.table import COMMANDS
from quoit.node.config import NodeConfig, PeerInfo
from quoit.node.node import Node
from quoit.node.session import Session
from quoit.sim.disk import SimDisk
from quoit.storage.log import Log
from quoit.storage.memory import MemoryEngine

_ = commands  # importing the package fills the table


class Clock:
    def __init__(self):
        self.us = 1_000_000

    def now_us(self):
        return self.us

    def wall_ms(self):
        return 1_700_000_000_000 + self.us // 1000


class Client:
    """Sends commands to one node; replies by ticket."""

    def __init__(self, cluster, number):
        self.cluster = cluster
        self.number = number
        self.replies = {}
        self.ticket = 0
        self.session = Session(self, cluster.next_session())

    def fill(self, ticket, reply):
        self.replies[ticket] = reply

    def flush(self):
        """Replies are kept."""

    @property
    def node(self):
        return self.cluster.nodes[self.number]

    def send(self, *words):
        """Submit; the ticket under which the reply is or will be."""
        args = [word.encode() if isinstance(word, str) else word for word in words]
        self.ticket += 1
        reply = self.node.submit(self.session, self.ticket, COMMANDS[args[0]], args)
        if reply is not None:
            self.replies[self.ticket] = reply
        return self.ticket

    def watch(self, *keys):
        self.ticket += 1
        reply = self.node.watch(self.session, self.ticket, list(keys))
        if reply is not None:
            self.replies[self.ticket] = reply
        self.cluster.run()
        return self.replies.get(self.ticket)

    def transact(self, *lines):
        self.ticket += 1
        queue = []
        for line in lines:
            args = line.encode().split()
            queue.append((self.session.db, COMMANDS[args[0]], args))
        reply = self.node.submit_transaction(self.session, self.ticket, queue)
        if reply is not None:
            self.replies[self.ticket] = reply
        self.cluster.run()
        return self.replies.get(self.ticket)

    def ask(self, *words):
        """Submit, let everything happen, and give the reply."""
        ticket = self.send(*words)
        self.cluster.run()
        return self.replies.get(ticket)


class Cluster:
    """Nodes 1..size.

    held    nodes whose log writes do not finish
    cut     (from, to) pairs whose frames are lost
    writes  node -> its log write that is not finished
    """

    def __init__(self, size=3, shards=1, **settings):
        self.size = size
        self.clock = Clock()
        self.sessions = 0
        self.held = set()
        self.cut = set()
        self.writes = {}
        self.frames = []
        self.nodes = {}
        self.disks = {}
        self.engines = {}
        self.settings = {"shards": shards, "give_back_after_us": 1 << 50, **settings}
        for number in range(1, size + 1):
            self.disks[number] = SimDisk(random.Random(number))
            self.engines[number] = MemoryEngine()
            self.start(number)
        self.settle()

    def next_session(self):
        self.sessions += 1
        return self.sessions

    def start(self, number):
        log, recovery = Log.open(self.disks[number], segment_bytes=1 << 20)
        peers = tuple(PeerInfo(one, f"n{one}") for one in range(1, self.size + 1))
        config = NodeConfig(
            node_id=number,
            cluster_id="test",
            nodes=peers,
            pipelined_commands_min=1,
            **self.settings,
        )
        node = Node(
            config, self.clock, random.Random(number), self.engines[number], log, recovery, _quiet
        )
        self.nodes[number] = node
        self.writes.pop(number, None)
        for other in self.nodes:
            if other != number:
                self.connect(number, other)

    def stop(self, number):
        del self.nodes[number]
        self.writes.pop(number, None)
        self.frames = [frame for frame in self.frames if number not in frame[:2]]
        for other in self.nodes.values():
            other.on_peer(number, False)

    def connect(self, one, other):
        self.cut -= {(one, other), (other, one)}
        self.nodes[one].on_peer(other, True)
        self.nodes[other].on_peer(one, True)

    def disconnect(self, one, other):
        self.cut |= {(one, other), (other, one)}
        self.frames = [f for f in self.frames if {f[0], f[1]} != {one, other}]
        self.nodes[one].on_peer(other, False)
        self.nodes[other].on_peer(one, False)

    def turn(self, number):
        effects = self.nodes[number].end_turn()
        if effects.write is not None:
            self.writes[number] = effects.write
        for peer, payload in effects.urgent + effects.frames:
            self.frames.append((number, peer, payload))
        for session, ticket, reply in effects.replies:
            session.sink.fill(ticket, reply)
        if effects.flush_engine:
            self.engines[number].flush()
            self.nodes[number].on_engine_flushed(effects.flush_engine)

    def run(self):
        """Until nothing can happen without time."""
        for _ in range(500):
            for number in list(self.nodes):
                self.turn(number)
            frames, self.frames = self.frames, []
            ready = [number for number in self.writes if number not in self.held]
            if not frames and not ready:
                return
            for source, target, payload in frames:
                if target in self.nodes and (source, target) not in self.cut:
                    self.nodes[target].on_frame(source, payload)
            for number in ready:
                self.persist(number)
        raise AssertionError("the nodes never come to rest")

    def persist(self, number):
        write = self.writes.pop(number)
        log = self.nodes[number].log
        log.commit(write)
        log.note(write)
        self.nodes[number].on_persisted(write)

    def pass_ms(self, milliseconds):
        """Time passes in ticks."""
        for _ in range(0, milliseconds, 10):
            self.clock.us += 10_000
            for node in list(self.nodes.values()):
                node.tick()
            self.run()

    def settle(self):
        """Until every shard is led."""
        for _ in range(300):
            shards = {shard for node in self.nodes.values() for shard in node.serving}
            if len(shards) == len(next(iter(self.nodes.values())).map.shards):
                return
            self.pass_ms(10)
        raise AssertionError("a shard has no leader")

    def leader(self, shard=0):
        return next(number for number, node in self.nodes.items() if shard in node.serving)

    def follower(self, shard=0):
        leader = self.leader(shard)
        return next(number for number in self.nodes if number != leader)

    def idle(self):
        """Nothing is pending anywhere."""
        return all(node.pending == 0 for node in self.nodes.values()) and all(
            node.dispatcher.pending_bytes == 0 for node in self.nodes.values()
        )


def _quiet(event, /, **facts):
    """No traces."""
