"""The linearizability checker against histories whose verdict is known (faults.md section 4)."""

import random

import pytest

from quoit.sim.checkers.linearizable import ILLEGAL, INCONCLUSIVE, LEGAL, check, check_key
from quoit.sim.history import (
    APPEND,
    CAS,
    DEL,
    FAIL,
    GET,
    INCR,
    OK,
    SET,
    SETNX,
    UNKNOWN,
    History,
    Operation,
    classify_error,
)
from tests.unit.sim.histories import legal_by_brute_force, parse

CASES = {
    "empty": ("", LEGAL),
    "read of nothing": ("A get 1..2", LEGAL),
    "read own write": ("A set a 1..2\nA get = a 3..4", LEGAL),
    "stale read": ("A set a 1..2\nA set b 3..4\nB get = a 5..6", ILLEGAL),
    "stale absence": ("A set a 1..2\nB get 3..4", ILLEGAL),
    "concurrent read sees old": ("A set a 1..2\nA set b 3..6\nB get = a 4..5", LEGAL),
    "concurrent read sees new": ("A set a 1..2\nA set b 3..6\nB get = b 4..5", LEGAL),
    "new then old": ("A set a 1..2\nA set b 3..9\nB get = b 4..5\nC get = a 6..7", ILLEGAL),
    "old then new": ("A set a 1..2\nA set b 3..9\nB get = a 4..5\nC get = b 6..7", LEGAL),
    "read from the future": ("B get = a 1..2\nA set a 3..4", ILLEGAL),
    "value nobody wrote": ("A set a 1..2\nB get = z 3..4", ILLEGAL),
    "two readers disagree on the order": (
        "A set a 1..9\nB set b 1..9\nC get = a 2..3\nC get = b 4..5\nD get = b 2..3\nD get = a 4..5",
        ILLEGAL,
    ),
    "lost update": ("A set a 1..2\nB set b 3..4\nC get = a 5..6\nC get = b 7..8", ILLEGAL),
    "doubled incr": ("A incr = 1 1..2\nB incr = 3 3..4", ILLEGAL),
    "doubled incr explained by an unknown one": ("C incr 1..?\nA incr = 1 1..2\nB incr = 3 3..4", LEGAL),
    "lost incr": ("A incr = 1 1..2\nB incr = 1 3..4", ILLEGAL),
    "same incr result twice": ("A incr = 1 1..4\nB incr = 1 2..3", ILLEGAL),
    "incr out of real-time order": ("A incr = 2 1..2\nB incr = 1 3..4", ILLEGAL),
    "unknown incr used twice": ("C incr 1..?\nA incr = 1 2..3\nB incr = 4 4..5", ILLEGAL),
    "unknown write seen much later": (
        "A set u 1..?\n"
        + "\n".join(f"B set b{n} {n * 2}..{n * 2 + 1}" for n in range(1, 101))
        + "\nC get = u 300..301",
        LEGAL,
    ),
    "unknown write seen, then unseen": (
        "A set a 1..2\nB set u 3..?\nC get = u 4..5\nC get = a 6..7", ILLEGAL,
    ),
    "two unknown writes seen in turn": (
        "A set u 1..?\nB set v 1..?\nC get = u 2..3\nC get = v 4..5", LEGAL,
    ),
    "two unknown writes seen in turn and back": (
        "A set u 1..?\nB set v 1..?\nC get = u 2..3\nC get = v 4..5\nC get = u 6..7", ILLEGAL,
    ),
    "unknown write never seen": ("A set a 1..2\nB set u 3..?\nC get = a 4..5", LEGAL),
    "unknown write seen before it began": ("C get = u 1..2\nA set u 3..?", ILLEGAL),
    "failed write seen": ("A set a 1..!2\nC get = a 3..4", ILLEGAL),
    "cas that must succeed but saw another value": (
        "A set a 1..2\nB setnx b = c 3..4", ILLEGAL,
    ),
    "setnx twice": ("A setnx a 1..2\nB setnx b 3..4", ILLEGAL),
    "setnx refused with the value": ("A setnx a 1..2\nB setnx b = a 3..4", LEGAL),
    "setnx after del": ("A setnx a 1..2\nC del = 1 3..4\nB setnx b 5..6", LEGAL),
    "setnx refused after del": ("A set a 1..2\nC del = 1 3..4\nB setnx b = a 5..6", ILLEGAL),
    "cas of a replaced value": ("A set a 1..2\nA set b 3..4\nB cas(a) c 5..6", ILLEGAL),
    "cas race has one winner": ("A set a 1..2\nB cas(a) b 3..6\nC cas(a) c 3..6", ILLEGAL),
    "cas chain": ("A set a 1..2\nB cas(a) b 3..6\nC cas(b) c 3..6\nD get = c 7..8", LEGAL),
    "unknown cas needs its value": ("A set a 1..2\nB cas(x) c 3..?\nD get = c 7..8", ILLEGAL),
    "del of nothing": ("A set a 1..2\nB del = 0 3..4", ILLEGAL),
    "deleted twice": ("A set a 1..2\nB del = 1 3..8\nC del = 1 3..8", ILLEGAL),
    "unknown del explains absence": ("A set a 1..2\nB del 3..?\nC get 5..6", LEGAL),
    "append keeps both": ("A append x; = 2 1..2\nB append y; = 4 3..4\nC get = x;y; 5..6", LEGAL),
    "append lost": ("A append x; = 2 1..2\nB append y; = 2 3..4", ILLEGAL),
    "append doubled": ("A append x; = 2 1..2\nC get = x;x; 3..4", ILLEGAL),
    "append order against real time": (
        "A append x; = 2 1..2\nB append y; = 4 3..4\nC get = y;x; 5..6", ILLEGAL,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_hand_made_history(name: str) -> None:
    text, expected = CASES[name]
    history = parse(text)
    verdict = check(history)
    assert verdict.result == expected, verdict.report()
    kept = history.by_key().get(b"k", [])
    if len(kept) <= 7:
        assert legal_by_brute_force(kept) == (expected == LEGAL)


def _random_history(rng: random.Random, count: int, kinds: tuple[str, ...]) -> list[Operation]:
    """A legal history: operations run one after another, then their intervals are widened; some
    outcomes are forgotten."""
    state: bytes | None = None
    operations = []
    for number in range(count):
        kind = rng.choice(kinds)
        argument = b"v%d;" % number if kind in (SET, SETNX, APPEND, CAS) else b""
        at = 1000 * (number + 5)
        start = at - rng.randrange(1, 2500)
        operation = Operation(f"c{number}", kind, b"k", argument, None, 1, start, start)
        operation.completed = at + rng.randrange(1, 2500)
        operation.outcome = OK
        result: bytes | int | None = None
        if kind == GET:
            result = state
        elif kind == SET:
            state = argument
        elif kind == SETNX:
            result = state
            state = argument if state is None else state
        elif kind == CAS:
            operation.expected = state
            state = argument
        elif kind == INCR:
            result = int(state or b"0") + 1
            state = b"%d" % result
        elif kind == APPEND:
            state = (state or b"") + argument
            result = len(state)
        else:
            result = 0 if state is None else 1
            state = None
        operation.result = result
        if kind != GET and rng.random() < 0.15:
            operation.outcome, operation.completed, operation.result = UNKNOWN, -1, None
        operations.append(operation)
    operations.sort(key=lambda operation: operation.invoked)
    return operations


MIXES = ((GET, SET), (GET, SET, SETNX, DEL, CAS), (GET, INCR), (GET, APPEND), (GET, INCR, DEL))


@pytest.mark.parametrize("kinds", MIXES)
def test_legal_histories_pass(kinds: tuple[str, ...]) -> None:
    rng = random.Random(f"legal {kinds}")
    for _ in range(60):
        verdict = check_key(_random_history(rng, 60, kinds))
        assert verdict.result == LEGAL, verdict.report()


@pytest.mark.parametrize("kinds", MIXES)
def test_mutated_histories_fail_unless_brute_force_finds_an_order(kinds: tuple[str, ...]) -> None:
    rng = random.Random(f"mutated {kinds}")
    refused = 0
    for _ in range(80):
        operations = _random_history(rng, 6, kinds)
        known = [one for one in operations if one.outcome == OK and one.kind != SET]
        if len(known) < 2:
            continue
        first, second = rng.sample(known, 2)
        if first.kind == second.kind:
            first.result, second.result = second.result, first.result
            first.expected, second.expected = second.expected, first.expected
        else:
            first.completed = first.invoked + 1
        kept = [one for one in operations if one.outcome == OK or one.kind != GET]
        expected = legal_by_brute_force(kept)
        verdict = check_key(kept)
        assert verdict.result == (LEGAL if expected else ILLEGAL), verdict.report()
        refused += not expected
    assert refused >= 5


def test_random_results_agree_with_brute_force() -> None:
    rng = random.Random("random results")
    answers = {LEGAL: 0, ILLEGAL: 0}
    for _ in range(300):
        operations = []
        for number in range(rng.randrange(2, 7)):
            start = rng.randrange(100)
            kind = rng.choice((GET, GET, SET, SETNX))
            operation = Operation(f"c{number}", kind, b"k", b"", None, 1, start * 10, start)
            if kind != GET:
                operation.argument = b"v%d" % number
            if kind == SET and rng.random() < 0.3:
                operations.append(operation)
                continue
            operation.outcome = OK
            operation.completed = operation.invoked + rng.randrange(1, 400) * 10 + 5
            if kind != SET:
                operation.result = rng.choice((None, *(b"v%d" % one for one in range(number + 1))))
            operations.append(operation)
        operations.sort(key=lambda operation: (operation.invoked, operation.client))
        for moment, operation in enumerate(operations):
            operation.invoked = operation.invoked * 10 + moment
            if operation.outcome == OK:
                operation.completed = operation.completed * 10 + moment
        verdict = check_key(operations)
        assert verdict.result == (LEGAL if legal_by_brute_force(operations) else ILLEGAL)
        answers[verdict.result] += 1
    assert min(answers.values()) > 20


def test_search_out_of_budget_is_inconclusive_never_a_pass() -> None:
    rng = random.Random("budget")
    operations = _random_history(rng, 60, (GET, SET, SETNX, DEL))
    assert check_key(operations, steps_max=10).result == INCONCLUSIVE


def test_one_bad_key_among_good_ones_decides() -> None:
    good, bad = parse("A set a 1..2"), parse("B get = z 3..4", b"bad")
    history = History()
    history.operations = good.operations + bad.operations
    verdict = check(history)
    assert (verdict.result, verdict.key) == (ILLEGAL, b"bad")


@pytest.mark.parametrize(
    ("reply", "outcome"),
    [
        (b"-CLUSTERDOWN shard 1 has no leader; nothing was changed, try again\r\n", FAIL),
        (b"-BUSY too many commands wait\r\n", FAIL),
        (b"-UNKNOWN maybe applied: ...\r\n", UNKNOWN),
        (b"-ERR internal error\r\n", None),
        (b"+OK\r\n", None),
    ],
)
def test_only_errors_given_before_proposing_are_fail(reply: bytes, outcome: str | None) -> None:
    assert classify_error(reply) == outcome
