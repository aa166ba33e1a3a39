"""The queue of agents that wait: by priority, in which nobody starves."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.errors import InvalidInputError
from fleet.placement.queue import LifecycleQueue


def names(queue: LifecycleQueue, now_s: float, limit: int = 99) -> list[str]:
    """Whose turn it is."""
    return [one.agent_id for one in queue.take(now_s, limit)]


@given(
    st.lists(
        st.tuples(st.integers(0, 9), st.integers(-3, 3), st.integers(0, 600)),
        unique_by=lambda one: one[0],
    ),
    st.integers(0, 12),
)
def test_the_order_is_priority_plus_time_waited_then_name(
    agents: list[tuple[int, int, int]], limit: int
) -> None:
    """Against a sort at the moment of asking."""
    queue = LifecycleQueue(age_s=60.0)
    for name, priority, since_s in agents:
        queue.put(f"a{name}", priority, float(since_s))
    now_s = 600.0
    order = sorted(agents, key=lambda one: (-(one[1] + (now_s - one[2]) / 60.0), f"a{one[0]}"))
    taken = names(queue, now_s, limit)
    worth = {f"a{n}": round(p + (now_s - s) / 60.0, 6) for n, p, s in agents}
    assert [worth[name] for name in taken] == [worth[f"a{one[0]}"] for one in order[:limit]]
    assert len(queue) == len(agents) - len(taken)


def test_who_waits_long_comes_before_important_newcomers() -> None:
    """One priority for each minute."""
    queue = LifecycleQueue(age_s=60.0)
    queue.put("old", 0, 0.0)
    queue.put("new", 3, 200.0)
    assert names(queue, 200.0) == ["old", "new"]


def test_who_is_put_twice_keeps_its_place_and_takes_the_new_priority() -> None:
    """It is handed out once."""
    queue = LifecycleQueue(age_s=60.0)
    queue.put("a", 0, 0.0)
    queue.put("b", 0, 30.0)
    queue.put("b", 1, 500.0)
    queue.put("a", 0, 500.0)
    assert names(queue, 500.0) == ["b", "a"]
    assert names(queue, 500.0) == []


def test_who_failed_comes_back_after_a_delay_that_doubles() -> None:
    """And keeps its time waited; who was removed does not come back."""
    queue = LifecycleQueue(delay_s=1.0, delay_max_s=3.0)
    queue.put("a", 0, 0.0)
    ready = []
    now_s = 0.0
    for _ in range(3):
        [one] = queue.take(now_s, 1)
        now_s = queue.fail(one, now_s)
        ready.append(now_s)
        assert queue.take(now_s - 0.5, 1) == []
    assert ready == [1.0, 3.0, 6.0]
    [one] = queue.take(6.0, 1)
    assert (one.since_s, one.attempts) == (0.0, 3)
    queue.fail(one, 6.0)
    queue.remove("a")
    assert queue.take(99.0, 1) == []
    with pytest.raises(InvalidInputError, match="age_s"):
        LifecycleQueue(age_s=0.0)
