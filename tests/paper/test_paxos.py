"""Claims of the Paxos papers, each with the section that makes it.

PMS: Lamport, *Paxos Made Simple*. FPX: Howard, Malkhi and Spiegelman, *Flexible Paxos*. PML: Chandra,
Griesemer and Redstone, *Paxos Made Live*.
"""

from itertools import combinations, product
from typing import Any

import pytest

from quoit.base.errors import BadRequest, InvariantViolated, NotLeader
from quoit.paxos.messages import Accept, Accepted, Ask, AskReply, Prepare, Promise
from quoit.paxos.paxos import FOLLOWER, LEADER
from quoit.paxos.values import ballot, carry, kind_of, origin_of
from quoit.quorum.agreement import EFFECTS, EMPTY, Entry
from quoit.quorum.members import MODES, Members, quorums
from quoit.sim.mutant_table import Mutant
from quoit.sim.mutants import applied
from tests.cores.world import World

HUGE = 1 << 60


def value(index: int, term: int, data: bytes) -> Entry:
    return Entry(index, term, EFFECTS, data)


def answers(world: World, sender: int, message: Any, to: int = 1) -> list[Any]:
    """What `to` answers, once its disk has written."""
    world.deliver((sender, to, message))
    world.persist(to)
    found = [body for one, at, body in world.bus if (one, at) == (to, sender)]
    world.bus.clear()
    return found


def accept(world: World, term: int, sender: int, data: bytes, index: int = 1) -> Accepted:
    [answer] = answers(world, sender, Accept(term, 0, 0, 1, [value(index, term, data)]))
    assert isinstance(answer, Accepted)
    return answer


def held(world: World, number: int, index: int = 1) -> Entry | None:
    """What a replica has accepted in an instance."""
    log = world.members[number].up.log
    found: Entry | None = log.slice(index, index + 1, HUGE)[0] if log.last_index >= index else None
    return found


def forget_leader(world: World, number: int = 1) -> None:
    world.now_us += 3 * world.members[number].up.config.election_timeout_us


def settle(world: World, alive: tuple[int, ...]) -> None:
    """Persist and deliver among these until nothing is under way; the rest is lost."""
    for _ in range(100):
        for number in alive:
            world.persist(number)
        bus, world.bus = world.bus, []
        if not bus:
            return
        for one in bus:
            if one[0] in alive and one[1] in alive:
                world.deliver(one)
    raise AssertionError("it does not come to rest")


def elect(world: World, number: int, alive: tuple[int, ...]) -> Any:
    core = world.members[number].up
    # More than once: it may lead, and has to give up first, or it hears of a higher ballot only now.
    for _ in range(4):
        forget_leader(world, number)
        world.tick(number)
        settle(world, alive)
        if core.role == LEADER and core.asked_us == world.now_us:
            return core
    raise AssertionError(f"{number} is {core.role}")


# PMS 2.2: P1, an acceptor must accept the first proposal that it receives


def test_p1_the_first_proposal_is_accepted() -> None:
    world = World(3)
    assert accept(world, ballot(1, 2), 2, b"a").ok
    assert held(world, 1) == value(1, ballot(1, 2), b"a")


# PMS 2.2: P1a, it accepts n iff it has not responded to a prepare request above n


def test_p1a_nothing_below_the_promise_is_accepted() -> None:
    world = World(3)
    [promise] = answers(world, 3, Prepare(ballot(5, 3), 0, False))
    assert promise.granted
    answer = accept(world, ballot(4, 2), 2, b"late")
    assert (answer.ok, answer.term) == (False, ballot(5, 3))
    assert held(world, 1) is None
    assert accept(world, ballot(5, 3), 3, b"a").ok


def test_p1a_a_higher_ballot_is_accepted_without_a_promise_to_it() -> None:
    world = World(3)
    accept(world, ballot(1, 2), 2, b"a")
    assert accept(world, ballot(2, 3), 3, b"b").ok
    assert held(world, 1) == value(1, ballot(2, 3), b"b")
    assert not accept(world, ballot(1, 2), 2, b"a").ok


# PMS 2.2, phase 1b: a promise names what was accepted


def test_a_promise_names_every_value_that_was_accepted() -> None:
    world = World(3)
    accept(world, ballot(1, 2), 2, b"a", index=1)
    accept(world, ballot(1, 2), 2, b"c", index=3)
    forget_leader(world)
    [promise] = answers(world, 3, Prepare(ballot(2, 3), 0, False))
    assert promise.granted
    assert [(one.index, one.term, one.data) for one in promise.entries] == [
        (1, ballot(1, 2), b"a"),
        (3, ballot(1, 2), b"c"),
    ]


