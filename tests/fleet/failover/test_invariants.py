"""The invariant checker is awake: each rule, switched off, breaks a promise that it notices."""

from __future__ import annotations

import pytest

from fleet.failover.invariants import InvariantChecker, LiveCopy
from fleet.failover.profiles import PRODUCTION
from fleet.failover.rules import Rule
from tests.fleet.failover.rule_scenarios import NO_LIMIT, SCENARIOS, lawful


def test_every_rule_has_a_history_that_needs_it() -> None:
    """A new rule without a scenario fails here."""
    assert set(SCENARIOS) == set(Rule) - NO_LIMIT


@pytest.mark.parametrize("rule", list(SCENARIOS))
def test_with_all_rules_in_force_no_promise_is_broken(rule: Rule) -> None:
    """The history by itself is harmless."""
    assert lawful(rule).violations == []


@pytest.mark.parametrize("rule", list(SCENARIOS))
def test_without_the_rule_the_checker_names_the_broken_promise(rule: Rule) -> None:
    """The same history, decided without the rule."""
    scenario, promise = SCENARIOS[rule]
    fleet = scenario(frozenset({rule}))
    assert promise in {violation.invariant for violation in fleet.violations}


def test_two_writers_under_one_epoch_are_noticed() -> None:
    """A zombie with a lower epoch is no second writer; a twin is."""
    checker = InvariantChecker(PRODUCTION)
    assert checker.observe_copies([LiveCopy("a", "n1", 3), LiveCopy("a", "n2", 4)]) == []
    twins = checker.observe_copies([LiveCopy("a", "n1", 4), LiveCopy("a", "n2", 4)])
    assert [violation.invariant for violation in twins] == ["one_writer"]
