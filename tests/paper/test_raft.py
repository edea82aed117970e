"""Claims of the Raft paper and of Ongaro's thesis, each with the section that makes it."""

from typing import Any

import pytest

from quoit.base.errors import InvariantViolated, NotLeader
from quoit.quorum.agreement import EFFECTS, EMPTY, Entry, SnapshotMeta
from quoit.quorum.members import Members
from quoit.raft.messages import (
    AppendEntries,
    AppendEntriesReply,
    Heartbeat,
    HeartbeatReply,
    InstallSnapshot,
    PreVote,
    PreVoteReply,
    RequestVote,
    RequestVoteReply,
    TimeoutNow,
)
from quoit.raft.raft import CANDIDATE, FOLLOWER, LEADER, PRE_CANDIDATE
from tests.golden.raft.cluster import Cluster

T = 300_000


def sent(cluster: Cluster, kind: type, to: int | None = None) -> list[Any]:
    """What is on the bus of one kind."""
    return [body for _, at, body in cluster.bus if type(body) is kind and to in (None, at)]


def entry(index: int, term: int, data: bytes = b"") -> Entry:
    return Entry(index, term, EFFECTS, data)


def voter(count: int = 3, log: list[int] | None = None) -> Cluster:
    """Replica 1 of a cluster of which nobody else speaks; its log has entries of these terms."""
    cluster = Cluster(count)
    terms = log or []
    if terms:
        entries = [entry(number + 1, term) for number, term in enumerate(terms)]
        message = AppendEntries(terms[-1], 0, 0, 0, 1, entries)
        cluster.deliver((2, 1, message))
        cluster.persist(1)
        cluster.bus.clear()
        cluster.now_us += 2 * T
    return cluster


def ask(cluster: Cluster, message: Any, sender: int = 3) -> list[Any]:
    """Replica 1's answers to a message, once its disk has written."""
    cluster.deliver((sender, 1, message))
    cluster.persist(1)
    answers = [body for one, to, body in cluster.bus if one == 1 and to == sender]
    cluster.bus.clear()
    return answers


# Section 5.1: terms


@pytest.mark.parametrize("role", [FOLLOWER, PRE_CANDIDATE, CANDIDATE, LEADER])
def test_every_role_becomes_a_follower_of_a_newer_term(role: str) -> None:
    cluster = Cluster(3)
    raft = cluster.members[1].raft
    if role == LEADER:
        cluster.elect(1)
    elif role != FOLLOWER:
        cluster.campaign(1)
        if role == CANDIDATE:
            ask(cluster, PreVoteReply(1, True))
    assert raft.role == role
    cluster.deliver((2, 1, AppendEntries(7, 0, 0, 0, 1, [])))
    assert (raft.role, raft.term, raft.leader, raft.vote) == (FOLLOWER, 7, 2, 0)


def test_messages_of_an_older_term_change_nothing_and_are_answered_with_the_term() -> None:
    cluster = voter(log=[5])
    raft = cluster.members[1].raft
    [reply] = ask(cluster, AppendEntries(4, 1, 5, 1, 9, [entry(2, 4)]))
    assert (reply.ok, reply.term, reply.round) == (False, 5, 9)
    [reply] = ask(cluster, Heartbeat(4, 1, 9))
    assert reply.term == 5
    assert ask(cluster, RequestVote(4, 9, 9, False)) == [RequestVoteReply(5, False)]
    assert (raft.term, raft.last_index, raft.commit_index) == (5, 1, 0)


# Section 5.2: elections


def test_a_follower_waits_between_one_and_two_timeouts() -> None:
    class Edge:
        def __init__(self, last: bool) -> None:
            self.last = last

        def randrange(self, start: int, stop: int) -> int:
            assert (start, stop) == (T, 2 * T)
            return stop - 1 if self.last else start

        def random(self) -> float:
            return 0.0

    for last, wait_us in ((False, T), (True, 2 * T - 1)):
        cluster = Cluster(3, rng=lambda _, last=last: Edge(last))
        start_us = cluster.now_us
        assert cluster.members[1].raft.next_deadline_us() == start_us + wait_us
        cluster.now_us = start_us + wait_us - 1
        cluster.tick(1)
        assert not cluster.bus
        cluster.now_us += 1
        cluster.tick(1)
        assert len(sent(cluster, PreVote)) == 2


