"""What a leader knows of one follower's log, and how fast it may send to it.

PROBE      one append at a time until the follower says where its log matches
REPLICATE  appends are pipelined, up to `window` of them unanswered
SNAPSHOT   the follower needs entries that were compacted; nothing is sent until it has the state

    PROBE --matched--> REPLICATE --rejected--> PROBE --need_snapshot--> SNAPSHOT
    SNAPSHOT --matched--> REPLICATE;  SNAPSHOT --snapshot_ended--> PROBE;  any --distrust--> PROBE
"""

from collections import deque
from enum import Enum

from quoit.base.check import invariant
from quoit.base.ids import Index

__all__ = ["EMPTIES_MAX", "Mode", "Progress"]

EMPTIES_MAX = 256
"""Empty entries that are added in one round for a follower that heals only beyond them."""


class Mode(Enum):
    """See the module's docstring."""

    PROBE = "probe"
    REPLICATE = "replicate"
    SNAPSHOT = "snapshot"


PROBE, REPLICATE, SNAPSHOT = Mode.PROBE, Mode.REPLICATE, Mode.SNAPSHOT


class Progress:
    """Invariant: match_index < next_index; match_index never falls while the follower is sound.

    match_index  the follower's log equals the leader's up to here, durably
    next_index   the next entry to send
    inflight     last index of each unanswered append, ascending, REPLICATE only
    probing      PROBE: an append is unanswered
    round        the newest round that the follower acknowledged
    voting       the follower may be counted (it is not damaged)
    empties      empty entries that were added for it in the last round
    """

    __slots__ = (
        "empties", "inflight", "match_index", "mode", "next_index", "probing", "round", "voting", "window",
    )  # fmt: skip

    def __init__(self, next_index: Index, window: int) -> None:
        self.match_index: Index = 0
        self.next_index = next_index
        self.mode = PROBE
        self.inflight: deque[Index] = deque()
        self.probing = False
        self.round = 0
        self.voting = True
        self.empties = 0
        self.window = window

    def may_send(self) -> bool:
        """Flow control allows another append."""
        if self.mode is REPLICATE:
            return len(self.inflight) < self.window
        return self.mode is PROBE and not self.probing

    def sent(self, last: Index, count: int) -> None:
        """An append of `count` entries up to `last` was sent."""
        if self.mode is REPLICATE:
            if count:
                self.next_index = last + 1
                self.inflight.append(last)
        else:
            self.probing = True

    def matched(self, index: Index) -> bool:
        """The follower holds everything up to `index` durably; True if that is news."""
        news = index > self.match_index
        if news:
            self.match_index = index
        if self.mode is not REPLICATE:
            self.mode = REPLICATE
            self.next_index = self.match_index + 1
            self.probing = False
            return news
        inflight = self.inflight
        while inflight and inflight[0] <= index:
            inflight.popleft()
        if self.next_index <= self.match_index:
            self.next_index = self.match_index + 1
        return news

    def rejected(self, prev: Index, back_to: Index) -> bool:
        """The follower's log does not match at `prev`; go on behind `back_to`. False: stale."""
        if self.mode is SNAPSHOT or (prev <= self.match_index and self.voting):
            return False
        if self.mode is PROBE and prev != self.next_index - 1:
            return False
        if not self.voting and prev <= self.match_index:
            self.match_index = 0
        self._probe_from(min(prev, back_to + 1))
        return True

    def more_empties(self) -> int:
        """How many to add now: twice as many each time, as nobody knows how many it needs."""
        self.empties = min(max(1, 2 * self.empties), EMPTIES_MAX)
        return self.empties

    def unanswered(self) -> None:
        """A reply shows that the follower is alive, but not what became of older appends."""
        self.probing = False
        if len(self.inflight) >= self.window:
            self.inflight.popleft()

    def need_snapshot(self) -> None:
        """Send nothing until the follower has the state."""
        self.mode = SNAPSHOT
        self.inflight.clear()

    def snapshot_ended(self, index: Index) -> None:
        """The transfer of a snapshot is over; the follower may hold the state at `index`."""
        self._probe_from(index + 1)

    def distrust(self, next_index: Index) -> None:
        """The follower's disk lost what it had acknowledged: what it holds must be found out anew,
        and nothing of it is counted until it says that it is whole again."""
        self.voting = False
        self.empties = 0
        self.match_index = 0
        self._probe_from(next_index)

    def _probe_from(self, next_index: Index) -> None:
        self.mode = PROBE
        self.inflight.clear()
        self.probing = False
        self.next_index = max(self.match_index + 1, next_index)

    def check(self) -> None:
        """Assert the invariants above."""
        invariant(self.match_index < self.next_index, "next is behind match")
        invariant(len(self.inflight) <= self.window, "more appends in flight than allowed")
        invariant(
            not self.inflight or self.mode is REPLICATE, "appends are pipelined", mode=self.mode
        )
        invariant(
            not self.inflight or self.inflight[-1] < self.next_index, "an unsent append in flight"
        )
