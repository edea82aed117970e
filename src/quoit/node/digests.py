"""Replicas of a shard compare their data, on a schedule.

Nothing below notices when two replicas that applied the same log hold different data: a bug, or memory that
flips a bit before anything was checksummed (etcd 3.5 diverged for months unseen: etcd issue 13766). So the
leader proposes an entry of kind DIGEST now and then. Each replica that applies it digests its data as
they are at that index, from iterators that are created then, some records a tick; the leader compares.

Whoever differs from the majority stops, and says what to do: its data must not be served, nor become
others'. Of two answers nobody knows which is right: the follower stops, as the leader's data are what
clients saw. A missing answer is no difference: a replica may be down, or have got a snapshot instead.

Only who is asked answers, in the same life of its process. One that applies the entry again after a crash
must not: its engine may hold newer records than its applied index says (storage/buffered.py).
"""

from collections.abc import Iterator
from hashlib import blake2b
from itertools import islice
from typing import Protocol

import msgspec

from quoit.base.errors import Diverged
from quoit.base.seams import Trace
from quoit.data.keys import shard_ranges
from quoit.node.config import NodeConfig
from quoit.node.messages import DigestAsk, DigestReply, DigestVerdict, Frame
from quoit.node.replica import Replica
from quoit.quorum.agreement import DIGEST
from quoit.storage.api import Engine

__all__ = ["Digests"]

_RECORDS_PER_TICK = 400


class Network(Protocol):
    """What digests ask of their node."""

    config: NodeConfig
    engine: Engine
    counters: dict[str, int]
    home_dbs: dict[int, list[int]]
    replicas: dict[int, Replica]
    serving: dict[int, Replica]
    trace: Trace

    def outgoing(self, peer: int) -> Frame:
        """The frame being filled for `peer`."""
        ...


class _Running(msgspec.Struct):
    """A digest in the making."""

    index: int
    pairs: Iterator[tuple[bytes, bytes]]
    hash: "blake2b"


class Digests:
    """Both ends on one node.

    asked    shard -> index at which its leader asked last
    running  shard -> the digest that is being made
    found    (shard, index) -> node -> digest: what this node, as leader, was told
    next_us  shard -> when its leader next asks
    """

    __slots__ = ("asked", "found", "network", "next_us", "running")

    def __init__(self, network: Network) -> None:
        self.network = network
        self.asked: dict[int, int] = {}
        self.running: dict[int, _Running] = {}
        self.found: dict[tuple[int, int], dict[int, bytes]] = {}
        self.next_us: dict[int, int] = {}

    def tick(self, now_us: int) -> None:
        """Ask where it is time; go on with what is being digested."""
        interval = self.network.config.digest_interval_us
        for shard, replica in self.network.serving.items():
            due = self.next_us.setdefault(shard, now_us + interval)
            if now_us >= due and replica.core.takes_proposals():
                self.next_us[shard] = now_us + interval
                # What older questions are still unanswered will stay so.
                self.found = {key: one for key, one in self.found.items() if key[0] != shard}
                index, _ = replica.core.propose(b"", now_us, DIGEST)
                self.asked[shard] = index
                for peer in replica.core.members.everyone:
                    if peer != self.network.config.node_id:
                        self.network.outgoing(peer).other.append(DigestAsk(shard, index))
        for shard, one in list(self.running.items()):
            self._go_on(shard, one)

    def ask(self, ask: DigestAsk) -> None:
        """The shard's leader has proposed the entry; it comes to be applied later than this."""
        self.asked[ask.shard] = ask.index

    def begin(self, replica: Replica) -> None:
        """The replica has just applied an entry of kind DIGEST, and nothing after it."""
        if self.asked.get(replica.id) != replica.state.applied_index:
            return
        slots = replica.range
        pinned = self.network.home_dbs.get(replica.id, [])
        scan = self.network.engine.scan
        ranges = shard_ranges(slots.slot_low, slots.slot_high, pinned)
        scans = [scan(low, high) for low, high in ranges]
        pairs = (pair for one in scans for pair in one)
        self.running[replica.id] = _Running(
            replica.state.applied_index, pairs, blake2b(digest_size=16)
        )

    def _go_on(self, shard: int, one: _Running) -> None:
        count = 0
        for key, value in islice(one.pairs, _RECORDS_PER_TICK):
            count += 1
            one.hash.update(len(key).to_bytes(4, "big") + key)
            one.hash.update(len(value).to_bytes(4, "big") + value)
        if count == _RECORDS_PER_TICK:
            return
        del self.running[shard]
        replica = self.network.replicas.get(shard)
        if replica is None:
            return
        digest = one.hash.digest()
        own = self.network.config.node_id
        if replica.core.is_leader:
            self._compare(shard, one.index, own, digest)
        elif replica.core.leader:
            reply = DigestReply(shard, one.index, digest)
            self.network.outgoing(replica.core.leader).other.append(reply)

    # The leader

    def received(self, peer: int, reply: DigestReply) -> None:
        """A follower's digest."""
        self._compare(reply.shard, reply.index, peer, reply.digest)

    def _compare(self, shard: int, index: int, node: int, digest: bytes) -> None:
        replica = self.network.replicas.get(shard)
        if replica is None or not replica.core.is_leader:
            return
        found = self.found.setdefault((shard, index), {})
        found[node] = digest
        self.network.counters["digests_compared"] += 1
        own = self.network.config.node_id
        everyone = replica.core.members.everyone
        if own not in found or len(found) < min(2, len(everyone)):
            return
        different = [one for one, other in found.items() if other != found[own]]
        if not different:
            return
        if len(found) == 2 and len(everyone) > 2:
            return  # a third one will tell who is right
        if 2 * len(different) > len(found):
            raise Diverged(_MESSAGE.format(shard=shard, index=index, node=own))
        for one in different:
            self.network.counters["digests_differ"] += 1
            self.network.trace("digest_differs", shard=shard, index=index, node=one)
            self.network.outgoing(one).other.append(DigestVerdict(shard, index))

    def convicted(self, peer: int, verdict: DigestVerdict) -> None:
        """The leader says that this replica differs: Diverged, if it is the leader."""
        replica = self.network.replicas.get(verdict.shard)
        if replica is not None and replica.core.leader == peer:
            own = self.network.config.node_id
            raise Diverged(_MESSAGE.format(shard=verdict.shard, index=verdict.index, node=own))


_MESSAGE = (
    "shard {shard} of this node holds other data than its peers after the same entries (up to index "
    "{index}), so nothing of it is served any more. Rebuild it from them: `quoit shard remove-replica "
    "{shard} {node}`, start this node, `quoit shard add-replica {shard} {node}`"
)
