"""Sending a shard's state to a follower that is behind the compacted log, and taking it in.

One transfer per follower and shard (snapshot_sending.py), chunks in order, one under way at a time. A lost
chunk, a lost acknowledgement or a lost connection costs one chunk: the receiver keeps what it has,
and says so again when it gets a chunk twice. Only when it knows nothing of the transfer (it was
restarted, or heard nothing for long) the transfer ends, and another begins.

Each chunk carries a CRC32C over whose it is, its place and its bytes, the last one the number of records
and a CRC32C of all of them. The receiver changes nothing until it has everything; then data and state
record go into the engine in one atomic batch, and the log is told (Raft section 7). Until then a
shard's whole state is in the receiver's memory: that is the bound.
"""

import struct
from collections.abc import Iterator
from itertools import islice
from typing import Protocol

import msgspec

from quoit.base import limits
from quoit.base.checksum import crc32c, crc32c_extend
from quoit.base.ids import Index
from quoit.base.seams import Clock, Trace
from quoit.data.effects import index_keys
from quoit.data.keys import shard_ranges
from quoit.node.config import NodeConfig
from quoit.node.messages import Frame, SnapshotAck, SnapshotChunk
from quoit.node.replica import Replica
from quoit.node.snapshot_sending import KEEP_US, RECORD_COST, TRANSFERS_MAX, Budget, Sending
from quoit.node.state import decode_state, encode_state
from quoit.quorum.agreement import SnapshotMeta
from quoit.storage.api import Engine

__all__ = ["HELD", "INSTALLED", "REFUSED", "Snapshots", "checksum_of"]

_ITEMS_PER_CHUNK = 2048
REFUSED = 0
HELD = 1
INSTALLED = 2
_place = struct.Struct(">IQQQQQ")
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(list[tuple[bytes, bytes]]).decode


class Network(Protocol):
    """What snapshots ask of their node."""

    config: NodeConfig
    clock: Clock
    engine: Engine
    counters: dict[str, int]
    connected: dict[int, int]
    replicas: dict[int, Replica]
    home_dbs: dict[int, list[int]]
    trace: Trace

    @property
    def log_held(self) -> bool:
        """Nothing is written to the log before the engine has been flushed."""
        ...

    def outgoing(self, peer: int) -> Frame:
        """The frame being filled for `peer`."""
        ...

    def hold_log_for_flush(self) -> None:
        """Write nothing more to the log before the engine has been flushed."""
        ...


class Receiving(msgspec.Struct):
    """A transfer from a leader, held in memory until it is complete."""

    peer: int
    transfer: int
    ends_us: int
    next_number: int = 0
    records: int = 0
    total: int = 0
    items: dict[bytes, bytes | None] = {}


def checksum_of(chunk: SnapshotChunk) -> int:
    """CRC32C over whose chunk it is, its place in the transfer, and its bytes."""
    meta = chunk.meta
    head = _place.pack(chunk.shard, chunk.term, chunk.transfer, chunk.number, meta.index, meta.term)
    ends = chunk.records.to_bytes(8, "big") + chunk.total.to_bytes(4, "big") + chunk.state
    return crc32c_extend(crc32c_extend(crc32c(head), chunk.data), ends)


