"""Fence times: the agents of a node are gone before its lease is."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from fleet.leases import Lease, fence_times, is_lease_live, node_lease_name


@given(st.floats(0.01, 86_400))
def test_agents_are_asked_then_killed_then_the_lease_runs_out(ttl_s: float) -> None:
    """Each step leaves at least a fifth of the ttl to the next."""
    times = fence_times(ttl_s)
    assert 0 < times.stop_after_s < times.kill_after_s < ttl_s
    assert times.kill_after_s - times.stop_after_s >= 0.199 * ttl_s
    assert ttl_s - times.kill_after_s >= 0.199 * ttl_s


def test_a_lease_is_dead_at_the_very_moment_of_its_end() -> None:
    """The end is exclusive, so two holders never share an instant."""
    start = datetime(2026, 1, 1, tzinfo=UTC)
    end = start + timedelta(seconds=5)
    lease = Lease(node_lease_name("n1"), "boot", 1, 5.0, start, end)
    assert lease.name == "node/n1"
    assert is_lease_live(lease, end - timedelta(microseconds=1))
    assert not is_lease_live(lease, end)