def test_a_leader_keeps_followers_from_campaigning() -> None:
    cluster = Cluster(3)
    cluster.elect(1)
    cluster.run_us(5_000_000)
    assert cluster.leaders == {1: 1}


def test_a_replica_votes_once_per_term() -> None:
    cluster = voter()
    assert ask(cluster, RequestVote(1, 0, 0, False), sender=2) == [RequestVoteReply(1, True)]
    assert ask(cluster, RequestVote(1, 0, 0, False), sender=3) == [RequestVoteReply(1, False)]
    assert ask(cluster, RequestVote(1, 0, 0, False), sender=2) == [RequestVoteReply(1, True)]


def test_a_replica_votes_once_per_term_also_after_a_crash() -> None:
    cluster = voter()
    assert ask(cluster, RequestVote(1, 0, 0, False), sender=2) == [RequestVoteReply(1, True)]
    cluster.crash(1)
    cluster.restart(1)
    cluster.now_us += 2 * T
    assert ask(cluster, RequestVote(1, 0, 0, False), sender=3) == [RequestVoteReply(1, False)]


def test_a_vote_leaves_only_after_it_is_durable() -> None:
    cluster = voter()
    cluster.deliver((2, 1, RequestVote(1, 0, 0, False)))
    assert cluster.bus == []
    assert cluster.members[1].writes[0].hard_state is not None
    cluster.persist(1)
    assert sent(cluster, RequestVoteReply) == [RequestVoteReply(1, True)]


def test_a_candidate_asks_for_votes_only_after_its_own_is_durable() -> None:
    cluster = Cluster(3)
    cluster.campaign(1)
    cluster.bus.clear()
    cluster.deliver((2, 1, PreVoteReply(1, True)))
    assert cluster.members[1].raft.role == CANDIDATE
    assert cluster.bus == []
    cluster.persist(1)
    assert len(sent(cluster, RequestVote)) == 2


@pytest.mark.parametrize(("count", "needed"), [(2, 1), (3, 1), (4, 2), (5, 2), (6, 3), (7, 3)])
def test_a_candidate_needs_a_majority(count: int, needed: int) -> None:
    cluster = Cluster(count)
    raft = cluster.members[1].raft
    cluster.campaign(1)
    for peer in range(2, 2 + needed):
        assert raft.role == PRE_CANDIDATE
        cluster.deliver((peer, 1, PreVoteReply(1, True)))
    for peer in range(2, 2 + needed):
        assert raft.role == CANDIDATE
        # The same vote twice is one vote.
        cluster.deliver((peer, 1, RequestVoteReply(1, True)))
        cluster.deliver((2, 1, RequestVoteReply(1, True)))
    assert raft.role == LEADER


def test_votes_of_another_term_do_not_count() -> None:
    cluster = Cluster(3)
    raft = cluster.members[1].raft
    cluster.campaign(1)
    cluster.deliver((2, 1, PreVoteReply(1, True)))
    cluster.campaign(1)
    cluster.deliver((2, 1, PreVoteReply(2, True)))
    assert (raft.role, raft.term) == (CANDIDATE, 2)
    cluster.deliver((3, 1, RequestVoteReply(1, True)))
    assert raft.role == CANDIDATE


def test_a_refused_candidate_gives_up_its_campaign() -> None:
    cluster = Cluster(3)
    raft = cluster.members[1].raft
    cluster.campaign(1)
    cluster.deliver((2, 1, PreVoteReply(1, True)))
    cluster.deliver((2, 1, RequestVoteReply(1, False)))
    assert raft.role == CANDIDATE
    cluster.deliver((3, 1, RequestVoteReply(1, False)))
    assert raft.role == FOLLOWER


