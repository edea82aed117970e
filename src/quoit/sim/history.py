"""What clients did and saw: one record per operation, the only input of the client-side checkers.

An operation has an invocation and at most one completion. Its outcome is

    ok       the reply arrived
    fail     certainly not applied: the error is one that is given only before anything is proposed
    unknown  anything else: an unknown write may take effect at any later moment, once, or never

`unknown` never becomes `fail`. The client that met it goes on under a new name, because an
operation of its old name is still open.

The order of events is the order of `moment` numbers, which the recorder hands out one by one: the
simulator runs one thing at a time, so this order is real even within one microsecond.
"""

from hashlib import blake2b

import msgspec

from quoit.base.check import invariant

__all__ = [
    "APPEND",
    "CAS",
    "DEL",
    "FAIL",
    "GET",
    "INCR",
    "OK",
    "SET",
    "SETNX",
    "UNKNOWN",
    "History",
    "Operation",
    "Value",
    "classify_error",
]

Value = bytes | int | None

GET = "get"
"""Result: the value, or None."""
SET = "set"
"""Result: None."""
SETNX = "setnx"
"""Result: None if the key was absent and is now set, else the value that was seen."""
CAS = "cas"
"""Set if the value is `expected`. Only those that took effect are recorded as ok; a refused one is
recorded as fail, because WATCH also refuses when a value was changed and changed back."""
INCR = "incr"
"""Result: the new number."""
DEL = "del"
"""Result: 1 if the key existed, else 0."""
APPEND = "append"
"""Result: the new length in bytes."""

OK = "ok"
FAIL = "fail"
UNKNOWN = "unknown"

CERTAINLY_NOT_APPLIED = (b"-CLUSTERDOWN ", b"-BUSY ", b"-DISKFULL ", b"-CROSSSLOT ")
"""Errors that a node gives only when nothing was proposed."""
MAYBE_APPLIED = (b"-UNKNOWN ",)
"""Errors that leave the outcome open."""


def classify_error(reply: bytes) -> str | None:
    """FAIL or UNKNOWN for an error reply that a living cluster may give; None for any other reply,
    which is then either a result or a bug."""
    if reply.startswith(CERTAINLY_NOT_APPLIED):
        return FAIL
    if reply.startswith(MAYBE_APPLIED):
        return UNKNOWN
    return None


class Operation(msgspec.Struct, gc=False):
    """One operation of one client on one key."""

    client: str
    kind: str
    key: bytes
    argument: bytes
    """The value to write; empty for reads, INCR and DEL."""
    expected: bytes | None
    """CAS only."""
    node: int
    """The node it was sent to."""
    invoked: int
    """Moment of the invocation."""
    invoked_us: int
    """Virtual time of the invocation."""
    completed: int = -1
    """Moment of the completion; -1: still open."""
    completed_us: int = -1
    outcome: str = UNKNOWN
    result: Value = None

    @property
    def writes(self) -> bool:
        """It may change its key."""
        return self.kind != GET

    def line(self) -> str:
        """One line for a report."""
        call = f"{self.kind} {self.key.decode()}"
        if self.kind == CAS:
            call += f" {self.expected!r}->{self.argument!r}"
        elif self.argument:
            call += f" {self.argument!r}"
        end = f"{self.completed_us / 1e6:.6f}" if self.completed >= 0 else "open"
        shown = f" = {self.result!r}" if self.outcome == OK else ""
        return (
            f"[{self.invoked_us / 1e6:.6f} .. {end}] {self.client}@{self.node} {call} "
            f"{self.outcome}{shown}"
        )


class History:
    """Records operations.

    operations  in order of invocation
    moment      the next moment's number
    """

    def __init__(self) -> None:
        self.operations: list[Operation] = []
        self.moment = 0

    def invoke(
        self,
        client: str,
        kind: str,
        key: bytes,
        argument: bytes = b"",
        *,
        expected: bytes | None = None,
        node: int = 0,
        now_us: int = 0,
    ) -> Operation:
        """An operation begins."""
        operation = Operation(client, kind, key, argument, expected, node, self.moment, now_us)
        self.moment += 1
        self.operations.append(operation)
        return operation

    def complete(
        self, operation: Operation, outcome: str, result: Value = None, *, now_us: int = 0
    ) -> None:
        """An operation ends. An unknown one ends for its client only: it stays open."""
        invariant(operation.completed < 0, "an operation completes once", line=operation.line())
        operation.outcome = outcome
        if outcome != UNKNOWN:
            operation.completed = self.moment
            operation.completed_us = now_us
            operation.result = result
        self.moment += 1

    def by_key(self) -> dict[bytes, list[Operation]]:
        """Operations that count, per key, in order of invocation. Unknown reads and operations that
        certainly were not applied say nothing and are left out."""
        found: dict[bytes, list[Operation]] = {}
        for operation in self.operations:
            if operation.outcome == FAIL or (operation.outcome == UNKNOWN and not operation.writes):
                continue
            found.setdefault(operation.key, []).append(operation)
        return found

    def count(self, outcome: str) -> int:
        """How many operations ended like that."""
        return sum(1 for operation in self.operations if operation.outcome == outcome)

    def digest(self) -> str:
        """A hash of everything recorded."""
        state = blake2b(digest_size=16)
        for operation in self.operations:
            state.update(operation.line().encode())
        return state.hexdigest()
