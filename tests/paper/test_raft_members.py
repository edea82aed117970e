"""Claims about changes of members: Ongaro's thesis, chapter 4, and its correction of 2015."""

import pytest

from quoit.base.errors import BadRequest, NotLeader
from quoit.quorum.agreement import CONFIG, EFFECTS, Entry, SnapshotMeta
from quoit.quorum.members import Members, decode_members, encode_members
from quoit.raft.messages import (
    AppendEntries,
    AppendEntriesReply,
    InstallSnapshot,
    PreVote,
    PreVoteReply,
    RequestVote,
    RequestVoteReply,
    TimeoutNow,
)
from quoit.raft.raft import FOLLOWER, LEADER, PRE_CANDIDATE, Raft
from tests.golden.raft.cluster import Cluster

T = 300_000
THREE = Members((1, 2, 3))
TWO = Members((1, 2))
LEARNING = Members((1, 2, 3), (4,))
FOUR = Members((1, 2, 3, 4))


def change(cluster: Cluster, members: Members) -> int:
    index = cluster.members[1].raft.change(members, cluster.now_us)
    cluster.drain(1)
    return index


def ack(cluster: Cluster, peer: int, index: int) -> None:
    term = cluster.members[1].raft.term
    cluster.deliver((peer, 1, AppendEntriesReply(term, 1, True, index, 0, 0, True)))


def led(count: int = 3) -> tuple[Cluster, Raft]:
    cluster = Cluster(count)
    raft = cluster.elect(1)
    cluster.persist(1)
    cluster.bus.clear()
    return cluster, raft


def config(index: int, term: int, members: Members) -> Entry:
    return Entry(index, term, CONFIG, encode_members(members))


# Section 4.1: one server at a time, in force once it is in the log


def test_a_change_is_an_entry_and_in_force_before_it_is_committed() -> None:
    cluster, raft = led()
    index = change(cluster, LEARNING)
    assert raft.members == LEARNING
    assert raft.commit_index < index
    [entry] = [
        entry
        for _, to, message in cluster.bus
        if to == 2 and isinstance(message, AppendEntries)
        for entry in message.entries
    ]
    assert (entry.index, entry.kind) == (index, CONFIG)
    assert decode_members(entry.data) == LEARNING


def test_a_learner_gets_the_log_and_is_not_counted() -> None:
    cluster, raft = led()
    index = change(cluster, LEARNING)
    cluster.persist(1)
    assert any(to == 4 for _, to, _ in cluster.bus)
    ack(cluster, 4, index)
    assert raft.commit_index < index
    ack(cluster, 2, index)
    assert raft.commit_index == index


def test_a_new_voter_counts_for_its_own_entry() -> None:
    cluster, raft = led()
    index = change(cluster, LEARNING)
    cluster.persist(1)
    for peer in (2, 4):
        ack(cluster, peer, index)
    index = change(cluster, FOUR)
    cluster.persist(1)
    ack(cluster, 2, index)
    assert raft.commit_index < index, "three of four are needed"
    ack(cluster, 4, index)
    assert raft.commit_index == index


def test_without_a_voter_the_rest_is_enough() -> None:
    cluster, raft = led()
    index = change(cluster, TWO)
    cluster.persist(1)
    ack(cluster, 3, index)
    assert raft.commit_index < index, "who leaves does not count"
    ack(cluster, 2, index)
    assert raft.commit_index == index
    # Who leaves is told so, once, with the next tick.
    cluster.tick(1)
    assert {to for _, to, _ in cluster.bus} >= {3}
    cluster.bus.clear()
    cluster.propose(1, b"a")
    assert {to for _, to, _ in cluster.bus} == {2}


def test_a_leader_that_is_left_alone_commits_by_itself() -> None:
    cluster, raft = led()
    index = change(cluster, TWO)
    cluster.persist(1)
    ack(cluster, 2, index)
    index = change(cluster, Members((1,)))
    cluster.persist(1)
    assert raft.commit_index == index
    cluster.now_us += 100 * T
    cluster.tick(1)
    assert raft.role == LEADER
    assert raft.lease_valid(cluster.now_us)


# What is refused


def test_only_a_leader_changes_members() -> None:
    cluster, _ = led()
    with pytest.raises(NotLeader):
        cluster.members[2].raft.change(TWO, cluster.now_us)


def test_one_voter_at_a_time_and_one_change_at_a_time() -> None:
    cluster, raft = led()
    last = raft.last_index
    for members in (Members((1,)), Members((1, 2, 4)), Members((1, 2, 3, 4, 5))):
        with pytest.raises(BadRequest, match="one voter"):
            change(cluster, members)
    change(cluster, LEARNING)
    with pytest.raises(BadRequest, match="under way"):
        change(cluster, FOUR)
    assert raft.last_index == last + 1


def test_a_leader_that_has_not_committed_in_its_term_changes_nothing() -> None:
    """The correction of 2015: two leaders could take different steps from the same members."""
    cluster = Cluster(3)
    raft = cluster.members[1].raft
    cluster.campaign(1)
    cluster.deliver((2, 1, PreVoteReply(1, True)))
    cluster.persist(1)
    cluster.deliver((2, 1, RequestVoteReply(1, True)))
    cluster.persist(1)
    assert raft.role == LEADER
    with pytest.raises(BadRequest, match="is new"):
        raft.change(LEARNING, cluster.now_us)
    ack(cluster, 2, 1)
    assert change(cluster, LEARNING) == 2