def test_two_leaders_in_one_term_stop_the_node() -> None:
    cluster = Cluster(3)
    cluster.elect(1)
    with pytest.raises(InvariantViolated, match="one leader per term"):
        cluster.deliver((2, 1, AppendEntries(1, 0, 0, 0, 1, [])))


# Section 5.3: log replication


def test_a_follower_appends_only_behind_a_matching_entry() -> None:
    cluster = voter(log=[1, 1, 2])
    raft = cluster.members[1].raft
    [reply] = ask(cluster, AppendEntries(3, 3, 1, 0, 1, [entry(4, 3)]))
    assert not reply.ok
    assert raft.last_index == 3
    [reply] = ask(cluster, AppendEntries(3, 5, 2, 0, 1, [entry(6, 3)]))
    assert not reply.ok
    [reply] = ask(cluster, AppendEntries(3, 3, 2, 0, 1, [entry(4, 3)]))
    assert reply.ok
    assert reply.match_index == raft.last_index == 4


def test_a_follower_replaces_from_the_first_conflicting_entry_on() -> None:
    cluster = voter(log=[1, 1, 1, 2, 2])
    raft = cluster.members[1].raft
    [reply] = ask(cluster, AppendEntries(3, 1, 1, 0, 1, [entry(2, 1), entry(3, 1), entry(4, 3)]))
    assert reply.match_index == raft.last_index == 4
    assert [raft.term_at(index) for index in range(1, 5)] == [1, 1, 1, 3]
    assert [one.term for one in cluster.members[1].disk.log] == [1, 1, 1, 3]


def test_a_short_or_late_append_whose_entries_match_cuts_nothing_off() -> None:
    cluster = voter(log=[1, 1, 1, 1])
    raft = cluster.members[1].raft
    for prev, entries in ((0, [entry(1, 1)]), (1, [entry(2, 1), entry(3, 1)]), (2, [])):
        [reply] = ask(cluster, AppendEntries(1, prev, 1 if prev else 0, 0, 1, entries), sender=2)
        assert reply.ok
        assert reply.match_index == prev + len(entries)
        assert raft.last_index == 4


def test_a_committed_entry_is_never_replaced() -> None:
    cluster = voter(log=[1, 1, 1])
    raft = cluster.members[1].raft
    ask(cluster, AppendEntries(1, 3, 1, 2, 1, []), sender=2)
    assert raft.commit_index == 2
    with pytest.raises(InvariantViolated, match="committed entry"):
        ask(cluster, AppendEntries(2, 0, 0, 0, 1, [entry(1, 2), entry(2, 2), entry(3, 2)]))


def test_an_acknowledgement_leaves_only_after_the_entries_are_durable() -> None:
    cluster = voter()
    cluster.deliver((2, 1, AppendEntries(1, 0, 0, 0, 1, [entry(1, 1)])))
    # The same entry again, while the first write is still under way.
    cluster.deliver((2, 1, AppendEntries(1, 0, 0, 0, 1, [entry(1, 1)])))
    assert cluster.bus == []
    cluster.persist(1)
    assert [reply.match_index for reply in sent(cluster, AppendEntriesReply)] == [1, 1]


def test_a_follower_commits_no_further_than_the_last_new_entry() -> None:
    # Entries 3 and 4 may be others' than the leader's.
    cluster = voter(log=[1, 1, 1, 1])
    ask(cluster, AppendEntries(2, 1, 1, 4, 1, [entry(2, 1)]))
    assert cluster.members[1].raft.commit_index == 2


