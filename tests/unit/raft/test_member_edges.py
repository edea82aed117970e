"""What only shows at the edges of a change of members."""

import pytest

from quoit.base.ids import NodeId
from quoit.quorum.agreement import CONFIG, EMPTY, Entry, SnapshotMeta
from quoit.quorum.members import Members, encode_members
from quoit.raft.messages import AppendEntries, InstallSnapshot, RequestVote
from tests.golden.raft.cluster import Cluster

T = 300_000


def leader_alone() -> Cluster:
    """1 leads by itself; 2 was removed and 3 is a learner."""
    cluster = Cluster(3, voters=2)
    cluster.elect(1)
    cluster.change(1, Members((1, 2), (3,)))
    cluster.settle()
    cluster.change(1, Members((1,), (3,)))
    cluster.settle()
    cluster.tick(1)
    cluster.settle()
    return cluster


def test_a_leader_that_is_alone_refuses_whoever_asks_for_its_vote() -> None:
    cluster = leader_alone()
    raft = cluster.members[1].raft
    # The learner is silent, and so nothing was heard for long.
    cluster.now_us += 5 * T
    last = raft.last_index
    cluster.deliver((2, 1, RequestVote(raft.term + 1, last, raft.term, False)))
    assert raft.is_leader and raft.term == 1


def test_a_learner_never_campaigns_and_its_leader_stays_without_it() -> None:
    cluster = leader_alone()
    cluster.crash(1)
    cluster.now_us += 5 * T
    for _ in range(5):
        cluster.now_us += 2 * T
        cluster.tick(3)
    assert cluster.members[3].raft.term == 1
    assert not cluster.bus


def test_later_changes_in_the_log_outlive_a_snapshot_that_ends_before_them() -> None:
    cluster = Cluster(2, voters=2)
    raft = cluster.members[1].raft
    first, later = Members((1, 2)), Members((1, 2), (3,))
    # Neither effect was taken from the core yet when the second snapshot comes.
    raft.step(2, InstallSnapshot(1, SnapshotMeta(3, 1, first)), cluster.now_us)
    entries = [Entry(4, 1, EMPTY, b""), Entry(5, 1, CONFIG, encode_members(later))]
    raft.step(2, AppendEntries(1, 3, 1, 3, 1, entries), cluster.now_us)
    raft.step(2, InstallSnapshot(1, SnapshotMeta(4, 1, first)), cluster.now_us)
    assert raft.last_index == 5
    assert raft.members == later


def test_the_heir_of_a_removed_leader_is_sound() -> None:
    cluster = Cluster(3)
    raft = cluster.elect(1)
    raft.progress[NodeId(2)].voting = False
    cluster.change(1, Members((2, 3)))
    raft.progress[NodeId(2)].voting = True
    cluster.settle()
    assert raft.commit_index == raft.last_index
    raft.progress[NodeId(2)].voting = False
    cluster.tick(1)
    assert [to for _, to, one in cluster.bus if type(one).__name__ == "TimeoutNow"] == [3]


@pytest.mark.parametrize(
    "data", [b"", b"\xc1", encode_members(Members(())), b"\x92\x92\x01\x01\x90"]
)
def test_members_that_cannot_be_read_change_nothing(data: bytes) -> None:
    cluster = Cluster(2)
    raft = cluster.members[1].raft
    entries = [Entry(1, 1, EMPTY, b""), Entry(2, 1, CONFIG, data)]
    raft.step(2, AppendEntries(1, 0, 0, 0, 1, entries), cluster.now_us)
    assert (raft.last_index, raft.members, raft.ready()) == (0, Members((1, 2)), None)
