"""What a leader knows of one follower, and how fast it may send to it.

PROBE --heard--> REPLICATE --need_snapshot--> SNAPSHOT --snapshot_ended--> PROBE
"""

from quoit.base.ids import Index
from quoit.quorum.progress import Mode, Progress

__all__ = ["Follower"]


class Follower(Progress):
    """A `Progress` whose follower may accept instances out of order.

    match_index  everything up to here is accepted in this ballot, or known there to be chosen, durably
    beyond       instances above match_index + 1 that are accepted durably
    marked       (round, next_index) when that heartbeat was sent; (0, 0): no heartbeat is awaited
    """

    __slots__ = ("beyond", "marked")

    def __init__(self, next_index: Index, window: int) -> None:
        super().__init__(next_index, window)
        self.beyond: set[Index] = set()
        self.marked = (0, 0)

    def accepted(self, first: Index, last: Index, match: Index) -> bool:
        """Instances first..last are accepted durably, and all up to `match`; True if that is news."""
        news = self.matched(match)
        beyond = self.beyond
        if last > self.match_index:
            fresh = range(max(first, self.match_index + 1), last + 1)
            before = len(beyond)
            beyond.update(fresh)
            news = news or len(beyond) > before
        if beyond and min(beyond) <= self.match_index:
            self.beyond = {index for index in beyond if index > self.match_index}
        return news

    def has(self, index: Index) -> bool:
        """The instance is accepted durably."""
        return index <= self.match_index or index in self.beyond

    def mark(self, round_number: int) -> None:
        """A heartbeat leaves: its answer will tell what of the Accepts before it was lost."""
        if not self.marked[0]:
            self.marked = (round_number, self.next_index)

    def answered(self, round_number: int, received: Index) -> None:
        """The answer to a heartbeat: what was sent before it and not received is sent again. A
        follower that restarted may also know less than it had acknowledged."""
        sent_in, next_index = self.marked
        if not sent_in or round_number < sent_in:
            return
        self.marked = (0, 0)
        if self.mode is Mode.REPLICATE and received + 1 < min(next_index, self.next_index):
            self.match_index = min(self.match_index, received)
            self.inflight.clear()
            self.next_index = received + 1
