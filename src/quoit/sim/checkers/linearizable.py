"""Is the history of one key explained by operations that each took effect at one instant?

Linearizability composes, so keys are judged one by one (single-key operations only). In order of
cost:
 1. `impossible`: every value that was seen must have been written by an operation that began before
    the reader got it;
 2. `zones`: Gibbons and Korach (1997), section 4: where each read names its write and only reads
    and plain writes occur, legality is decided by sorting; near-linear and exact;
 3. `search`: Wing and Gong's (1993) depth-first search with Lowe's (2017) memo of pairs (set of
    linearized operations, state), over the model `step`.

Unknown writes stay open to the end: they may be used once at any later moment, or never. A search
that runs out of its budget says so (INCONCLUSIVE); that is never a pass.
"""

from itertools import pairwise

import msgspec
from msgspec import structs

from quoit.sim.history import (
    APPEND,
    CAS,
    DEL,
    GET,
    INCR,
    OK,
    SET,
    SETNX,
    History,
    Operation,
)

__all__ = ["ILLEGAL", "INCONCLUSIVE", "LEGAL", "Verdict", "check", "check_key", "step"]

LEGAL = "legal"
ILLEGAL = "illegal"
INCONCLUSIVE = "inconclusive"

STEPS_MAX = 300_000
"""Budget of the search for one key; about two seconds."""

State = bytes | None
_UNSEEN = b"\0a value that nobody saw"


class Verdict(msgspec.Struct):
    """What the checker says of one key or of a whole history."""

    result: str
    key: bytes = b""
    reason: str = ""
    operations: list[Operation] = []
    """The operations of the key, if it is not legal."""
    steps: int = 0

    def report(self, limit: int = 60) -> str:
        """The verdict and the key's operations, for people."""
        lines = [f"{self.result}: key {self.key.decode()}: {self.reason}"]
        lines += ["  " + operation.line() for operation in self.operations[-limit:]]
        return "\n".join(lines)


def step(state: State, operation: Operation) -> tuple[bool, State]:
    """The model: could `operation` have its result in `state`, and what is the state after it.
    The result of an unknown operation fits always."""
    kind = operation.kind
    known = operation.outcome == OK
    result = operation.result
    if kind == GET:
        return result == state, state
    if kind == SET:
        return True, operation.argument
    if kind == SETNX:
        if known and result != state:
            return False, state
        return True, operation.argument if state is None else state
    if kind == INCR:
        number = int(state or b"0") + 1
        return not known or result == number, b"%d" % number
    if kind == APPEND:
        value = (state or b"") + operation.argument
        return not known or result == len(value), value
    if kind == DEL:
        return not known or result == (0 if state is None else 1), None
    fits = state == operation.expected
    return fits or not known, operation.argument if fits else state


def check(history: History, steps_max: int = STEPS_MAX) -> Verdict:
    """Judge every key. The first illegal key decides; else any inconclusive one."""
    worst = Verdict(LEGAL)
    steps = 0
    for key, operations in sorted(history.by_key().items()):
        verdict = check_key(operations, steps_max)
        steps += verdict.steps
        if verdict.result == ILLEGAL:
            verdict.key = key
            return verdict
        if verdict.result == INCONCLUSIVE and worst.result == LEGAL:
            worst = verdict
            worst.key = key
    worst.steps = steps
    return worst


def check_key(operations: list[Operation], steps_max: int = STEPS_MAX) -> Verdict:
    """Judge the operations of one key, given in order of invocation."""
    reason = _impossible(operations)
    if reason:
        return Verdict(ILLEGAL, reason=reason, operations=operations)
    kept = _without_unseen(operations)
    if all(operation.kind in (GET, SET) for operation in kept):
        overlap = _zones(kept)
        if overlap is not None:
            if overlap:
                return Verdict(ILLEGAL, reason=overlap, operations=operations)
            return Verdict(LEGAL)
    return _search(kept, operations, steps_max)


def _impossible(operations: list[Operation]) -> str:
    """Why no order can explain the history, if that is plain from values alone."""
    written: dict[bytes, int] = {}
    for operation in operations:
        if operation.kind in (SET, SETNX, CAS) and operation.argument not in written:
            written[operation.argument] = operation.invoked
    if any(operation.kind in (INCR, APPEND) for operation in operations):
        return ""
    for operation in operations:
        seen = operation.expected if operation.kind == CAS else operation.result
        if operation.outcome != OK or operation.kind not in (GET, SETNX, CAS) or seen is None:
            continue
        if not isinstance(seen, bytes) or seen not in written:
            return f"a value was seen that nobody wrote: {operation.line()}"
        if written[seen] > operation.completed:
            return f"a value was seen before anybody began to write it: {operation.line()}"
    return ""


