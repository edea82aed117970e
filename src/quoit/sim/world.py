"""The world: real nodes on virtual time.

One heap of (time, number, call) drives everything, one call at a time, so a seed is one run, byte for
byte. A run has four parts: start, *safety* (faults happen at random while clients work), *liveness*
(everything is healed and no fault happens any more; every shard must soon answer through every node)
and judgement (all checkers).
"""

import heapq
from collections.abc import Callable
from hashlib import blake2b
from typing import Any

import msgspec

from quoit.base.check import invariant
from quoit.data.keys import shard_ranges
from quoit.node import snapshots
from quoit.node.config import NodeConfig, PeerInfo
from quoit.node.messages import decode_frame
from quoit.node.replica import Replica
from quoit.node.state import decode_state
from quoit.quorum.agreement import CONFIG, Entry, Ready
from quoit.quorum.members import decode_members, quorums
from quoit.sim.checkers.acceptances import AcceptanceChecker, ValueChecker
from quoit.sim.checkers.election import ElectionChecker
from quoit.sim.checkers.log_matching import LogMatchingChecker
from quoit.sim.checkers.promises import PromiseChecker
from quoit.sim.checkers.replicas import ReplicaChecker, digest
from quoit.sim.clock import PPM, NodeClock, TrueTime
from quoit.sim.history import History
from quoit.sim.machine import Machine
from quoit.sim.meeting import meet
from quoit.sim.network import Network
from quoit.sim.options import Options, stream
from quoit.sim.workload import Client, Unexpected, Workload
from quoit.storage.log import Write

__all__ = ["CORRECTNESS", "CRASH", "INCONCLUSIVE", "LIVENESS", "Failure", "World"]

CRASH = "crash"
"""A node raised something that no fault explains, or gave a reply that no living cluster gives."""
LIVENESS = "liveness"
"""No progress although everything was healed."""
CORRECTNESS = "correctness"
"""A promise was broken."""
INCONCLUSIVE = "inconclusive"
"""A checker gave up, or the run tested nothing."""

_WALL_MS = 1_750_000_000_000


class Failure(msgspec.Struct):
    """Why a run failed."""

    kind: str
    check: str
    reason: str
    time_us: int