@pytest.mark.parametrize("other", [ballot(5, 2), ballot(4, 3), ballot(1, 3)])
def test_a_ballot_that_is_not_above_the_promise_gets_none_and_hears_why(other: int) -> None:
    """Section 2.3: an acceptor that ignores a request should tell the proposer so."""
    world = World(3)
    answers(world, 3, Prepare(ballot(5, 3), 0, False))
    [answer] = answers(world, 2, Prepare(other, 0, False))
    assert (answer.granted, answer.term) == (False, ballot(5, 3))
    assert world.members[1].up.term == ballot(5, 3)


# PMS 2.2: P2c, a proposal has the value of the highest-numbered one that a quorum accepted, or any

PAST: list[tuple[int, bytes] | None] = [
    None, (ballot(1, 2), b"x"), (ballot(2, 3), b"y"), (ballot(3, 4), b"z"),
]  # fmt: skip


@pytest.mark.parametrize("past", list(product(PAST, repeat=3)))
def test_p2c_the_value_of_the_highest_ballot_is_proposed(
    past: tuple[tuple[int, bytes] | None, ...],
) -> None:
    """Every past of one instance at the three of five that promise."""
    world = World(5)
    own, *others = past
    if own is not None:
        accept(world, own[0], own[0] & 0xFFFF, own[1])
    forget_leader(world)
    world.tick(1)
    core = world.members[1].up
    asked = core.next_ballot()
    for peer in (2, 3):
        world.deliver((peer, 1, AskReply(asked, True)))
    world.persist(1)
    assert core.term == asked
    for peer, one in zip((2, 3), others, strict=True):
        entries = [value(1, one[0], one[1])] if one is not None else []
        world.deliver((peer, 1, Promise(asked, True, 0, entries)))
    assert core.role == LEADER
    proposed = held(world, 1)
    assert proposed is not None
    assert proposed.term == asked
    found = [one for one in past if one is not None]
    if not found:
        assert kind_of(proposed) == EMPTY
        return
    term, data = max(found)
    assert proposed == carry(value(1, term, data), asked)
    assert origin_of(proposed) == term


# PMS 2.2: P2a and P2b, once v is chosen, every higher-numbered proposal has the value v

QUORUMS = [(1, 2), (1, 3), (2, 3), (1, 2, 3)]


@pytest.mark.parametrize("got", [(), (2,), (3,), (2, 3)])
@pytest.mark.parametrize("second", QUORUMS)
@pytest.mark.parametrize("third", QUORUMS)
def test_p2_a_chosen_value_stays(
    got: tuple[int, ...], second: tuple[int, ...], third: tuple[int, ...]
) -> None:
    """Replica 1 proposes, `got` accept; then leaders that hear only `second`, then `third`."""
    world = World(3)
    first = elect(world, 1, (1, 2, 3))
    index, origin = first.propose(b"a", world.now_us)
    world.drain(1)
    late = list(world.bus)
    settle(world, (1, *got))
    chosen = bool(got)
    for quorum in (second, third):
        core = elect(world, quorum[-1], quorum)
        assert core.can_serve()
        found = held(world, quorum[-1], index)
        assert found is not None
        if chosen:
            assert (origin_of(found), kind_of(found)) == (origin, EFFECTS)
            assert found.data.endswith(b"a")
        known = world.committed[index]
        # The first leader's requests come again, and late: they must change nothing.
        world.bus.extend(late)
        settle(world, (1, 2, 3))
        assert world.committed[index] == known
    world.run(3_000_000)
    states = {member.state.applied[index - 1] for member in world.members.values()}
    assert states == {world.committed[index]}


# PMS 2.4: a distinguished proposer


@pytest.mark.parametrize("seed", range(10))
def test_proposers_that_start_together_do_not_duel_for_ever(seed: int) -> None:
    world = World(3, seed=seed)
    for member in world.members.values():
        member.up.election_us = world.now_us
    world.run(3_000_000)
    assert world.leader().can_serve()
    before = world.leader().term
    world.run(3_000_000)
    assert world.leader().term == before


# PMS 2.5: what an acceptor must remember is durable before it answers; ballots are never reused


def test_a_promise_leaves_when_it_is_durable_and_survives_a_crash() -> None:
    world = World(3)
    world.deliver((3, 1, Prepare(ballot(5, 3), 0, False)))
    assert world.bus == []
    world.crash(1)
    world.start(1)
    assert world.members[1].up.term == 0, "nobody was told"
    forget_leader(world)
    [promise] = answers(world, 3, Prepare(ballot(5, 3), 0, False))
    assert promise.granted
    world.crash(1)
    world.start(1)
    assert not accept(world, ballot(4, 2), 2, b"late").ok