def _without_unseen(operations: list[Operation]) -> list[Operation]:
    """Leave out unknown SETs whose value nobody saw, where that cannot matter: if only reads of
    values and plain writes occur, a legal order stays legal without such a write."""
    if not all(operation.kind in (GET, SET, CAS) for operation in operations):
        return operations
    seen: dict[bytes | int | None, None] = {}
    for operation in operations:
        if operation.outcome == OK:
            if operation.kind == GET:
                seen[operation.result] = None
            elif operation.kind == CAS:
                seen[operation.expected] = None
        elif operation.kind == CAS:
            # An unknown CAS may or may not depend on the value; keep what it could depend on.
            seen[operation.expected] = None
    return [
        operation
        for operation in operations
        if operation.outcome == OK or operation.kind == CAS or operation.argument in seen
    ]


def _zones(operations: list[Operation]) -> str | None:
    """Exact for reads and writes of distinct values: "" legal, a reason if not, None if values are
    not distinct. A cluster is a write with its reads; the initial absence is a write before all."""
    infinity = 1 << 62
    first_end: dict[bytes | int | None, int] = {None: -1}
    last_start: dict[bytes | int | None, int] = {None: -1}
    for operation in operations:
        if operation.kind == SET:
            written = operation.argument
            if written in first_end:
                return None
            first_end[written] = operation.completed if operation.outcome == OK else infinity
            last_start[written] = operation.invoked
    for operation in operations:
        if operation.kind == GET:
            value = operation.result
            first_end[value] = min(first_end[value], operation.completed)
            last_start[value] = max(last_start[value], operation.invoked)
    forward = []
    backward = []
    for value, end in first_end.items():
        start = last_start[value]
        if end < start:
            forward.append((end, start, value))
        else:
            backward.append((start, end, value))
    forward.sort(key=lambda zone: zone[:2])
    for left, right in pairwise(forward):
        if right[0] < left[1]:
            return f"{left[2]!r} and {right[2]!r} were each current while the other had to be"
    for start, end, value in backward:
        for low, high, other in forward:
            if low < start and end < high:
                return f"{value!r} was current while {other!r} had to be"
    return ""


class _Event:
    """A place in the doubly linked list of invocations and completions of completed operations.
    A completion has no operation."""

    __slots__ = ("bit", "following", "match", "moment", "operation", "previous")

    def __init__(self, operation: Operation | None, bit: int, moment: int) -> None:
        self.operation = operation
        self.bit = bit
        self.moment = moment
        self.match: _Event | None = None
        self.previous: _Event | None = None
        self.following: _Event | None = None


def _link(operations: list[Operation]) -> _Event:
    """The list of events in order of moments, behind a head."""
    events: list[_Event] = []
    for number, operation in enumerate(operations):
        if operation.outcome == OK:
            call = _Event(operation, 1 << number, operation.invoked)
            call.match = _Event(None, 1 << number, operation.completed)
            events += (call, call.match)
    events.sort(key=lambda event: event.moment)
    head = last = _Event(None, 0, -1)
    for event in events:
        last.following = event
        event.previous = last
        last = event
    return head


def _lift(event: _Event) -> None:
    for part in (event, event.match):
        if part is not None:
            part.previous.following = part.following  # type: ignore[union-attr]
            if part.following is not None:
                part.following.previous = part.previous


def _unlift(event: _Event) -> None:
    for part in (event.match, event):
        if part is not None:
            part.previous.following = part  # type: ignore[union-attr]
            if part.following is not None:
                part.following.previous = part


