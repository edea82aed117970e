"""What a node tells the leader of the meta shard every second: how it is, and about the shards it leads.

The bytes of a shard are an estimate: its number of keys times the mean size of a sample of its records,
taken at most once a minute. It is as wrong as the sample is; plans compare and order by it, no
correctness depends on it.
"""

from itertools import islice
from typing import Protocol

import msgspec

from quoit.data.keys import shard_ranges
from quoit.node.cluster.asking import Operations
from quoit.node.cluster.messages import Load, NodeReport, ShardReport
from quoit.node.config import NodeConfig
from quoit.node.persistence import Persistence
from quoit.node.replica import Replica
from quoit.storage.api import Engine

__all__ = ["Reports"]

EVERY_US = 1_000_000
_SAMPLE = 200
_SAMPLE_US = 60_000_000
_SAMPLES_AT_ONCE = 4
"""Shards that are sampled for one report: so a node with many shards does not do all in one turn."""


class Network(Protocol):
    """What reports ask of their node."""

    config: NodeConfig
    engine: Engine
    persistence: Persistence
    serving: dict[int, Replica]
    home_dbs: dict[int, list[int]]


class Sample(msgspec.Struct):
    """The mean size of a shard's records, in bytes of key and value."""

    mean: float
    at_us: int
    keys: int


class Reports:
    """samples   shard -> mean size of its records
    ops       shard -> (commands so far, when), at the last report
    lag_us    the latest tick since the last report
    load      of the last report
    """

    __slots__ = ("lag_us", "load", "network", "operations", "ops", "rates", "samples", "ticked_us")

    def __init__(self, network: Network, operations: Operations) -> None:
        self.network = network
        self.operations = operations
        self.samples: dict[int, Sample] = {}
        self.ops: dict[int, tuple[int, int]] = {}
        self.rates: dict[int, float] = {}
        self.lag_us = 0
        self.load = Load()
        self.ticked_us = 0

    def tick(self, now_us: int) -> None:
        """Once each tick: how late it is says how busy the loop was."""
        if self.ticked_us:
            late = now_us - self.ticked_us - self.network.config.tick_us
            self.lag_us = max(self.lag_us, late)
        self.ticked_us = now_us

    def measure(self, now_us: int) -> None:
        """Once each second: the loads and rates of the second that has passed."""
        persistence = self.network.persistence
        under_way = now_us - persistence.started_us if persistence.write is not None else 0
        self.load = Load(max(persistence.slowest_us, under_way), self.lag_us)
        persistence.slowest_us = self.lag_us = 0
        left = _SAMPLES_AT_ONCE
        serving = self.network.serving
        for shard, replica in serving.items():
            before, at_us = self.ops.get(shard, (replica.ops, now_us))
            if now_us > at_us:
                self.rates[shard] = (replica.ops - before) * 1e6 / (now_us - at_us)
            self.ops[shard] = (replica.ops, now_us)
            if left and self._is_old(replica, now_us):
                left -= 1
                self._sample(replica, now_us)
        for known in (self.ops, self.rates, self.samples):
            for shard in [one for one in known if one not in serving]:
                del known[shard]

    def _is_old(self, replica: Replica, now_us: int) -> bool:
        sample = self.samples.get(replica.id)
        if sample is None:
            return True
        # A mean of few records says little about the many that may have come since.
        grown = sample.keys < _SAMPLE and _keys(replica) > 2 * sample.keys
        return grown or now_us - sample.at_us >= _SAMPLE_US

    def _sample(self, replica: Replica, now_us: int) -> None:
        shard = replica.range
        size = count = 0
        pinned = self.network.home_dbs.get(replica.id, [])
        for low, high in shard_ranges(shard.slot_low, shard.slot_high, pinned):
            scan = self.network.engine.scan(low, high)
            for key, value in islice(scan, _SAMPLE - count):
                size += len(key) + len(value)
                count += 1
            if count >= _SAMPLE:
                break
        self.samples[replica.id] = Sample(size / count if count else 0.0, now_us, _keys(replica))

    def report(self) -> NodeReport:
        """The report as of now; load, rates and samples are those of the last second."""
        shards = []
        for shard, replica in self.network.serving.items():
            state, core = replica.state, replica.core
            if state.members is None or not core.members_durable or not core.is_leader:
                continue
            keys = _keys(replica)
            sample = self.samples.get(shard)
            size = int(keys * sample.mean) if sample is not None else 0
            shards.append(
                ShardReport(
                    shard, core.term, state.config_index, state.members,
                    self.operations.under_way(shard), keys, size, self.rates.get(shard, 0.0),
                )
            )  # fmt: skip
        return NodeReport(self.load, shards)


def _keys(replica: Replica) -> int:
    return sum(replica.state.counts.values())
