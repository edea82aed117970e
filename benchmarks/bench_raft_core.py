"""What one write costs in the Raft core: propose, append, acknowledge, commit; 3 voters, no disk.

    python benchmarks/bench_raft_core.py [--profile]

Budget: below 40 us on the leader, per entry, in pure Python.
"""

import random
import sys
import time
from typing import Any

from quoit.quorum.agreement import Entry, HardState, Ready
from quoit.quorum.members import Members
from quoit.raft.config import RaftConfig
from quoit.raft.raft import Raft

WRITES = 50_000


class NoDisk:
    """Nothing is ever read back: the cache holds all that is compared here."""

    def entries(self, low: int, high: int, bytes_max: int) -> list[Entry]:
        raise NotImplementedError("nothing was evicted")


def start(node_id: int) -> Raft:
    """One replica of three."""
    return Raft(
        RaftConfig(node_id=node_id),
        members=Members((1, 2, 3)),
        hard_state=HardState(),
        entries=[],
        first=(0, 0),
        applied=0,
        rng=random.Random(node_id),
        reader=NoDisk(),
        trace=lambda event, /, **facts: None,
        now_us=0,
    )


def finish(raft: Raft, ready: Ready) -> list[tuple[int, Any]]:
    """Persist and apply at once; the messages that leave then."""
    if ready.entries:
        raft.persisted(ready.entries[-1].index, ready.entries[-1].term)
    if ready.committed:
        raft.applied_to(ready.committed[-1].index)
    return ready.messages + ready.messages_after_persist


def settle(rafts: dict[int, Raft], now_us: int) -> None:
    """Deliver everything until nobody has anything to say."""
    while any(raft.has_ready for raft in rafts.values()):
        for node_id, raft in rafts.items():
            ready = raft.ready()
            if ready is not None:
                for to, message in finish(raft, ready):
                    rafts[to].step(node_id, message, now_us)


def run(writes: int) -> tuple[float, float]:
    """Seconds spent in the leader and in one follower."""
    rafts = {node_id: start(node_id) for node_id in (1, 2, 3)}
    leader, follower, other = rafts.values()
    now_us = 1_000_000
    leader.tick(now_us)
    settle(rafts, now_us)
    if not leader.is_leader:
        raise SystemExit("no leader was elected")
    clock = time.perf_counter
    data = b"x" * 200
    spent_leader = spent_follower = 0.0
    for _ in range(writes):
        now_us += 200
        began = clock()
        leader.propose(data, now_us)
        sent = leader.ready()
        spent_leader += clock() - began
        assert sent is not None
        replies: list[tuple[int, Any]] = []
        for raft in (follower, other):
            began = clock()
            for to, message in sent.messages:
                if to == raft.id:
                    raft.step(1, message, now_us)
            ready = raft.ready()
            assert ready is not None
            replies += [(raft.id, message) for _, message in finish(raft, ready)]
            spent_follower += (clock() - began) / 2
        began = clock()
        leader.persisted(sent.entries[-1].index, sent.entries[-1].term)
        for sender, message in replies:
            leader.step(sender, message, now_us)
        ready = leader.ready()
        assert ready is not None and ready.committed
        leader.applied_to(ready.committed[-1].index)
        spent_leader += clock() - began
        if leader.commit_index % 10_000 == 0:
            for raft in rafts.values():
                raft.compact(raft.applied_index - 1000)
    return spent_leader, spent_follower


def main() -> None:
    """Print microseconds per write; with --profile, where they go."""
    if "--profile" in sys.argv:
        import cProfile
        import pstats

        profile = cProfile.Profile()
        profile.runcall(run, WRITES // 5)
        pstats.Stats(profile).sort_stats("tottime").print_stats(18)
        return
    best = min((run(WRITES) for _ in range(3)), key=lambda spent: spent[0])
    print(f"leader   {best[0] / WRITES * 1e6:6.2f} us per entry (budget 40)")
    print(f"follower {best[1] / WRITES * 1e6:6.2f} us per entry")


if __name__ == "__main__":
    main()
