"""The invariant checker is awake: each rule, switched off, breaks a promise that it notices."""

from __future__ import annotations

import numpy as np
import pytest

from fleet.failover.columns import NodeColumns
from fleet.failover.invariants import InvariantChecker, LiveCopy
from fleet.failover.limit_checks import Violation
from fleet.failover.policy import FailoverPolicy
from fleet.failover.profiles import PRODUCTION
from fleet.failover.records import Decision, Evidence
from fleet.failover.rules import Rule
from fleet.failover.witness import Survey, Witness
from tests.fleet.failover import watched_fleet
from tests.fleet.failover.rule_scenarios import NO_LIMIT, SCENARIOS, lawful
from tests.fleet.failover.test_random_search import _search


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


class _ReadsAll(Witness):
    """Reads every node row by row: nobody is plainly well."""

    def _look_over(self, nodes: NodeColumns) -> Survey:
        size = len(nodes)
        return Survey(nodes, np.zeros(size, bool), list(range(size)), [0] * len(nodes.regions))


class _TwoCheckers(InvariantChecker):
    """A checker beside its dumb twin, which passes over nobody; compared after each tick."""

    def __init__(self, policy: FailoverPolicy) -> None:
        super().__init__(policy)
        self.twin = InvariantChecker(policy)
        self.twin.witness = _ReadsAll(policy)

    def observe(self, evidence: Evidence, decision: Decision, now_s: float) -> list[Violation]:
        found = super().observe(evidence, decision, now_s)
        assert found == self.twin.observe(evidence, decision, now_s)
        for name, history in vars(self.twin).items():
            if name not in {"witness", "policy", "_rows"}:
                assert vars(self)[name] == history, name
        for name in ("ages_from_s", "watch_from_s", "unusable_s", "maintained", "tick_s"):
            assert getattr(self.witness, name) == getattr(self.twin.witness, name), name
        return found


@pytest.mark.parametrize("seed", range(7000, 7010))
def test_passing_over_nodes_that_are_well_loses_nothing(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In random histories the twin that reads every row keeps the same and finds the same."""
    monkeypatch.setattr(watched_fleet, "InvariantChecker", _TwoCheckers)
    _search(seed)


@pytest.mark.parametrize("rule", list(SCENARIOS))
def test_broken_promises_are_found_without_reading_every_node(
    rule: Rule, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same where a rule is switched off, and promises are broken."""
    monkeypatch.setattr(watched_fleet, "InvariantChecker", _TwoCheckers)
    scenario, _ = SCENARIOS[rule]
    assert scenario(frozenset({rule})).violations
