"""Proof of leadership: rounds of messages that a quorum answered, and what follows from them.

A *read* is safe when a quorum acknowledged a round that was started after the read arrived (thesis
section 6.4). A *lease* is a local stand-in for such a round: a follower that acknowledged a round
refuses to vote for T after it heard it, so no other leader can be elected before T has passed since
the round was SENT, measured on the leader's clock and shortened by the drift bound.
"""

from collections import deque

from quoit.base.ids import Index

__all__ = ["Rounds"]

_SENT_MAX = 4096


class Rounds:
    """One term's rounds. Invariant: lease_until_us never falls.

    current        number of the newest round
    current_us     when it was started
    acknowledged   the newest round that a quorum acknowledged
    contact_us     when that round was started
    lease_until_us end of the lease
    revoked        no lease for the rest of the term (leadership is being handed over)
    pending        read ids that wait for a round to be started
    waiting        (round, commit index then, read ids) that wait for that round's quorum
    """

    __slots__ = (
        "_lease_us", "_sent", "acknowledged", "contact_us", "current", "current_us",
        "lease_until_us", "pending", "revoked", "waiting",
    )  # fmt: skip

    def __init__(self, lease_us: int, now_us: int) -> None:
        self._lease_us = lease_us
        self._sent: deque[tuple[int, int]] = deque()
        self.current = 0
        self.current_us = -1
        self.acknowledged = 0
        self.contact_us = now_us
        self.lease_until_us = 0
        self.revoked = False
        self.pending: list[int] = []
        self.waiting: deque[tuple[int, Index, list[int]]] = deque()

    def at(self, now_us: int) -> int:
        """The round for a message sent now; messages of one moment share it."""
        return self.current if self.current_us == now_us else self.start(now_us)

    def start(self, now_us: int) -> int:
        """A new round, started now."""
        self.current += 1
        self.current_us = now_us
        if len(self._sent) >= _SENT_MAX:
            # Dropping an old round only loses an older, shorter lease.
            self._sent.popleft()
        self._sent.append((self.current, now_us))
        return self.current

    def quorum_reached(self, round_number: int) -> None:
        """A quorum acknowledged `round_number`."""
        if round_number <= self.acknowledged:
            return
        self.acknowledged = round_number
        sent = self._sent
        started_us = -1
        while sent and sent[0][0] <= round_number:
            started_us = sent.popleft()[1]
        if started_us >= 0:
            self.contact_us = max(self.contact_us, started_us)
            self.lease_until_us = max(self.lease_until_us, started_us + self._lease_us)

    def proven(self) -> list[tuple[int, Index]]:
        """(read id, index) of the reads whose round has its quorum by now."""
        found: list[tuple[int, Index]] = []
        waiting = self.waiting
        while waiting and waiting[0][0] <= self.acknowledged:
            _, index, ids = waiting.popleft()
            found.extend((read_id, index) for read_id in ids)
        return found

    def abandon(self) -> list[int]:
        """All reads that were not proven."""
        ids = [read_id for _, _, group in self.waiting for read_id in group] + self.pending
        self.waiting.clear()
        self.pending = []
        return ids
