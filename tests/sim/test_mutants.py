"""Deliberate bugs are caught. All of them: `quoit sim mutants`; here those that show at once."""

import inspect

import pytest

from quoit.raft import election
from quoit.sim.mutants import MUTANTS, applied, hunt

QUICK = {"xR1": 5, "xR2": 2, "xR8": 5, "xS3": 8, "xR12a": 1}


@pytest.mark.source_text
@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.id)
def test_patch_applies_and_is_taken_back(mutant: object) -> None:
    with applied(mutant):  # type: ignore[arg-type]
        pass


@pytest.mark.source_text
def test_a_patch_changes_what_runs_and_only_inside() -> None:
    mutant = next(one for one in MUTANTS if one.id == "xL4")
    before = election.refuses_votes.__code__
    with applied(mutant):
        assert election.refuses_votes.__code__ is not before
    assert election.refuses_votes.__code__ is before
    assert "return False" not in inspect.getsource(election.refuses_votes)


@pytest.mark.source_text
@pytest.mark.parametrize("name", QUICK)
def test_mutant_is_caught(name: str) -> None:
    mutant = next(one for one in MUTANTS if one.id == name)
    catch = hunt(mutant, QUICK[name])
    assert catch.result is not None, catch.line()
    assert catch.result.failure is not None


def test_ids_are_unique() -> None:
    names = [mutant.id for mutant in MUTANTS]
    assert len(set(names)) == len(names)
