"""Log replication: appends, acknowledgements, commitment, snapshots (Raft sections 5.3, 5.4.2, 7)."""

from quoit.base.check import invariant
from quoit.base.ids import Index, NodeId
from quoit.quorum.agreement import Entry
from quoit.raft.core import LEADER
from quoit.raft.election import Election
from quoit.raft.messages import (
    AppendEntries,
    AppendEntriesReply,
    Heartbeat,
    HeartbeatReply,
    InstallSnapshot,
    InstallSnapshotReply,
    TimeoutNow,
)
from quoit.raft.progress import Mode, Progress

__all__ = ["Replication"]


class Replication(Election):
    """The part of a replica that copies the log."""

    # Leader

    def _append(self, data: bytes, kind: int, now_us: int) -> Index:
        index = self.log.last_index + 1
        self.log.append(Entry(index, self.term, kind, data))
        self.has_ready = True
        for peer, progress in self.progress.items():
            self._replicate(peer, progress, now_us)
        return index

    def _replicate(self, peer: NodeId, progress: Progress, now_us: int) -> None:
        """Send what flow control allows."""
        log = self.log
        while progress.may_send():
            next_index = progress.next_index
            last = log.last_index
            if next_index > last and progress.mode is Mode.REPLICATE:
                return
            prev_term = log.term(next_index - 1)
            if prev_term is None:
                progress.need_snapshot()
                self._snapshot_wanted.append(peer)
                self.has_ready = True
                return
            self._send_append(peer, progress, prev_term, now_us)

    def _send_append(self, peer: NodeId, progress: Progress, prev_term: int, now_us: int) -> None:
        log = self.log
        next_index = progress.next_index
        entries = log.slice(next_index, log.last_index + 1, self.config.append_bytes_max)
        message = AppendEntries(
            self.term, next_index - 1, prev_term, self.commit_index, self.rounds.at(now_us), entries
        )
        progress.sent(next_index - 1 + len(entries), len(entries))
        self._send(peer, message)

    def _on_append_reply(self, sender: NodeId, message: AppendEntriesReply, now_us: int) -> None:
        if not self._heard(sender, message.term, message.round, message.voting, now_us):
            return
        progress = self.progress[sender]
        if message.ok:
            if progress.mode is Mode.SNAPSHOT and message.match_index < self.log.compacted_index:
                return
            if progress.matched(message.match_index):
                self._maybe_commit()
            if self.transfer_to == sender:
                self._hand_over(sender)
        else:
            back_to = self._back_to(message.hint_index, message.hint_term)
            if not progress.rejected(message.match_index, back_to):
                return
        self._replicate(sender, progress, now_us)

    def _back_to(self, hint_index: Index, hint_term: int) -> Index:
        """Where the logs may agree, given that the follower has `hint_term` at `hint_index`."""
        return self.log.find_conflict_hint(hint_index, hint_term)[0]

    def _heard(
        self, sender: NodeId, term: int, round_number: int, voting: bool, now_us: int
    ) -> bool:
        """Take note of a follower's reply; False if it is not for this leadership."""
        if term > self.term:
            self._become_follower(term, 0, now_us)
            return False
        if term != self.term or self.role != LEADER:
            return False
        progress = self.progress[sender]
        progress.heard_us = now_us
        progress.voting = voting
        if voting and round_number > progress.round:
            progress.round = min(round_number, self.rounds.current)
            self._count_rounds()
        return True

    def _count_rounds(self) -> None:
        acknowledged = sorted(
            (one.round if one.voting else 0 for one in self.progress.values()), reverse=True
        )
        # The leader itself is the first of the quorum.
        self.rounds.quorum_reached(acknowledged[self.quorum - 2])
        if self.rounds.waiting:
            proven = self.rounds.proven()
            if proven:
                self._reads.extend(proven)
                self.has_ready = True

    def _maybe_commit(self) -> None:
        """Advance the commit index to what a quorum holds durably."""
        matches = [one.match_index if one.voting else 0 for one in self.progress.values()]
        matches.append(self.stable_index)
        matches.sort(reverse=True)
        index = matches[self.quorum - 1]
        # Raft section 5.4.2, figure 8: only an entry of the own term is committed by counting.
        if index > self.commit_index and self.log.term(index) == self.term:
            self._commit_to(index)

    def _broadcast_heartbeat(self, round_number: int, now_us: int) -> None:
        self.heartbeat_us = now_us + self.config.heartbeat_us
        for peer, progress in self.progress.items():
            commit = min(progress.match_index, self.commit_index)
            self._send(peer, Heartbeat(self.term, round_number, commit))

    def _on_heartbeat_reply(self, sender: NodeId, message: HeartbeatReply, now_us: int) -> None:
        if not self._heard(sender, message.term, message.round, message.voting, now_us):
            return
        progress = self.progress[sender]
        if progress.mode is Mode.SNAPSHOT:
            return
        if progress.match_index < self.log.last_index:
            # An append or its reply may be lost: find out where the follower is.
            progress.probing = False
            if progress.mode is Mode.REPLICATE and progress.next_index > self.log.last_index:
                prev_term = self.log.term(progress.next_index - 1)
                if prev_term is not None:
                    self._send_append(sender, progress, prev_term, now_us)
                return
            if len(progress.inflight) >= progress.window:
                progress.inflight.popleft()
            self._replicate(sender, progress, now_us)

    def _hand_over(self, peer: NodeId) -> None:
        if not self.transfer_sent and self.progress[peer].match_index == self.log.last_index:
            self.transfer_sent = True
            self._send(peer, TimeoutNow(self.term))

    def snapshot_done(self, to: NodeId, index: Index, ok: bool, now_us: int) -> None:
        """The node's transfer of a snapshot ended. After a failure it is tried again later."""
        progress = self.progress.get(to)
        if progress is not None and progress.mode is Mode.SNAPSHOT:
            progress.probe_again()
            # Not at once: the next heartbeat's reply starts the probe.
            progress.probing = True

    def _on_snapshot_reply(
        self, sender: NodeId, message: InstallSnapshotReply, now_us: int
    ) -> None:
        if not self._heard(sender, message.term, 0, self._voting(sender), now_us):
            return
        progress = self.progress[sender]
        if progress.matched(message.match_index):
            self._maybe_commit()
        self._replicate(sender, progress, now_us)

    def _voting(self, peer: NodeId) -> bool:
        progress = self.progress.get(peer)
        return progress is None or progress.voting

    # Follower

    def _follow(self, sender: NodeId, term: int, now_us: int) -> bool:
        """A leader's message: follow it if its term is current."""
        if term < self.term:
            return False
        invariant(
            not (self.role == LEADER and term == self.term), "two leaders in a term", term=term
        )
        if term > self.term or self.leader != sender or self.role != "follower":
            self._become_follower(term, sender, now_us)
        else:
            self._reset_election(now_us)
        self.contact_us = now_us
        return True

    def _on_append(self, sender: NodeId, message: AppendEntries, now_us: int) -> None:
        if not self._follow(sender, message.term, now_us):
            reply = AppendEntriesReply(self.term, message.round, False, 0, 0, 0, not self.damaged)
            self._send_after_persist(sender, reply)
            return
        log = self.log
        prev = message.prev_index
        ok = True
        match_index = prev + len(message.entries)
        hint_index = hint_term = 0
        if prev < self.commit_index and match_index <= self.commit_index:
            # Late: all of it is committed here, and what is committed is never touched.
            match_index = self.commit_index
        elif prev < log.compacted_index or log.term(prev) == message.prev_term:
            self._accept(message.entries)
            self._commit_to(min(message.commit, match_index))
        else:
            ok = False
            match_index = prev
            hint_index, hint_term = log.find_conflict_hint(
                min(prev - 1, log.last_index), message.prev_term
            )
        reply = AppendEntriesReply(
            self.term, message.round, ok, match_index, hint_index, hint_term, not self.damaged
        )
        self._send_after_persist(sender, reply)

    def _accept(self, entries: list[Entry]) -> None:
        """Add the entries that are missing; replace a suffix only where it differs."""
        log = self.log
        for position, entry in enumerate(entries):
            if entry.index <= log.compacted_index:
                continue
            known = log.term(entry.index)
            if known == entry.term:
                continue
            if known is not None:
                invariant(
                    entry.index > self.commit_index,
                    "a committed entry would be replaced",
                    index=entry.index, commit=self.commit_index,
                )  # fmt: skip
                log.truncate(entry.index)
                self.handed_index = min(self.handed_index, entry.index - 1)
                self.stable_index = min(self.stable_index, entry.index - 1)
            for missing in entries[position:]:
                log.append(missing)
            self.has_ready = True
            return

    def _on_heartbeat(self, sender: NodeId, message: Heartbeat, now_us: int) -> None:
        current = self._follow(sender, message.term, now_us)
        if current:
            self._commit_to(min(message.commit, self.log.last_index))
        reply = HeartbeatReply(self.term, message.round, not self.damaged)
        if self.term == self.durable_term:
            self._send(sender, reply)
        else:
            self._send_after_persist(sender, reply)

    def accepts_snapshot(self, term: int, index: Index) -> bool:
        """A snapshot of `index` from a leader of `term` would bring this replica forward."""
        return term >= self.term and index > self.commit_index and self.role != LEADER

    def _on_install_snapshot(self, sender: NodeId, message: InstallSnapshot, now_us: int) -> None:
        if not self._follow(sender, message.term, now_us):
            return
        meta = message.meta
        if meta.index > self.commit_index:
            self.log.reset(meta.index, meta.term)
            self.commit_index = self.applied_index = self.applying_index = meta.index
            self.handed_index = self.stable_index = meta.index
            self._snapshot = meta
            self.has_ready = True
            if self.damaged:
                self._check_healed()
        self._send_after_persist(sender, InstallSnapshotReply(self.term, self.commit_index))
