"""The rules of Paxos are load-bearing: without any of them a script ends otherwise (faults.md, section 3)."""

from pathlib import Path

import pytest

from quoit.base.errors import InvariantViolated
from quoit.sim.mutant_table import Mutant
from quoit.sim.mutants import applied

from .language import render

SCRIPTS = Path(__file__).parent / "scripts"
ELECTION = "quoit.paxos.election"
REPLICATION = "quoit.paxos.replication"


def patch(name: str, module: str, function: str, old: str, new: str) -> Mutant:
    return Mutant(
        id=name, what=name, module=module, function=function, old=old, new=new, checks="SCRIPT"
    )


MUTANTS = [
    (
        "promise_is_durable",
        patch(
            "xP1-a-promise-leaves-before-it-is-durable",
            ELECTION, "on_prepare", "core.send_after_persist(sender, Promise(core.term, True",
            "core.send(sender, Promise(core.term, True",
        ),
    ),
    (
        "promise_is_durable",
        patch(
            "xP1-a-restart-forgets-the-promise",
            "quoit.paxos.core", "Core.__init__", "self.term: Term = hard_state.term",
            "self.term: Term = 0",
        ),
    ),
    (
        "lower_ballot_refused",
        patch(
            "xP2-a-lower-ballot-is-accepted",
            "quoit.paxos.core", "Core.follow", "if term < self.term:", "if False:",
        ),
    ),
    (
        "highest_ballot_wins",
        patch(
            "xP3-the-lowest-ballot-wins", ELECTION, "_become_leader", "rank > known[0]",
            "rank < known[0]",
        ),
    ),
    (
        "transfer",
        patch(
            "xP3-a-new-leader-proposes-its-own",
            ELECTION, "_become_leader", "found = best.get(index)", "found = None",
        ),
    ),
    (
        "gap_is_filled",
        patch(
            "xP4-a-gap-is-left-open",
            ELECTION, "_become_leader", "last = max(best, default=commit)", "last = commit",
        ),
    ),
    (
        "gap_is_filled",
        patch(
            "xP8-a-value-counts-whatever-it-was-built-on",
            "quoit.paxos.values", "Chain.follow", "origin != self.last", "False",
        ),
    ),
    (
        "out_of_order",
        patch(
            "xP4-applied-past-a-gap",
            "quoit.paxos.core", "Core.advance_received", "while index < last and (",
            "while index < last or (",
        ),
    ),
    (
        "duel",
        patch(
            "xP5-two-nodes-make-the-same-ballot",
            "quoit.paxos.core", "Core.next_ballot", ", self.id)", ", 1)",
        ),
    ),
    (
        "live_leader_is_left_alone",
        patch(
            "who-hears-a-leader-promises-to-others",
            ELECTION, "refuses", "now_us - contact_us < core.config.election_timeout_us", "False",
        ),
    ),
    (
        "damaged",
        patch(
            "a-damaged-replica-is-counted",
            REPLICATION, "maybe_choose", "if one.voting and peer in voters", "if peer in voters",
        ),
    ),
    (
        "damaged",
        patch(
            "a-damaged-replica-heals-at-once",
            "quoit.paxos.acceptor", "_check_healed", "core.must_reach <= heal <= core.received", "True",
        ),
    ),
    (
        "write_all",
        patch(
            "xP7-a-majority-is-enough-where-one-replica-may-lead",
            REPLICATION, "maybe_choose", "need = core.quorums.write", "need = 2",
        ),
    ),
    (
        "members",
        patch(
            "xM1-a-change-while-another-is-open",
            "quoit.paxos.paxos", "Paxos.takes_proposals", "and not self.config_pending", "",
        ),
    ),
    (
        "members",
        patch(
            "xM3-a-learner-is-counted",
            REPLICATION, "maybe_choose", "if one.voting and peer in voters", "if one.voting",
        ),
    ),
    (
        "state_is_chosen",
        patch(
            "what-the-engine-holds-is-open-again",
            "quoit.paxos.core", "Core.__init__",
            "self.commit_index: Index = max(applied, first[0], min(chosen, last))",
            "self.commit_index: Index = first[0]",
        ),
    ),
    (
        "stale_below_the_state",
        patch(
            "what-the-log-holds-below-the-state-is-taken-for-chosen",
            "quoit.node.cores", "_paxos", "if applied > max(found.compacted[0], found.chosen):",
            "if False:",
        ),
    ),
    (
        "member_new_leader",
        patch(
            "xM2-a-change-before-an-instance-of-the-own-ballot-is-chosen",
            "quoit.paxos.paxos", "Paxos.change", "if not self.can_serve():", "if False:",
        ),
    ),
    (
        "member_new_leader",
        patch(
            "proposals-go-past-a-change",
            "quoit.paxos.paxos", "Paxos.change", "self.config_pending = self.proposed + 1", "pass",
        ),
    ),
    (
        "member_new_leader",
        patch(
            "the-old-members-decide-behind-an-older-change",
            ELECTION, "_become_leader", "if found is not None and kind_of(found[1]) == CONFIG:",
            "if False:",
        ),
    ),
    (
        "member_zombie",
        patch(
            "a-removed-replica-gets-promises",
            ELECTION, "_could_promise",
            "if sender not in core.members.voters and commit <= core.commit_index:", "if False:",
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
        except (AssertionError, InvariantViolated):
            return
        assert found != text
