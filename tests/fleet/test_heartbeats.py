"""Readiness is judged from the heartbeat's age alone, unless the machine is known to be down."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.errors import InvalidInputError
from fleet.heartbeats import HeartbeatPolicy, Readiness, classify_heartbeat
from fleet.inventory import NodePhase
from tests.fleet.inventory_records import NOW, a_node

POLICY = HeartbeatPolicy(late_s=5.0, lost_s=10.0)


@pytest.mark.parametrize(
    ("phase", "age_s", "readiness"),
    [
        (NodePhase.RUNNING, 0.0, Readiness.READY),
        (NodePhase.RUNNING, 4.999, Readiness.READY),
        (NodePhase.RUNNING, 5.0, Readiness.LATE),
        (NodePhase.RUNNING, 9.999, Readiness.LATE),
        (NodePhase.RUNNING, 10.0, Readiness.LOST),
        (NodePhase.UNKNOWN, 1.0, Readiness.READY),
        (NodePhase.UNKNOWN, 11.0, Readiness.LOST),
        (NodePhase.PENDING, None, Readiness.PENDING),
        (NodePhase.RUNNING, None, Readiness.PENDING),
        (NodePhase.STOPPED, 100.0, Readiness.STOPPED),
        (NodePhase.STOPPED, None, Readiness.STOPPED),
        (NodePhase.TERMINATED, 0.0, Readiness.LOST),
    ],
)
def test_readiness_follows_the_age_at_the_exact_thresholds(
    phase: NodePhase, age_s: float | None, readiness: Readiness
) -> None:
    """The table of phases and ages; thresholds belong to the worse class."""
    heartbeat_at = None if age_s is None else NOW - timedelta(seconds=age_s)
    node = a_node(phase=phase, heartbeat_at=heartbeat_at)
    assert classify_heartbeat(node, NOW, POLICY).readiness == readiness


@given(age_s=st.floats(-1e6, 1e6), later_s=st.floats(0, 1e6))
def test_silence_only_makes_a_node_worse(age_s: float, later_s: float) -> None:
    """Without a new heartbeat no passing of time improves the readiness."""
    order = [Readiness.READY, Readiness.LATE, Readiness.LOST]
    node = a_node(heartbeat_at=NOW - timedelta(seconds=age_s))
    first = classify_heartbeat(node, NOW, POLICY)
    second = classify_heartbeat(node, NOW + timedelta(seconds=later_s), POLICY)
    assert order.index(first.readiness) <= order.index(second.readiness)


@given(age_s=st.floats(-1e6, 1e6))
def test_ages_are_never_negative_and_a_future_heartbeat_is_reported(age_s: float) -> None:
    """Exactly one of age and skew is above zero."""
    verdict = classify_heartbeat(a_node(heartbeat_at=NOW - timedelta(seconds=age_s)), NOW, POLICY)
    assert verdict.age_s is not None
    assert min(verdict.age_s, verdict.skew_s) == 0.0
    assert verdict.age_s - verdict.skew_s == pytest.approx(age_s, abs=1e-5)


@pytest.mark.parametrize(
    ("late_s", "lost_s", "field"),
    [
        (0.0, 10.0, "heartbeat_late_s"),
        (float("nan"), 10.0, "heartbeat_late_s"),
        (5.0, 5.0, "heartbeat_lost_s"),
        (5.0, float("nan"), "heartbeat_lost_s"),
    ],
)
def test_a_policy_with_an_unreachable_class_is_refused(
    late_s: float, lost_s: float, field: str
) -> None:
    """The error names the field."""
    with pytest.raises(InvalidInputError, match=field):
        HeartbeatPolicy(late_s, lost_s)
