"""Acknowledged writes are in the data at the end, on every replica.

Independent of the linearizability search: it looks at the data themselves, after the world was
healed and every replica has applied everything, and asks of each key only what no order of
operations could excuse:

 * a key of plain writes holds a value that somebody wrote and that no acknowledged write replaced
   for certain (began after the value's own write had ended);
 * a counter holds at least the acknowledged increments, and at most those and the unknown ones;
 * an appended string holds every acknowledged piece once, each unknown piece at most once, and
   nothing else.
"""

from quoit.sim.history import APPEND, CAS, DEL, INCR, OK, SET, SETNX, History, Operation

__all__ = ["check_durability"]

Final = dict[int, dict[bytes, bytes]]
"""Node -> the strings it holds at the end (only keys of shards that it has a replica of)."""


def check_durability(history: History, final: Final, holders: dict[bytes, tuple[int, ...]]) -> str:
    """What was lost, or "" if nothing was. `holders`: key -> nodes that must hold it."""
    for key, operations in sorted(history.by_key().items()):
        writes = [operation for operation in operations if _changed(operation)]
        for node in holders[key]:
            problem = _judge(writes, final[node].get(key))
            if problem:
                return f"node {node}, key {key.decode()}: {problem}"
    return ""


def _changed(operation: Operation) -> bool:
    """It may have changed the key: not a read, and not a SETNX or DEL that saw it had no effect."""
    if not operation.writes:
        return False
    if operation.outcome == OK and operation.kind == SETNX:
        return operation.result is None
    if operation.outcome == OK and operation.kind == DEL:
        return operation.result == 1
    return True


def _judge(writes: list[Operation], value: bytes | None) -> str:
    kinds = {operation.kind: None for operation in writes}
    if INCR in kinds:
        return _judge_counter(writes, value) if len(kinds) == 1 else ""
    if APPEND in kinds:
        return _judge_appended(writes, value) if len(kinds) == 1 else ""
    return _judge_plain(writes, value)


def _judge_plain(writes: list[Operation], value: bytes | None) -> str:
    sure = [operation for operation in writes if operation.outcome == OK]
    if value is None:
        sources = [operation for operation in writes if operation.kind == DEL]
        if not sources and not sure:
            return ""
    else:
        sources = [
            operation
            for operation in writes
            if operation.kind in (SET, SETNX, CAS) and operation.argument == value
        ]
        if not sources:
            return f"holds {value!r}, which nobody wrote"
    for source in sources:
        if source.outcome != OK:
            return ""
        if not any(later.invoked > source.completed for later in sure):
            return ""
    if value is None and not any(operation.outcome == OK for operation in sources):
        return f"is absent, though this was acknowledged: {sure[-1].line()}"
    lost = max(sure, key=lambda operation: operation.invoked)
    return f"holds {value!r}, though this was acknowledged later: {lost.line()}"


def _judge_counter(writes: list[Operation], value: bytes | None) -> str:
    acknowledged = sum(1 for operation in writes if operation.outcome == OK)
    number = int(value or b"0")
    if acknowledged <= number <= len(writes):
        return ""
    return f"counts {number}, but {acknowledged} of {len(writes)} increments were acknowledged"


def _judge_appended(writes: list[Operation], value: bytes | None) -> str:
    held = [piece + b";" for piece in (value or b"").split(b";")[:-1]]
    counted: dict[bytes, int] = {}
    for piece in held:
        counted[piece] = counted.get(piece, 0) + 1
    for operation in writes:
        times = counted.pop(operation.argument, 0)
        if times > 1:
            return f"holds a piece {times} times: {operation.line()}"
        if not times and operation.outcome == OK:
            return f"lost an acknowledged piece: {operation.line()}"
    return f"holds pieces that nobody wrote: {sorted(counted)}" if counted else ""
