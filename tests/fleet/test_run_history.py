"""Only what is old and superseded is forgotten, oldest first, so many at a time."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.errors import InvalidInputError
from fleet.run_history import FinishedRun, RunHistoryPolicy, plan_run_pruning
from tests.fleet.inventory_records import NOW

RUNS = st.lists(
    st.builds(
        FinishedRun,
        st.sampled_from("abcdefgh"),
        st.integers(0, 30).map(lambda days: NOW - timedelta(days=days)),
    ),
    unique_by=lambda run: run.run_id,
)


@given(RUNS, st.sets(st.sampled_from("abcdefgh")), st.integers(1, 20), st.integers(1, 5))
def test_exactly_the_oldest_superseded_runs_are_forgotten(
    runs: list[FinishedRun], newest: set[str], keep_days: int, runs_max: int
) -> None:
    """Twin: everything old and not newest, of which the oldest `runs_max` go."""
    policy = RunHistoryPolicy(keep_days, runs_max)
    plan = plan_run_pruning(runs, newest, policy, NOW)
    old = [r for r in runs if NOW - r.created_at > timedelta(days=keep_days)]
    old = [r for r in old if r.run_id not in newest]
    assert len(plan) == min(len(old), runs_max)
    assert set(plan) <= set(old)
    kept = set(old) - set(plan)
    assert all(gone.created_at <= stays.created_at for gone in plan for stays in kept)


@pytest.mark.parametrize(("keep_days", "runs_max"), [(0, 1), (1, 0)])
def test_a_policy_that_forgets_at_once_or_never_is_refused(keep_days: int, runs_max: int) -> None:
    """Values start at 1."""
    with pytest.raises(InvalidInputError):
        RunHistoryPolicy(keep_days, runs_max)
