"""Sums over agents that come and go never fall, and count each piece of work once."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from resources.local.agent_meters import AgentMeters, Work
from resources.local.work_totals import OTHER, TOOLS_MAX, ToolKey, WorkloadKey, WorkTotals

KEY = WorkloadKey("net", "watch")
LIVES = st.lists(st.lists(st.integers(0, 5), min_size=1, max_size=6), min_size=1, max_size=5)
"""Processes one after the other; each reports some further tasks at a time."""


def _work(count: int) -> Work:
    return Work(count, count // 2, count / 4, (count, *[0] * 15))


@given(LIVES)
def test_what_processes_did_one_after_the_other_is_added_up(lives: list[list[int]]) -> None:
    """A new process begins at 0, and takes nothing away from what earlier ones did."""
    totals, seen = WorkTotals(), 0
    for life in lives:
        before, count = AgentMeters(), 0
        for more in life:
            count += more
            after = AgentMeters(tasks=_work(count), tools={("mcp", "x"): _work(count)})
            totals.add(KEY, before, after)
            before = after
            assert totals.tasks[KEY].done >= seen
            seen = totals.tasks[KEY].done
    done = sum(sum(life) for life in lives)
    assert totals.tasks[KEY].done == done
    assert totals.tasks[KEY].durations[0] == done
    assert totals.tools[ToolKey("net", "mcp", "x")].done == done


def test_the_same_report_twice_counts_once() -> None:
    """A heartbeat that is repeated brings nothing new."""
    totals = WorkTotals()
    first = AgentMeters(requests=_work(4))
    totals.add(KEY, AgentMeters(), first)
    totals.add(KEY, first, first)
    assert totals.requests[KEY].done == 4


def test_tools_beyond_the_bound_are_added_up_as_other() -> None:
    """A node has bounded series, whatever its agents call."""
    totals = WorkTotals()
    for number in range(TOOLS_MAX + 7):
        totals.add(KEY, AgentMeters(), AgentMeters(tools={("mcp", f"t-{number}"): _work(1)}))
    assert len(totals.tools) == TOOLS_MAX + 1
    assert totals.tools[ToolKey("net", OTHER, OTHER)].done == 7
