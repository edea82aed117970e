"""Sending a shard's state to a follower that is behind the compacted log, and taking it in.

One transfer per follower and shard, two at a time per node, no faster than `snapshot_bytes_per_s`;
chunks with a checksum, in order, each sent after the one before was acknowledged, so memory on both
sides is bounded by a chunk (sender) and the shard (receiver). The
receiver changes nothing until it has everything; then data and state record go into the engine in
one atomic batch, and the log is told (Raft section 7).
"""

from collections.abc import Iterator
from itertools import islice
from typing import Protocol

import msgspec

from quoit.base import limits
from quoit.base.checksum import crc32c, crc32c_extend
from quoit.base.seams import Trace
from quoit.data.effects import index_keys
from quoit.data.keys import shard_ranges
from quoit.node.config import NodeConfig
from quoit.node.messages import Frame, SnapshotAck, SnapshotChunk
from quoit.node.replica import Replica
from quoit.node.state import decode_state, encode_state
from quoit.quorum.agreement import SnapshotMeta
from quoit.storage.api import Engine

__all__ = ["Snapshots"]

_ITEMS_PER_CHUNK = 2048
_STALL_US = 3_000_000
"""A chunk that is not acknowledged for so long was lost: the transfer starts again."""


_AT_ONCE = 2
"""Transfers that one node sends at a time."""


def _checksum(chunk: SnapshotChunk) -> int:
    """CRC32C of what the chunk is, and of what is in it."""
    place = (chunk.shard, chunk.transfer, chunk.number, chunk.meta.index, len(chunk.items))
    crc = crc32c(b"".join(part.to_bytes(8, "big") for part in place) + chunk.state)
    for key, value in chunk.items:
        crc = crc32c_extend(crc32c_extend(crc, key), value)
    return crc


class Network(Protocol):
    """What snapshots ask of their node."""

    config: NodeConfig
    engine: Engine
    trace: Trace
    counters: dict[str, int]
    replicas: dict[int, Replica]
    home_dbs: dict[int, list[int]]

    def outgoing(self, peer: int) -> Frame:
        """The frame being filled for `peer`."""
        ...

    def hold_log_for_flush(self) -> None:
        """Write nothing more to the log before the engine has been flushed."""
        ...


class Sending(msgspec.Struct):
    """A transfer to one follower."""

    shard: int
    peer: int
    number: int
    term: int
    meta: SnapshotMeta
    state: bytes
    items: Iterator[tuple[bytes, bytes]]
    stalls_us: int
    transfer: int
    due_us: int
    """No chunk before this, lest the transfer take all of the network and the disks."""
    waits: bool = False
    """The follower took the last chunk; the next one is not due yet."""


class Receiving(msgspec.Struct):
    """A transfer from a leader, held in memory until it is complete."""

    peer: int
    transfer: int
    next_number: int
    items: list[tuple[bytes, bytes]]


