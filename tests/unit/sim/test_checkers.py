"""The white-box checkers: each accepts what is right and names what is wrong."""

from quoit.quorum.agreement import EFFECTS, Entry, HardState
from quoit.raft.messages import AppendEntriesReply, RequestVote, RequestVoteReply
from quoit.sim.checkers.durability import check_durability
from quoit.sim.checkers.election import ElectionChecker
from quoit.sim.checkers.log_matching import LogMatchingChecker
from quoit.sim.checkers.promises import PromiseChecker
from quoit.sim.checkers.replicas import ReplicaChecker, digest
from quoit.storage.api import ShardUpdate
from tests.unit.sim.histories import parse


def lost(text: str, value: bytes | None) -> str:
    """The durability checker's word on a history and what one node holds at its end."""
    held = {} if value is None else {b"k": value}
    return check_durability(parse(text), {1: held}, {b"k": (1,)})


def test_durability_of_plain_values() -> None:
    assert lost("A set a 1..2\nB set b 3..4", b"b") == ""
    assert "acknowledged later" in lost("A set a 1..2\nB set b 3..4", b"a")
    assert "is absent" in lost("A set a 1..2", None)
    assert "nobody wrote" in lost("A set a 1..2", b"z")
    assert lost("A set a 1..4\nB set b 2..3", b"a") == ""
    assert lost("A set u 1..?\nB set b 3..4", b"u") == ""
    assert lost("A set a 1..2\nB del = 1 3..4", None) == ""
    assert "acknowledged later" in lost("A del = 0 1..2\nC set a 3..4\nB set b 5..6", b"a")


def test_durability_of_counters_and_appended_strings() -> None:
    assert lost("A incr = 1 1..2\nB incr 1..?", b"2") == ""
    assert "counts 0" in lost("A incr = 1 1..2", None)
    assert "counts 3" in lost("A incr = 1 1..2\nB incr 1..?", b"3")
    assert lost("A append x; = 2 1..2\nB append y; 1..?", b"x;") == ""
    assert "2 times" in lost("A append x; = 2 1..2", b"x;x;")
    assert "lost" in lost("A append x; = 2 1..2", None)
    assert "nobody wrote" in lost("A append x; = 2 1..2", b"x;z;")


def test_one_leader_per_term() -> None:
    checker = ElectionChecker()
    assert checker.leads(0, 3, 1) == ""
    assert checker.leads(0, 3, 1) == ""
    assert checker.leads(1, 3, 2) == ""
    assert "two leaders" in checker.leads(0, 3, 2)


def test_a_new_leader_holds_what_was_committed() -> None:
    checker = ElectionChecker()
    checker.applied(0, 7, 2, 2)
    assert checker.complete(0, 3, 1, 1, 2) == ""
    assert "without the committed entry" in checker.complete(0, 3, 1, 1, 1)
    assert "without the committed entry" in checker.complete(0, 3, 1, 1, None)
    assert checker.complete(0, 3, 1, 8, None) == "", "compacted"
    assert checker.complete(0, 2, 1, 1, None) == "", "may not know of its own term's commits"


def test_log_matching() -> None:
    checker = LogMatchingChecker()
    assert checker.written(1, 0, [Entry(1, 1, EFFECTS, b"a"), Entry(2, 1, EFFECTS, b"b")]) == ""
    assert checker.written(2, 0, [Entry(1, 1, EFFECTS, b"a")]) == ""
    assert "differs" in checker.written(2, 0, [Entry(2, 1, EFFECTS, b"z")])
    assert checker.written(3, 0, [Entry(1, 2, EFFECTS, b"c"), Entry(2, 2, EFFECTS, b"d")]) == ""
    assert "gap" in checker.written(3, 0, [Entry(5, 2, EFFECTS, b"e")])
    assert "fall" in checker.written(3, 0, [Entry(3, 1, EFFECTS, b"e")])
    checker.reset(3, 0, 10, 4)
    assert checker.written(3, 0, [Entry(11, 4, EFFECTS, b"f")]) == ""
    other = LogMatchingChecker()
    assert other.written(1, 0, [Entry(1, 1, EFFECTS, b"a"), Entry(2, 3, EFFECTS, b"b")]) == ""
    assert other.written(2, 0, [Entry(1, 2, EFFECTS, b"x")]) == ""
    assert "differs" in other.written(2, 0, [Entry(2, 3, EFFECTS, b"b")]), "another entry before it"


def test_replicas_apply_and_hold_the_same() -> None:
    checker = ReplicaChecker()
    assert checker.applied(1, 0, 1, 1, b"a") == ""
    assert checker.applied(2, 0, 1, 1, b"a") == ""
    assert "another one" in checker.applied(3, 0, 1, 2, b"a")
    assert checker.holds(1, 0, 1, digest([(b"k", b"v")])) == ""
    assert checker.holds(2, 0, 1, digest([(b"k", b"v")])) == ""
    assert "different data" in checker.holds(3, 0, 1, digest([(b"k", b"w")]))
    assert digest([(b"ab", b"c")]) != digest([(b"a", b"bc")])
    assert checker.compared == 2


def test_promises_must_be_durable() -> None:
    checker = PromiseChecker()
    vote = RequestVoteReply(3, True)
    assert "not durably" in checker.sends(1, 2, 0, vote)
    checker.synced(1, [ShardUpdate(0, HardState(3, 2), [], None, None)])
    assert checker.sends(1, 2, 0, vote) == ""
    assert "not durably" in checker.sends(1, 3, 0, vote), "it voted for another"
    assert "durable" in checker.sends(1, 2, 0, RequestVote(4, 0, 0, False))
    ack = AppendEntriesReply(3, 1, True, 2, 0, 0, True)
    entries = [Entry(1, 3, 0, b""), Entry(2, 3, 0, b"")]
    assert "its disk ends at 0" in checker.sends(1, 2, 0, ack)
    checker.synced(1, [ShardUpdate(0, None, entries, None, None)])
    assert checker.sends(1, 2, 0, ack) == ""
    assert "only the disks of nodes [1]" in checker.commits(0, 2, 3, (1, 2, 3), 2)
    checker.synced(2, [ShardUpdate(0, None, entries, None, None)])
    assert checker.commits(0, 2, 3, (1, 2, 3), 2) == ""
    checker.recovered(2, 0, (3, 0), (0, 0), [(1, 3)])
    assert "only" in checker.commits(0, 2, 3, (1, 2, 3), 2)
