"""Ticks add up to events, and alerts are raised for changes only."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from fleet.backup_tables import JournalReach
from fleet.journal_ticks import EVENT_EVERY, add_reach, is_event_due
from fleet.recovery_alerts import changed_alerts
from fleet.rpo_alert import Burn, RpoAlert

AT = datetime(2026, 11, 20, 14, tzinfo=UTC)
ONE = JournalReach("net", "eu", AT, 1, 2, 30, ("a",), "begins", "", AT)


def test_counts_of_ticks_add_up_and_the_rest_is_of_the_newest() -> None:
    """A gap of an earlier tick is not hidden by a later one that has none."""
    later = ONE._replace(covered_until=None, damaged=("b",), gap="", fault="away", segments=4)
    both = add_reach(add_reach(None, ONE), later)
    assert (both.segments, both.agents, both.stored_bytes) == (5, 4, 60)
    assert (both.damaged, both.gap, both.fault) == (("a", "b"), "begins", "away")
    assert both.covered_until is None


def test_an_event_waits_for_its_minute_and_for_something_to_tell() -> None:
    """The first is told at once."""
    assert is_event_due(None, [ONE], AT)
    assert not is_event_due(None, [], AT)
    assert not is_event_due(AT, [ONE], AT + EVENT_EVERY - timedelta(seconds=1))
    assert is_event_due(AT, [ONE], AT + EVENT_EVERY)


def test_an_alert_is_raised_for_each_change_and_for_nothing_else() -> None:
    """From met over about to burn and missed to met: three alerts; a look without change: none."""
    memory: dict[str, str] = {}
    told = []
    steps = [Burn.MET, Burn.ABOUT_TO_BURN, Burn.ABOUT_TO_BURN, Burn.MISSED, Burn.MET, Burn.MET]
    for burn in steps:
        alerts, memory = changed_alerts(memory, {"x": RpoAlert(burn, None, "why")}, AT)
        told += [alert.severity for alert in alerts]
    assert told == ["warn", "error", "resolved"]
    assert memory == {}


def test_a_subject_that_is_gone_is_forgotten_without_a_word() -> None:
    """Its network is no longer declared."""
    assert changed_alerts({"x": Burn.MISSED.value}, {}, AT) == ([], {})