def test_the_leader_finds_the_matching_point_with_one_rejection_per_term() -> None:
    cluster = Cluster(3)
    cluster.elect(1)
    for number in range(50):
        cluster.propose(1, b"lost %d" % number)
    cluster.persist(1)
    cluster.bus.clear()
    cluster.crash(1)
    cluster.elect(2)
    for number in range(100):
        cluster.propose(2, b"kept %d" % number)
    cluster.settle()
    cluster.elect(3)
    cluster.restart(1)
    cluster.now_us += 60_000
    cluster.tick(3)
    rejections = 0
    while cluster.bus:
        message = cluster.bus.pop(0)
        rejections += type(message[2]) is AppendEntriesReply and not message[2].ok
        cluster.deliver(message)
        for node_id in cluster.members:
            cluster.persist(node_id)
    assert cluster.members[1].raft.last_index == cluster.members[3].raft.last_index == 103
    assert rejections == 1


def test_a_late_acknowledgement_does_not_lower_the_match_index() -> None:
    cluster = Cluster(3)
    raft = cluster.elect(1)
    for data in (b"a", b"b", b"c"):
        cluster.propose(1, data)
    cluster.settle()
    assert raft.progress[2].match_index == 4
    cluster.deliver((2, 1, AppendEntriesReply(1, 1, True, 2, 0, 0, True)))
    cluster.deliver((2, 1, AppendEntriesReply(1, 1, False, 3, 1, 1, True)))
    assert raft.progress[2].match_index == 4
    assert raft.progress[2].next_index == 5


def test_an_acknowledgement_of_another_term_is_not_counted() -> None:
    cluster = Cluster(3)
    cluster.elect(1)
    cluster.elect(2)
    raft = cluster.elect(1)
    index, term = cluster.propose(1, b"a")
    cluster.persist(1)
    assert term == 3
    cluster.deliver((2, 1, AppendEntriesReply(1, 1, True, index, 0, 0, True)))
    assert raft.commit_index == index - 1
    cluster.deliver((2, 1, AppendEntriesReply(3, 1, True, index, 0, 0, True)))
    assert raft.commit_index == index


def test_appends_are_pipelined_up_to_the_window() -> None:
    cluster = Cluster(3, inflight_appends_max=4)
    cluster.elect(1)
    for number in range(10):
        cluster.propose(1, b"%d" % number)
    assert [message.prev_index for message in sent(cluster, AppendEntries, to=2)] == [1, 2, 3, 4]
    cluster.settle()
    assert cluster.members[2].raft.last_index == 11


def test_what_was_lost_is_sent_again_after_the_next_heartbeat() -> None:
    cluster = Cluster(3, inflight_appends_max=2)
    raft = cluster.elect(1)
    for number in range(5):
        cluster.propose(1, b"%d" % number)
    cluster.bus.clear()
    cluster.run_us(200_000)
    assert [cluster.members[one].raft.last_index for one in (1, 2, 3)] == [6, 6, 6]
    assert raft.commit_index == 6


# Section 5.4.1: who may be elected


@pytest.mark.parametrize(
    ("own", "last_index", "last_term", "granted"),
    [
        ([1], 1, 1, True),
        ([1], 2, 1, True),
        ([1, 1], 1, 1, False),
        ([1], 1, 2, True),
        ([1, 1, 1], 1, 2, True),
        ([2], 5, 1, False),
        ([1, 2], 2, 1, False),
        ([], 0, 0, True),
    ],
)
def test_a_log_is_compared_by_last_term_then_by_length(
    own: list[int], last_index: int, last_term: int, granted: bool
) -> None:
    cluster = voter(log=own)
    [pre_vote] = ask(cluster, PreVote(9, last_index, last_term))
    assert pre_vote.granted == granted
    [vote] = ask(cluster, RequestVote(9, last_index, last_term, False))
    assert vote == RequestVoteReply(9, granted)


# Section 5.4.2: commitment


def test_a_leader_commits_only_entries_of_its_own_term_by_counting() -> None:
    cluster = voter(log=[1, 2])
    raft = cluster.members[1].raft
    cluster.campaign(1)
    cluster.deliver((2, 1, PreVoteReply(3, True)))
    cluster.persist(1)
    cluster.deliver((2, 1, RequestVoteReply(3, True)))
    cluster.persist(1)
    assert raft.role == LEADER
    for index, commit in ((1, 0), (2, 0), (3, 3)):
        cluster.deliver((2, 1, AppendEntriesReply(3, 1, True, index, 0, 0, True)))
        assert raft.commit_index == commit