class Snapshots:
    """Both ends of snapshot transfers on one node."""

    __slots__ = ("network", "next_transfer", "receiving", "sending")

    def __init__(self, network: Network, first_transfer: int) -> None:
        self.network = network
        self.sending: dict[tuple[int, int], Sending] = {}
        self.receiving: dict[int, Receiving] = {}
        self.next_transfer = first_transfer

    # Leader

    def start(self, replica: Replica, peer: int, now_us: int) -> None:
        """Begin a transfer of the state as applied now, unless enough are under way already: then the
        core asks again."""
        if len(self.sending) >= _AT_ONCE:
            replica.core.snapshot_done(peer, 0, False, now_us)
            return
        state = replica.state
        self.next_transfer += 1
        self.network.counters["snapshots_sent"] += 1
        self.sending[replica.id, peer] = sending = Sending(
            shard=replica.id,
            peer=peer,
            number=-1,
            term=replica.core.term,
            meta=SnapshotMeta(
                state.applied_index, state.applied_term, state.members or replica.core.members
            ),
            state=encode_state(state),
            items=self._items(replica),
            stalls_us=now_us + _STALL_US,
            transfer=self.next_transfer,
            due_us=now_us,
        )
        self._send_next(sending, now_us)

    def _items(self, replica: Replica) -> Iterator[tuple[bytes, bytes]]:
        """The shard's data, from iterators that are all created now: one consistent moment."""
        engine = self.network.engine
        scans = [engine.scan(low, high) for low, high in self._ranges(replica)]
        return (pair for scan in scans for pair in scan)

    def _ranges(self, replica: Replica) -> list[tuple[bytes, bytes]]:
        shard = replica.range
        pinned = self.network.home_dbs.get(replica.id, [])
        return shard_ranges(shard.slot_low, shard.slot_high, pinned)

    def _send_next(self, sending: Sending, now_us: int) -> None:
        items: list[tuple[bytes, bytes]] = []
        size = 0
        for pair in islice(sending.items, _ITEMS_PER_CHUNK):
            items.append(pair)
            size += len(pair[0]) + len(pair[1])
            if size >= limits.SNAPSHOT_CHUNK_BYTES:
                break
        sending.number += 1
        sending.waits = False
        sending.stalls_us = now_us + _STALL_US
        rate = self.network.config.snapshot_bytes_per_s
        sending.due_us = max(now_us, sending.due_us) + size * 1_000_000 // rate
        state = b"" if items else sending.state
        chunk = SnapshotChunk(
            sending.shard, sending.term, sending.transfer, sending.number, sending.meta, items,
            state, 0,
        )  # fmt: skip
        chunk = msgspec.structs.replace(chunk, crc=_checksum(chunk))
        self.network.outgoing(sending.peer).other.append(chunk)

    def acknowledged(self, peer: int, ack: SnapshotAck, now_us: int) -> None:
        """The follower took a chunk, or refused."""
        sending = self.sending.get((ack.shard, peer))
        if sending is None or (ack.transfer, ack.number) != (sending.transfer, sending.number):
            return
        last = sending.number > 0 and not ack.ok
        replica = self.network.replicas.get(ack.shard)
        if replica is None:
            return
        if not ack.ok or last or replica.core.term != sending.term or not replica.core.is_leader:
            self._end(replica, sending, ok=False, now_us=now_us)
        elif now_us < sending.due_us:
            sending.waits = True
        else:
            self._send_next(sending, now_us)

    def installed(self, replica: Replica, peer: int, now_us: int) -> None:
        """The follower's core says that it has the snapshot."""
        self.sending.pop((replica.id, peer), None)

    def _end(self, replica: Replica, sending: Sending, *, ok: bool, now_us: int) -> None:
        del self.sending[sending.shard, sending.peer]
        core = replica.core
        if core.is_leader and core.term == sending.term and sending.peer in core.members.everyone:
            core.snapshot_done(sending.peer, sending.meta.index, ok, now_us)

    def tick(self, now_us: int) -> None:
        """Go on where the next chunk is due; end transfers that make no progress."""
        for sending in list(self.sending.values()):
            if sending.waits:
                if now_us >= sending.due_us:
                    self._send_next(sending, now_us)
                continue
            if now_us >= sending.stalls_us:
                self._end(self.network.replicas[sending.shard], sending, ok=False, now_us=now_us)

    def lost(self, peer: int, now_us: int) -> None:
        """The connection to `peer` broke."""
        for sending in list(self.sending.values()):
            if sending.peer == peer:
                self._end(self.network.replicas[sending.shard], sending, ok=False, now_us=now_us)
        for shard in [shard for shard, got in self.receiving.items() if got.peer == peer]:
            del self.receiving[shard]

    def forget(self, shard: int) -> None:
        """The replica here is being dropped."""
        self.receiving.pop(shard, None)
        for key in [key for key in self.sending if key[0] == shard]:
            del self.sending[key]

    # Follower

    def received(self, peer: int, chunk: SnapshotChunk, now_us: int) -> None:
        """A chunk from the shard's leader."""
        replica = self.network.replicas.get(chunk.shard)
        if replica is None:
            return
        got = self.receiving.get(chunk.shard)
        if chunk.number == 0:
            got = self.receiving[chunk.shard] = Receiving(peer, chunk.transfer, 0, [])
        expected = got is not None and (got.peer, got.transfer, got.next_number) == (
            peer, chunk.transfer, chunk.number,
        )  # fmt: skip
        if chunk.crc != _checksum(chunk):
            self.network.trace("snapshot_damaged", shard=chunk.shard, number=chunk.number)
            self._acknowledge(peer, chunk, ok=False)
            return
        if not expected or not replica.core.accepts_snapshot(chunk.term, chunk.meta.index):
            core = replica.core
            if expected and core.term <= chunk.term and core.commit_index >= chunk.meta.index:
                # It has all that already: the leader is told so, or it would offer it for ever.
                core.install(peer, chunk.term, chunk.meta, now_us)
            self._acknowledge(peer, chunk, ok=False)
            return
        if got is None:
            return
        got.next_number += 1
        got.items.extend(chunk.items)
        if chunk.state:
            del self.receiving[chunk.shard]
            self._install(replica, peer, chunk, got.items, now_us)
        else:
            self._acknowledge(peer, chunk, ok=True)

    def _acknowledge(self, peer: int, chunk: SnapshotChunk, *, ok: bool) -> None:
        self.network.outgoing(peer).other.append(
            SnapshotAck(chunk.shard, chunk.transfer, chunk.number, ok)
        )

    def _install(
        self,
        replica: Replica,
        peer: int,
        chunk: SnapshotChunk,
        items: list[tuple[bytes, bytes]],
        now_us: int,
    ) -> None:
        state = decode_state(chunk.state)
        data: dict[bytes, bytes | None] = dict(items)
        data.update(index_keys(data))
        data[replica.state_key] = chunk.state
        # The ranges go first: what the leader no longer has must not survive here.
        self.network.engine.write([(self._ranges(replica), data)])
        replica.reset_to(state)
        # The log may forget its entries only when the engine holds the snapshot durably.
        self.network.hold_log_for_flush()
        self.network.counters["snapshots_installed"] += 1
        replica.core.install(peer, chunk.term, chunk.meta, now_us)
