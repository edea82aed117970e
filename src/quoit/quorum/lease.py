"""The leader's lease: local reads without asking anyone (thesis section 6.4.1).

A voter that acknowledged a round refuses to vote for T after it heard that round, also across a
restart, so nobody else can be elected before T has passed since the round was SENT. The leader
counts T on its own clock, shortened by twice the drift bound: its clock may be slow while a voter's
is fast. The lease is a time, judged against the clock when a read comes, never a count of ticks.
"""

__all__ = ["Lease"]


class Lease:
    """One term's lease.

    until_us  it ends here; Invariant: never falls, a lease given is not taken back by a renewal
    revoked   none for the rest of the term: leadership is being handed over, and the request for
              that may be delivered, and override the voters' refusal, arbitrarily late
    """

    __slots__ = ("_length_us", "revoked", "until_us")

    def __init__(self, election_timeout_us: int, drift_ppm: int) -> None:
        self._length_us = election_timeout_us - election_timeout_us * 2 * drift_ppm // 1_000_000
        self.until_us = 0
        self.revoked = False

    def extend(self, started_us: int) -> None:
        """A quorum acknowledged a round that was started at `started_us`."""
        self.until_us = max(self.until_us, started_us + self._length_us)

    def valid(self, now_us: int) -> bool:
        """No other leader can have been elected by now."""
        return now_us < self.until_us and not self.revoked
