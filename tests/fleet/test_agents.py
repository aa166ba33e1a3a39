"""Restart decisions and the compare-and-swap of agent states."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.agents import (
    RestartMode,
    RestartPolicy,
    StateHead,
    StatePut,
    decide_put,
    decide_restart,
)
from fleet.errors import FencedError, StaleEpochError, VersionConflictError

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
POLICIES = st.builds(
    RestartPolicy,
    mode=st.just(RestartMode.ON_FAILURE),
    delay_s=st.floats(0.001, 10.0),
    delay_max_s=st.floats(0.001, 60.0),
    attempts_max=st.integers(0, 8),
    window_s=st.floats(1.0, 3600.0),
)
AGES_S = st.lists(st.floats(0.0, 7200.0), max_size=12)


def times(ages_s: list[float]) -> list[datetime]:
    """Earlier restarts, oldest first."""
    return [NOW - timedelta(seconds=age) for age in sorted(ages_s, reverse=True)]


@pytest.mark.parametrize(
    ("mode", "exit_code", "action"),
    [
        (RestartMode.ALWAYS, 0, "restart"),
        (RestartMode.ALWAYS, 1, "restart"),
        (RestartMode.ALWAYS, -9, "restart"),
        (RestartMode.ON_FAILURE, 0, "complete"),
        (RestartMode.ON_FAILURE, 1, "restart"),
        (RestartMode.ON_FAILURE, -9, "restart"),
        (RestartMode.NEVER, 0, "complete"),
        (RestartMode.NEVER, 1, "fail"),
        (RestartMode.NEVER, -9, "fail"),
    ],
)
def test_the_mode_says_which_ends_are_followed_by_a_start(
    mode: RestartMode, exit_code: int, action: str
) -> None:
    """As systemd's Restart= does; the reason names the end."""
    verdict = decide_restart(RestartPolicy(mode), exit_code, [], NOW)
    assert verdict.action == action
    assert ("signal 9" if exit_code < 0 else f"exit code {exit_code}") in verdict.reason


def test_delays_double_up_to_the_cap_and_then_the_agent_fails() -> None:
    """A golden crash loop: 1, 2, 4, 5 (cap), 5 seconds, then no more."""
    policy = RestartPolicy(delay_s=1.0, delay_max_s=5.0, attempts_max=5, window_s=100.0)
    verdicts = [decide_restart(policy, 1, [NOW] * starts, NOW) for starts in range(6)]
    assert [verdict.delay_s for verdict in verdicts] == [1.0, 2.0, 4.0, 5.0, 5.0, 0.0]
    assert [verdict.action for verdict in verdicts] == ["restart"] * 5 + ["fail"]
    assert verdicts[0].reason == "exit code 1; restart 1 of 5 in 1 s"
    assert verdicts[5].reason == "exit code 1; 5 restarts in 100 s, allowed 5"


@given(POLICIES, AGES_S)
def test_a_crash_is_followed_by_a_start_exactly_while_attempts_are_left(
    policy: RestartPolicy, ages_s: list[float]
) -> None:
    """Only starts inside the window count, and the delay stays within its bounds."""
    started = times(ages_s)
    recent = sum(at > NOW - timedelta(seconds=policy.window_s) for at in started)
    verdict = decide_restart(policy, 1, started, NOW)
    assert (verdict.action == "restart") == (recent < policy.attempts_max)
    if verdict.action == "restart":
        assert min(policy.delay_s, policy.delay_max_s) <= verdict.delay_s <= policy.delay_max_s
    else:
        assert (verdict.action, verdict.delay_s) == ("fail", 0.0)


@given(POLICIES, AGES_S, st.floats(0.0, 7200.0))
def test_one_more_recent_start_never_makes_the_next_delay_shorter(
    policy: RestartPolicy, ages_s: list[float], age_s: float
) -> None:
    """Backing off is monotonic in the number of starts."""
    before = decide_restart(policy, 1, times(ages_s), NOW)
    after = decide_restart(policy, 1, times([*ages_s, age_s]), NOW)
    if after.action == "restart":
        assert before.action == "restart"
        assert after.delay_s >= before.delay_s


@given(POLICIES, AGES_S)
def test_a_quiet_window_forgives_everything(policy: RestartPolicy, ages_s: list[float]) -> None:
    """Starts that are older than the window, or stand in the future, do not count."""
    old = [NOW - timedelta(seconds=policy.window_s + age) for age in ages_s]
    future = [NOW + timedelta(seconds=age + 1) for age in ages_s]
    assert decide_restart(policy, 1, old + future, NOW) == decide_restart(policy, 1, [], NOW)


HEAD = StateHead(placement_epoch=5, placement_node_id="node-7", version=3)


@pytest.mark.parametrize(
    ("epoch", "expected_version", "head", "refusal", "words"),
    [
        (5, 3, HEAD, None, ()),
        (1, 0, StateHead(1, "n", 0), None, ()),
        (4, 3, HEAD, StaleEpochError, ("epoch 4 is lower than 5", "node-7")),
        (6, 3, HEAD, StaleEpochError, ("epoch 6 is higher than 5", "node-7")),
        (5, 2, HEAD, VersionConflictError, ("expected version 2", "stored version is 3", "node-7")),
        (5, 4, HEAD, VersionConflictError, ("expected version 4", "stored version is 3")),
        (5, 0, HEAD, VersionConflictError, ("expected version 0",)),
        (5, 1, StateHead(5, "n", 0), VersionConflictError, ("stored version is 0",)),
        (4, 9, HEAD, StaleEpochError, ("epoch 4",)),
        (1, 0, None, StaleEpochError, ("no placement",)),
        (0, 0, None, StaleEpochError, ("no placement",)),
    ],
)
def test_a_put_is_judged_by_epoch_first_and_version_second(
    epoch: int,
    expected_version: int,
    head: StateHead | None,
    refusal: type[FencedError] | None,
    words: tuple[str, ...],
) -> None:
    """The golden table of the compare-and-swap; a refusal says who holds the state."""
    error = decide_put(StatePut("agent-1", epoch, expected_version, b""), head)
    assert type(error) is (refusal or type(None))
    for word in ("agent-1", *words) if error else ():
        assert word in str(error)
    assert error is None or error.hint


@given(st.integers(0, 5), st.integers(0, 5), st.integers(0, 5), st.integers(0, 5))
def test_only_the_exact_epoch_and_version_pass(
    epoch: int, version: int, placed: int, stored: int
) -> None:
    """No other combination is accepted."""
    accepted = decide_put(StatePut("a", epoch, version, b""), StateHead(placed, "n", stored))
    assert (accepted is None) == (epoch == placed and version == stored)
