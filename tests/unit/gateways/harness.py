"""A node without agreement: real data handlers over a dict, writes answered one turn later, and a
transport that keeps what is written to it."""

from collections.abc import Iterator
from functools import partial
from typing import Any

import msgspec

from quoit.base.slots import slot_of
from quoit.data.table import Spec
from quoit.data.view import View
from quoit.gateways.resp.connection import RespConnection
from quoit.gateways.resp.gateway import RespGateway, RespSettings
from quoit.node.batch import EXEC, VERSIONS, Runner, Transaction
from quoit.node.router import CROSS_SHARD, Router
from quoit.node.session import Session
from quoit.node.status import NodeStatus, PeerStatus, ShardStatus
from quoit.placement.ring import NodeInfo
from quoit.placement.shard_map import ShardMap
from quoit.wire import resp

NOW_MS = 1_700_000_000_000
SHARDS = 4


class FakeNode:
    """One process, four shards by name only: all data are in one dict."""

    def __init__(self) -> None:
        nodes = [NodeInfo(1, "a"), NodeInfo(2, "b"), NodeInfo(3, "c")]
        self.map = ShardMap.create(SHARDS, nodes, 3)
        self.router = Router(self.map)
        self.wall_ms = NOW_MS
        self.engine: dict[bytes, bytes] = {}
        self.counts: dict[int, int] = {}
        self.seq = 0
        self.runner = Runner(View(self.engine.get, self._scan, 0, 16383), lambda *a, **k: None)
        self.queue: list[tuple[Any, ...]] = []
        self.reads_wait = False
        self.submitted = 0
        self.closed: list[int] = []
        self.watched: dict[tuple[int, int], Any] = {}

    def _scan(self, low: bytes, high: bytes) -> Iterator[tuple[bytes, bytes]]:
        return iter(sorted((k, v) for k, v in self.engine.items() if low <= k < high))

    def submit(self, session: Session, ticket: int, spec: Spec, args: list[bytes]) -> bytes | None:
        self.submitted += 1
        if not spec.fanout and len(self.router.shards_of(session.db, spec, args)) > 1:
            return CROSS_SHARD
        item = (session, ticket, spec, args, session.db, session.proto)
        if not spec.write and not self.reads_wait and not self.queue:
            reply = self.runner.read(spec, args, *item[4:], self.wall_ms, self.counts)
            if reply is not None:
                return reply
        self.queue.append(item)
        return None

    def submit_transaction(
        self, session: Session, ticket: int, commands: list[tuple[int, Spec, list[bytes]]]
    ) -> bytes | None:
        watched, session.watched = session.watched, {}
        return self._execute(session, ticket, commands, watched)

    def _execute(self, session: Session, ticket: int, commands: Any, kept: Any) -> bytes | None:
        if session.watch_pending:
            start = partial(self._execute, session, ticket, commands, kept)
            session.deferred.append((ticket, start, session.db, session.proto, 0))
            return None
        shards = self.router.transaction(kept, commands)
        watched = [(db, key, version) for (db, key), version in kept.items()]
        if not shards:
            return b"*0\r\n"
        if len(shards) > 1:
            return CROSS_SHARD
        self.queue.append((session, ticket, EXEC, Transaction(watched, commands), 0, session.proto))
        return None

    def watch(self, session: Session, ticket: int, keys: list[bytes]) -> bytes | None:
        session.watch_pending += 1
        self.watched[session.id, ticket] = session.watched
        self.queue.append((session, ticket, VERSIONS, [b"WATCH", *keys], session.db, session.proto))
        return None

    def close_session(self, session: Session) -> None:
        session.closed = True
        self.closed.append(session.id)

    def turn(self) -> list[Session]:
        """Run what waits; the sessions that got replies."""
        items, self.queue = self.queue, []
        effects, replies = self.runner.batch(items, self.wall_ms, self.seq, self.counts)
        if effects is not None:
            self.seq = effects.seq
            effects.count_into(self.counts)
            for ranges, changes in effects.groups():
                for low, high in ranges:
                    for key in [key for key in self.engine if low <= key < high]:
                        del self.engine[key]
                for key, raw in changes.items():
                    if raw is None:
                        self.engine.pop(key, None)
                    else:
                        self.engine[key] = raw
        touched: dict[int, Session] = {}
        for item, reply in zip(items, replies, strict=True):
            session = item[0]
            if session.closed:
                continue
            if item[2] is VERSIONS:
                versions = msgspec.msgpack.decode(reply)
                for key, version in zip(item[3][1:], versions, strict=True):
                    self.watched[session.id, item[1]].setdefault((item[4], key), version)
                session.watch_pending -= 1
                reply = resp.OK
            session.sink.fill(item[1], reply)
            touched[session.id] = session
            if item[2] is VERSIONS and not session.watch_pending:
                deferred, session.deferred = session.deferred, []
                for ticket, start, *_ in deferred:
                    answer = start()
                    if answer is not None:
                        session.sink.fill(ticket, answer)
        return list(touched.values())

    def status(self) -> NodeStatus:
        peers = [
            PeerStatus(n, f"n{n}", "127.0.0.1", 7000 + n, 7100 + n, 7200 + n, n != 3, 0)
            for n in (1, 2, 3)
        ]
        shards = [
            ShardStatus(
                row.id, row.slot_low, row.slot_high, list(row.replicas), row.id % 3 + 1,
                "leader", 5, 9, 9, 9, 1, {0: len(self.engine)} if row.id == 0 else {}, 0,
            )
            for row in self.map.shards
        ]  # fmt: skip
        return NodeStatus(
            "c1", 1, "n1", "0.1", "raft", 61_000, peers, shards, {"frames_received": 7}
        )


