"""Rounds: one leadership's numbered sends, and which of them a quorum has answered.

A follower echoes the number of the round it answers. Only the leader knows when it started which
round, so no clock value ever travels.
"""

from collections import deque

__all__ = ["Rounds"]

_GRAINS = 512


class Rounds:
    """One term's rounds, numbered from 1. Starts are remembered a grain of time apart: a round that
    was started between two of them counts from the earlier, which only errs to the safe side. A
    leader gives up after two time-outs without an answer, which bounds what is remembered.

    current       number of the newest round
    current_us    when it was started
    acknowledged  the newest round that a quorum acknowledged; Invariant: never falls
    contact_us    when the newest round whose start is remembered and that a quorum acknowledged was
                  started; at first, when the leadership began. Invariant: never falls
    """

    __slots__ = (
        "_grain_us", "_remembered_us", "_sent", "acknowledged", "contact_us", "current",
        "current_us",
    )  # fmt: skip

    def __init__(self, now_us: int, election_timeout_us: int) -> None:
        self._grain_us = election_timeout_us // _GRAINS
        self._remembered_us = now_us - self._grain_us
        self._sent: deque[tuple[int, int]] = deque(maxlen=4 * _GRAINS)
        self.current = 0
        self.current_us = -1
        self.acknowledged = 0
        self.contact_us = now_us

    def at(self, now_us: int) -> int:
        """The round for a message sent now; messages of one moment share it."""
        return self.current if self.current_us == now_us else self.start(now_us)

    def start(self, now_us: int) -> int:
        """A new round, started now."""
        self.note(self.current + 1, now_us)
        return self.current

    def note(self, round_number: int, now_us: int) -> None:
        """Round `round_number` is the newest, started now."""
        self.current = round_number
        self.current_us = now_us
        if now_us - self._remembered_us >= self._grain_us:
            self._remembered_us = now_us
            self._sent.append((self.current, now_us))

    def quorum_reached(self, round_number: int) -> bool:
        """A quorum acknowledged `round_number`; True if that is news."""
        if round_number <= self.acknowledged:
            return False
        self.acknowledged = round_number
        sent = self._sent
        while sent and sent[0][0] <= round_number:
            self.contact_us = sent.popleft()[1]
        return True