def test_the_leader_counts_itself_only_after_its_own_sync() -> None:
    cluster = Cluster(3)
    raft = cluster.elect(1)
    cluster.propose(1, b"a")
    cluster.deliver((2, 1, AppendEntriesReply(1, 1, True, 2, 0, 0, True)))
    assert raft.commit_index == 1
    cluster.persist(1)
    assert raft.commit_index == 2


def test_two_followers_commit_what_the_leader_has_not_synced() -> None:
    cluster = Cluster(3)
    raft = cluster.elect(1)
    cluster.propose(1, b"a")
    for peer in (2, 3):
        cluster.deliver((peer, 1, AppendEntriesReply(1, 1, True, 2, 0, 0, True)))
    assert raft.commit_index == 2
    assert raft.stable_index == 1


def test_a_sync_of_an_entry_that_was_replaced_since_does_not_count() -> None:
    cluster = voter()
    raft = cluster.members[1].raft
    cluster.deliver((2, 1, AppendEntries(1, 0, 0, 0, 1, [entry(1, 1), entry(2, 1)])))
    cluster.deliver((3, 1, AppendEntries(2, 0, 0, 0, 1, [entry(1, 2), entry(2, 2)])))
    cluster.persist(1, 1)
    assert raft.stable_index == 0
    cluster.persist(1, 1)
    assert raft.stable_index == 2


@pytest.mark.parametrize(("count", "acks"), [(3, 1), (4, 2), (5, 2)])
def test_an_entry_is_committed_by_a_majority_and_not_before(count: int, acks: int) -> None:
    cluster = Cluster(count)
    raft = cluster.elect(1)
    cluster.propose(1, b"a")
    cluster.persist(1)
    for peer in range(2, 2 + acks):
        assert raft.commit_index == 1
        cluster.deliver((peer, 1, AppendEntriesReply(1, 1, True, 2, 0, 0, True)))
    assert raft.commit_index == 2


# Section 7: snapshots


def install(cluster: Cluster, term: int, index: int, entry_term: int) -> None:
    meta = SnapshotMeta(index, entry_term, Members((1, 2, 3)))
    cluster.members[1].state = [(number, 0, b"") for number in range(1, index + 1)]
    cluster.members[1].raft.step(2, InstallSnapshot(term, meta), cluster.now_us)
    cluster.drain(1)


def test_a_snapshot_replaces_a_log_that_lacks_its_last_entry() -> None:
    cluster = voter(log=[1, 1])
    raft = cluster.members[1].raft
    assert raft.accepts_snapshot(2, 5)
    install(cluster, 2, 5, 2)
    assert (raft.first_index, raft.last_index, raft.commit_index) == (6, 5, 5)
    assert cluster.bus == []
    cluster.persist(1)
    assert cluster.bus[0][2].match_index == 5


def test_a_snapshot_leaves_what_follows_an_entry_that_the_log_has() -> None:
    # Figure 13, step 6: what follows may have been acknowledged, and counted.
    cluster = voter(log=[1, 1, 1, 1])
    raft = cluster.members[1].raft
    install(cluster, 1, 2, 1)
    assert (raft.last_index, raft.commit_index, raft.applied_index) == (4, 2, 2)
    ready = raft.ready()
    assert ready is None or not ready.committed


def test_a_snapshot_of_the_past_is_refused() -> None:
    cluster = voter(log=[1, 1])
    raft = cluster.members[1].raft
    ask(cluster, AppendEntries(1, 2, 1, 2, 1, []), sender=2)
    assert not raft.accepts_snapshot(1, 2)
    assert not raft.accepts_snapshot(0, 9)
    install(cluster, 1, 1, 1)
    assert (raft.last_index, raft.commit_index) == (2, 2)


