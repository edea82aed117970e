"""Claims of the papers on Paxos, on small worlds of cores: *Paxos Made Simple* (Lamport 2001), *Flexible
Paxos* (Howard, Malkhi and Spiegelman 2016), *Paxos Made Live* (Chandra and others 2007)."""

from itertools import combinations

import pytest

from quoit.base.errors import NotLeader
from quoit.paxos.values import ballot, node_of, round_of
from quoit.quorum.members import MODES, quorums
from tests.cores.world import World


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("count", range(1, 10))
def test_each_election_quorum_meets_each_write_quorum(mode: str, count: int) -> None:
    """Flexible Paxos, section 3: only quorums of different phases have to meet; and who proves a read
    has to meet every election quorum, or a newer leader's writes could be missed."""
    found = quorums(mode, count)
    nodes = range(count)
    for electing in combinations(nodes, found.elect):
        for writing in combinations(nodes, found.write):
            assert set(electing) & set(writing)


def test_ballots_of_different_proposers_are_different_and_ordered() -> None:
    """Paxos Made Simple, section 2.2: different proposers choose their numbers from disjoint sets."""
    made = [ballot(number, node) for number in range(1, 20) for node in range(1, 10)]
    assert len(set(made)) == len(made)
    assert made == sorted(made)
    assert [(round_of(one), node_of(one)) for one in made[:2]] == [(1, 1), (1, 2)]


@pytest.mark.parametrize("survivor", [0, 1])
def test_a_chosen_value_is_what_every_later_leader_proposes(survivor: int) -> None:
    """Paxos Made Simple, section 2.2, P2: whoever of the majority that accepted it is left."""
    world = World(3)
    world.run(1_000_000)
    first = world.leader()
    others = [number for number in (1, 2, 3) if number != first.id]
    world.crash(others[1 - survivor])
    first.propose(b"chosen", world.now_us)
    world.run(200_000)
    assert first.commit_index == first.last_index
    world.crash(first.id)
    world.start(others[1 - survivor])
    world.run(1_500_000)
    assert b"chosen" in [data for _, _, data in world.members[world.leader().id].state.applied]


def test_one_leader_needs_no_first_phase_for_later_instances() -> None:
    """Paxos Made Simple, section 3: phase 1 is executed once, for infinitely many instances."""
    world = World(3)
    world.run(1_000_000)
    leader = world.leader()
    before = leader.term
    for number in range(50):
        leader.propose(b"%d" % number, world.now_us)
        world.run(20_000)
    assert leader.term == before
    assert leader.commit_index >= 50
    assert {core.term for core in world.alive()} == {before}


def test_a_single_replica_leads_where_all_accept_and_one_absence_stops_writes() -> None:
    """Flexible Paxos, section 4: the price of a small first phase is a large second one."""
    world = World(3, quorum="all")
    world.run(1_000_000)
    leader = world.leader()
    leader.propose(b"seen by all", world.now_us)
    world.run(200_000)
    others = [number for number in (1, 2, 3) if number != leader.id]
    world.crash(leader.id)
    world.crash(others[0])
    alone = world.members[others[1]]
    for _ in range(40):
        if alone.core.is_leader:
            break
        world.run(50_000)
    assert alone.core.is_leader
    assert b"seen by all" in [data for _, _, data in alone.state.applied]
    index, _ = alone.core.propose(b"not by all", world.now_us)
    world.run(200_000)
    assert alone.core.commit_index < index
    for number in (leader.id, others[0]):
        world.start(number)
    world.run(1_500_000)
    assert world.leader().commit_index >= index


def test_a_replica_with_a_corrupted_disk_takes_part_without_a_vote() -> None:
    """Paxos Made Live, section 5.1: it must not renege on promises that it forgot, so it does not count
    until it has seen instances that began after it came back."""
    world = World(3)
    world.run(1_000_000)
    leader = world.leader()
    broken, away = (number for number in (1, 2, 3) if number != leader.id)
    world.crash(away)
    leader.propose(b"by leader and broken", world.now_us)
    world.run(200_000)
    chosen = leader.commit_index
    world.forget(broken, 2)
    world.start(broken)
    leader.propose(b"waits", world.now_us)
    world.run(150_000)
    assert world.members[broken].core.damaged
    assert leader.commit_index == chosen
    world.crash(leader.id)
    world.start(away)
    world.run(2_000_000)
    # The only intact replica knows less than what was chosen: nobody may lead.
    for core in world.alive():
        assert not core.is_leader
        with pytest.raises(NotLeader):
            core.propose(b"no", world.now_us)
    world.start(leader.id)
    world.run(3_000_000)
    assert not world.members[broken].core.damaged
    assert world.leader().commit_index > chosen
