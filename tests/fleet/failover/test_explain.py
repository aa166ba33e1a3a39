"""A decision reads as sentences, with values, rule, and what a person can do."""

from __future__ import annotations

from fleet.failover.explain import RULE_TEXTS, explain
from fleet.failover.records import ActionKind
from fleet.failover.rules import Rule
from tests.fleet.failover.rule_scenarios import SCENARIOS, blast, lawful, store_down
from tests.fleet.failover.watched_fleet import WatchedFleet

FOUR_SENTENCES = """\
node/eu-00 went from healthy to confirmed: the infrastructure's `terminated` is definite \
(infrastructure terminated).
node/eu-00 went from confirmed to fenced: nothing there may be able to write any more \
(infrastructure terminated).
Open an incident for node/eu-00: the infrastructure's `terminated` is definite \
(infrastructure terminated; agents 10).
Move the agents of node/eu-00, 10 agents: the infrastructure's `terminated` is definite \
(infrastructure terminated; agents 10).
"""


def test_every_rule_has_its_half_sentence() -> None:
    """A new rule without one fails here, not at 3 a.m."""
    assert set(RULE_TEXTS) == set(Rule)


def test_a_terminated_node_in_four_sentences() -> None:
    """State by state, then what is done."""
    fleet = WatchedFleet()
    fleet["eu-00"].terminate(fleet.now_s)
    assert explain(fleet.tick())[1:] == FOUR_SENTENCES.splitlines()


def test_a_refusal_says_how_long_and_which_key_to_approve() -> None:
    """The blast radius."""
    fleet = blast(frozenset())
    [sentence] = [line for line in explain(fleet.history[-1][1]) if line.startswith("Did not")]
    assert sentence.startswith("Did not move the agents of node/ap-01: only so many agents")
    assert "limit 30" in sentence
    assert "allowed in" in sentence
    assert "or approve move_node:node/ap-01:" in sentence


def test_a_frozen_controller_says_why() -> None:
    """First sentence of the decision."""
    fleet = store_down(frozenset())
    assert explain(fleet.history[-1][1])[0] == (
        "The controller is frozen: the control store cannot be reached."
    )


def test_every_decision_of_every_history_can_be_told() -> None:
    """No sentence is empty, every one ends, and every action and refusal has a reason."""
    for rule in SCENARIOS:
        for _, decision in lawful(rule).history:
            for line in explain(decision):
                assert line.endswith(".")
            assert all(action.reasons for action in decision.actions)
            assert all(missed.reasons for missed in decision.non_actions)


def test_all_kinds_of_action_occur_in_the_histories() -> None:
    """So that each has been told once."""
    seen = {
        action.kind
        for rule in SCENARIOS
        for _, decision in lawful(rule).history
        for action in decision.actions
    }
    missing = set(ActionKind) - seen
    assert missing <= {ActionKind.REGISTER_NODE, ActionKind.ABORT_FAIL_BACK}
