"""Small alerts, rules and vectors for the tests of their lives."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from fleet.alerts.rules import AlertingRule
from fleet.alerts.sending import SentAlert
from fleet.alerts.states import AlertProgram, RuleState, compile_rule, evaluate_rule
from fleet.metrics.labels import Labels
from fleet.metrics.vectors import InstantVector

MINUTE_MS = 60_000


def labels(**named: str) -> Labels:
    """Labels in their order."""
    return tuple(sorted(named.items()))


def program(for_ms: int = 0, keep_ms: int = 0, **words: str) -> AlertProgram:
    """A rule `A` on `x > 0`."""
    return compile_rule(AlertingRule("A", "x > 0", for_ms, keep_ms, (), labels(**words)))


def vector(at_ms: int, values: Mapping[str, float]) -> InstantVector:
    """One element for each job."""
    elements = [labels(__name__="x", job=job) for job in values]
    return InstantVector(elements, np.array(list(values.values()), np.float64), at_ms)


def evaluated(rule: AlertProgram, state: RuleState, at_ms: int, *jobs: str) -> RuleState:
    """The state after an evaluation that finds these jobs."""
    outcome = evaluate_rule(rule, state, vector(at_ms, dict.fromkeys(jobs, 1.0)))
    assert outcome.error is None
    return outcome.state


def sent(job: str, starts_min: float, ends_min: float, name: str = "A") -> SentAlert:
    """An alert of a job that fires from a minute to another."""
    return SentAlert(
        labels(alertname=name, job=job),
        labels(summary=f"{job} fails", runbook_url="docs/x.md"),
        int(starts_min * MINUTE_MS),
        int(ends_min * MINUTE_MS),
    )
