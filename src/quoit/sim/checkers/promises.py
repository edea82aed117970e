"""Durable before said: what a message or a commitment claims must be on the disks already.

The world reports each log write when its sync is done; from that the checker knows what every node
would still hold after a power cut, and judges

 * votes, and all replies' terms: the sender's disk holds that term, and that vote;
 * acknowledged entries: the sender's disk holds an entry at that index;
 * commitment: whatever is applied first anywhere is on the disks of a quorum, with that very term;
 * a leader commits by counting only up to entries of its own term (Raft section 5.4.2).
"""

from typing import Any

from quoit.raft import messages as m
from quoit.storage.api import ShardUpdate

__all__ = ["PromiseChecker"]


class _Disk:
    """What one node's disk holds of one shard. Entries up to `base` are held as applied data.

    owed  what it held before it was damaged. It acknowledged that, and a leader may count it later: a
          damaged replica elects nobody until it has all of it again
    """

    def __init__(self) -> None:
        self.term = 0
        self.vote = 0
        self.base = 0
        self.last = 0
        self.terms: dict[int, int] = {}
        self.owed: dict[int, int] = {}


class PromiseChecker:
    """Follows every disk of the cluster. See the module's docstring."""

    def __init__(self) -> None:
        self.disks: dict[tuple[int, int], _Disk] = {}

    def disk(self, node: int, shard: int) -> _Disk:
        """What the node's disk holds of the shard."""
        return self.disks.setdefault((node, shard), _Disk())

    def recovered(
        self,
        node: int,
        shard: int,
        hard_state: tuple[int, int],
        base: tuple[int, int],
        entries: list[Any],
        *,
        damaged: bool = False,
    ) -> None:
        """A node started and found this: (term, vote), and entries (index, term) after `base`."""
        old = self.disk(node, shard)
        disk = self.disks[node, shard] = _Disk()
        if damaged:
            disk.owed = {**old.owed, **old.terms}
        disk.term, disk.vote = hard_state
        disk.base = disk.last = base[0]
        for index, term in _places(entries):
            disk.terms[index] = term
            disk.last = index

    def synced(self, node: int, updates: list[ShardUpdate]) -> None:
        """A node's log write is durable."""
        for update in updates:
            disk = self.disk(node, update.shard)
            if update.reset is not None:
                disk.base = disk.last = update.reset.index
                disk.terms = {}
            if update.hard_state is not None:
                disk.term, disk.vote = update.hard_state.term, update.hard_state.vote
            if update.entries:
                for index in range(update.entries[0].index, disk.last + 1):
                    disk.terms.pop(index, None)
                for entry in update.entries:
                    disk.terms[entry.index] = entry.term
                disk.last = update.entries[-1].index
            if update.healed:
                disk.owed = {}
            if update.compacted is not None:
                disk.base = max(disk.base, update.compacted[0])

    def sends(self, sender: int, receiver: int, shard: int, message: Any) -> str:
        """A message leaves. A problem, or ""."""
        disk = self.disk(sender, shard)
        kind = type(message)
        if kind is m.RequestVote:
            if (disk.term, disk.vote) != (message.term, sender) and disk.term <= message.term:
                return (
                    f"node {sender} asks for votes in term {message.term} before its own is durable"
                )
        elif kind is m.RequestVoteReply and message.granted:
            if disk.term == message.term and disk.vote == receiver:
                return ""
            if disk.term <= message.term:
                return f"node {sender} votes for {receiver} in term {message.term}, not durably"
        elif kind in (m.AppendEntriesReply, m.InstallSnapshotReply, m.HeartbeatReply):
            if message.term > disk.term:
                return f"node {sender} answers in term {message.term}, which is not durable"
            if kind is m.AppendEntriesReply and message.ok and message.match_index > disk.last:
                return (
                    f"node {sender} acknowledges entry {message.match_index} of shard {shard}; "
                    f"its disk ends at {disk.last}"
                )
        return ""

    def commits(
        self, shard: int, index: int, term: int, voters: tuple[int, ...], quorum: int
    ) -> str:
        """An entry is applied somewhere for the first time. A problem, or ""."""
        holders = []
        for node in voters:
            disk = self.disk(node, shard)
            held = index <= disk.base or disk.terms.get(index) == term
            if held or disk.owed.get(index) == term:
                holders.append(node)
        if len(holders) >= quorum:
            return ""
        return (
            f"entry {index} of term {term} of shard {shard} is applied, but only the disks of nodes "
            f"{holders} hold it"
        )


def _places(entries: list[Any]) -> list[tuple[int, int]]:
    return [one if type(one) is tuple else (one.index, one.term) for one in entries]
