"""Terse text of Paxos messages, effects and cores. A ballot is written ROUND.NODE."""

from typing import Any

from quoit.paxos import messages as m
from quoit.paxos.values import GAP, kind_of, node_of, origin_of, round_of
from quoit.quorum.agreement import CONFIG, EMPTY, Entry, Ready
from quoit.quorum.members import Members, decode_members


def ballot(term: int) -> str:
    return f"{round_of(term)}.{node_of(term)}" if term else "0"


def members(found: Members) -> str:
    voters = ",".join(map(str, found.voters))
    return voters + ("+" + ",".join(map(str, found.learners)) if found.learners else "")


def entry(one: Entry) -> str:
    """`index@ballot "data"`; `from` names the ballot in which a value was first proposed."""
    kind = kind_of(one)
    origin = origin_of(one)
    data = one.data[8:] if origin != one.term and one.kind != GAP else one.data
    if one.kind == GAP:
        return f"{one.index}@0 gap"
    if kind == CONFIG:
        what = "config " + members(decode_members(data))
    else:
        what = "empty" if kind == EMPTY else f'"{data.decode("latin-1")}"'
    older = f" from {ballot(origin)}" if origin != one.term else ""
    return f"{one.index}@{ballot(one.term)} {what}{older}"


def entries(found: list[Entry]) -> str:
    return "[" + ", ".join(entry(one) for one in found) + "]"


def message(body: Any) -> str:
    if type(body) is tuple:
        _, term, meta, _ = body
        return f"Snapshot b={ballot(term)} at={meta.index}"
    name, b = type(body).__name__, f"b={ballot(body.term)}"
    flag = "" if getattr(body, "voting", True) else " not-voting"
    if isinstance(body, m.Ask):
        return f"{name} {b} c={body.commit}"
    if isinstance(body, m.AskReply):
        return f"{name} {b} {'yes' if body.granted else 'no'}"
    if isinstance(body, m.Prepare):
        return f"{name} {b} c={body.commit}{' transfer' if body.transfer else ''}"
    if isinstance(body, m.Promise):
        held = f" c={body.commit} {entries(body.entries)}" if body.granted else ""
        return f"{name} {b} {'yes' if body.granted else 'no'}{held}"
    if isinstance(body, m.Accept):
        return f"{name} {b} c={body.commit} {entries(body.entries)}"
    if isinstance(body, m.Accepted):
        what = f"{body.first}..{body.last} match={body.match}" if body.ok else "no"
        return f"{name} {b} {what}{flag}"
    if isinstance(body, m.Beat):
        return f"{name} {b} c={body.commit} r={body.round}"
    if isinstance(body, m.BeatReply):
        return f"{name} {b} r={body.round} received={body.received} match={body.match}{flag}"
    if isinstance(body, m.TakeSnapshotReply):
        return f"{name} {b} match={body.match}"
    return f"{name} {b}"


def ready(found: Ready) -> list[str]:
    lines = [f"send {to}: {message(body)}" for to, body in found.messages]
    if found.hard_state is not None:
        lines.append(f"write ballot={ballot(found.hard_state.term)}")
    if found.snapshot is not None:
        lines.append(f"reset log to {found.snapshot.index}")
    if found.entries:
        lines.append(f"write {entries(found.entries)}")
    lines += [
        f"send {to} after the write: {message(body)}" for to, body in found.messages_after_persist
    ]
    if found.committed:
        lines.append(f"apply {entries(found.committed)}")
    lines += [f"read {read_id} is safe at {index}" for read_id, index in found.reads]
    lines += [f"read {read_id} failed" for read_id in found.reads_failed]
    lines += [f"snapshot wanted by {peer}" for peer in found.snapshot_wanted]
    return lines


def core(found: Any) -> str:
    role = found.role + (" damaged" if found.damaged else "")
    log = found.log
    return (
        f"{role} b={ballot(found.term)} leader={found.leader} chosen={found.commit_index} "
        f"applied={found.applied_index} log={log.compacted_index + 1}..{log.last_index}"
    )
