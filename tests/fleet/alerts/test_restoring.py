"""`for` after a restart: the time away does not count, and nothing fires too soon."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.alerts.restoring import RestorePolicy, WaitedAlert, restore_waiting
from fleet.alerts.states import AlertState, RuleState
from fleet.errors import InvalidInputError
from tests.fleet.alerts.alerts import MINUTE_MS, evaluated, labels, program

POLICY = RestorePolicy()
JOB = labels(alertname="A", job="a")


def restored_ms(for_min: int, waited: WaitedAlert, now_ms: int) -> int:
    """`active_at_ms` after a restart at which the alert is found again one minute before `now`."""
    rule = program(for_min * MINUTE_MS)
    state = evaluated(rule, RuleState(), now_ms - MINUTE_MS, "a")
    state = evaluated(rule, state, now_ms, "a")
    after = restore_waiting(rule.rule, state, {JOB: waited}, now_ms, POLICY)
    return after.alerts[JOB].active_at_ms


def minutes(count: float) -> int:
    """In milliseconds, from a far beginning."""
    return int((1000 + count) * MINUTE_MS)


def test_an_alert_that_fired_before_fires_with_the_next_evaluation() -> None:
    """It had waited its whole `for` before the outage."""
    at_ms = restored_ms(30, WaitedAlert(minutes(40), minutes(0)), minutes(50))
    assert at_ms == minutes(0)


def test_the_outage_is_added_to_what_an_alert_still_has_to_wait() -> None:
    """12 of 30 minutes waited, 20 away: 18 are left from now on."""
    at_ms = restored_ms(30, WaitedAlert(minutes(12), minutes(0)), minutes(32))
    assert at_ms + 30 * MINUTE_MS == minutes(32 + 18)


def test_nothing_fires_before_the_grace_period_is_over() -> None:
    """25 of 30 minutes waited: five would be left, ten are given."""
    at_ms = restored_ms(30, WaitedAlert(minutes(25), minutes(0)), minutes(30))
    assert at_ms + 30 * MINUTE_MS == minutes(40)


@pytest.mark.parametrize(
    ("for_min", "waited"),
    [
        (9, WaitedAlert(minutes(99), minutes(0))),
        (30, WaitedAlert(minutes(39), minutes(0))),
    ],
)
def test_short_rules_and_long_outages_begin_anew(for_min: int, waited: WaitedAlert) -> None:
    """`for` below the grace period; and what was seen last more than an hour ago."""
    assert restored_ms(for_min, waited, minutes(100)) == minutes(99)


def test_an_alert_that_nobody_knew_begins_anew() -> None:
    """Only what waited before has waited."""
    rule = program(30 * MINUTE_MS)
    state = evaluated(rule, RuleState(), minutes(0), "a")
    other = {labels(alertname="A", job="b"): WaitedAlert(minutes(-1), minutes(-20))}
    assert restore_waiting(rule.rule, state, other, minutes(1), POLICY).alerts == state.alerts


@given(
    for_min=st.integers(10, 600),
    waited_min=st.integers(0, 600),
    away_min=st.integers(1, 60),
)
def test_no_alert_fires_sooner_or_later_than_it_may(
    for_min: int, waited_min: int, away_min: int
) -> None:
    """Left to wait: `for` minus what it waited, at least the grace period unless it had fired."""
    now_ms = minutes(waited_min + away_min)
    known = WaitedAlert(minutes(waited_min), minutes(0))
    fires_in_ms = restored_ms(for_min, known, now_ms) + for_min * MINUTE_MS - now_ms
    left_ms = (for_min - waited_min) * MINUTE_MS
    if left_ms <= 0:
        assert fires_in_ms <= 0
    else:
        assert fires_in_ms == max(left_ms, POLICY.grace_ms)


def test_a_policy_without_sense_is_refused() -> None:
    """Names the field."""
    with pytest.raises(InvalidInputError, match="grace_ms"):
        RestorePolicy(grace_ms=-1)


def test_an_alert_is_pending_until_it_is_restored_and_then_fires() -> None:
    """As Prometheus: the first two evaluations find it anew, the third fires it."""
    rule = program(30 * MINUTE_MS)
    state = evaluated(rule, RuleState(), minutes(60), "a")
    state = evaluated(rule, state, minutes(61), "a")
    assert state.alerts[JOB].state is AlertState.PENDING
    waited = {JOB: WaitedAlert(minutes(50), minutes(0))}
    state = restore_waiting(rule.rule, state, waited, minutes(61), POLICY)
    state = evaluated(rule, state, minutes(62), "a")
    assert state.alerts[JOB].state is AlertState.FIRING
