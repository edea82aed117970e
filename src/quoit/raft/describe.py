"""Terse text of messages and of a Ready, for golden files, traces and people."""

from typing import Any

from quoit.quorum.agreement import CONFIG, EMPTY, Entry, Ready
from quoit.quorum.members import Members, decode_members
from quoit.raft import messages as m
from quoit.raft.core import Core

__all__ = [
    "describe_core",
    "describe_entry",
    "describe_members",
    "describe_message",
    "describe_ready",
]


def describe_entry(entry: Entry) -> str:
    """`index/term "data"`."""
    if entry.kind == CONFIG:
        what = "config " + describe_members(decode_members(entry.data))
    else:
        what = "empty" if entry.kind == EMPTY else f'"{entry.data.decode("latin-1")}"'
    return f"{entry.index}/{entry.term} {what}"


def describe_members(members: Members) -> str:
    """`1,2,3`, and learners behind a plus: `1,2,3+4`."""
    voters = ",".join(map(str, members.voters))
    return voters + ("+" + ",".join(map(str, members.learners)) if members.learners else "")


def _entries(entries: list[Entry]) -> str:
    return "[" + ", ".join(describe_entry(entry) for entry in entries) + "]"


def describe_message(message: Any) -> str:
    """One line; the field names are short: t term, p prev index/term, c commit, r round."""
    name = type(message).__name__
    if isinstance(message, m.AppendEntries):
        prev = f"p={message.prev_index}/{message.prev_term}"
        tail = f" {_entries(message.entries)}" if message.entries else ""
        return f"{name} t={message.term} {prev} c={message.commit} r={message.round}{tail}"
    if isinstance(message, m.AppendEntriesReply):
        flag = "" if message.voting else " not-voting"
        if message.ok:
            return f"{name} t={message.term} r={message.round} match={message.match_index}{flag}"
        hint = f"hint={message.hint_index}/{message.hint_term}"
        return f"{name} t={message.term} r={message.round} no={message.match_index} {hint}{flag}"
    if isinstance(message, m.Heartbeat):
        return f"{name} t={message.term} c={message.commit} r={message.round}"
    if isinstance(message, m.HeartbeatReply):
        flag = "" if message.voting else " not-voting"
        return f"{name} t={message.term} r={message.round}{flag}"
    if isinstance(message, (m.PreVote, m.RequestVote)):
        flag = " transfer" if isinstance(message, m.RequestVote) and message.transfer else ""
        return f"{name} t={message.term} last={message.last_index}/{message.last_term}{flag}"
    if isinstance(message, (m.PreVoteReply, m.RequestVoteReply)):
        return f"{name} t={message.term} {'yes' if message.granted else 'no'}"
    if isinstance(message, m.InstallSnapshot):
        return f"{name} t={message.term} at={message.meta.index}/{message.meta.term}"
    if isinstance(message, m.InstallSnapshotReply):
        return f"{name} t={message.term} match={message.match_index}"
    return f"{name} t={message.term}"


def describe_ready(ready: Ready) -> list[str]:
    """One line per effect, in the order in which the shell must care for them."""
    lines = [f"send {to}: {describe_message(message)}" for to, message in ready.messages]
    if ready.hard_state is not None:
        lines.append(f"write term={ready.hard_state.term} vote={ready.hard_state.vote}")
    if ready.snapshot is not None:
        lines.append(f"reset log to {ready.snapshot.index}/{ready.snapshot.term}")
    if ready.entries:
        lines.append(f"write {_entries(ready.entries)}")
    lines.extend(
        f"send {to} after the write: {describe_message(message)}"
        for to, message in ready.messages_after_persist
    )
    if ready.committed:
        lines.append(f"apply {_entries(ready.committed)}")
    lines.extend(f"read {read_id} is safe at {index}" for read_id, index in ready.reads)
    lines.extend(f"read {read_id} failed" for read_id in ready.reads_failed)
    lines.extend(f"snapshot wanted by {peer}" for peer in ready.snapshot_wanted)
    return lines


def describe_core(core: Core) -> str:
    """One line of state."""
    log = core.log
    role = core.role + (" damaged" if core.damaged else "")
    return (
        f"{role} term={core.term} vote={core.vote} leader={core.leader} "
        f"commit={core.commit_index} applied={core.applied_index} stable={core.stable_index} "
        f"log={log.compacted_index + 1}..{log.last_index}/{log.last_term}"
    )
