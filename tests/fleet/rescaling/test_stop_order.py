"""Who goes first: those whose end costs least, in one order whoever asks."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import permutations

from hypothesis import given
from hypothesis import strategies as st

from fleet.rescaling.stop_order import StopFacts, order_stops

NOW = datetime(2026, 3, 1, tzinfo=UTC)


def started(age_s: float) -> datetime:
    """So long ago."""
    return NOW - timedelta(seconds=age_s)


LADDER = {
    "without-a-node": StopFacts(placed=False, started_at=started(9000)),
    "not-ready": StopFacts(ready=False, started_at=started(9000)),
    "young": StopFacts(started_at=started(40), sessions=9),
    "old-and-idle": StopFacts(started_at=started(5000), sessions=0),
    "old-and-busy": StopFacts(started_at=started(6000), sessions=4),
    "old-on-a-broken-node": StopFacts(started_at=started(5000), gpu_free_milli=3000),
    "old-on-a-full-node": StopFacts(started_at=started(5000), gpu_free_milli=500),
}
"""Each goes before those below it; ages of 5,000 and 6,000 seconds are one power of two."""


def test_the_first_reason_that_differs_decides() -> None:
    """Whatever the order in which they are given."""
    expected = list(LADDER)
    for names in permutations(expected[:4]):
        assert order_stops(names, LADDER, NOW) == expected[:4]
    assert order_stops(reversed(expected), LADDER, NOW) == expected


def test_equals_go_by_name_the_later_first() -> None:
    """Also those of which nothing is known."""
    assert order_stops(["b", "c", "a"], {}, NOW) == ["c", "b", "a"]


FACTS = st.builds(
    StopFacts,
    st.booleans(),
    st.booleans(),
    st.none() | st.floats(-10, 1e6).map(started),
    st.none() | st.integers(0, 5),
    st.integers(0, 8).map(lambda gpus: 1000 * gpus),
)


@given(st.dictionaries(st.text("abc", min_size=1, max_size=3), FACTS), st.randoms())
def test_every_agent_goes_once_and_the_order_does_not_depend_on_who_lists(
    facts: dict[str, StopFacts], random: object
) -> None:
    """One total order: shuffled input gives the same, and a prefix stays a prefix."""
    names = list(facts)
    random.shuffle(names)  # type: ignore[attr-defined]
    ordered = order_stops(names, facts, NOW)
    assert sorted(ordered) == sorted(facts)
    assert order_stops(sorted(facts), facts, NOW) == ordered
    unplaced = [facts[name].placed for name in ordered]
    assert unplaced == sorted(unplaced)
