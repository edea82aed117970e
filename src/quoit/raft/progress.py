"""What a leader knows of one follower's log, and how fast it may send to it.

PROBE      one append at a time until the follower says where its log matches
REPLICATE  appends are pipelined, up to `window` of them unanswered
SNAPSHOT   the follower needs entries that were compacted; nothing is sent until it has the state
"""

from collections import deque
from enum import Enum

from quoit.base.ids import Index

__all__ = ["Mode", "Progress"]


class Mode(Enum):
    """See the module's docstring."""

    PROBE = "probe"
    REPLICATE = "replicate"
    SNAPSHOT = "snapshot"


class Progress:
    """Invariant: match_index < next_index; match_index never falls within a term.

    match_index  the follower's log equals the leader's up to here, durably
    next_index   the next entry to send
    inflight     last index of each unanswered append, REPLICATE only
    probing      PROBE: an append is unanswered
    heard_us     when the last reply of this term arrived
    round        the newest round that the follower acknowledged
    voting       the follower may be counted (it is not damaged)
    """

    __slots__ = (
        "heard_us", "inflight", "match_index", "mode", "next_index", "probing", "round", "voting",
        "window",
    )  # fmt: skip

    def __init__(self, next_index: Index, window: int, now_us: int) -> None:
        self.match_index: Index = 0
        self.next_index = next_index
        self.mode = Mode.PROBE
        self.inflight: deque[Index] = deque()
        self.probing = False
        self.heard_us = now_us
        self.round = 0
        self.voting = True
        self.window = window

    def may_send(self) -> bool:
        """Flow control allows another append."""
        if self.mode is Mode.REPLICATE:
            return len(self.inflight) < self.window
        return self.mode is Mode.PROBE and not self.probing

    def sent(self, last: Index, count: int) -> None:
        """An append of `count` entries up to `last` was sent."""
        if self.mode is Mode.REPLICATE:
            if count:
                self.next_index = last + 1
                self.inflight.append(last)
        else:
            self.probing = True

    def matched(self, index: Index) -> bool:
        """The follower acknowledged up to `index`; True if that is news."""
        news = index > self.match_index
        if news:
            self.match_index = index
        inflight = self.inflight
        while inflight and inflight[0] <= index:
            inflight.popleft()
        if self.next_index <= self.match_index:
            self.next_index = self.match_index + 1
        if self.mode is not Mode.REPLICATE:
            self.mode = Mode.REPLICATE
            self.inflight.clear()
            self.next_index = self.match_index + 1
        self.probing = False
        return news

    def rejected(self, prev: Index, back_to: Index) -> bool:
        """The follower's log does not match at `prev`; go on below. False: a stale rejection."""
        if prev <= self.match_index:
            return False
        if self.mode is Mode.PROBE and prev != self.next_index - 1:
            return False
        self.mode = Mode.PROBE
        self.inflight.clear()
        self.probing = False
        self.next_index = max(self.match_index + 1, min(prev, back_to + 1))
        return True

    def need_snapshot(self) -> None:
        """Stop sending until the follower has the state."""
        self.mode = Mode.SNAPSHOT
        self.inflight.clear()

    def probe_again(self) -> None:
        """Start over from what is known to match."""
        self.mode = Mode.PROBE
        self.inflight.clear()
        self.probing = False
        self.next_index = self.match_index + 1