class Snapshots:
    """Both ends of snapshot transfers on one node.

    sending    (shard, peer) -> the transfer; in the order in which they began
    queue      (shard, peer) -> when it was asked for; they begin when others have ended
    receiving  shard -> the transfer that comes in
    taken      shard -> (peer, transfer) that was installed last
    sent_to    (shard, peer) -> bytes of data that this node has sent, in all transfers, and of entries to
               those that learn
    """

    __slots__ = (
        "budget", "network", "next_transfer", "queue", "receiving", "sending", "sent_to",
        "taken",
    )  # fmt: skip

    def __init__(self, network: Network, first_transfer: int) -> None:
        self.network = network
        self.sending: dict[tuple[int, int], Sending] = {}
        self.queue: dict[tuple[int, int], int] = {}
        self.receiving: dict[int, Receiving] = {}
        self.taken: dict[int, tuple[int, int]] = {}
        self.sent_to: dict[tuple[int, int], int] = {}
        self.next_transfer = first_transfer
        rate = network.config.snapshot_bytes_per_s
        self.budget = Budget(rate, network.clock.now_us())

    # Leader

    def start(self, replica: Replica, peer: int, now_us: int) -> None:
        """The follower needs the state: begin now, or when there is a place for it."""
        key = (replica.id, peer)
        running = self.sending.get(key)
        if running is not None:
            core = replica.core
            if running.term == core.term and running.meta.index + 1 >= core.first_index:
                return  # what it brings is new enough
            del self.sending[key]
        self.queue[key] = now_us
        self._begin_next(now_us)

    def _begin_next(self, now_us: int) -> None:
        for shard, peer in list(self.queue):
            if sum(sending.moves for sending in self.sending.values()) >= TRANSFERS_MAX:
                return
            del self.queue[shard, peer]
            replica = self.network.replicas.get(shard)
            if replica is not None and replica.core.is_leader:
                self._begin(replica, peer, now_us)

    def _begin(self, replica: Replica, peer: int, now_us: int) -> None:
        """Send the state as applied now."""
        state = replica.state
        self.next_transfer += 1
        self.network.counters["snapshots_sent"] += 1
        self.sending[replica.id, peer] = Sending(
            shard=replica.id,
            peer=peer,
            term=replica.core.term,
            transfer=self.next_transfer,
            meta=SnapshotMeta(
                state.applied_index, state.applied_term, state.members or replica.core.members
            ),
            state=encode_state(state),
            items=self._items(replica),
            ends_us=now_us + KEEP_US,
            connected=peer in self.network.connected,
        )
        self._send_ready(now_us)

    def _items(self, replica: Replica) -> Iterator[tuple[bytes, bytes]]:
        """The shard's data, from iterators that are all created now: one consistent moment."""
        engine = self.network.engine
        scans = [engine.scan(low, high) for low, high in self._ranges(replica)]
        return (pair for scan in scans for pair in scan)

    def _ranges(self, replica: Replica) -> list[tuple[bytes, bytes]]:
        shard = replica.range
        pinned = self.network.home_dbs.get(replica.id, [])
        return shard_ranges(shard.slot_low, shard.slot_high, pinned)

    def _send_ready(self, now_us: int) -> None:
        """Send what may be sent now: whose last chunk was acknowledged, in turns."""
        for sending in list(self.sending.values()):
            if not self.budget.left():
                return
            if sending.ready and sending.moves:
                # Those that were served go to the end.
                del self.sending[sending.shard, sending.peer]
                self.sending[sending.shard, sending.peer] = sending
                self._make_next(sending)
                self._send(sending, now_us)

    def _make_next(self, sending: Sending) -> None:
        items: list[tuple[bytes, bytes]] = []
        size = 0
        for pair in islice(sending.items, _ITEMS_PER_CHUNK):
            items.append(pair)
            size += len(pair[0]) + len(pair[1])
            if size >= limits.SNAPSHOT_CHUNK_BYTES:
                break
        data = _encode(items)
        sending.count = len(items)
        sending.records += len(items)
        sending.total = crc32c_extend(sending.total, data)
        number = sending.chunk.number + 1 if sending.chunk is not None else 0
        chunk = SnapshotChunk(
            sending.shard, sending.term, sending.transfer, number, sending.meta, data,
            b"" if items else sending.state, sending.records, sending.total, 0,
        )  # fmt: skip
        sending.chunk = msgspec.structs.replace(chunk, check=checksum_of(chunk))

    def _send(self, sending: Sending, now_us: int) -> None:
        chunk = sending.chunk
        if chunk is None:
            return
        sending.sent(now_us)
        counters = self.network.counters
        counters["snapshot_chunks"] += 1
        counters["snapshot_bytes"] += len(chunk.data)
        key = (sending.shard, sending.peer)
        self.sent_to[key] = self.sent_to.get(key, 0) + len(chunk.data)
        self.budget.spend(len(chunk.data) + len(chunk.state) + RECORD_COST * sending.count)
        self.network.outgoing(sending.peer).other.append(chunk)

    def acknowledged(self, peer: int, ack: SnapshotAck, now_us: int) -> None:
        """The follower has a chunk, or refuses the transfer."""
        sending = self.sending.get((ack.shard, peer))
        if sending is None or sending.chunk is None:
            return
        if (ack.transfer, ack.number) != (sending.transfer, sending.chunk.number):
            return
        if ack.answer != HELD:
            self._end(sending, ok=ack.answer == INSTALLED, now_us=now_us)
            return
        sending.moved(now_us)
        if sending.handed:
            self._begin_next(now_us)
        self._send_ready(now_us)

    def _end(self, sending: Sending, *, ok: bool, now_us: int) -> None:
        del self.sending[sending.shard, sending.peer]
        if self._is_wanted(sending):
            core = self.network.replicas[sending.shard].core
            core.snapshot_done(sending.peer, sending.meta.index, ok, now_us)
        self._begin_next(now_us)

    def _is_wanted(self, sending: Sending) -> bool:
        """This node still leads as it did, and the follower is one."""
        replica = self.network.replicas.get(sending.shard)
        if replica is None:
            return False
        core = replica.core
        leads = core.is_leader and core.term == sending.term
        return leads and sending.peer in core.members.everyone

    def tick(self, now_us: int) -> None:
        """Go on with what waited, end what nobody needs or answers."""
        self.budget.refill(now_us)
        for shard in [shard for shard, got in self.receiving.items() if now_us >= got.ends_us]:
            del self.receiving[shard]
        for sending in list(self.sending.values()):
            if now_us >= sending.ends_us or not self._is_wanted(sending):
                self._end(sending, ok=False, now_us=now_us)
            elif sending.repeats(now_us):
                self._send(sending, now_us)
        self._send_ready(now_us)

    def floor(self, shard: int, peer: int) -> Index:
        """The follower will need no entries up to here, as a transfer brings them; 0: there is none."""
        sending = self.sending.get((shard, peer))
        return sending.meta.index if sending is not None else 0

    # Connections

    def count(self, shard: int, peer: int, message: object) -> None:
        """A message goes to a learner: what it carries is part of what its move costs."""
        size = sum(len(entry.data) for entry in getattr(message, "entries", ()))
        if size:
            self.sent_to[shard, peer] = self.sent_to.get((shard, peer), 0) + size

    def lost(self, peer: int, now_us: int) -> None:
        """The connection to `peer` broke: what runs waits for it, and makes place for others."""
        for sending in self.sending.values():
            if sending.peer == peer:
                sending.connected = False
        self._begin_next(now_us)

    def found(self, peer: int, now_us: int) -> None:
        """`peer` is there again: it gets the last chunk once more, and says what it has."""
        for sending in list(self.sending.values()):
            if sending.peer == peer and not sending.connected:
                sending.connected = True
                self._send(sending, now_us)
        self._send_ready(now_us)

    def forget(self, shard: int) -> None:
        """The replica here is being dropped."""
        self.receiving.pop(shard, None)
        self.taken.pop(shard, None)
        for key in [key for key in self.sending if key[0] == shard]:
            del self.sending[key]
        for key in [key for key in self.queue if key[0] == shard]:
            del self.queue[key]
        for key in [key for key in self.sent_to if key[0] == shard]:
            del self.sent_to[key]

    # Follower

    def received(self, peer: int, chunk: SnapshotChunk, now_us: int) -> None:
        """A chunk from the shard's leader."""
        replica = self.network.replicas.get(chunk.shard)
        if replica is None:
            return
        if self.taken.get(chunk.shard) == (peer, chunk.transfer):
            answer = HELD if self.network.log_held else INSTALLED
            self._acknowledge(peer, chunk, answer)
            return
        got = self.receiving.get(chunk.shard)
        known = got is not None and (got.peer, got.transfer) == (peer, chunk.transfer)
        if chunk.number == 0 and not known:
            got = Receiving(peer, chunk.transfer, now_us + KEEP_US, items={})
            known = True
        if known and got is not None and chunk.number < got.next_number:
            self._acknowledge(peer, chunk, HELD)
            return
        core = replica.core
        expected = known and got is not None and got.next_number == chunk.number
        if got is None or not expected or not core.accepts_snapshot(chunk.term, chunk.meta.index):
            if expected and core.term <= chunk.term and core.commit_index >= chunk.meta.index:
                # It has all that already: the leader is told so, or it would offer it for ever.
                core.install(peer, chunk.term, chunk.meta, now_us)
            self._acknowledge(peer, chunk, REFUSED)
            return
        self.receiving[chunk.shard] = got
        if not self._take(got, chunk, now_us):
            del self.receiving[chunk.shard]
            self.network.counters["snapshots_damaged"] += 1
            self.network.trace("snapshot_damaged", shard=chunk.shard, sender=peer)
            self._acknowledge(peer, chunk, REFUSED)
            return
        if chunk.state:
            del self.receiving[chunk.shard]
            self.taken[chunk.shard] = (peer, chunk.transfer)
            self._install(replica, peer, chunk, got.items, now_us)
        self._acknowledge(peer, chunk, HELD)

    def _take(self, got: Receiving, chunk: SnapshotChunk, now_us: int) -> bool:
        """Keep what the chunk brings. False: it is not what was sent."""
        if checksum_of(chunk) != chunk.check:
            return False
        items = _decode(chunk.data)
        got.records += len(items)
        got.total = crc32c_extend(got.total, chunk.data)
        if (got.records, got.total) != (chunk.records, chunk.total):
            return False
        pairs: dict[bytes, bytes | None] = dict(items)
        got.items.update(pairs)
        got.items.update(index_keys(pairs))
        got.next_number += 1
        got.ends_us = now_us + KEEP_US
        return True

    def _acknowledge(self, peer: int, chunk: SnapshotChunk, answer: int) -> None:
        self.network.outgoing(peer).other.append(
            SnapshotAck(chunk.shard, chunk.transfer, chunk.number, answer)
        )

    def _install(
        self,
        replica: Replica,
        peer: int,
        chunk: SnapshotChunk,
        data: dict[bytes, bytes | None],
        now_us: int,
    ) -> None:
        state = decode_state(chunk.state)
        data[replica.state_key] = chunk.state
        # The ranges go first: what the leader no longer has must not survive here.
        self.network.engine.write([(self._ranges(replica), data)])
        replica.reset_to(state)
        # The log may forget its entries only when the engine holds the snapshot durably.
        self.network.hold_log_for_flush()
        self.network.counters["snapshots_installed"] += 1
        replica.core.install(peer, chunk.term, chunk.meta, now_us)