class _Search:
    """Depth-first search for a legal order of one key's operations.

    head     the events of completed operations that are not linearized yet
    open     (bit, operation) of unknown writes, in order of invocation; tried after the others
    done     bits of the linearized operations
    seen     pairs (done, state) that were reached before: nothing new lies behind them
    stack    what was linearized, with the state before it and the place to go on from
    longest  where a key only grows: the longest value seen, of which every state is a beginning,
             or which is the beginning of every state
    """

    def __init__(self, operations: list[Operation]) -> None:
        self.operations = operations
        self.head = _link(operations)
        self.open = [
            (1 << number, operation)
            for number, operation in enumerate(operations)
            if operation.outcome != OK
        ]
        self.open.sort(key=lambda pair: pair[1].invoked)
        self.alike = _alike(self.open)
        self.longest = _longest(operations)
        self.done = 0
        self.state: State = None
        self.seen: set[tuple[int, State]] = set()
        self.stack: list[tuple[_Event | int, State]] = []
        self.deepest = -1
        self.stuck: Operation | None = None

    def run(self, steps_max: int) -> tuple[str, int]:
        """The result and the number of steps."""
        steps = 0
        event = self.head.following
        number = 0
        while self.head.following is not None:
            steps += 1
            if steps > steps_max:
                return INCONCLUSIVE, steps
            if event is not None and event.operation is not None:
                if self._take(event.operation, event.bit, event):
                    _lift(event)
                    event, number = self.head.following, 0
                else:
                    event = event.following
                continue
            moved = self._take_open(event, number)
            if moved:
                event, number = self.head.following, 0
                continue
            if event is not None and len(self.stack) > self.deepest:
                self.deepest = len(self.stack)
                self.stuck = self.operations[event.bit.bit_length() - 1]
            if not self.stack:
                return ILLEGAL, steps
            event, number = self._back()
        return LEGAL, steps

    def _take(self, operation: Operation, bit: int, place: _Event | int) -> bool:
        fits, after = step(self.state, operation)
        pair = (self.done | bit, after)
        if not fits or pair in self.seen:
            return False
        if self.longest is not None and after is not None:
            if not (self.longest.startswith(after) or after.startswith(self.longest)):
                return False
        self.seen.add(pair)
        self.stack.append((place, self.state))
        self.state = after
        self.done |= bit
        return True

    def _take_open(self, barrier: _Event | None, number: int) -> bool:
        """Linearize an unknown write that began before the completion at `barrier`."""
        while number < len(self.open):
            bit, operation = self.open[number]
            if barrier is not None and operation.invoked > barrier.moment:
                return False
            before = self.alike.get(bit, 0)
            if not self.done & bit and self.done & before == before:
                if self._take(operation, bit, number):
                    return True
            number += 1
        return False

    def _back(self) -> tuple[_Event | None, int]:
        """Undo the last step; where to go on."""
        place, self.state = self.stack.pop()
        if isinstance(place, int):
            self.done &= ~self.open[place][0]
            barrier = self.head.following
            while barrier is not None and barrier.operation is not None:
                barrier = barrier.following
            return barrier, place + 1
        self.done &= ~place.bit
        _unlift(place)
        return place.following, 0


def _canonical(operations: list[Operation]) -> list[Operation]:
    """Unknown writes of values that nobody saw differ in nothing that matters: give them one value,
    so that the search need not try their orders."""
    seen: dict[bytes | int | None, None] = {}
    for operation in operations:
        if operation.kind == CAS:
            seen[operation.expected] = None
        if operation.outcome == OK:
            seen[operation.result] = None
    return [
        structs.replace(operation, argument=_UNSEEN)
        if operation.outcome != OK
        and operation.kind in (SET, SETNX, CAS)
        and operation.argument not in seen
        else operation
        for operation in operations
    ]


def _search(operations: list[Operation], shown: list[Operation], steps_max: int) -> Verdict:
    search = _Search(_canonical(operations))
    result, steps = search.run(steps_max)
    if result == LEGAL:
        return Verdict(LEGAL, steps=steps)
    if result == INCONCLUSIVE:
        reason = f"gave up after {steps_max} steps"
    else:
        line = search.stuck.line() if search.stuck is not None else "the history"
        reason = f"no order explains everything up to the end of {line}"
    return Verdict(result, reason=reason, operations=shown, steps=steps)


def _longest(operations: list[Operation]) -> bytes | None:
    if not all(operation.kind in (GET, APPEND) for operation in operations):
        return None
    seen = [
        operation.result
        for operation in operations
        if operation.outcome == OK and isinstance(operation.result, bytes)
    ]
    return max(seen, key=len, default=None)


def _alike(opened: list[tuple[int, Operation]]) -> dict[int, int]:
    """Unknown operations that do the same are interchangeable, so it is enough to try them in order
    of invocation: bit -> bit that must be linearized before it."""
    rule: dict[int, int] = {}
    last: dict[tuple[str, bytes, bytes | None], int] = {}
    for bit, operation in opened:
        effect = (operation.kind, operation.argument, operation.expected)
        rule[bit] = last.get(effect, 0)
        last[effect] = bit
    return rule
