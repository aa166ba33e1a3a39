"""Policies that exist are consistent; the shipped bounds are those that the documents state."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path

import pytest

from fleet.errors import InvalidInputError
from fleet.failover.policy import FailBackMode, FailoverPolicy, Mode, RegionMode
from fleet.failover.profiles import EMBEDDED, PRODUCTION, bounds, profile

DOCUMENT = Path(__file__).parents[3] / "docs" / "guarantees.md"


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"tick_interval_s": 0.0}, "tick_interval_s"),
        ({"confirm_s": -1.0}, "confirm_s"),
        ({"blast_fraction": 1.5}, "blast_fraction"),
        ({"mass_loss_fraction": 0.0}, "mass_loss_fraction"),
        ({"suspect_min_s": float("nan")}, "suspect_min_s"),
        ({"suspect_min_s": 100.0}, "suspect_min_s"),
        ({"contrary_fresh_s": 31.0}, "contrary_fresh_s"),
        ({"probation_s": 4000.0}, "probation_s"),
        ({"observers_min": 0}, "observers_min"),
        ({"fail_back_hours_utc": (16, 8)}, "fail_back_hours_utc"),
        ({"fail_back_weekdays": (7,)}, "fail_back_weekdays"),
    ],
)
def test_a_policy_that_contradicts_itself_is_refused_by_name(
    change: dict[str, object], field: str
) -> None:
    """The error names the field."""
    with pytest.raises(InvalidInputError) as caught:
        replace(PRODUCTION, **change)  # type: ignore[arg-type]
    assert caught.value.field == field


def test_modes_hold_for_all_regions_but_those_named() -> None:
    """Per region overrides."""
    policy = FailoverPolicy(node_modes={"eu": Mode.OBSERVE}, region_modes={"eu": RegionMode.OFF})
    assert (policy.node_mode_in("eu"), policy.node_mode_in("us")) == (Mode.OBSERVE, Mode.AUTO)
    assert policy.region_mode_of("eu") is RegionMode.OFF
    assert policy.region_mode_of("us") is RegionMode.APPROVE


def test_the_shipped_profiles_have_the_numbers_of_the_design() -> None:
    """`production` waits minutes and asks before a region; `embedded` waits seconds."""
    assert bounds(PRODUCTION)._asdict() == {
        "suspect_s": 35.0,
        "confirmed_s": 70.0,
        "fenced_s": 70.0,
        "move_s": 70.0,
        "move_terminated_s": 5.0,
        "region_s": 160.0,
        "region_terminated_s": 130.0,
    }
    assert bounds(EMBEDDED, 1.0).move_s == 9.0
    assert bounds(EMBEDDED, 1.0).region_terminated_s == 7.0
    assert (PRODUCTION.region_mode, EMBEDDED.region_mode) == (RegionMode.APPROVE, RegionMode.AUTO)
    assert PRODUCTION.fail_back_mode is EMBEDDED.fail_back_mode is FailBackMode.MANUAL


def test_profiles_are_found_by_name() -> None:
    """An unknown one names those that there are."""
    assert profile("production") is PRODUCTION
    assert profile("embedded") is EMBEDDED
    with pytest.raises(InvalidInputError, match="production or embedded"):
        profile("fast")


def test_every_number_is_documented_with_both_shipped_values() -> None:
    """A line per field in docs/guarantees.md, with the values as they are."""
    text = DOCUMENT.read_text("utf-8")
    for item in fields(FailoverPolicy):
        shown = [_shown(getattr(policy, item.name)) for policy in (PRODUCTION, EMBEDDED)]
        line = f"| `{item.name}` | {shown[0]} | {shown[1]} |"
        assert line in text, line


def _shown(value: object) -> str:
    if isinstance(value, tuple):
        return "-".join(str(part) for part in value) if len(value) == 2 else f"{len(value)} days"
    if isinstance(value, dict):
        return "none"
    return f"{value:g}" if isinstance(value, float) else str(value)
