"""What is left behind is listed with size, age and reason; what is held says so."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from fleet.cleanup import (
    AgentActivity,
    CleanupPolicy,
    Orphan,
    find_idle_agents,
    plan_cleanup,
)
from fleet.costs.checks import check_cleanup
from fleet.inventory import AgentPhase
from tests.fleet.inventory_records import NOW, an_agent

POLICY = CleanupPolicy(keep=("precious", "lab-*"))
OLD = NOW - timedelta(days=10)
IDLE = {"a1": AgentActivity(0.0, 0.0001)}


def orphan(subject: str = "gone", **changes: Any) -> Orphan:
    """A state that nobody has written for ten days."""
    return Orphan("retired_state", subject, "us", 100, OLD, "no agent")._replace(**changes)


def test_the_largest_comes_first_and_what_is_young_does_not_come() -> None:
    """Seven days old to the second counts."""
    young = NOW - timedelta(days=7) + timedelta(seconds=1)
    found = plan_cleanup(
        [
            orphan("small", size_bytes=1),
            orphan("large", size_bytes=9),
            orphan("young", newest_at=young),
            orphan("just", newest_at=young - timedelta(seconds=1)),
        ],
        POLICY,
        0.5,
        NOW,
    )
    assert [one.subject for one in found] == ["just", "large", "small"]
    assert found[1].saving_per_hour == 4.5
    assert found[1].reason == "no agent; last written 10 days ago"
    assert found[1].age_s == 10 * 86_400


def test_ids_are_those_of_the_last_look_and_tell_things_apart() -> None:
    """Kind, region and name make an id, sizes and ages do not."""
    first = plan_cleanup([orphan(), orphan(region="eu")], POLICY, 0.0, NOW)
    again = plan_cleanup([orphan(size_bytes=5), orphan(region="eu")], POLICY, 0.0, NOW)
    assert {one.proposal_id for one in first} == {one.proposal_id for one in again}
    assert len({one.proposal_id for one in first}) == 2


@pytest.mark.parametrize(
    ("subject", "held"),
    [("precious", True), ("precious-2", False), ("lab-7", True), ("lab", False)],
)
def test_a_name_that_is_kept_is_held_and_says_by_what(subject: str, held: bool) -> None:
    """Held things do not fail the check."""
    (found,) = plan_cleanup([orphan(subject)], POLICY, 0.0, NOW)
    assert (found.held, "held by" in found.reason) == (held, held)
    assert check_cleanup([found]).passed == held


@pytest.mark.parametrize(
    ("agent", "activities", "written", "idle"),
    [
        ({}, IDLE, {}, True),
        ({}, IDLE, {"a1": OLD}, True),
        ({}, {"a1": AgentActivity(0.0, None)}, {}, True),
        ({}, {"a1": AgentActivity(None, 0.0)}, {}, True),
        ({}, {"a1": AgentActivity(3.0, 0.0)}, {}, False),
        ({}, {"a1": AgentActivity(0.0, 0.5)}, {}, False),
        ({}, {"a1": AgentActivity(None, None)}, {}, False),
        ({}, {}, {}, False),
        ({}, IDLE, {"a1": NOW}, False),
        ({"started_at": NOW - timedelta(hours=71)}, IDLE, {}, False),
        ({"started_at": None}, IDLE, {}, False),
        ({"phase": AgentPhase.STOPPED}, IDLE, {}, False),
    ],
)
def test_an_agent_is_idle_when_everything_that_was_measured_says_so(
    agent: dict[str, Any], activities: dict[str, AgentActivity], written: dict[str, Any], idle: bool
) -> None:
    """One that is young, wrote, worked, or was not measured is not."""
    one = an_agent(**{"started_at": OLD, **agent})
    found = find_idle_agents([one], activities, written, {"a1": 0.25}, POLICY, NOW)
    assert bool(found) == idle
    if found:
        assert found[0].saving_per_hour == 0.25
        assert found[0].reason.endswith("in 72 h")
