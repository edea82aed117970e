"""Read index: proof by a quorum that a read sees everything acknowledged before (thesis 6.4).

A read is safe at the commit index at which its round began, once a quorum acknowledged a round that
was started after the read arrived: then no later leader existed when the read arrived. It also
takes an entry of the leader's own term to be committed, else the commit index may be behind what an
earlier leader acknowledged.
"""

from collections import deque

from quoit.base.ids import Index

__all__ = ["ReadIndex"]


class ReadIndex:
    """Reads of one leadership.

    pending     read ids that wait for a round to be started for them
    pending_us  when the newest of these arrived
    waiting     (round, commit index at its start, read ids) that wait for that round's quorum;
                Invariant: rounds and indexes never fall from left to right
    """

    __slots__ = ("pending", "pending_us", "waiting")

    def __init__(self) -> None:
        self.pending: list[int] = []
        self.pending_us = 0
        self.waiting: deque[tuple[int, Index, list[int]]] = deque()

    def ask(self, read_id: int, now_us: int) -> None:
        """A read arrived."""
        self.pending.append(read_id)
        self.pending_us = now_us

    def begin(self, round_number: int, commit_index: Index) -> None:
        """Round `round_number` is started for all pending reads."""
        self.waiting.append((round_number, commit_index, self.pending))
        self.pending = []

    def proven(self, acknowledged: int) -> list[tuple[int, Index]]:
        """(read id, index) of the reads whose round a quorum has acknowledged by now."""
        found: list[tuple[int, Index]] = []
        waiting = self.waiting
        while waiting and waiting[0][0] <= acknowledged:
            _, index, read_ids = waiting.popleft()
            found.extend((read_id, index) for read_id in read_ids)
        return found

    def abandon(self) -> list[int]:
        """All reads that were not proven, in order of arrival."""
        read_ids = [read_id for _, _, group in self.waiting for read_id in group] + self.pending
        self.waiting.clear()
        self.pending = []
        return read_ids