def test_no_change_while_leadership_is_handed_over() -> None:
    cluster, raft = led()
    raft.transfer(2, cluster.now_us)
    with pytest.raises(BadRequest):
        raft.change(TWO, cluster.now_us)


# The follower's side


def test_a_follower_goes_back_to_the_members_before_an_entry_that_is_replaced() -> None:
    cluster = Cluster(3)
    raft = cluster.members[1].raft
    first = Entry(1, 1, EFFECTS, b"")
    cluster.deliver((2, 1, AppendEntries(1, 0, 0, 1, 1, [first, config(2, 1, TWO)])))
    assert raft.members == TWO
    cluster.deliver((3, 1, AppendEntries(2, 1, 1, 1, 1, [Entry(2, 2, EFFECTS, b"")])))
    assert raft.members == THREE
    raft.check()


def test_members_in_the_log_are_in_force_after_a_restart() -> None:
    cluster = Cluster(3)
    cluster.deliver((2, 1, AppendEntries(1, 0, 0, 0, 1, [config(1, 1, TWO)])))
    cluster.persist(1)
    cluster.crash(1)
    cluster.restart(1)
    raft = cluster.members[1].raft
    assert raft.members == TWO
    cluster.deliver((2, 1, AppendEntries(2, 0, 0, 0, 1, [Entry(1, 2, EFFECTS, b"")])))
    assert raft.members == THREE


def test_a_snapshot_brings_its_members() -> None:
    cluster = Cluster(3)
    raft = cluster.members[1].raft
    cluster.members[1].state = [(number, 0, b"") for number in range(1, 6)]
    meta = SnapshotMeta(5, 1, FOUR)
    raft.step(2, InstallSnapshot(1, meta), cluster.now_us)
    cluster.drain(1)
    assert raft.members == FOUR


def test_a_follower_obeys_a_leader_and_votes_for_a_candidate_that_it_does_not_know() -> None:
    """Section 4.1: servers process requests from servers outside of their own configuration."""
    cluster = Cluster(3)
    raft = cluster.members[1].raft
    cluster.now_us += 2 * T
    cluster.deliver((7, 1, PreVote(1, 0, 0)))
    cluster.deliver((7, 1, RequestVote(1, 0, 0, False)))
    cluster.persist(1)
    assert [(to, message.granted) for _, to, message in cluster.bus] == [(7, True), (7, True)]
    cluster.deliver((7, 1, AppendEntries(1, 0, 0, 0, 1, [config(1, 1, Members((1, 7)))])))
    assert (raft.leader, raft.members) == (7, Members((1, 7)))


# Section 4.2.2 and 4.2.3: who leaves


def test_a_removed_leader_stays_until_that_is_committed_and_hands_over() -> None:
    cluster, raft = led()
    index = change(cluster, Members((2, 3)))
    cluster.persist(1)
    assert raft.role == LEADER
    ack(cluster, 2, index)
    assert raft.commit_index < index, "it does not count itself"
    cluster.bus.clear()
    ack(cluster, 3, index)
    cluster.tick(1)
    assert (raft.role, raft.commit_index) == (FOLLOWER, index)
    assert [to for _, to, message in cluster.bus if isinstance(message, TimeoutNow)] in ([2], [3])


def test_a_removed_replica_does_not_campaign_but_does_before_that_is_committed() -> None:
    cluster = Cluster(3)
    raft = cluster.members[1].raft
    entries = [Entry(1, 1, EFFECTS, b""), config(2, 1, Members((2, 3)))]
    cluster.deliver((2, 1, AppendEntries(1, 0, 0, 1, 1, entries)))
    cluster.persist(1)
    cluster.bus.clear()
    cluster.now_us += 3 * T
    cluster.tick(1)
    assert raft.role == PRE_CANDIDATE
    assert {to for _, to, _ in cluster.bus} == {2, 3}
    cluster.bus.clear()
    cluster.deliver((2, 1, AppendEntries(1, 2, 1, 2, 2, [])))
    cluster.persist(1)
    cluster.bus.clear()
    cluster.now_us += 3 * T
    cluster.tick(1)
    assert raft.role == FOLLOWER
    assert cluster.bus == []


def test_a_learner_does_not_campaign() -> None:
    cluster = Cluster(3)
    raft = cluster.members[1].raft
    entries = [config(1, 1, Members((2, 3), (1,)))]
    cluster.deliver((2, 1, AppendEntries(1, 0, 0, 1, 1, entries)))
    cluster.persist(1)
    cluster.now_us += 3 * T
    cluster.bus.clear()
    cluster.tick(1)
    assert (raft.role, cluster.bus) == (FOLLOWER, [])


def test_votes_of_those_who_do_not_vote_are_not_counted() -> None:
    cluster = Cluster(5)
    raft = cluster.members[1].raft
    cluster.deliver(
        (2, 1, AppendEntries(1, 0, 0, 1, 1, [config(1, 1, Members((1, 2, 3), (4, 5)))]))
    )
    cluster.persist(1)
    cluster.now_us += 3 * T
    cluster.tick(1)
    for sender in (4, 5):
        cluster.deliver((sender, 1, PreVoteReply(2, True)))
    assert raft.role == PRE_CANDIDATE
    cluster.deliver((3, 1, PreVoteReply(2, True)))
    assert raft.role != PRE_CANDIDATE
