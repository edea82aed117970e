"""The mutants (faults.md, section 3): what is broken, and where that should show.

`scenario` names a scenario; otherwise seeds are drawn as usual and `options` overrides what the bug
needs to show: a fault that never happens cannot catch anything. `checks` are those expected to catch
it; any other check that does is as good, and the table that is printed says which one did.
"""

from typing import Any

import msgspec

__all__ = ["MUTANTS", "Mutant"]


class Mutant(msgspec.Struct, frozen=True, kw_only=True):
    """One deliberate bug."""

    id: str
    what: str
    module: str
    function: str
    """Qualified name in the module."""
    old: str
    """Snippet of the function's source, whose `def` stands at the left margin."""
    new: str
    checks: str
    scenario: str = ""
    nodes: int = 3
    options: dict[str, Any] = {}


_ELECTION = "quoit.raft.election"
_REPLICATION = "quoit.raft.replication"

_BUSY = {"safety_us": 6_000_000, "think_us": 20_000, "clients": 8, "fault_gap_us": 250_000}
_CUTS = {**_BUSY, "faults": ["split", "oneway", "pair", "swizzle"], "fault_length_us": 800_000}
_KILLS = {**_BUSY, "faults": ["kill", "power_cut"], "fault_length_us": 300_000}
_LATE = {
    **_BUSY,
    "faults": ["duplicate", "jitter", "reorder", "split", "kill"],
    "fault_length_us": 1_500_000,
}
_NO_LEASE = {"lease": False}
_CHASE = {"faults": ["chase"], "fault_gap_us": 1_500_000, "shards": 1}
_READS = {**_CHASE, **_NO_LEASE, "keys": 3, "clients": 12, "think_us": 10_000}

_LAG = {
    **_BUSY, "faults": ["oust", "pair", "kill", "power_cut"], "fault_length_us": 600_000,
    "flush_log_bytes": 3_000, "log_tail_entries": 0, "segment_bytes": 8_192,
}  # fmt: skip
_DAMAGE = {
    **_BUSY, "faults": ["flip", "stale", "oust", "chase"], "fault_length_us": 600_000, "shards": 1,
}  # fmt: skip

_LOST = {**_BUSY, "faults": ["rollback", "wipe", "kill"], "tail_share": 0.0}
_FLIPS = {
    **_DAMAGE, "faults": ["flip_data", "kill", "chase", "pair"],
    "flush_log_bytes": 3_000, "log_tail_entries": 0, "segment_bytes": 8_192,
}  # fmt: skip

_MEMBERS = {**_BUSY, "faults": ["members", "pair", "oneway", "kill"], "fault_length_us": 600_000}

