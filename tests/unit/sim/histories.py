"""Hand-made histories in a short notation, and slow, plain twins of the checkers.

One operation per line: `client kind[(expected)] argument = result  start..end`. An end of `?` means
that the outcome is unknown; a value of `nil` is None. Example:

    A set a        1..2
    B get = a      3..4
    C incr         1..?
"""

from itertools import permutations

from quoit.sim.checkers.linearizable import step
from quoit.sim.history import FAIL, INCR, OK, UNKNOWN, History, Operation

NUMBERS = ("incr", "del", "append")


def parse(text: str, key: bytes = b"k") -> History:
    """The history written in `text`."""
    history = History()
    for line in text.strip().splitlines():
        words = line.split()
        client, kind, span = words[0], words[1], words[-1]
        middle = words[2:-1]
        result = middle[middle.index("=") + 1] if "=" in middle else "nil"
        argument = middle[0].encode() if middle and middle[0] != "=" else b""
        expected = None
        if "(" in kind:
            kind, inner = kind[:-1].split("(")
            expected = None if inner == "nil" else inner.encode()
        start, end = span.split("..")
        operation = Operation(client, kind, key, argument, expected, 1, int(start) * 10, int(start))
        if end == "?":
            operation.outcome = UNKNOWN
        elif end.startswith("!"):
            operation.outcome = FAIL
        else:
            operation.completed = int(end) * 10 + 5
            operation.outcome = OK
            if result != "nil":
                operation.result = int(result) if kind in NUMBERS else result.encode()
        history.operations.append(operation)
    history.operations.sort(key=lambda operation: operation.invoked)
    return history


def legal_by_brute_force(operations: list[Operation]) -> bool:
    """Try every order of every choice of unknown writes."""
    sure = [operation for operation in operations if operation.outcome == OK]
    maybe = [operation for operation in operations if operation.outcome != OK]
    for mask in range(1 << len(maybe)):
        chosen = sure + [one for number, one in enumerate(maybe) if mask >> number & 1]
        if any(_explains(order) for order in permutations(chosen)):
            return True
    return False


def _explains(order: tuple[Operation, ...]) -> bool:
    state = None
    latest_start = -1
    for operation in order:
        if 0 <= operation.completed < latest_start:
            return False
        latest_start = max(latest_start, operation.invoked)
        if operation.kind == INCR and state is not None and not state.isdigit():
            return False
        fits, state = step(state, operation)
        if not fits:
            return False
    return True
