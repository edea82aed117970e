"""Active expiry: keys whose time has come are deleted without waiting for somebody to read them.

The `x` index in the engine lists expiry times in order. It is derived data, local to the node and
cleaned lazily: an entry whose key has another expiry by now is dropped when its time comes. The
deletion itself is decided by the shard's leader in a batch, as an effect like any other.
"""

from itertools import islice
from typing import Protocol

from quoit.base.slots import home_slot, slot_of
from quoit.data.keys import split_index_key, split_physical
from quoit.data.record import expiry_of
from quoit.data.table import COMMANDS
from quoit.node.replica import Replica
from quoit.node.session import Item, Origin
from quoit.storage.api import Engine

__all__ = ["Expiry"]

_PERIOD_US = 100_000
_ENTRIES_PER_SCAN = 500
_INDEX_LOW = b"x"


class Network(Protocol):
    """What expiry asks of its node."""

    engine: Engine
    serving: dict[int, Replica]
    slot_to_shard: list[int]

    def dispatch(self, shard: int, item: Item, after_write: bool) -> None:
        """Run the item on the shard, wherever it is led."""
        ...


class Expiry(Origin):
    """Looks for due keys in small steps. As an Origin it receives the replies of its own reads.

    waiting  reads (which delete what they find expired) that are not answered yet
    cursor   index key to go on from; empty: from the start
    """

    __slots__ = ("cursor", "network", "next_us", "waiting")

    def __init__(self, network: Network) -> None:
        self.network = network
        self.waiting = 0
        self.cursor = b""
        self.next_us = 0

    def deliver(self, ticket: int, reply: bytes) -> None:
        self.waiting -= 1

    def refuse(self, ticket: int, shard: int, leader: int) -> bool:
        self.waiting -= 1
        return True

    def tick(self, now_us: int, wall_ms: int) -> None:
        """Look at the next few due entries, at most every 100 ms and one look at a time."""
        if now_us < self.next_us or self.waiting:
            return
        self.next_us = now_us + _PERIOD_US
        network = self.network
        high = _INDEX_LOW + (wall_ms + 1).to_bytes(8, "big")
        stale: dict[bytes, bytes | None] = {}
        seen = 0
        entries = list(
            islice(network.engine.scan(self.cursor or _INDEX_LOW, high), _ENTRIES_PER_SCAN)
        )
        for index_key, _ in entries:
            seen += 1
            expire_ms, physical = split_index_key(index_key)
            raw = network.engine.get(physical)
            if raw is None or expiry_of(raw) != expire_ms:
                stale[index_key] = None
                continue
            db, key = split_physical(physical)
            shard = network.slot_to_shard[slot_of(key) if db == 0 else home_slot(db)]
            if shard in network.serving:
                self.waiting += 1
                item = (self, 0, COMMANDS[b"EXISTS"], [b"EXISTS", key], db, 2)
                network.dispatch(shard, item, True)
        # Entries of shards led elsewhere stay until the leader's deletion arrives: step over them.
        self.cursor = entries[-1][0] + b"\0" if seen == _ENTRIES_PER_SCAN else b""
        if stale:
            network.engine.write([([], stale)])