class World:
    """A cluster, its clients and what is known of both.

    machines   node id -> machine
    failure    the first failure; the run ends there
    hits       fault kind -> how often it touched something
    seen       transition of a node or a core -> how often it happened (coverage.py)
    voters       shard -> its voters as of the newest entry that was applied anywhere
    leaderships  (time, shard, term, node), as they were seen to begin
    """

    def __init__(self, options: Options, *, trace: Callable[[str], None] | None = None) -> None:
        self.options = options
        self.true = TrueTime()
        self.queue: list[tuple[int, int, Callable[..., None], tuple[object, ...]]] = []
        self.number = 0
        self.events = 0
        self.history = History()
        self.failure: Failure | None = None
        self.hits: dict[str, int] = {}
        self.seen: dict[str, int] = {}
        self.tracer = trace
        self.hash = blake2b(digest_size=16)
        self.rng = stream(options.seed, "world")
        self.elections = ElectionChecker()
        paxos = options.consensus == "paxos"
        self.logs: Any = ValueChecker() if paxos else LogMatchingChecker()
        self.replicas = ReplicaChecker()
        self.promises: PromiseChecker = AcceptanceChecker() if paxos else PromiseChecker()
        self.commit_at_start: dict[tuple[int, int], int] = {}
        self.rounds_before: dict[tuple[int, int, int, int], tuple[int, int]] = {}
        self.newest_leader: dict[int, tuple[int, int]] = {}
        self.voters: dict[int, tuple[int, ...]] = {}
        self.leaderships: list[tuple[int, int, int, int]] = []
        # Where every replica accepts each write, reads need no lease.
        self.check_leases = options.quorum != "all"
        # A constant of the shipped code; small ones make many chunks of little data.
        snapshots._ITEMS_PER_CHUNK = options.snapshot_chunk_items
        self.network = Network(self, options)
        self.machines = {
            number: Machine(self, number, self._clock(number))
            for number in range(1, options.nodes + 1)
        }
        self.founders = tuple(range(1, 1 + (options.founders or options.nodes)))
        self.workload = Workload(self, options)

    def _clock(self, number: int) -> NodeClock:
        options = self.options
        if options.rates_ppm:
            rate = options.rates_ppm[number - 1]
        else:
            half = options.drift_ppm // 2
            rate = PPM + self.rng.randrange(-half, half + 1)
        wall = _WALL_MS + self.rng.randrange(-100, 101)
        return NodeClock(self.true, self.rng.randrange(1, 1 << 40), wall, rate)

    def config(self, number: int) -> NodeConfig:
        """The settings of a node."""
        options = self.options
        return NodeConfig(
            node_id=number,
            cluster_id="simulated",
            nodes=tuple(PeerInfo(one, f"n{one}") for one in sorted({*self.founders, number})),
            founders=self.founders,
            shards=options.shards,
            meta_shard=options.meta_shard,
            consensus=options.consensus,
            digest_interval_us=1_500_000,
            dead_after_us=options.dead_after_us,
            quorum=options.quorum,
            replication_factor=options.replication_factor,
            election_timeout_us=options.election_timeout_us,
            heartbeat_us=options.heartbeat_us,
            lease_enabled=options.lease,
            drift_ppm=options.drift_ppm,
            tick_us=options.tick_us,
            leader_wait_us=options.leader_wait_us,
            outcome_wait_us=options.outcome_wait_us,
            pending_commands_max=options.pending_commands_max,
            inflight_batches_max=options.inflight_batches_max,
            pipelined_commands_min=options.pipelined_commands_min or 1 + number % 2,
            give_back_after_us=500_000,
            settle_records=5,
            flush_log_bytes=options.flush_log_bytes,
            log_tail_entries=options.log_tail_entries,
            version="sim",
        )

    # Time

    @property
    def now_us(self) -> int:
        """True virtual time."""
        return self.true.now_us

    def after(self, delay_us: int, call: Callable[..., None], *args: object) -> None:
        """Call later; calls of one moment happen in the order in which they were asked for."""
        invariant(delay_us >= 0, "time runs forwards", delay_us=delay_us)
        self.number += 1
        heapq.heappush(self.queue, (self.true.now_us + delay_us, self.number, call, args))

    def run_until(self, when_us: int, done: Callable[[], bool] | None = None) -> bool:
        """Let the world run up to `when_us`, or until `done` says so (asked every 10 ms). False if
        it failed or `done` never became true."""
        queue = self.queue
        true = self.true
        next_look = true.now_us
        while self.failure is None:
            if done is not None and true.now_us >= next_look:
                if done():
                    return True
                next_look = true.now_us + 10_000
            if not queue or queue[0][0] > when_us:
                true.now_us = when_us
                return done is None or done()
            time_us, _, call, args = heapq.heappop(queue)
            true.now_us = time_us
            self.events += 1
            try:
                call(*args)
            except Unexpected as error:
                self.fail(CRASH, "reply", str(error))
        return False

    def fail(self, kind: str, check: str, reason: str) -> None:
        """The run failed, if it had not already."""
        if self.failure is None:
            self.failure = Failure(kind, check, reason, self.now_us)
            self.note(0, "FAILURE", kind=kind, check=check, reason=reason)

    def hit(self, kind: str) -> None:
        """A fault touched something."""
        self.hits[kind] = self.hits.get(kind, 0) + 1

    def saw(self, event: str, count: int = 1) -> None:
        """Something happened that runs should cover."""
        self.seen[event] = self.seen.get(event, 0) + count

    def note(self, node: int, event: str, /, **facts: object) -> None:
        """A fact for the trace and its hash."""
        detail = " ".join(f"{name}={value}" for name, value in facts.items())
        line = f"{self.true.now_us / 1e6:11.6f} n{node} {event} {detail}"
        self.hash.update(line.encode())
        if self.tracer is not None:
            self.tracer(line)

    # What machines ask

    def start_all(self) -> None:
        """The founders begin within a tenth of a second."""
        for number, machine in self.machines.items():
            if number not in self.founders:
                machine.retired = "it has not joined"
                continue
            self.after(self.rng.randrange(1, 100_000), machine.start, self.config(number))

    def start(self, node: int) -> None:
        """A dead node's process starts again, unless it is gone for good."""
        if not self.machines[node].retired:
            self.machines[node].start(self.config(node))

    def started(self, machine: Machine) -> None:
        """A process runs."""
        recovery = machine.recovery
        node = machine.node
        if recovery is not None and node is not None:
            for shard, replica in node.replicas.items():
                core: Any = replica.core
                base = (core.log.compacted_index, core.log.compacted_term)
                cache = core.log.cache
                self._judge("MATCH", self.logs.recovered(machine.id, shard, base, cache))
                state = (core.term, getattr(core, "vote", 0))
                self.promises.recovered(
                    machine.id,
                    shard,
                    state,
                    base,
                    cache,
                    damaged=core.damaged or machine.restored or machine.lied,
                )
        self.network.connect_all(machine.id)

    def synced(self, machine: Machine, write: Write) -> None:
        """A node's log write is durable."""
        self.promises.synced(machine.id, write.updates)

    def died(self, machine: Machine, *, told: bool) -> None:
        """A process is gone."""
        self.network.disconnect_all(machine.id, told=told)

    def broken(self, machine: Machine, error: BaseException) -> None:
        """A node failed without a fault."""
        import traceback

        frames = traceback.extract_tb(error.__traceback__)[-4:]
        where = " < ".join(f"{one.name}:{one.lineno}" for one in reversed(frames))
        self.fail(CRASH, "node", f"node {machine.id}: {type(error).__name__}: {error} at {where}")

    def send(self, sender: int, receiver: int, payload: bytes, *, urgent: bool) -> None:
        """A frame leaves."""
        self.hash.update(b"%d>%d" % (sender, receiver))
        self.hash.update(payload)
        if self.tracer is not None:
            self.tracer(
                f"{self.true.now_us / 1e6:11.6f} n{sender} send to={receiver} bytes={len(payload)}"
            )
        for shard, message in decode_frame(payload).core:
            self._judge("PROMISE", self.promises.sends(sender, receiver, shard, message))
        self.network.send(sender, receiver, payload, urgent=urgent)

    def took(self, machine: Machine, replica: Replica, ready: Ready) -> None:
        """A node carries out a Ready: entries, commits and snapshots are judged here."""
        shard = replica.id
        core = replica.core
        if ready.snapshot is not None:
            self.logs.reset(machine.id, shard, ready.snapshot.index, ready.snapshot.term)
        if ready.entries:
            self._judge("MATCH", self.logs.written(machine.id, shard, ready.entries))
        voters = self.voters.setdefault(shard, core.members.voters)
        for entry in ready.committed:
            if entry.index > self.elections.committed_index(shard):
                if entry.term:
                    self._judge("QUORUM", self._chosen(replica, entry, voters, ready.committed))
                if entry.kind == CONFIG:
                    # From here on they decide; neighbouring quorums meet, as one member changes.
                    voters = self.voters[shard] = decode_members(entry.data).voters
            self.elections.applied(shard, entry.index, entry.term, core.term)
            problem = self.replicas.applied(machine.id, shard, entry.index, entry.term, entry.data)
            self._judge("APPLY", problem)

    def _chosen(
        self, replica: Replica, entry: Entry, voters: tuple[int, ...], committed: list[Entry]
    ) -> str:
        """A write quorum's disks hold the entry; else what is wrong. With Raft new members count as
        soon as the entry that names them is in the leader's log, also for entries before it."""
        deciding = [voters]
        if self.options.consensus == "raft":
            deciding.append(replica.core.members.voters)
            deciding += [decode_members(one.data).voters for one in committed if one.kind == CONFIG]
        problem = ""
        for several in deciding:
            quorum = quorums(self.options.quorum, len(several)).write
            problem = self.promises.commits(replica.id, entry.index, entry.term, several, quorum)
            if not problem:
                break
        return problem

    def turned(self, machine: Machine) -> None:
        """A node had a turn: leaderships and leases are judged here."""
        node = machine.node
        if node is None:
            return
        if node.dispatcher.parked:
            self.saw("parked")
        now = machine.clock.now_us()
        for shard, replica in node.replicas.items():
            core = replica.core
            if not core.is_leader:
                continue
            if self.elections.is_new(shard, core.term):
                self._new_leader(machine, replica)
            self._judge("ELECT", self.elections.leads(shard, core.term, machine.id))
            began = self.commit_at_start.setdefault((shard, core.term), core.commit_index)
            own = core.term_at(core.commit_index) == core.term
            raft = self.options.consensus == "raft"
            held = core.commit_index >= core.first_index
            if raft and core.commit_index > began and not own and held:
                reason = f"node {machine.id} counts replicas of an entry of an older term"
                self._judge("COMMIT", reason)
            self._judge("READ", self._early_rounds(machine, replica))
            newest = self.newest_leader.get(shard, (0, 0))
            if newest[0] > core.term and self.check_leases and core.lease_valid(now):
                self._stale_lease(machine.id, shard, core.term, newest)

    def _early_rounds(self, machine: Machine, replica: Replica) -> str:
        """Reads that arrived in this turn may wait only for rounds that were sent in it."""
        core: Any = replica.core
        place = (machine.id, machine.life, replica.id, core.term)
        sent, newest = self.rounds_before.get(place, (0, 0))
        problem = ""
        highest = newest
        for round_number, _, read_ids in core.reads.waiting:
            fresh = [one for one in read_ids if one > newest]
            if fresh and round_number <= sent:
                problem = (
                    f"node {machine.id} lets a read of shard {replica.id} wait for round "
                    f"{round_number}, which was sent before the read arrived"
                )
            highest = max(highest, *read_ids, 0)
        self.rounds_before[place] = (core.rounds.current, highest)
        return problem

    def _new_leader(self, machine: Machine, replica: Replica) -> None:
        core = replica.core
        shard = replica.id
        self.elections.changes += 1
        self.leaderships.append((self.now_us, shard, core.term, machine.id))
        index = self.elections.committed_index(shard)
        problem = self.elections.complete(
            shard, core.term, machine.id, core.first_index, core.term_at(index)
        )
        if not getattr(core, "settling", 0):
            self._judge("COMPLETE", problem)
        if core.term <= self.newest_leader.get(shard, (0, 0))[0]:
            return
        self.newest_leader[shard] = (core.term, machine.id)
        if not self.check_leases:
            return
        for other in self.machines.values():
            if other is machine or other.node is None:
                continue
            old = other.node.replicas.get(shard)
            if old is None or not old.core.is_leader or old.core.term >= core.term:
                continue
            if old.core.lease_valid(other.clock.now_us()):
                self._stale_lease(other.id, shard, old.core.term, (core.term, machine.id))

    def _stale_lease(self, node: int, shard: int, term: int, newest: tuple[int, int]) -> None:
        reason = (
            f"node {node} holds a valid lease of shard {shard}, term {term}, while node "
            f"{newest[1]} leads term {newest[0]}"
        )
        self._judge("LEASE", reason)

    def _judge(self, check: str, problem: str) -> None:
        if problem:
            self.fail(CORRECTNESS, check, problem)

    # What the network asks

    def deliver(self, receiver: int, sender: int, payload: bytes) -> None:
        """A frame arrives."""
        machine = self.machines[receiver]
        machine.post(machine.frame, sender, payload)

    def link_changed(self, sender: int, receiver: int, connected: bool) -> None:
        """A node's outgoing connection was made or lost."""
        self.note(sender, "connected" if connected else "disconnected", peer=receiver)
        machine = self.machines[sender]
        machine.post(machine.peer, receiver, connected)

    def is_up(self, node: int) -> bool:
        """A process runs there."""
        return self.machines[node].node is not None

    def meet(self, sender: int, receiver: int) -> bool:
        """A node dials another: are they connected now?"""
        if not self.is_up(sender) or not self.is_up(receiver):
            return False
        pair = self.machines[sender], self.machines[receiver]
        dialer = pair[0]
        if pair[1].node is not None and pair[1].node.cluster.refuses(sender):
            dialer.retire("it was removed")
            return False
        met = meet(*pair)
        if dialer.node is None:
            self.saw("refused_for_good")
            if dialer.lied:
                dialer.restored = True
            if not dialer.restored:
                self.fail(CORRECTNESS, "REFUSE", f"node {sender} was refused and had lost nothing")
        if met and any(machine.restored for machine in pair):
            # What it forgot might be acknowledged, and its vote or its word might count.
            self.fail(
                CORRECTNESS, "REFUSE", f"nodes {sender} and {receiver} met; one had lost data"
            )
        return met

    # What clients ask

    def up_nodes(self) -> list[int]:
        """Nodes that accept connections."""
        return [number for number, machine in self.machines.items() if machine.node is not None]

    def request(self, node: int, client: Client) -> None:
        """A client's request is on its way."""
        self.after(20, self._arrive, node, client, client.ticket)

    def _arrive(self, node: int, client: Client, ticket: int) -> None:
        if client.ticket != ticket:
            return
        machine = self.machines[node]
        if machine.node is None:
            client.lost()
            return
        machine.post(machine.client, client, ticket)

    # Judging data

    def compare_replicas(self) -> None:
        """Compare the data of all replicas that have applied equally far, now or earlier."""
        for machine in self.machines.values():
            if machine.node is None or machine.engine.damaged:
                continue
            for shard, replica in machine.node.replicas.items():
                index = replica.state.applied_index
                if index < machine.ahead.get(shard, 0):
                    continue
                value = digest(self.shard_data(machine, replica))
                self._judge("APPLY", self.replicas.holds(machine.id, shard, index, value))

    def shard_data(self, machine: Machine, replica: Replica) -> list[tuple[bytes, bytes]]:
        """A replica's data and its state record."""
        ranges = shard_ranges(replica.range.slot_low, replica.range.slot_high)
        pairs = [pair for low, high in ranges for pair in machine.buffered.scan(low, high)]
        state = decode_state(machine.buffered.get(replica.state_key))
        record = (
            f"{state.applied_index} {state.stamp_ms} {state.seq} {sorted(state.counts.items())}"
        )
        return [*pairs, (replica.state_key, record.encode())]

    def trace_hash(self) -> str:
        """Everything that happened, as one number."""
        state = self.hash.copy()
        state.update(self.history.digest().encode())
        return state.hexdigest()
