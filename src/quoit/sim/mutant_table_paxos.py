"""The mutants of Multi-Paxos (faults.md, section 3, xP1 to xP7, and our own): see mutant_table.py."""

from quoit.sim.mutant_table import Mutant

__all__ = ["PAXOS_MUTANTS"]

_ACCEPTOR = "quoit.paxos.acceptor"
_ELECTION = "quoit.paxos.election"
_REPLICATION = "quoit.paxos.replication"

_PAXOS = {"consensus": "paxos"}
_BUSY = {
    **_PAXOS,
    "safety_us": 6_000_000,
    "think_us": 20_000,
    "clients": 8,
    "fault_gap_us": 250_000,
}
_CUTS = {**_BUSY, "faults": ["split", "oneway", "pair", "swizzle"], "fault_length_us": 800_000}
_KILLS = {**_BUSY, "faults": ["kill", "power_cut"], "fault_length_us": 300_000}
_LATE = {
    **_BUSY,
    "faults": ["duplicate", "jitter", "reorder", "split", "kill", "loss"],
    "fault_length_us": 1_500_000,
}
_CHASE = {**_BUSY, "faults": ["chase"], "fault_gap_us": 1_500_000, "shards": 1}
_READS = {**_CHASE, "lease": False, "keys": 3, "clients": 12, "think_us": 10_000}

_GAPS = {
    **_BUSY,
    "faults": ["chase", "loss"],
    "fault_gap_us": 700_000,
    "fault_length_us": 500_000,
    "keys": 4,
    "clients": 12,
    "think_us": 5_000,
    "shards": 1,
}

PAXOS_MUTANTS = [
    Mutant(
        id="xP1",
        what="a promise is answered before it is durable",
        module=_ELECTION,
        function="on_prepare",
        old="core.send_after_persist(sender, Promise(core.term, True, core.commit_index, entries))",
        new="core.send(sender, Promise(core.term, True, core.commit_index, entries))",
        checks="PROMISE, DUR",
        options=_KILLS,
    ),
    Mutant(
        id="xP1b",
        what="promises are never written down",
        module="quoit.paxos.paxos",
        function="Paxos.ready",
        old="hard_state = HardState(self.term, 0) if self.hard_dirty else None",
        new="hard_state = None",
        checks="PROMISE, LIVE",
        options=_KILLS,
    ),
    Mutant(
        id="xP2",
        what="what is below the promise is accepted",
        module="quoit.paxos.core",
        function="Core.follow",
        old="if term < self.term:\n        return False",
        new="if term < self.term and sender != self.id:\n"
        "        self.term = self.durable_term = term\n"
        "        self.become_follower(term, sender, now_us)",
        checks="APPLY, CRASH",
        options=_LATE,
    ),
    Mutant(
        id="xP3",
        what="of several accepted values the one of the lowest ballot is proposed again",
        module=_ELECTION,
        function="_become_leader",
        old="(known is None or rank > known[0])",
        new="(known is None or rank < known[0])",
        checks="APPLY, MATCH, DUR",
        options={**_CUTS, "nodes": 5, "replication_factor": 5},
    ),
    Mutant(
        id="xP3b",
        what="a new leader proposes its own values and asks nobody's",
        module=_ELECTION,
        function="_become_leader",
        old="for entry in promise.entries:",
        new="for entry in promise.entries[:0]:",
        checks="APPLY, COMPLETE, DUR",
        options=_CUTS,
    ),
    Mutant(
        id="xP4",
        what="an acceptor takes all that the leader has chosen for what it holds itself",
        module=_ACCEPTOR,
        function="on_accept",
        old="core.commit_to(min(commit, core.received))",
        new="core.commit_to(min(commit, core.log.last_index))",
        checks="APPLY, CRASH",
        options=_LATE,
    ),
    Mutant(
        id="xP4b",
        what="open instances without a value are not filled",
        module=_ELECTION,
        function="_become_leader",
        old="core.put(carry(found[1], core.term) if found else Chain.first(index, core.term))",
        new="found and core.put(carry(found[1], core.term))",
        checks="CRASH, LIVE, APPLY",
        options={**_GAPS, "faults": ["chase", "loss", "oust", "small_frames"]},
    ),
    Mutant(
        id="xP5",
        what="the node is no part of its ballots",
        module="quoit.paxos.core",
        function="Core.next_ballot",
        old="return ballot(self.round_seen + 1, self.id)",
        new="return ballot(self.round_seen + 1, 1)",
        checks="ELECT, CRASH, MATCH",
        options=_CUTS,
    ),
    Mutant(
        id="xP6",
        what="no back-off: proposers duel",
        module="quoit.paxos.core",
        function="Core.reset_election",
        old="self.patience_us = self.rng.randrange(timeout, 2 * timeout)",
        new="self.patience_us = timeout // 60",
        checks="LIVE",
        options={**_KILLS, "latency_us": 5_000},
    ),
    Mutant(
        id="xP7",
        what="write-all with a write quorum that an election need not meet",
        module="quoit.quorum.members",
        function="quorums",
        old="found = Quorums(voters, voters, 1, voters)",
        new="return Quorums(voters, voters // 2 + 1, 1, voters)",
        checks="DUR, COMPLETE, QUORUM, LIN",
        options={**_CUTS, "quorum": "all"},
    ),
    Mutant(
        id="xP8",
        what="a batch counts although what it was run on top of was not chosen",
        module="quoit.paxos.values",
        function="Chain.follow",
        old="if kind != EMPTY and origin != self.last:",
        new="if False:",
        checks="LIN, DUR",
        options=_GAPS,
    ),
    Mutant(
        id="xP9",
        what="an acceptance is answered before it is durable",
        module=_ACCEPTOR,
        function="on_accept",
        old="core.send_after_persist(\n        sender,\n        Accepted(",
        new="core.send(\n        sender,\n        Accepted(",
        checks="PROMISE, DUR",
        options=_KILLS,
    ),
    Mutant(
        id="xP10",
        what="a leader's own acceptance counts before it is durable",
        module=_REPLICATION,
        function="append",
        old="core.proposed = index",
        new="core.proposed = core.own_stable = index",
        checks="QUORUM, CRASH, DUR",
        options=_KILLS,
    ),
    Mutant(
        id="xP11",
        what="a read is served before the first instance of the leader's ballot is chosen",
        module="quoit.paxos.paxos",
        function="Paxos.can_serve",
        old="0 < self.term_start <= self.commit_index",
        new="0 < self.term_start",
        checks="LIN",
        options=_READS,
    ),
    Mutant(
        id="xP12",
        what="a read waits for a round that was sent before it arrived",
        module="quoit.paxos.paxos",
        function="Paxos._begin_reads",
        old="round_number = rounds.start(now_us)",
        new="round_number = rounds.current or rounds.start(now_us)",
        checks="READ, LIN",
        options=_READS,
    ),
    Mutant(
        id="xP13",
        what="promises are given while a leader may hold a lease",
        module=_ELECTION,
        function="refuses",
        old="return now_us - contact_us < core.config.election_timeout_us",
        new="return False",
        checks="LEASE, LIN",
        options=_CUTS,
    ),
]
