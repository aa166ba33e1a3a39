"""Budgets: the strictest counts, within a window that rolls."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from fleet.disruption_budgets import (
    Disruption,
    DisruptionBudget,
    allowance,
    parse_count,
    validate_budget,
)
from fleet.errors import InvalidInputError

NOW = datetime(2026, 3, 4, 10, 30, tzinfo=UTC)
HOUR = timedelta(hours=1)


def gone(node_id: str, hours_ago: float, reason: str = "empty", region: str = "us") -> Disruption:
    """A node that was disrupted some hours ago."""
    return Disruption(node_id, region, reason, NOW - hours_ago * HOUR)


@pytest.mark.parametrize(
    ("budgets", "recent", "expected"),
    [
        ([], [], 30),
        ([DisruptionBudget("b", percent=10)], [], 3),
        ([DisruptionBudget("b", percent=11)], [], 4),
        ([DisruptionBudget("b", percent=0.1)], [], 1),
        ([DisruptionBudget("b", nodes=0)], [], 0),
        ([DisruptionBudget("b", nodes=5), DisruptionBudget("c", nodes=2)], [], 2),
        ([DisruptionBudget("b", nodes=3)], [gone("a", 1), gone("b", 23)], 1),
        ([DisruptionBudget("b", nodes=3)], [gone("a", 1), gone("a", 2)], 2),
        ([DisruptionBudget("b", nodes=3)], [gone("a", 24), gone("b", 1, region="eu")], 3),
        ([DisruptionBudget("b", nodes=1)], [gone("a", 1), gone("b", 1)], 0),
        ([DisruptionBudget("b", nodes=0, reasons=("underutilized",))], [], 30),
        (
            [DisruptionBudget("b", nodes=1, reasons=("empty",))],
            [gone("a", 1, "underutilized")],
            1,
        ),
        ([DisruptionBudget("b", nodes=0, schedule="0 9 * * 3", duration_s=7200)], [], 0),
        ([DisruptionBudget("b", nodes=0, schedule="0 9 * * 3", duration_s=5400)], [], 30),
        ([DisruptionBudget("b", nodes=0, schedule="0 9 * * 4", duration_s=7200)], [], 30),
    ],
)
def test_the_strictest_budget_that_holds_counts(
    budgets: list[DisruptionBudget], recent: list[Disruption], expected: int
) -> None:
    """Percentages round up; other regions, other reasons and older disruptions do not count."""
    found = allowance(budgets, "us", 30, "empty", recent, NOW)
    assert found.nodes == expected, found.reason
    assert (found.reason == "no budget holds now") == (expected == 30)


@pytest.mark.parametrize(
    ("text", "expected"), [("5", (5, None)), ("0", (0, None)), ("12.5%", (None, 12.5))]
)
def test_a_count_is_a_number_or_a_percentage(
    text: str, expected: tuple[int | None, float | None]
) -> None:
    """As Karpenter writes them."""
    assert parse_count("nodes", text) == expected


@pytest.mark.parametrize("text", ["", "-1", "101%", "five", "1.5", "%"])
def test_what_is_no_count_is_refused(text: str) -> None:
    """With what is allowed."""
    with pytest.raises(InvalidInputError, match="a whole number from 0, or a percentage"):
        parse_count("nodes", text)


@pytest.mark.parametrize(
    ("budget", "named"),
    [
        (DisruptionBudget("b", 1, reasons=("drifted",)), "reasons"),
        (DisruptionBudget("b", 1, schedule="0 9 * * *"), "duration_hours"),
        (DisruptionBudget("b", 1, schedule="nine", duration_s=1), "schedule"),
    ],
)
def test_a_budget_that_means_nothing_is_refused(budget: DisruptionBudget, named: str) -> None:
    """The field is named."""
    with pytest.raises(InvalidInputError, match=rf"disruption_budgets\.b\.{named}"):
        validate_budget(budget)


def test_a_budget_that_means_something_is_taken_as_it_is() -> None:
    """With and without a schedule."""
    for budget in (
        DisruptionBudget("b", 1, reasons=("empty", "underutilized")),
        DisruptionBudget("b", percent=5.0, schedule="0 9 * * 1-5", duration_s=3600),
    ):
        assert validate_budget(budget) is budget