# Section 8: clients


def test_a_new_leader_begins_its_term_with_an_empty_entry_and_serves_once_that_is_committed() -> (
    None
):
    cluster = Cluster(3)
    raft = cluster.members[1].raft
    cluster.campaign(1)
    cluster.deliver((2, 1, PreVoteReply(1, True)))
    cluster.persist(1)
    cluster.deliver((2, 1, RequestVoteReply(1, True)))
    assert raft.role == LEADER
    assert [one.kind for one in raft.log.cache] == [EMPTY]
    assert not raft.can_serve()
    cluster.persist(1)
    cluster.deliver((2, 1, AppendEntriesReply(1, 1, True, 1, 0, 0, True)))
    assert raft.can_serve()


def test_only_the_leader_proposes() -> None:
    cluster = Cluster(3)
    cluster.elect(2)
    with pytest.raises(NotLeader) as refusal:
        cluster.propose(1, b"a")
    assert refusal.value.leader == 2


# Thesis 6.4: reads


def test_a_read_waits_for_an_entry_of_the_leaders_own_term() -> None:
    cluster = Cluster(3)
    raft = cluster.members[1].raft
    cluster.campaign(1)
    cluster.deliver((2, 1, PreVoteReply(1, True)))
    cluster.persist(1)
    cluster.deliver((2, 1, RequestVoteReply(1, True)))
    raft.read(7, cluster.now_us)
    cluster.drain(1)
    cluster.now_us += 60_000
    cluster.tick(1)
    for round_number in (1, 2, 3):
        cluster.deliver((2, 1, HeartbeatReply(1, round_number, True)))
    assert cluster.reads == {}
    cluster.settle()
    assert cluster.reads == {7: 1}


def test_a_read_is_proven_only_by_a_round_that_started_after_it_arrived() -> None:
    cluster = Cluster(3)
    raft = cluster.elect(1)
    cluster.now_us += 60_000
    cluster.tick(1)
    before = sent(cluster, Heartbeat)[0].round
    raft.read(7, cluster.now_us)
    cluster.drain(1)
    cluster.deliver((2, 1, HeartbeatReply(1, before, True)))
    cluster.deliver((3, 1, HeartbeatReply(1, before, True)))
    assert cluster.reads == {}
    cluster.deliver((3, 1, HeartbeatReply(1, before + 1, True)))
    assert cluster.reads == {7: 1}


def test_one_round_proves_all_reads_that_wait() -> None:
    cluster = Cluster(3)
    raft = cluster.elect(1)
    for read_id in range(100):
        raft.read(read_id, cluster.now_us)
    cluster.drain(1)
    assert len(sent(cluster, Heartbeat)) == 2
    cluster.settle()
    assert cluster.reads == dict.fromkeys(range(100), 1)


def test_reads_fail_when_leadership_is_lost() -> None:
    cluster = Cluster(3)
    raft = cluster.elect(1)
    raft.read(7, cluster.now_us)
    cluster.drain(1)
    raft.read(8, cluster.now_us)
    cluster.deliver((2, 1, AppendEntries(5, 0, 0, 0, 1, [])))
    assert cluster.reads == {7: None, 8: None}


# Thesis 6.4.1: leases


def test_a_lease_counts_from_when_the_round_was_sent() -> None:
    cluster = Cluster(3)
    raft = cluster.elect(1)
    cluster.now_us += 400_000
    sent_us = cluster.now_us
    cluster.tick(1)
    assert not raft.lease_valid(sent_us)
    cluster.now_us += 200_000
    cluster.settle()
    length_us = T * 98 // 100
    assert raft.lease_valid(sent_us + length_us - 1)
    assert not raft.lease_valid(sent_us + length_us)


