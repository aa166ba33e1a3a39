"""When a breaker opens, lets one call pass, and closes."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.circuit_breaker import (
    BreakerPhase,
    BreakerPolicy,
    BreakerState,
    BreakerStatus,
    admit_call,
    breaker_findings,
    note_failure,
    note_success,
    pause_s,
    validate_breaker_policy,
)
from fleet.errors import InvalidInputError

POLICY = BreakerPolicy(failures_to_open=3, pause_s=5.0, pause_max_s=60.0, successes_to_close=2)


def fail(state: BreakerState, times: int, now_s: float = 0.0) -> BreakerState:
    """A number of failures in a row."""
    for number in range(times):
        state = note_failure(POLICY, state, f"failure {number}", now_s)
    return state


def test_it_opens_after_failures_in_a_row_only() -> None:
    """A success in between starts the count again."""
    state = fail(BreakerState(), 2)
    state = fail(note_success(POLICY, state), 2)
    assert state.phase is BreakerPhase.CLOSED
    state = fail(state, 1, now_s=10.0)
    assert (state.phase, state.until_s, state.reason) == (BreakerPhase.OPEN, 15.0, "failure 0")


def test_while_open_nothing_passes_and_then_one_call_at_a_time() -> None:
    """The second caller of a half-open breaker is refused until the first has ended."""
    state = fail(BreakerState(), 3)
    state, admitted = admit_call(POLICY, state, 4.99)
    assert not admitted
    state, admitted = admit_call(POLICY, state, 5.0)
    assert (state.phase, admitted) == (BreakerPhase.HALF_OPEN, True)
    state, admitted = admit_call(POLICY, state, 5.1)
    assert not admitted
    state = note_success(POLICY, state)
    state, admitted = admit_call(POLICY, state, 5.2)
    assert admitted
    assert note_success(POLICY, state) == BreakerState()


def test_a_probe_that_fails_opens_it_for_twice_as_long() -> None:
    """Up to the longest pause."""
    state = fail(BreakerState(), 3)
    pauses = []
    now_s = 0.0
    for _ in range(6):
        now_s = state.until_s
        state, admitted = admit_call(POLICY, state, now_s)
        assert admitted
        state = note_failure(POLICY, state, "still dead", now_s)
        assert state.phase is BreakerPhase.OPEN
        pauses.append(state.until_s - now_s)
    assert pauses == [10.0, 20.0, 40.0, 60.0, 60.0, 60.0]
    assert pause_s(POLICY, 5000) == 60.0


def test_a_success_before_the_failing_probe_does_not_shorten_the_pause() -> None:
    """Only closing forgets the openings."""
    state, _ = admit_call(POLICY, fail(BreakerState(), 3), 5.0)
    state = note_success(POLICY, state)
    state, _ = admit_call(POLICY, state, 6.0)
    state = note_failure(POLICY, state, "again", 6.0)
    assert state.until_s == 16.0


def test_a_probe_that_never_ends_counts_as_lost_after_the_longest_pause() -> None:
    """Its thread may have died; the breaker must not stay shut."""
    state, _ = admit_call(POLICY, fail(BreakerState(), 3), 5.0)
    assert not admit_call(POLICY, state, 64.9)[1]
    assert admit_call(POLICY, state, 65.0)[1]


def test_stragglers_change_nothing_while_it_is_open() -> None:
    """Calls that passed before it opened end afterwards."""
    state = fail(BreakerState(), 3)
    assert note_success(POLICY, state) == state
    late = note_failure(POLICY, state, "late", 3.0)
    assert (late.phase, late.until_s, late.failures) == (BreakerPhase.OPEN, 5.0, 4)


@given(st.lists(st.sampled_from(["ask", "good", "bad", "wait"]), max_size=60))
def test_it_always_lets_a_call_pass_again(events: list[str]) -> None:
    """Whatever has happened: after a longest pause one call passes, and successes close it."""
    state, now_s = BreakerState(), 0.0
    for event in events:
        if event == "ask":
            state, _ = admit_call(POLICY, state, now_s)
        elif event == "good":
            state = note_success(POLICY, state)
        elif event == "bad":
            state = note_failure(POLICY, state, "bad", now_s)
        else:
            now_s += 7.0
        assert (state.phase is BreakerPhase.CLOSED) <= (state.failures < POLICY.failures_to_open)
    for _ in range(POLICY.successes_to_close):
        now_s += POLICY.pause_max_s
        state, admitted = admit_call(POLICY, state, now_s)
        assert admitted
        state = note_success(POLICY, state)
    assert state == BreakerState()


@pytest.mark.parametrize(
    "policy",
    [
        BreakerPolicy(failures_to_open=0),
        BreakerPolicy(successes_to_close=0),
        BreakerPolicy(pause_s=0.0),
        BreakerPolicy(pause_s=float("nan")),
        BreakerPolicy(pause_s=10.0, pause_max_s=5.0),
    ],
)
def test_a_policy_that_could_not_open_or_close_is_refused(policy: BreakerPolicy) -> None:
    """With the field's name."""
    with pytest.raises(InvalidInputError):
        validate_breaker_policy(policy)
    assert validate_breaker_policy(BreakerPolicy()) == BreakerPolicy()


def test_findings_name_every_breaker_that_is_not_closed() -> None:
    """With what it guards, where, since when and why."""
    at = datetime(2026, 3, 1, 12, tzinfo=UTC)
    statuses = [
        BreakerStatus("traffic/nginx", "host/1", BreakerPhase.HALF_OPEN, 4, "no route", at),
        BreakerStatus("registry/consul", "host/1", BreakerPhase.CLOSED, 0, "", at),
        BreakerStatus("traffic/haproxy", "host/2", BreakerPhase.OPEN, 7, "refused", at),
    ]
    assert breaker_findings(statuses) == [
        (
            "traffic/haproxy: circuit open in host/2 since 2026-03-01 12:00:00 UTC after 7 "
            "failures: refused"
        ),
        (
            "traffic/nginx: circuit half-open in host/1 since 2026-03-01 12:00:00 UTC after 4 "
            "failures: no route"
        ),
    ]
