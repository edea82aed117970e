"""Majority arithmetic against slow twins that count subsets."""

from itertools import combinations, product

import pytest

from quoit.quorum.majority import VoteResult, agreed_value, quorum_size, vote_result


@pytest.mark.parametrize("voters", range(1, 10))
def test_any_two_quorums_intersect_and_no_smaller_size_does(voters: int) -> None:
    size = quorum_size(voters)
    assert 2 * size > voters
    assert 2 * (size - 1) <= voters


@pytest.mark.parametrize("voters", range(1, 6))
def test_the_agreed_value_is_the_greatest_that_some_quorum_has_reached(voters: int) -> None:
    size = quorum_size(voters)
    for values in product(range(4), repeat=voters):
        slow = max(min(group) for group in combinations(values, size))
        assert agreed_value(list(values), size) == slow


@pytest.mark.parametrize("voters", range(1, 6))
def test_a_vote_is_decided_exactly_when_the_missing_answers_cannot_change_it(voters: int) -> None:
    size = quorum_size(voters)
    for answers in product((True, False, None), repeat=voters):
        votes = {node + 1: answer for node, answer in enumerate(answers) if answer is not None}
        least = sum(answer is True for answer in answers)
        most = voters - sum(answer is False for answer in answers)
        if least >= size:
            expected = VoteResult.WON
        elif most < size:
            expected = VoteResult.LOST
        else:
            expected = VoteResult.PENDING
        assert vote_result(votes, voters) is expected