def test_an_acceptance_leaves_when_it_is_durable_and_survives_a_crash() -> None:
    world = World(3)
    term = ballot(1, 2)
    world.deliver((2, 1, Accept(term, 0, 0, 1, [value(1, term, b"a")])))
    assert world.bus == []
    world.persist(1)
    assert [type(body) for _, _, body in world.bus] == [Accepted]
    world.crash(1)
    world.start(1)
    assert held(world, 1) == value(1, term, b"a")


def test_a_proposer_never_uses_a_ballot_twice() -> None:
    world = World(3)
    seen: list[int] = []
    for _ in range(5):
        forget_leader(world)
        world.bus.clear()
        world.tick(1)
        core = world.members[1].up
        world.deliver((2, 1, AskReply(core.next_ballot(), True)))
        assert not any(isinstance(body, Prepare) for _, _, body in world.bus), "not durable yet"
        world.persist(1)
        seen.extend({body.term for _, _, body in world.bus if isinstance(body, Prepare)})
        world.crash(1)
        world.start(1)
    assert len(seen) == 5
    assert seen == sorted(set(seen))
    assert {one & 0xFFFF for one in seen} == {1}


def test_the_leaders_own_acceptance_counts_when_it_is_durable() -> None:
    world = World(3)
    core = elect(world, 1, (1, 2, 3))
    index, _ = core.propose(b"a", world.now_us)
    world.drain(1)
    [request] = [one for one in world.bus if one[1] == 2 and isinstance(one[2], Accept)]
    [answer] = answers(world, 1, request[2], to=2)
    world.deliver((2, 1, answer))
    assert core.commit_index < index
    world.persist(1)
    assert core.commit_index == index


# PMS 2.3: learning what is chosen


def test_a_learner_takes_only_the_chosen_value_for_chosen() -> None:
    """It holds an older ballot's value in an instance in which something is chosen."""
    world = World(3)
    accept(world, ballot(1, 2), 2, b"old", index=1)
    term = ballot(2, 3)
    answers(world, 3, Accept(term, 2, 0, 1, [value(2, term, b"b")]))
    core = world.members[1].up
    assert core.commit_index == 0
    answers(world, 3, Accept(term, 2, 0, 1, [value(1, term, b"a")]))
    assert core.commit_index == 2
    assert [data for _, _, data in world.members[1].state.applied][:1] != [b"old"]


# PML 5.2: master leases, nobody promises to another while it may support one


def test_nothing_is_promised_while_a_leader_may_hold_a_lease() -> None:
    world = World(3)
    accept(world, ballot(1, 2), 2, b"a")
    prepare = Prepare(ballot(9, 3), 0, False)
    assert answers(world, 3, prepare) == []
    timeout = world.members[1].up.config.election_timeout_us
    world.now_us += timeout - 1
    assert answers(world, 3, prepare) == []
    world.now_us += 1
    [promise] = answers(world, 3, prepare)
    assert promise.granted


# PMS 3: a leader runs phase 1 once for all instances, and fills gaps with no-ops


def test_phase_1_is_run_once_for_all_instances() -> None:
    world = World(3)
    core = elect(world, 1, (1, 2, 3))
    for number in range(20):
        core.propose(b"%d" % number, world.now_us)
        world.drain(1)
        assert not any(isinstance(body, (Ask, Prepare)) for _, _, body in world.bus)
        settle(world, (1, 2, 3))
    assert core.commit_index == core.last_index == 21


def test_a_gap_is_filled_with_a_value_that_changes_nothing() -> None:
    world = World(3)
    term = ballot(1, 3)
    accept(world, term, 3, b"second", index=2)
    core = elect(world, 1, (1, 2))
    assert core.can_serve()
    filler = held(world, 1)
    assert filler is not None
    assert (filler.kind, filler.data) == (EMPTY, b"")
    assert world.committed[1][1:] == (EMPTY, b"")


def test_what_was_built_on_a_value_that_was_not_chosen_has_no_effect() -> None:
    """Not in the paper, which leaves it open: a leader's order (values.py)."""
    world = World(3)
    accept(world, ballot(1, 3), 3, b"second", index=2)
    elect(world, 1, (1, 2))
    assert world.committed[2] == (0, EMPTY, b"")


def test_members_are_part_of_the_state_and_nothing_is_proposed_past_a_change() -> None:
    """Section 3, with alpha = 1."""
    world = World(3)
    core = elect(world, 1, (1, 2, 3))
    index = core.change(Members((1, 2)), world.now_us)
    world.drain(1)
    with pytest.raises(NotLeader):
        core.propose(b"a", world.now_us)
    with pytest.raises(BadRequest):
        core.change(Members((1, 3)), world.now_us)
    assert core.members == Members((1, 2, 3)), "the old ones choose it"
    settle(world, (1, 2, 3))
    assert core.members == Members((1, 2))
    assert core.propose(b"a", world.now_us)[0] == index + 1


