"""Pure nodes in one process: frames, log writes and time move only when a test says so."""

import random

from quoit.data import commands
from quoit.data.table import COMMANDS
from quoit.node.config import NodeConfig, PeerInfo
from quoit.node.messages import decode_frame, encode_frame
from quoit.node.node import Node
from quoit.node.session import Session
from quoit.sim.disk import SimDisk
from quoit.storage.log import Log
from quoit.storage.memory import MemoryEngine

_ = commands  # importing the package fills the table


CONSENSUS = "raft"
"""What clusters are made with; the fixture in conftest.py sets it."""


class Clock:
    def __init__(self):
        self.us = 1_000_000
        self.wall_shift_ms = 0

    def now_us(self):
        return self.us

    def wall_ms(self):
        return 1_700_000_000_000 + self.us // 1000 + self.wall_shift_ms


class Client:
    """Sends commands to one node; replies by ticket."""

    def __init__(self, cluster, number):
        self.cluster = cluster
        self.number = number
        self.replies = {}
        self.ticket = 0
        self.session = Session(self, cluster.next_session())
        cluster.clients.append(self)

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

    def send_watch(self, *keys):
        """WATCH without waiting."""
        self.ticket += 1
        reply = self.node.watch(self.session, self.ticket, [key.encode() for key in keys])
        if reply is not None:
            self.replies[self.ticket] = reply
        return self.ticket

    def transact(self, *lines):
        ticket = self.send_exec(*lines)
        self.cluster.run()
        return self.replies.get(ticket)

    def send_exec(self, *lines):
        """MULTI, the lines and EXEC, without waiting; the ticket of EXEC."""
        self.ticket += 1
        queue = []
        for line in lines:
            args = line.encode().split()
            queue.append((self.session.db, COMMANDS[args[0]], args))
        reply = self.node.submit_transaction(self.session, self.ticket, queue)
        if reply is not None:
            self.replies[self.ticket] = reply
        return self.ticket

    def ask(self, *words):
        """Submit, let everything happen, and give the reply."""
        ticket = self.send(*words)
        self.cluster.run()
        return self.replies.get(ticket)


class Cluster:
    """Nodes 1..size, but those in `absent`, which a test starts later.

    held     nodes whose log writes do not finish
    cut      (from, to) pairs whose frames are lost
    slow     (from, to) pairs whose frames wait in `waiting` until `release`
    edit     if given: (from, to, frame) -> the frame to deliver instead, None for none
    writes   node -> its log write that is not finished
    still    nodes whose engine's flush does not finish; flushes: node -> the flush under way
    clients  all that were made
    """

    def __init__(self, size=3, shards=1, absent=(), **settings):
        self.size = size
        self.clock = Clock()
        self.sessions = 0
        self.held = set()
        self.cut = set()
        self.slow = set()
        self.waiting = []
        self.edit = None
        self.still = set()
        self.flushes = {}
        self.clients = []
        self.writes = {}
        self.frames = []
        self.nodes = {}
        self.disks = {}
        self.engines = {}
        self.settings = {
            "shards": shards,
            "meta_shard": False,
            "give_back_after_us": 1 << 50,
            "pipelined_commands_min": 1,
            "consensus": CONSENSUS,
            **settings,
        }
        for number in range(1, size + 1):
            self.disks[number] = SimDisk(random.Random(number))
            self.engines[number] = MemoryEngine(crashable=True)
            if number not in absent:
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
        self.flushes.pop(number, None)
        self.clients = [client for client in self.clients if client.number != number]
        self.frames = [frame for frame in self.frames if number not in frame[:2]]
        self.waiting = [frame for frame in self.waiting if number not in frame[:2]]
        for other in self.nodes.values():
            other.on_peer(number, False)

    def power_off(self, number, kept=0):
        """Stop, and lose what was not synced; `kept` writes of the engine after its last flush."""
        self.stop(number)
        self.disks[number].crash()
        self.engines[number] = self.engines[number].crash(kept)

    def connect(self, one, other):
        self.cut -= {(one, other), (other, one)}
        self.nodes[one].on_peer(other, True)
        self.nodes[other].on_peer(one, True)

    def disconnect(self, one, other):
        self.cut |= {(one, other), (other, one)}
        self.frames = [f for f in self.frames if {f[0], f[1]} != {one, other}]
        self.waiting = [f for f in self.waiting if {f[0], f[1]} != {one, other}]
        self.nodes[one].on_peer(other, False)
        self.nodes[other].on_peer(one, False)

    def turn(self, number):
        node = self.nodes[number]
        effects = node.end_turn()
        node.check()
        if effects.write is not None:
            self.writes[number] = effects.write
        for peer, payload in effects.urgent + effects.frames:
            self.frames.append((number, peer, payload))
        for session, ticket, reply in effects.replies:
            session.sink.fill(ticket, reply)
        if effects.flush_engine:
            self.flushes[number] = (effects.flush_engine, self.engines[number].begin_flush())

    def run(self):
        """Until nothing can happen without time."""
        for _ in range(500):
            for number in list(self.nodes):
                self.turn(number)
            frames, self.frames = self.frames, []
            ready = [number for number in self.writes if number not in self.held]
            flushed = [number for number in self.flushes if number not in self.still]
            if not frames and not ready and not flushed:
                return
            for frame in frames:
                self.deliver(*frame)
            for number in ready:
                self.persist(number)
            for number in flushed:
                self.flush(number)
        raise AssertionError("the nodes never come to rest")

    def deliver(self, source, target, payload):
        if target not in self.nodes or (source, target) in self.cut:
            return
        if (source, target) in self.slow:
            self.waiting.append((source, target, payload))
            return
        if self.edit is not None:
            frame = self.edit(source, target, decode_frame(payload))
            if frame is None:
                return
            payload = encode_frame(frame)
        self.nodes[target].on_frame(source, payload)

    def release(self, *links):
        """The frames of these slow links arrive, in order; of all if none is named."""
        self.slow -= set(links) if links else set(self.slow)
        waiting, self.waiting = self.waiting, []
        self.frames = waiting + self.frames

    def flush(self, number):
        token, covered = self.flushes.pop(number)
        self.engines[number].end_flush(covered)
        self.nodes[number].on_engine_flushed(token)

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
            if len(shards) == len(next(iter(self.nodes.values())).ranges()):
                return
            self.pass_ms(10)
        raise AssertionError("a shard has no leader")

    def leader(self, shard=0):
        return next(number for number, node in self.nodes.items() if shard in node.serving)

    def move_leader(self, shard=0):
        """The leader hands over; who leads then."""
        old = self.leader(shard)
        self.nodes[old].begin_stop()
        self.nodes[old].stopping = False
        self.pass_ms(50)
        assert self.leader(shard) != old
        return self.leader(shard)

    def follower(self, shard=0):
        return self.followers(shard)[0]

    def followers(self, shard=0):
        leader = self.leader(shard)
        return [number for number in self.nodes if number != leader]

    def idle(self):
        """Nothing is pending anywhere."""
        return all(
            node.pending == 0
            and node.dispatcher.pending_bytes == 0
            and not node.dispatcher.parked
            and not node.forwarder.sent
            and all(replica.pending() == 0 for replica in node.replicas.values())
            for node in self.nodes.values()
        ) and not any(client.session.unanswered for client in self.clients)


def _quiet(event, /, **facts):
    """No traces."""
