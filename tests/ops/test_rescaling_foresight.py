"""Forecasts from the decisions in the lake: asked once an hour, and only where they are wished."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from fleet.errors import LakeUnavailableError
from fleet.rescaling.declaration import RescalingDeclaration
from fleet.rescaling.policy import PredictiveFloor
from fleet.rescaling.tables import SCALING_DECISIONS, ScalingDecisionRow
from ops.rescaling_foresight import Forecasts
from resources.lake.records import to_table
from tests.fakes.lake import InMemoryLake
from tests.ops.scaling_world import scaling

NOW = datetime(2026, 3, 30, 12, tzinfo=UTC)
"""A Monday."""


def row(at: datetime, load: float | None, ready: int = 2) -> ScalingDecisionRow:
    """A look at chat in eu."""
    return ScalingDecisionRow(
        1, "chat", "eu", "auto", at, at, 1, ready, ready, 1, 9, ready, load, "", "unchanged",
        "why", "{}",
    )  # fmt: skip


def declared(predictive: PredictiveFloor | None) -> RescalingDeclaration:
    """One workload."""
    return RescalingDeclaration(("eu",), {"chat": scaling(predictive=predictive)})


def test_what_the_same_hour_of_the_last_weeks_needed_is_foreseen() -> None:
    """Load by target times ready agents; a look without a load says nothing."""
    lake = InMemoryLake()
    rows = []
    for hours in range(1, 5 * 7 * 24):
        at = NOW - timedelta(hours=hours)
        busy = at.hour == 9
        rows += [row(at, 3.0 if busy else 0.5), row(at + timedelta(minutes=5), None, 50)]
    lake.write(SCALING_DECISIONS, "fleet", to_table(rows, ScalingDecisionRow), NOW)
    opened = 0

    def open_lake() -> Any:
        nonlocal opened
        opened += 1
        return lake

    forecasts = Forecasts(open_lake, declared(PredictiveFloor()))
    made = forecasts.of(("chat", "eu"), NOW)
    assert made is not None
    assert made.off == ""
    assert made.floors[9] == 6
    assert made.floors[10] == 1
    assert forecasts.of(("chat", "us"), NOW + timedelta(minutes=59)) is None
    assert opened == 1
    forecasts.of(("chat", "eu"), NOW + timedelta(hours=1))
    assert opened == 2


def test_nobody_is_asked_where_nobody_wishes_for_it() -> None:
    """And without a lake there is no forecast."""

    def fail() -> Any:
        raise AssertionError("asked")

    assert Forecasts(fail, declared(None)).of(("chat", "eu"), NOW) is None
    assert Forecasts(None, declared(PredictiveFloor())).of(("chat", "eu"), NOW) is None
    assert Forecasts(InMemoryLake, declared(PredictiveFloor())).of(("chat", "eu"), NOW) is None


def test_a_lake_that_cannot_be_read_is_told_and_tried_again() -> None:
    """After five minutes; an earlier forecast stays meanwhile."""

    def fail() -> Any:
        raise LakeUnavailableError("disk full")

    forecasts = Forecasts(fail, declared(PredictiveFloor()))
    assert forecasts.of(("chat", "eu"), NOW) is None
    assert "disk full" in forecasts.problem