# FPX 3: only quorums of the two phases have to meet


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("voters", range(1, 8))
def test_every_election_quorum_meets_every_write_quorum(mode: str, voters: int) -> None:
    sizes = quorums(mode, voters)
    nodes = range(voters)
    for one in combinations(nodes, sizes.elect):
        for size in (sizes.write, sizes.confirm):
            assert all(set(one) & set(other) for other in combinations(nodes, size))


@pytest.mark.parametrize("voters", range(2, 8))
@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("Quorums(voters, voters, 1, voters)", "Quorums(voters, voters - 1, 1, voters)"),
        ("Quorums(voters, voters, 1, voters)", "Quorums(voters, voters, 1, voters - 1)"),
        ("Quorums(voters, half, half, half)", "Quorums(voters, voters - half, half, half)"),
    ],
    ids=["write", "confirm", "majority"],
)
def test_settings_whose_quorums_do_not_meet_are_refused(old: str, new: str, voters: int) -> None:
    mutant = Mutant(
        id="fpx", what="quorums that miss one another", module="quoit.quorum.members",
        function="quorums", old=old, new=new, checks="QUORUM",
    )  # fmt: skip
    mode = "majority" if "half" in old else "all"
    quorums(mode, voters)
    with applied(mutant), pytest.raises(InvariantViolated):
        quorums(mode, voters)


def test_an_unknown_kind_of_quorum_is_refused() -> None:
    with pytest.raises(BadRequest):
        quorums("any", 3)


@pytest.mark.parametrize("number", [1, 2, 3])
def test_with_write_all_any_single_replica_knows_all_and_can_lead(number: int) -> None:
    world = World(3, quorum="all")
    core = elect(world, 1, (1, 2, 3))
    index, _ = core.propose(b"a", world.now_us)
    world.drain(1)
    settle(world, (1, 2))
    assert core.commit_index < index, "two of three are not enough"
    world.now_us += core.config.heartbeat_us
    world.run()
    assert core.commit_index == index
    first = core.term
    for other in (1, 2, 3):
        if other != number:
            world.crash(other)
    again = world.members[number].up
    # Nobody answers, so it gives up after a while, and begins again.
    for _ in range(200):
        world.run(10_000)
        if again.role == LEADER and again.term > first:
            break
    assert again.role == LEADER
    assert again.term > first
    found = held(world, number, index)
    assert found is not None
    assert found.data.endswith(b"a")


# PML 5.1: a replica whose disk lost what it had synced takes no part until it is brought past that


def damaged() -> World:
    """Replica 3 of three lost the last of what it had accepted; 1 and 2 go on."""
    world = World(3)
    core = elect(world, 1, (1, 2, 3))
    core.propose(b"a", world.now_us)
    world.drain(1)
    settle(world, (1, 2, 3))
    world.forget(3, 1)
    world.start(3)
    assert world.members[3].up.damaged
    forget_leader(world)
    world.bus.clear()
    return world


def test_a_damaged_replica_promises_nothing_and_does_not_campaign() -> None:
    world = damaged()
    higher = world.members[1].up.next_ballot()
    assert answers(world, 1, Prepare(higher, 0, False), to=3) == []
    [answer] = answers(world, 1, Ask(higher, 0), to=3)
    assert not answer.granted
    world.tick(3)
    assert world.members[3].up.role == FOLLOWER
    assert world.bus == []


def test_a_damaged_replica_is_not_counted_and_says_so() -> None:
    world = damaged()
    core = world.members[1].up
    index, term = core.propose(b"b", world.now_us)
    entries = core.log.slice(1, index + 1, HUGE)
    [answer] = answers(world, 1, Accept(term, 2, 0, 1, entries), to=3)
    assert (answer.ok, answer.voting) == (True, False)
    world.persist(1)
    world.deliver((3, 1, answer))
    assert core.commit_index < index


def test_a_damaged_replica_counts_again_once_the_others_brought_it_past_what_it_had() -> None:
    world = damaged()
    world.run(2_000_000)
    core = world.members[3].up
    assert not core.damaged
    assert core.commit_index >= core.must_reach > 0
    leader = world.leader()
    world.crash(2 if leader.id != 2 else 1)
    index, _ = leader.propose(b"c", world.now_us)
    world.run(2_000_000)
    assert max(world.committed) >= index, "two of three, one of them healed, are enough"
