"""The leader's end of snapshot transfers: which run, what they send next, and how fast.

A transfer is a few iterators over the engine, made when it begins: one consistent moment, while writes go
on. One chunk is under way at a time; it is kept until it is acknowledged, so that it can be sent again
after a lost connection, and the transfer goes on where it was. What has not moved for KEEP_US ends: the
iterators hold old files of the engine. At most TRANSFERS_MAX move at a time on a node, and all of them
together send no more than `snapshot_bytes_per_s`, so that the load has the rest of disk and network.
"""

from collections.abc import Iterator

import msgspec

from quoit.node.messages import SnapshotChunk
from quoit.quorum.agreement import SnapshotMeta

__all__ = ["AGAIN_US", "KEEP_US", "RECORD_COST", "TRANSFERS_MAX", "Budget", "Sending"]

KEEP_US = 60_000_000
AGAIN_US = 3_000_000
"""A chunk that is not acknowledged for so long is sent again, next time after twice as long."""
ASK_US = 1_000_000
"""How often a follower that has everything is asked whether it is durable."""
_AGAIN_US_MAX = 30_000_000
TRANSFERS_MAX = 2
RECORD_COST = 400
"""What a record costs beside its bytes, in bytes: many small ones cost processors, not the network."""
_BURST_S = 0.1


class Budget:
    """How many bytes may be sent now: a token bucket. It may go below zero by one chunk."""

    __slots__ = ("bytes", "bytes_per_s", "refilled_us")

    def __init__(self, bytes_per_s: int, now_us: int) -> None:
        self.bytes_per_s = bytes_per_s
        self.bytes = bytes_per_s * _BURST_S
        self.refilled_us = now_us

    def refill(self, now_us: int) -> None:
        """Time passed."""
        more = (now_us - self.refilled_us) * self.bytes_per_s / 1e6
        self.bytes = min(self.bytes + more, self.bytes_per_s * _BURST_S)
        self.refilled_us = now_us

    def left(self) -> bool:
        """Something may be sent."""
        return self.bytes > 0

    def spend(self, count: int) -> None:
        """So much was sent."""
        self.bytes -= count


class Sending(msgspec.Struct, kw_only=True):
    """A transfer to one follower.

    chunk     the last one that was sent, until the next; None before the first
    ready     it was acknowledged: the next may be sent
    handed    all chunks were acknowledged; the follower makes them durable
    count     records in `chunk`; records: in all chunks so far
    connected the peer is there; a transfer to one that is not waits for it, and counts for nothing
    again_us  when to send `chunk` again; wait_us: how long to wait after that
    ends_us   nothing moved until then: give up
    """

    shard: int
    peer: int
    term: int
    transfer: int
    meta: SnapshotMeta
    state: bytes
    items: Iterator[tuple[bytes, bytes]]
    ends_us: int
    chunk: SnapshotChunk | None = None
    count: int = 0
    records: int = 0
    total: int = 0
    ready: bool = True
    handed: bool = False
    connected: bool = True
    again_us: int = 0
    wait_us: int = AGAIN_US

    @property
    def moves(self) -> bool:
        """It takes one of the places for transfers."""
        return self.connected and not self.handed

    def sent(self, now_us: int) -> None:
        """`chunk` left, for the first time or again."""
        self.ready = False
        self.again_us = now_us + self.wait_us

    def moved(self, now_us: int) -> None:
        """The follower has `chunk`."""
        self.ready = True
        self.wait_us = AGAIN_US
        self.ends_us = now_us + KEEP_US
        if self.chunk is not None and self.chunk.state and not self.handed:
            self.handed = True
            self.items = iter(())  # lets go of the engine's iterators
        if self.handed:
            self.again_us = now_us + ASK_US

    def repeats(self, now_us: int) -> bool:
        """`chunk` has to be sent again now."""
        if self.chunk is None or not self.connected or now_us < self.again_us:
            return False
        if self.ready and not self.handed:
            return False
        self.wait_us = min(2 * self.wait_us, _AGAIN_US_MAX)
        return True