def test_an_answer_to_an_old_round_gives_no_lease_from_a_newer_one() -> None:
    cluster = Cluster(3)
    raft = cluster.elect(1)
    cluster.now_us += 250_000
    cluster.tick(1)
    old = sent(cluster, Heartbeat)[0].round
    old_us = cluster.now_us
    cluster.now_us += 250_000
    cluster.tick(1)
    cluster.deliver((2, 1, HeartbeatReply(1, old, True)))
    assert raft.lease.until_us == old_us + T * 98 // 100


def test_a_lease_needs_an_entry_of_the_own_term() -> None:
    cluster = Cluster(3)
    raft = cluster.members[1].raft
    cluster.campaign(1)
    cluster.deliver((2, 1, PreVoteReply(1, True)))
    cluster.persist(1)
    cluster.deliver((2, 1, RequestVoteReply(1, True)))
    cluster.deliver((2, 1, AppendEntriesReply(1, 1, False, 0, 0, 0, True)))
    assert not raft.lease_valid(cluster.now_us)


def test_the_end_of_a_lease_never_goes_back() -> None:
    cluster = Cluster(5)
    raft = cluster.elect(1)
    until_us = raft.lease.until_us
    for late in (1, 1, 1):
        for peer in (2, 3, 4, 5):
            cluster.deliver((peer, 1, HeartbeatReply(1, late, True)))
            assert raft.lease.until_us >= until_us


def test_a_lease_switched_off_is_never_valid() -> None:
    cluster = Cluster(3, lease_enabled=False)
    raft = cluster.elect(1)
    cluster.run_us(100_000)
    assert not raft.lease_valid(cluster.now_us)


def test_a_voter_refuses_votes_within_a_timeout_of_hearing_a_leader() -> None:
    cluster = voter(log=[1])
    ask(cluster, Heartbeat(1, 1, 0), sender=2)
    cluster.now_us += T - 1
    assert ask(cluster, PreVote(2, 9, 9)) == [PreVoteReply(1, False)]
    assert ask(cluster, RequestVote(2, 9, 9, False)) == []
    assert cluster.members[1].raft.term == 1
    cluster.now_us += 1
    assert ask(cluster, PreVote(2, 9, 9)) == [PreVoteReply(2, True)]
    assert ask(cluster, RequestVote(2, 9, 9, False)) == [RequestVoteReply(2, True)]


def test_a_voter_refuses_votes_within_a_timeout_of_its_restart() -> None:
    cluster = voter()
    cluster.crash(1)
    cluster.restart(1)
    cluster.now_us += T - 1
    assert ask(cluster, PreVote(1, 0, 0)) == [PreVoteReply(0, False)]
    assert ask(cluster, RequestVote(1, 0, 0, False)) == []
    cluster.now_us += 1
    assert ask(cluster, RequestVote(1, 0, 0, False)) == [RequestVoteReply(1, True)]


# Thesis 9.6 and 6.2: pre-vote and check-quorum


def test_a_pre_vote_changes_nobodys_term() -> None:
    cluster = Cluster(3)
    for _ in range(5):
        cluster.campaign(1)
        bus, cluster.bus = cluster.bus, []
        for message in bus:
            cluster.deliver(message)
        # The replica is deaf: what they answer is lost.
        assert sent(cluster, PreVoteReply, to=1) == [PreVoteReply(1, True)] * 2
        cluster.bus.clear()
    assert [member.raft.term for member in cluster.members.values()] == [0, 0, 0]
    assert [member.raft.vote for member in cluster.members.values()] == [0, 0, 0]


def test_a_leader_that_hears_no_quorum_gives_up() -> None:
    cluster = Cluster(5)
    raft = cluster.elect(1)
    start_us = cluster.now_us
    while raft.is_leader:
        cluster.now_us += 10_000
        cluster.tick(1)
        # One of four followers still answers: with the leader that is no majority of five.
        bus, cluster.bus = cluster.bus, []
        for message in bus:
            if 2 in message[:2]:
                cluster.deliver(message)
        assert cluster.now_us - start_us <= 2 * T + 70_000
    assert cluster.now_us - start_us > T
    assert raft.leader == 0


