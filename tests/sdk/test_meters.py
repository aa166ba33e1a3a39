"""Counters of an agent's process, as they travel."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resources.local import agent_meters
from resources.local.agent_meters import parse_meters
from stateroom_agent.meters import BOUNDS_S, OTHER, TOOLS_MAX, Meters

DURATIONS = st.lists(st.tuples(st.floats(0, 100), st.booleans()), max_size=30)


@given(DURATIONS, DURATIONS, st.integers(0, 1000))
def test_what_was_counted_is_what_the_node_reads(
    tasks: list[tuple[float, bool]], calls: list[tuple[float, bool]], sessions: int
) -> None:
    """Nothing is lost between the SDK's counters and the node's record of them."""
    meters = Meters()
    meters.set_active_sessions(sessions)
    for duration_s, ok in tasks:
        meters.count_task(duration_s, ok=ok)
    for duration_s, ok in calls:
        meters.count_request(duration_s, ok=ok)
        meters.count_tool_call("mcp", "search", duration_s, ok=ok)
    read = parse_meters(meters.take_changed())
    assert read.tasks is not None
    assert read.tasks.done == len(tasks)
    assert read.tasks.errors == sum(not ok for _, ok in tasks)
    assert read.tasks.total_s == pytest.approx(sum(duration_s for duration_s, _ in tasks))
    assert (read.requests is None) == (not calls)
    assert sum(work.done for work in read.tools.values()) == len(calls)
    assert read.active_sessions == sessions


def test_both_sides_have_the_same_buckets() -> None:
    """The SDK cannot import the node's constants, so a test holds them together."""
    assert BOUNDS_S == agent_meters.BOUNDS_S
    assert agent_meters.TOOLS_MAX == TOOLS_MAX + 1


def test_a_duration_at_a_bound_belongs_to_that_bucket() -> None:
    """As Prometheus' `le` says: less or equal."""
    meters = Meters()
    meters.count_task(0.2)
    meters.count_task(0.2000001)
    meters.count_task(99.0)
    taken = meters.take_changed()
    assert taken is not None
    assert taken["tasks"]["durations"] == [0, 0, 0, 0, 0, 1, 1, 0, 0, 0, 0, 1]


def test_counters_travel_only_after_a_change() -> None:
    """And are whole each time, so that a lost report costs nothing."""
    meters = Meters()
    assert meters.take_changed() is None
    meters.count_task(0.1)
    first = meters.take_changed()
    assert first is not None
    assert meters.take_changed() is None
    meters.count_task(0.1, ok=False)
    second = meters.take_changed()
    assert second is not None
    assert (second["tasks"]["count"], second["tasks"]["errors"]) == (2, 1)


def test_tools_beyond_the_bound_are_added_up_as_other() -> None:
    """An agent that invents tool names cannot make series without end."""
    meters = Meters()
    for number in range(TOOLS_MAX + 10):
        meters.count_tool_call("mcp", f"tool-{number}", 0.1)
    read = parse_meters(meters.take_changed())
    assert len(read.tools) == TOOLS_MAX + 1
    assert read.tools[OTHER].done == 10
