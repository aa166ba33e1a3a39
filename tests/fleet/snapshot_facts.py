"""Facts of snapshots for tests: good ones by default, in the order in which they were taken."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import strategies as st

from fleet.snapshot_fitness import SnapshotFacts

NOW = datetime(2026, 11, 20, 14, 30, tzinfo=UTC)
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)


def a_fact(name: str, age: timedelta, seq: int, **changes: Any) -> SnapshotFacts:
    """A live snapshot, scheduled, verified V1 in its first hour."""
    at = NOW - age
    good = SnapshotFacts(
        name, seq, at, at, 100, 5, stored_at=at, verified_level="V1", verified_at=at + HOUR
    )
    return good._replace(**changes)


def history(count: int, step: timedelta, newest: timedelta = HOUR) -> list[SnapshotFacts]:
    """`count` good snapshots, `step` apart; `s1` is the oldest, with record 10, `s2` has 20 ..."""
    ages = [newest + step * number for number in reversed(range(count))]
    return [a_fact(f"s{number}", age, number * 10) for number, age in enumerate(ages, 1)]


def unverified(one: SnapshotFacts) -> SnapshotFacts:
    """The same, before its verification."""
    return one._replace(verified_level="", verified_at=None)


@st.composite
def fact_lists(draw: st.DrawFn) -> list[SnapshotFacts]:
    """Logs of all ages with everything that can be said about a snapshot."""
    ages_h = draw(st.lists(st.integers(0, 24 * 400), min_size=1, max_size=40))
    facts = []
    for seq, age_h in enumerate(sorted(ages_h, reverse=True), 1):
        one = a_fact(f"s{seq:02d}", age_h * HOUR, seq)
        spread = draw(st.integers(0, 9))
        changes: dict[str, Any] = {
            "agents": draw(st.sampled_from([100, 100, 100, 95, 70, 0])),
            "changed": draw(st.sampled_from([0, 5, 5, 12, 90])),
            "live": spread != 9,
        }
        if spread == 1:
            changes |= {"verified_level": "", "verified_at": None}
        if spread == 2:
            failed_at = min(NOW, one.taken_at + draw(st.integers(1, 300)) * HOUR)
            changes |= {"failed_level": "V3", "failed_at": failed_at}
        if spread == 3:
            changes |= {"hold": "legal"}
        if spread == 4:
            changes |= {"approved": "ada: looked at"}
        if spread == 5:
            changes |= {"scheduled": False, "incomplete": ("lake",)}
        if spread == 6:
            moved = draw(st.integers(-900, 900)) * DAY
            changes |= {"taken_at": one.taken_at + moved, "written_at": one.written_at + moved}
        if spread == 7:
            changes |= {"tainted": "1 pack is lost", "stored_at": None}
        facts.append(one._replace(**changes))
    return facts
