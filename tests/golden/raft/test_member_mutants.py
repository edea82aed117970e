"""The rules of a change of members are load-bearing: without any one of them a script ends otherwise."""

from pathlib import Path

import pytest

from quoit.sim.mutant_table import Mutant
from quoit.sim.mutants import applied

from .language import render

SCRIPTS = Path(__file__).parent / "scripts"
MEMBERSHIP = "quoit.raft.membership"


def patch(name: str, module: str, function: str, old: str, new: str) -> Mutant:
    return Mutant(
        id=name, what=name, module=module, function=function, old=old, new=new, checks="SCRIPT"
    )


MUTANTS = [
    (
        "member_bad_schedules",
        patch(
            "xM1-next-change-before-the-first-is-committed",
            MEMBERSHIP, "change", "core.configs[-1][0] > core.commit_index", "False",
        ),
    ),
    (
        "member_bad_schedules",
        patch(
            "xM2-change-before-an-entry-of-the-own-term-is-committed",
            MEMBERSHIP, "change", "core.commit_index < core.term_start", "False",
        ),
    ),
    (
        "member_bad_schedules",
        patch("two-voters-at-once", MEMBERSHIP, "change", "len(different) > 1", "False"),
    ),
    (
        "member_replace",
        patch(
            "xM3-learner-is-counted",
            "quoit.raft.core", "Core.count_voters", "if peer in voters", "if peer",
        ),
    ),
    (
        "member_leader_removed",
        patch(
            "xM3-removed-leader-counts-itself",
            "quoit.raft.replication", "maybe_commit", "if core.id in core.members.voters:",
            "if True:",
        ),
    ),
    (
        "member_truncated",
        patch(
            "members-outlive-their-entry",
            "quoit.raft.follower", "_truncate", "core.drop_configs(index)", "pass",
        ),
    ),
    (
        "member_truncated",
        patch(
            "members-in-the-log-are-forgotten-by-a-restart",
            "quoit.raft.core", "Core.__init__", "if entry.kind == CONFIG and", "if False and",
        ),
    ),
    (
        "member_snapshot",
        patch(
            "a-snapshot-does-not-bring-its-members",
            "quoit.raft.snapshot", "on_install", "core.configs = [(meta.index, meta.members), *later]",
            "pass",
        ),
    ),
    (
        "member_leader_removed",
        patch(
            "a-removed-replica-never-campaigns",
            "quoit.raft.election", "_may_campaign", "len(core.configs) > 1 and", "False and",
        ),
    ),
    (
        "member_two_three_one",
        patch(
            "reads-wait-for-who-was-removed",
            MEMBERSHIP, "settle", "if core.alone and", "if False and",
        ),
    ),
    (
        "member_two_three_one",
        patch(
            "a-leader-is-deposed-by-its-second-voter",
            "quoit.raft.core", "Core.set_members", "if was_alone:", "if False:",
        ),
    ),
]  # fmt: skip


@pytest.mark.source_text
@pytest.mark.parametrize(("script", "mutant"), MUTANTS, ids=lambda one: getattr(one, "id", one))
def test_without_the_rule_the_script_ends_otherwise(script: str, mutant: Mutant) -> None:
    text = (SCRIPTS / f"{script}.txt").read_text()
    assert render(text) == text
    with applied(mutant):
        try:
            found = render(text)
        except AssertionError:
            return
        assert found != text
