"""The fleet's status: sums over regions, and a finding for each thing that is wrong."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from fleet.circuit_breaker import BreakerPhase, BreakerStatus
from fleet.journal import JournalEntry
from fleet.reports import RegionCounts
from fleet.status import summarize_fleet

NOW = datetime(2026, 3, 1, tzinfo=UTC)
TIMES = st.none() | st.integers(0, 1000).map(lambda s: NOW - timedelta(seconds=s))


@st.composite
def regions(draw: st.DrawFn) -> RegionCounts:
    """Counts as a store could give them."""
    live, silent, pending = (draw(st.integers(0, 5)) for _ in range(3))
    return RegionCounts(
        draw(st.text(min_size=1, max_size=3)),
        live + silent + pending,
        live,
        silent,
        *(draw(st.integers(0, 9)) for _ in range(5)),
        draw(TIMES),
        draw(TIMES),
    )


@given(st.lists(regions(), max_size=5))
def test_the_whole_is_the_sum_of_its_regions(found: list[RegionCounts]) -> None:
    """Every number is added; the oldest report is the oldest of all."""
    status = summarize_fleet(found, [])
    for name in ("nodes", "nodes_live", "nodes_silent", "agents_declared", "agents_running",
                 "agents_failed", "agents_unknown"):  # fmt: skip
        assert getattr(status, name) == sum(getattr(region, name) for region in found)
    times = [region.oldest_report_at for region in found if region.oldest_report_at]
    assert status.oldest_report_at == min(times, default=None)


@given(regions())
def test_a_region_is_well_exactly_when_nothing_of_it_is_silent_failed_or_unknown(
    region: RegionCounts,
) -> None:
    """Nodes that have never reported count only when nobody else reports for the region."""
    nobody_reports = region.nodes > 0 and region.nodes_live == 0
    wrong = nobody_reports or region.nodes_silent or region.agents_failed or region.agents_unknown
    status = summarize_fleet([region], [])
    assert status.healthy == (not wrong)
    assert all(finding.startswith(f"{region.region}: ") for finding in status.findings)


def test_an_unfinished_action_is_a_finding() -> None:
    """With its id, what it is about, and why it was begun."""
    step = JournalEntry("f-1", "fence", "started", "node n1", "no heartbeat", NOW)
    status = summarize_fleet([], iter([step]))
    assert status.incidents == (step,)
    assert status.findings == ("incident f-1: node n1: no heartbeat",)
    assert not status.healthy


def test_a_breaker_that_is_not_closed_is_a_finding() -> None:
    """Whichever process holds it."""
    opened = BreakerStatus("traffic/haproxy", "h/1", BreakerPhase.OPEN, 5, "refused", NOW)
    closed = opened._replace(holder="h/2", phase=BreakerPhase.CLOSED)
    (finding,) = summarize_fleet([], [], [closed, opened]).findings
    assert finding.startswith("traffic/haproxy: circuit open in h/1 since ")
