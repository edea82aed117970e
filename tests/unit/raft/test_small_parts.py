"""Progress, rounds, leases, read index and configuration, each by itself."""

import pytest

from quoit.base.errors import InvariantViolated
from quoit.quorum.lease import Lease
from quoit.quorum.progress import Mode, Progress
from quoit.quorum.read_index import ReadIndex
from quoit.quorum.rounds import Rounds
from quoit.raft.config import RaftConfig

T = 300_000


def replicating(match: int, window: int = 3) -> Progress:
    progress = Progress(match + 1, window)
    progress.sent(match, 0)
    assert not progress.may_send()
    assert progress.matched(match) == (match > 0)
    assert progress.mode is Mode.REPLICATE
    return progress


def test_a_probe_waits_for_its_answer() -> None:
    progress = Progress(10, 3)
    assert progress.may_send()
    progress.sent(12, 3)
    assert not progress.may_send()
    assert progress.next_index == 10
    assert progress.rejected(9, 4)
    assert (progress.next_index, progress.may_send()) == (5, True)
    progress.check()


def test_the_window_fills_and_drains() -> None:
    progress = replicating(10)
    for last in (12, 13, 17):
        progress.sent(last, 1)
    assert not progress.may_send()
    assert progress.next_index == 18
    assert progress.matched(13)
    assert list(progress.inflight) == [17]
    assert not progress.matched(11)
    assert progress.match_index == 13
    progress.check()


def test_a_rejection_below_the_match_is_stale() -> None:
    progress = replicating(10)
    progress.sent(11, 1)
    assert not progress.rejected(10, 3)
    assert progress.mode is Mode.REPLICATE
    assert progress.rejected(11, 10)
    assert (progress.mode, progress.next_index) == (Mode.PROBE, 11)
    assert not progress.rejected(15, 10)


def test_backing_off_never_goes_below_the_match_and_always_makes_progress() -> None:
    progress = replicating(10)
    progress.sent(20, 10)
    assert progress.rejected(20, 3)
    assert progress.next_index == 11
    fresh = Progress(10, 3)
    prev = 9
    while prev > 0:
        assert fresh.rejected(prev, 1_000)
        assert fresh.next_index - 1 < prev
        prev = fresh.next_index - 1


def test_a_follower_under_snapshot_gets_nothing_until_it_ends() -> None:
    progress = replicating(0)
    progress.need_snapshot()
    assert not progress.may_send()
    assert not progress.rejected(5, 1)
    progress.snapshot_ended(40)
    assert (progress.mode, progress.next_index, progress.may_send()) == (Mode.PROBE, 41, True)
    progress.need_snapshot()
    assert progress.matched(50)
    assert (progress.mode, progress.next_index) == (Mode.REPLICATE, 51)


def test_a_damaged_follower_starts_over_as_often_as_it_says_so() -> None:
    progress = replicating(30)
    progress.distrust(31)
    assert (progress.match_index, progress.voting) == (0, False)
    assert progress.rejected(30, 12)
    progress.matched(20)
    # Its disk lost more: below what it had acknowledged since.
    assert progress.rejected(20, 5)
    assert (progress.match_index, progress.next_index) == (0, 6)


def test_rounds_of_one_moment_are_one_unless_a_new_one_is_started() -> None:
    rounds = Rounds(0, T)
    assert [rounds.at(5), rounds.at(5), rounds.start(5), rounds.at(6)] == [1, 1, 2, 3]


def test_contact_counts_from_the_start_of_the_answered_round_or_before() -> None:
    rounds = Rounds(0, T)
    started = {rounds.start(now_us): now_us for now_us in range(10_000, 60_000, 100)}
    last = 0
    for number in (1, 7, 100, 101, 400):
        assert rounds.quorum_reached(number)
        assert started[number] - T // 512 <= rounds.contact_us <= started[number]
        assert rounds.contact_us >= last
        last = rounds.contact_us
    assert not rounds.quorum_reached(399)
    assert rounds.acknowledged == 400


def test_what_is_remembered_of_rounds_is_bounded() -> None:
    rounds = Rounds(0, T)
    for now_us in range(0, 10 * T, 50):
        rounds.start(now_us)
    assert len(rounds._sent) <= 2048
    assert rounds.quorum_reached(rounds.current)
    assert rounds.contact_us > 10 * T - T // 256


def test_a_lease_never_shrinks_and_never_returns_after_it_was_revoked() -> None:
    lease = Lease(T, 10_000)
    assert not lease.valid(0)
    lease.extend(1_000)
    assert lease.until_us == 1_000 + 294_000
    lease.extend(500)
    assert lease.until_us == 1_000 + 294_000
    assert lease.valid(294_999)
    assert not lease.valid(295_000)
    lease.revoked = True
    lease.extend(10_000)
    assert not lease.valid(20_000)


@pytest.mark.parametrize("ppm", [0, 1_000, 10_000, 50_000, 200_000])
def test_a_lease_ends_before_the_fastest_voter_may_vote(ppm: int) -> None:
    slow, fast = 1 - ppm / 1_000_000, 1 + ppm / 1_000_000
    lease = Lease(T, ppm)
    lease.extend(0)
    # Real time that passes on the leader's slow clock, and on a voter's fast one.
    assert lease.until_us / slow <= T / fast + 1


def test_reads_are_proven_in_order_of_their_rounds() -> None:
    reads = ReadIndex()
    reads.ask(1, 10)
    reads.ask(2, 20)
    reads.begin(5, 100)
    reads.ask(3, 30)
    reads.begin(7, 120)
    reads.ask(4, 40)
    assert reads.proven(4) == []
    assert reads.proven(6) == [(1, 100), (2, 100)]
    assert reads.abandon() == [3, 4]
    assert reads.proven(9) == []


@pytest.mark.parametrize(
    "wrong",
    [
        {"heartbeat_us": 200_000},
        {"heartbeat_us": 0},
        {"drift_ppm": 600_000},
        {"drift_ppm": -1},
        {"inflight_appends_max": 0},
    ],
)
def test_unsafe_settings_are_refused(wrong: dict[str, object]) -> None:
    settings: dict[str, object] = {
        "node_id": 1,
    }
    settings.update(wrong)
    with pytest.raises(InvariantViolated):
        RaftConfig(**settings)  # type: ignore[arg-type]