class FakeHost:
    """Runs turns when told to."""

    def __init__(self) -> None:
        self.node = FakeNode()
        self.kicks = 0
        self.failures: list[str] = []

    def kick(self) -> None:
        self.kicks += 1

    def fail(self, message: str, error: BaseException | None = None) -> None:
        self.failures.append(message)

    def turn(self) -> None:
        """Turns until nothing waits."""
        while self.node.queue:
            for session in self.node.turn():
                session.sink.flush()


class FakeTransport:
    """Keeps what is written. `jam` makes it behave as if the client did not read."""

    def __init__(self) -> None:
        self.writes: list[bytes] = []
        self.buffer = 0
        self.high_water = 64 * 1024
        self.jammed = False
        self.reading = True
        self.closed = False
        self.aborted = False
        self.eof_written = False
        self.protocol: RespConnection | None = None

    def write(self, data: bytes) -> None:
        assert data and not self.closed
        self.writes.append(data)
        if self.jammed:
            before, self.buffer = self.buffer, self.buffer + len(data)
            if before <= self.high_water < self.buffer:
                assert self.protocol is not None
                self.protocol.pause_writing()

    def unjam(self) -> None:
        paused = self.buffer > self.high_water
        self.jammed = False
        self.buffer = 0
        if paused:
            assert self.protocol is not None
            self.protocol.resume_writing()

    def get_write_buffer_size(self) -> int:
        return self.buffer

    def pause_reading(self) -> None:
        assert self.reading
        self.reading = False

    def resume_reading(self) -> None:
        assert not self.reading
        self.reading = True

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self.eof_written = self.closed = True

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.closed = self.aborted = True

    def get_extra_info(self, name: str) -> object:
        return {"peername": ("127.0.0.1", 50000), "sockname": ("127.0.0.1", 7001)}.get(name)


class Client:
    """One connection with its ends."""

    def __init__(self, host: FakeHost, gateway: RespGateway) -> None:
        self.host = host
        self.transport = FakeTransport()
        self.connection = gateway.connect(host)  # type: ignore[arg-type]
        self.transport.protocol = self.connection
        self.connection.connection_made(self.transport)

    def send(self, data: bytes) -> None:
        """Bytes arrive; nothing else happens."""
        self.connection.data_received(data)

    def taken(self) -> bytes:
        """What was written since the last call."""
        data = b"".join(self.transport.writes)
        self.transport.writes.clear()
        return data

    def raw(self, data: bytes) -> bytes:
        """Bytes arrive and the node has its turns: what is written."""
        self.send(data)
        self.host.turn()
        return self.taken()

    def run(self, *args: bytes | str | int) -> bytes:
        """One command."""
        return self.raw(encode(*args))

    def lost(self) -> None:
        self.connection.connection_lost(None)


class Place:
    """A node with its gateway."""

    def __init__(self, **settings: Any) -> None:
        self.host = FakeHost()
        self.gateway = RespGateway(RespSettings(**settings))

    def client(self) -> Client:
        return Client(self.host, self.gateway)


def encode(*args: bytes | str | int) -> bytes:
    """A command as clients send it."""
    parts = [arg if isinstance(arg, bytes) else str(arg).encode() for arg in args]
    return b"*%d\r\n" % len(parts) + b"".join(resp.bulk(part) for part in parts)


def key_of_shard(node: FakeNode, shard: int, prefix: str = "k") -> bytes:
    """Some key that lies on the shard."""
    number = 0
    while True:
        key = f"{prefix}{number}".encode()
        if node.router.slot_to_shard[slot_of(key)] == shard:
            return key
        number += 1
