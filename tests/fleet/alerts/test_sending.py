"""What is passed on, when, and until when it counts."""

from __future__ import annotations

import pytest

from fleet.alerts.rules import AlertingRule
from fleet.alerts.sending import SendPolicy, due_alerts, mark_sent, outgoing
from fleet.alerts.states import RuleState, compile_rule
from fleet.alerts.templates import Outside
from fleet.errors import InvalidInputError
from tests.fleet.alerts.alerts import MINUTE_MS, evaluated, labels, program

POLICY = SendPolicy()


def test_a_pending_alert_is_told_to_nobody() -> None:
    """Only what fires, or has fired."""
    state = evaluated(program(5 * MINUTE_MS), RuleState(), 0, "a")
    assert due_alerts(state, 0, POLICY) == []


def test_a_firing_alert_is_passed_on_at_once_and_after_each_delay() -> None:
    """Strictly after: at exactly the delay it is not due yet."""
    rule = program()
    state = evaluated(rule, RuleState(), 0, "a")
    due = due_alerts(state, 0, POLICY)
    assert len(due) == 1
    state = mark_sent(state, due, 0)
    for at_ms, count in ((30_000, 0), (60_000, 0), (60_001, 1)):
        assert len(due_alerts(evaluated(rule, state, at_ms, "a"), at_ms, POLICY)) == count


def test_what_was_not_taken_is_due_again_at_once() -> None:
    """Without `mark_sent` nothing was passed on."""
    rule = program()
    state = evaluated(rule, RuleState(), 0, "a")
    state = evaluated(rule, state, 1000, "a")
    assert len(due_alerts(state, 1000, POLICY)) == 1


def test_an_end_is_passed_on_at_once_and_again_for_a_quarter_of_an_hour() -> None:
    """A receiver that was away for some minutes hears of it."""
    rule = program()
    state = evaluated(rule, RuleState(), 0, "a")
    state = mark_sent(state, due_alerts(state, 0, POLICY), 0)
    heard = []
    for minute in range(1, 25):
        at_ms = minute * MINUTE_MS
        state = evaluated(rule, state, at_ms)
        due = due_alerts(state, at_ms, POLICY)
        heard += [minute] * len(due)
        assert all(
            one.ends_at_ms == MINUTE_MS for one in outgoing(rule, due, at_ms, MINUTE_MS, POLICY)
        )
        state = mark_sent(state, due, at_ms)
    assert heard == [1, 3, 5, 7, 9, 11, 13, 15]
    assert state.alerts == {}


def test_a_firing_alert_lives_four_delays_longer_than_its_last_word() -> None:
    """Or four intervals, where those are longer."""
    rule = program(summary="{{ $labels.job }}")
    state = evaluated(rule, RuleState(), 7, "a")
    for interval_ms, lives_ms in ((10_000, 240_000), (120_000, 480_000)):
        (one,) = outgoing(rule, due_alerts(state, 7, POLICY), 7, interval_ms, POLICY)
        assert (one.starts_at_ms, one.ends_at_ms) == (7, 7 + lives_ms)
        assert one.annotations == labels(summary="a")
        assert not one.is_resolved(7)


def test_labels_of_the_deployment_are_put_on_and_never_replace() -> None:
    """An alert's own label wins."""
    rule = compile_rule(AlertingRule("A", "x"), Outside({"fleet": "f", "job": "other"}))
    state = evaluated(rule, RuleState(), 0, "a")
    (one,) = outgoing(rule, due_alerts(state, 0, POLICY), 0, MINUTE_MS, POLICY)
    assert one.labels == labels(alertname="A", fleet="f", job="a")


def test_a_delay_of_nothing_is_refused() -> None:
    """It would send without end."""
    with pytest.raises(InvalidInputError, match="resend_delay_ms"):
        SendPolicy(0)
