"""Paxos, watched from outside: one value per instance and ballot, and durable before said.

Same questions as log_matching.py and promises.py ask of Raft, with Paxos' answers: an entry on disk is an
acceptance; what counts is its value, named by its origin; there is no order among ballots in a log.
"""

from typing import Any
from zlib import crc32

from quoit.paxos import messages as m
from quoit.paxos.values import CARRIED, GAP, origin_of
from quoit.quorum.agreement import Entry
from quoit.sim.checkers.promises import PromiseChecker
from quoit.storage.api import ShardUpdate

__all__ = ["AcceptanceChecker", "ValueChecker"]


class ValueChecker:
    """At most one value is ever proposed in an instance and ballot (*Paxos Made Simple*, section 2.2).

    known  (shard, index, ballot) -> (origin, checksum of the data, node that wrote it first)
    """

    def __init__(self) -> None:
        self.known: dict[tuple[int, int, int], tuple[int, int, int]] = {}

    def recovered(self, node: int, shard: int, base: tuple[int, int], entries: list[Entry]) -> str:
        """A node started with these entries."""
        return self.written(node, shard, entries)

    def reset(self, node: int, shard: int, index: int, term: int) -> None:
        """A snapshot replaced the log."""

    def written(self, node: int, shard: int, entries: list[Entry]) -> str:
        """A node accepts these entries. A problem, or ""."""
        for entry in entries:
            if entry.kind == GAP:
                continue
            data = entry.data[8:] if entry.kind & CARRIED else entry.data
            mark = (origin_of(entry), crc32(data), node)
            first = self.known.setdefault((shard, entry.index, entry.term), mark)
            if first[:2] != mark[:2]:
                return (
                    f"shard {shard}: instance {entry.index} has two values in ballot {entry.term}, "
                    f"accepted by nodes {first[2]} and {node}"
                )
        return ""


class AcceptanceChecker(PromiseChecker):
    """Follows every disk of the cluster; `terms` of a disk holds the origin of each acceptance."""

    def recovered(
        self,
        node: int,
        shard: int,
        hard_state: tuple[int, int],
        base: tuple[int, int],
        entries: list[Entry],
        *,
        damaged: bool = False,
    ) -> None:
        """A node started and found this."""
        super().recovered(node, shard, hard_state, base, _origins(entries), damaged=damaged)

    def synced(self, node: int, updates: list[ShardUpdate]) -> None:
        """A node's log write is durable."""
        super().synced(node, updates)
        for update in updates:
            self.disk(node, update.shard).terms.update(_origins(update.entries))

    def sends(self, sender: int, receiver: int, shard: int, message: Any) -> str:
        """A message leaves. A problem, or ""."""
        disk = self.disk(sender, shard)
        kind = type(message)
        if kind is m.Prepare and message.term > disk.term:
            return f"node {sender} uses ballot {message.term} before it is durable"
        if kind is m.Promise and message.term > disk.term:
            return f"node {sender} promises ballot {message.term}, not durably"
        if kind in (m.Accepted, m.BeatReply, m.TakeSnapshotReply) and message.term > disk.term:
            return f"node {sender} answers in ballot {message.term}, which is not durable"
        if kind is m.Accepted and message.ok and max(message.last, message.match) > disk.last:
            return (
                f"node {sender} acknowledges instance {max(message.last, message.match)} of shard "
                f"{shard}; its disk ends at {disk.last}"
            )
        return ""


def _origins(entries: list[Entry]) -> list[tuple[int, int]]:
    return [(entry.index, origin_of(entry)) for entry in entries]