MUTANTS = [
    Mutant(
        id="xR1",
        what="a vote is answered before it is durable",
        module=_ELECTION,
        function="on_request_vote",
        old="core.send_after_persist(sender, RequestVoteReply(core.term, granted))",
        new="core.send(sender, RequestVoteReply(core.term, granted))",
        checks="PROMISE, ELECT",
        options=_KILLS,
    ),
    Mutant(
        id="xR2",
        what="term and vote are never written down",
        module="quoit.raft.raft",
        function="Raft.ready",
        old="hard_state = HardState(self.term, self.vote) if self.hard_dirty else None",
        new="hard_state = None",
        checks="PROMISE, ELECT, DUR",
        scenario="power-cut-all",
    ),
    Mutant(
        id="xR3",
        what="entries of older terms are committed by counting (Raft, figure 8)",
        module=_REPLICATION,
        function="maybe_commit",
        old="if index > core.commit_index and core.log.term(index) == core.term:",
        new="if index > core.commit_index:",
        checks="COMMIT, COMPLETE, DUR",
        options={**_CUTS, "disk_us": 20_000},
    ),
    Mutant(
        id="xR4",
        what="candidates' logs are compared by length only",
        module=_ELECTION,
        function="_up_to_date",
        old="return (last_term, last_index) >= (core.log.last_term, core.log.last_index)",
        new="return last_index >= core.log.last_index",
        checks="COMPLETE, DUR",
        options={
            **_CHASE, **_NO_LEASE, "clients": 2, "think_us": 20_000, "disk_us": 5_000,
            "latency_us": 3_000,
        },
    ),
    Mutant(
        id="xR5",
        what="every append truncates what follows, also when the entries match",
        module="quoit.raft.follower",
        function="_accept",
        old="if entry.index > log.compacted_index and log.term(entry.index) != entry.term:",
        new="if entry.index > log.compacted_index:",
        checks="MATCH, DUR, crash",
        options=_LATE,
    ),
    Mutant(
        id="xR6",
        what="a follower commits as far as its own log reaches",
        module="quoit.raft.follower",
        function="on_append",
        old="core.commit_to(min(message.commit, last_new))",
        new="core.commit_to(min(message.commit, log.last_index))",
        checks="APPLY",
        options=_CUTS,
    ),
    Mutant(
        id="xR7",
        what="replies of older terms count",
        module=_REPLICATION,
        function="heard",
        old="if term != core.term or core.role != LEADER:",
        new="if core.role != LEADER:",
        checks="LEASE, QUORUM, DUR",
        options={
            **_BUSY, "safety_us": 8_000_000, "faults": ["duplicate", "hold", "chase"],
            "fault_length_us": 3_000_000, "shards": 1, "tail_share": 0.0,
        },
    ),
    Mutant(
        id="xR8",
        what="the leader counts itself before its sync",
        module=_REPLICATION,
        function="maybe_commit",
        old="matches.append(core.stable_index)",
        new="matches.append(core.log.last_index)",
        checks="QUORUM, DUR",
        options={**_BUSY, "faults": ["power_cut", "slow_disk"]},
    ),
    Mutant(
        id="xR9",
        what="half of an even number of voters is a quorum",
        module="quoit.quorum.majority",
        function="quorum_size",
        old="return voters // 2 + 1",
        new="return (voters + 1) // 2",
        checks="ELECT, QUORUM",
        nodes=4,
        options={**_CUTS, "replication_factor": 4},
    ),
    Mutant(
        id="xR10",
        what="a new leader serves before an entry of its term is committed",
        module="quoit.raft.raft",
        function="Raft.can_serve",
        old="return self.role == LEADER and self.commit_index >= self.term_start",
        new="return self.role == LEADER",
        checks="LIN",
        options={**_KILLS, "faults": ["kill", "split", "transfer"], "disk_us": 20_000},
    ),
    Mutant(
        id="xR11",
        what="reads are not confirmed by a quorum",
        module="quoit.raft.raft",
        function="Raft._begin_reads",
        old="if self.alone:",
        new="if True:",
        checks="LIN",
        options=_READS,
    ),
    Mutant(
        id="xR11b",
        what="a read is confirmed by a round that began before the read",
        module="quoit.raft.raft",
        function="Raft._begin_reads",
        old="reads.begin(round_number, self.commit_index)",
        new="reads.begin(round_number - 1, self.commit_index)",
        checks="READ, LIN",
        options=_READS,
    ),
    Mutant(
        id="xR12a",
        what="a leader that no quorum answers stays (no check-quorum)",
        module=_ELECTION,
        function="check_quorum",
        old="if not core.alone and now_us",
        new="if False and now_us",
        checks="EXPECT",
        scenario="leader-deaf",
    ),
    Mutant(
        id="xR12b",
        what="asking for a pre-vote raises the term",
        module=_ELECTION,
        function="on_pre_vote",
        old="    granted = (",
        new="    if message.term > core.term:\n"
        "        core.become_follower(message.term, 0, now_us)\n"
        "    granted = (",
        checks="EXPECT",
        scenario="one-way-deaf",
    ),
    Mutant(
        id="xR13",
        what="waiting clients are answered by index alone, whatever entry is there",
        module="quoit.node.replica",
        function="Replica._decide",
        old="if entry_term == inflight.term:",
        new="if entry_term is not None:",
        checks="LIN, DUR",
        options=_CUTS,
    ),
    Mutant(
        id="xS1",
        what="hard state and entries are two writes",
        module="quoit.node.persistence",
        function="Persistence.next_write",
        old="    updates, self.updates = self.updates, []\n",
        new="    first = [ShardUpdate(u.shard, None, u.entries, u.reset, u.compacted)\n"
        "             for u in self.updates]\n"
        "    later = [ShardUpdate(u.shard, u.hard_state, [], None, None)\n"
        "             for u in self.updates if u.hard_state is not None and u.entries]\n"
        "    first = [new if u.entries else u\n"
        "             for u, new in zip(self.updates, first)]\n"
        "    updates, self.updates = first, later\n",
        checks="PROMISE",
        options=_KILLS,
    ),
    Mutant(
        id="xS2",
        what="the applied index is settled before the effects",
        module="quoit.storage.buffered",
        function="BufferedEngine._freeze",
        old="    frozen, self._data = self._data, {}\n",
        new="    frozen = {**self._rest, **self._data}\n    self._data = {}\n",
        checks="APPLY, DUR",
        options={**_KILLS, "flush_log_bytes": 4_000},
    ),
    Mutant(
        id="xS3",
        what="a failed sync is repeated, and its success believed",
        module="quoit.storage.log",
        function="Log.commit",
        old="        segments.write(write.offset, write.data)\n",
        new="        try:\n"
        "            segments.write(write.offset, write.data)\n"
        "        except DiskFault:\n"
        "            segments.write(write.offset, write.data)\n",
        checks="FAILSTOP, DUR",
        options={**_BUSY, "faults": ["sync_error", "power_cut_all"]},
    ),
    Mutant(
        id="xS4",
        what="a snapshot is installed over what its leader no longer has",
        module="quoit.node.snapshots",
        function="Snapshots._install",
        old="self.network.engine.write([(self._ranges(replica), data)])",
        new="self.network.engine.write([([], data)])",
        checks="APPLY",
        options=_LAG,
    ),
    Mutant(
        id="xS4b",
        what="the later parts of a snapshot are read later",
        module="quoit.node.snapshots",
        function="Snapshots._items",
        old="scans = [engine.scan(low, high) for low, high in self._ranges(replica)]\n"
        "    return (pair for scan in scans for pair in scan)",
        new="def late(at, high):\n"
        "        while (pair := next(engine.scan(at, high), None)) is not None:\n"
        "            yield pair\n"
        "            at = pair[0] + b'\\0'\n"
        "    return (pair for low, high in self._ranges(replica) for pair in late(low, high))",
        checks="APPLY, DUR, LIN",
        options={**_LAG, "snapshot_chunk_items": 1, "latency_us": 5_000},
    ),
    Mutant(
        id="xS4c",
        what="a follower that has a snapshot's state already does not say so",
        module="quoit.node.snapshots",
        function="Snapshots.received",
        old="if expected and core.term <= chunk.term and core.commit_index >= chunk.meta.index:",
        new="if False:",
        checks="LIVE",
        options={**_LAG, "faults": ["crash_point", "oust", "flip"], "shards": 1},
    ),
    Mutant(
        id="xS5",
        what="the log is compacted as far as it was applied, durable or not",
        module="quoit.node.compaction",
        function="Compaction.compact",
        old="durable = min(self.durable.get(replica.id, 0), replica.state.applied_index)",
        new="durable = replica.state.applied_index",
        checks="LIVE, DUR",
        options={**_LAG, "faults": ["power_cut_all", "kill_all"]},
    ),
    Mutant(
        id="xS6",
        what="a damaged record is taken for the end of the log",
        module="quoit.storage.recovery",
        function="_Recovery.run",
        old="self.damaged = self.damaged or self.later > 0 or self.mark.sequence > self.sequence",
        new="self.damaged = False",
        checks="DUR, COMPLETE, QUORUM",
        options=_DAMAGE,
    ),
    Mutant(
        id="xS6b",
        what="a replica that lost what it had acknowledged votes at once",
        module=_ELECTION,
        function="refuses_votes",
        old="if core.damaged or now_us < core.refuse_until_us:",
        new="if now_us < core.refuse_until_us:",
        checks="COMPLETE, DUR",
        options=_DAMAGE,
    ),
    Mutant(
        id="xS9",
        what="an engine that lost what the log has forgotten is trusted",
        module="quoit.node.cores",
        function="_check_engine",
        old="found.damaged = True",
        new="found.damaged = False",
        checks="COMPLETE, PROMISE, DUR",
        options=_FLIPS,
    ),
    Mutant(
        id="xS9b",
        what="a damaged block of the engine is served",
        module="quoit.sim.engine",
        function="SimEngine._checked_get",
        old="if value is not None and self.damaged.get(key) == value:",
        new="if False:",
        checks="LIN",
        options=_FLIPS,
    ),
    Mutant(
        id="xS8",
        what="a follower leaves the effects of one entry out",
        module="quoit.node.replica",
        function="Replica._apply",
        old="groups.extend(effects.groups())",
        new="groups.extend(effects.groups() if own or state.applied_index % 40 else [])",
        checks="APPLY, DIGEST",
        options=_CUTS,
    ),
    Mutant(
        id="xS7",
        what="the local clock is used while applying",
        module="quoit.node.replica",
        function="Replica._apply",
        old="state.stamp_ms = max(state.stamp_ms, effects.stamp_ms)",
        new="state.stamp_ms = max(state.stamp_ms, effects.stamp_ms, self.host.wall_ms)",
        checks="APPLY",
        options=_CUTS,
    ),
    Mutant(
        id="xM4",
        what="a node comes back with an emptied directory under its old number",
        module="quoit.node.standings",
        function="Standings.refusal",
        old="if standing.directory != known.directory:",
        new="if standing.directory != known.directory:\n            return \"\"",
        checks="REFUSE",
        options=_LOST,
    ),
    Mutant(
        id="xM4b",
        what="a node comes back with an older copy of its directory",
        module="quoit.node.standings",
        function="Standings.refusal",
        old="if standing.began < known.synced:",
        new="if False:",
        checks="REFUSE",
        options=_LOST,
    ),
    Mutant(
        id="xM4c",
        what="what peers said is forgotten with the process",
        module="quoit.node.node",
        function="Node.__init__",
        old="Standings(own, peer_marks or {})",
        new="Standings(own, {})",
        checks="REFUSE",
        options={**_LOST, "faults": ["rollback", "wipe", "kill_all", "power_cut_all"]},
    ),
    Mutant(
        id="xM3",
        what="a leader that is no voter, or leaves, counts itself",
        module=_REPLICATION,
        function="maybe_commit",
        old="if core.id in core.members.voters:",
        new="if True:",
        checks="QUORUM, DUR",
        nodes=5,
        options=_MEMBERS,
    ),
    Mutant(
        id="xM3b",
        what="learners, and replicas that were removed, count in the quorum",
        module="quoit.raft.core",
        function="Core.count_voters",
        old="self.counted = [one for peer, one in self.progress.items() if peer in voters]",
        new="self.counted = list(self.progress.values())",
        checks="QUORUM, DUR, crash",
        nodes=5,
        options=_MEMBERS,
    ),
    Mutant(
        id="xL1",
        what="the lease counts from the answers, not from the question",
        module=_REPLICATION,
        function="heard",
        old="core.lease.extend(rounds.contact_us)",
        new="core.lease.extend(now_us)",
        checks="LEASE, LIN",
        scenario="slow-answers",
    ),
    Mutant(
        id="xL2",
        what="the lease is kept while leadership is handed over",
        module="quoit.raft.transfer",
        function="begin",
        old="core.lease.revoked = True",
        new="core.lease.revoked = False",
        checks="LEASE, LIN",
        options={**_BUSY, "lease": True, "faults": ["transfer", "split"]},
    ),
    Mutant(
        id="xL3",
        what="the drift bound is ignored",
        module="quoit.quorum.lease",
        function="Lease.__init__",
        old="election_timeout_us - election_timeout_us * 2 * drift_ppm // 1_000_000",
        new="election_timeout_us",
        checks="LEASE",
        options={
            **_CUTS, "lease": True, "drift_ppm": 200_000, "latency_us": 100, "jitter_us": 50,
            "disk_us": 100, "faults": ["split"], "tick_us": 5_000,
            "rates_ppm": [900_000, 1_100_000, 1_100_000],
        },
    ),
    Mutant(
        id="xL4",
        what="votes are granted within a lease",
        module=_ELECTION,
        function="refuses_votes",
        old="return now_us - contact_us < core.config.election_timeout_us",
        new="return False",
        checks="LEASE, LIN",
        options={**_CUTS, "lease": True},
    ),
    Mutant(
        id="xL4b",
        what="a restarted replica votes at once, though it may have supported a lease",
        module=_ELECTION,
        function="refuses_votes",
        old="if core.damaged or now_us < core.refuse_until_us:",
        new="if core.damaged:",
        checks="LEASE, LIN",
        scenario="supporter-restarts",
    ),
    Mutant(
        id="xW1",
        what="WATCH cannot tell a key that was never there from one that came and went",
        module="quoit.data.deletions",
        function="Deletions.note",
        old="if None in items.values():",
        new="if False:",
        checks="LIN",
        options={"keys": 2, "clients": 16, "think_us": 1_000},
    ),
    Mutant(
        id="xG2",
        what="a forwarded write is sent again after a broken connection",
        module="quoit.node.forwarding",
        function="Forwarder._ask_again",
        old="if sent.item[2].write:",
        new="if False:",
        checks="LIN, DUR",
        options={**_BUSY, "faults": ["reset", "loss", "slow_disk"]},
    ),
]  # fmt: skip
"""In the order of faults.md. `b` marks a second bug under the same number."""