# Thesis 3.10: leadership transfer


def test_a_transfer_ends_the_lease_for_the_rest_of_the_term() -> None:
    cluster = Cluster(3)
    raft = cluster.elect(1)
    assert raft.lease_valid(cluster.now_us)
    raft.transfer(3, cluster.now_us)
    assert not raft.lease_valid(cluster.now_us)
    cluster.drain(1)
    cluster.bus.clear()
    cluster.run_us(3 * T)
    assert (raft.is_leader, raft.term, raft.transfer_to) == (True, 1, 0)
    assert not raft.lease_valid(cluster.now_us)
    cluster.propose(1, b"a")


def test_a_transfer_refuses_proposals_and_waits_for_the_follower_to_have_everything() -> None:
    cluster = Cluster(3)
    raft = cluster.elect(1)
    cluster.propose(1, b"a")
    raft.transfer(3, cluster.now_us)
    cluster.drain(1)
    assert sent(cluster, TimeoutNow) == []
    with pytest.raises(NotLeader):
        cluster.propose(1, b"b")
    cluster.settle()
    assert cluster.members[3].raft.is_leader
    assert cluster.leaders == {1: 1, 2: 3}


def test_a_request_to_campaign_of_an_earlier_term_is_ignored() -> None:
    cluster = Cluster(3)
    cluster.elect(1)
    cluster.elect(2)
    cluster.deliver((1, 3, TimeoutNow(1)))
    assert cluster.members[3].raft.role == FOLLOWER


# Damage (faults.md D7): not in the paper


def test_a_damaged_replica_neither_votes_nor_campaigns() -> None:
    cluster = voter()
    cluster.crash(1)
    cluster.restart(1, damaged=True, must_reach=2, must_term=1)
    raft = cluster.members[1].raft
    cluster.campaign(1)
    assert cluster.bus == []
    assert ask(cluster, PreVote(5, 9, 9)) == [PreVoteReply(0, False)]
    assert ask(cluster, RequestVote(5, 9, 9, True)) == []
    assert raft.term == 0


@pytest.mark.parametrize(
    ("term", "terms", "commit", "healed"),
    [
        (3, [3, 3], 1, False),
        (2, [2, 2], 2, False),
        (3, [2, 2], 2, False),
        (3, [2, 3], 2, True),
        (4, [2, 3, 4], 3, True),
    ],
)
def test_a_damaged_replica_is_whole_once_a_current_leader_brought_it_past_its_promises(
    term: int, terms: list[int], commit: int, healed: bool
) -> None:
    cluster = voter()
    cluster.crash(1)
    cluster.restart(1, damaged=True, must_reach=2, must_term=3)
    entries = [entry(number + 1, one) for number, one in enumerate(terms)]
    [reply] = ask(cluster, AppendEntries(term, 0, 0, commit, 1, entries))
    assert (reply.voting, not cluster.members[1].raft.damaged) == (healed, healed)


def test_a_damaged_follower_is_not_counted_and_is_searched_anew() -> None:
    cluster = Cluster(3)
    raft = cluster.elect(1)
    for data in (b"a", b"b"):
        cluster.propose(1, data)
    cluster.settle()
    cluster.crash(2)
    cluster.crash(3)
    del cluster.members[3].disk.log[1:]
    cluster.restart(3, damaged=True, must_reach=9, must_term=1)
    index, _ = cluster.propose(1, b"c")
    cluster.run_us(400_000)
    assert raft.commit_index == index - 1
    assert cluster.members[3].raft.last_index == index
    assert not raft.progress[3].voting
    cluster.restart(2)
    cluster.run_us(100_000)
    assert raft.commit_index >= index
    # Nobody writes: empty entries bring it past what it owes.
    cluster.run_us(2_000_000)
    # Twice as many each time, as the leader does not know how many it needs.
    assert 10 <= raft.commit_index < 30
    assert raft.progress[3].voting
    assert not cluster.members[3].raft.damaged
