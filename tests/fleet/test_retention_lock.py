"""Which snapshots are locked, and how long: what stands for a week, month or year that is over."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.errors import InvalidInputError
from fleet.retention import UNLIMITED, RetentionPolicy, Snapshot, plan_retention
from fleet.retention_lock import (
    LockExtension,
    LockLengths,
    lock_lengths,
    merge_locks,
    plan_lock_extensions,
)

START = datetime(2024, 1, 1, 3, tzinfo=UTC)
POLICY = RetentionPolicy()


def verdicts(now: datetime, days: int) -> list:
    """One snapshot a day, up to now."""
    first = now - timedelta(days=days - 1)
    taken = [first + timedelta(days=number) for number in range(days)]
    return plan_retention([Snapshot(f"{at:%Y-%m-%d}", at) for at in taken], POLICY, now)


def test_lengths_follow_the_policy() -> None:
    """Weeks, months and years as counted; none or unlimited ones are left alone."""
    days = [length.days if length else None for length in lock_lengths(POLICY)]
    assert days == [28, 372, 1098]
    open_ended = RetentionPolicy(weekly=0, monthly=UNLIMITED, yearly=1)
    assert lock_lengths(open_ended) == LockLengths(None, None, timedelta(days=366))


def test_the_newest_snapshot_is_not_locked_before_its_week_is_over() -> None:
    """It is the newest of its week, month and year, and so will be the next one."""
    wednesday = datetime(2026, 11, 18, 3, tzinfo=UTC)
    plan = plan_lock_extensions(verdicts(wednesday, 20), lock_lengths(POLICY), wednesday)
    # 20 snapshots from 30 October on; Sundays stand for their weeks, 31 October for its month.
    assert {one.snapshot_id: one.until.date().isoformat() for one in plan} == {
        "2026-10-31": "2027-11-07",
        "2026-11-15": "2026-12-13",
        "2026-11-08": "2026-12-06",
        "2026-11-01": "2026-11-29",
    }
    assert plan[0].reason == "the monthly one; locked until 2027-11-07"


def test_the_last_of_a_year_is_locked_for_years_once_the_year_is_over() -> None:
    """At midnight, not before; of several classes the longest counts."""
    newest = datetime(2026, 12, 31, 23, tzinfo=UTC)
    rows = verdicts(newest, 3)
    before = plan_lock_extensions(rows, lock_lengths(POLICY), newest + timedelta(minutes=59))
    after = plan_lock_extensions(rows, lock_lengths(POLICY), newest + timedelta(hours=1))
    assert before == ()
    assert [(one.snapshot_id, one.until - newest) for one in after] == [
        ("2026-12-31", timedelta(days=1098))
    ]


def test_the_oldest_of_a_young_network_and_what_goes_are_not_locked() -> None:
    """They are kept only until there are enough others."""
    now = START + timedelta(days=30)
    plan = plan_lock_extensions(verdicts(now, 31), lock_lengths(POLICY), now)
    assert f"{START:%Y-%m-%d}" not in {one.snapshot_id for one in plan}
    kept = {one.snapshot_id for one in verdicts(now, 31) if one.keep}
    assert {one.snapshot_id for one in plan} < kept


@given(st.integers(1, 900), st.integers(0, 400), st.integers(1, 100))
def test_locks_last_while_snapshots_stay_and_only_grow(days: int, age: int, later: int) -> None:
    """Planned later, a snapshot that is still locked is locked until the same moment."""
    now = START + timedelta(days=days + age)
    lengths = lock_lengths(POLICY)
    rows = verdicts(START + timedelta(days=days), days)
    plan = {one.snapshot_id: one.until for one in plan_lock_extensions(rows, lengths, now)}
    again = plan_lock_extensions(rows, lengths, now + timedelta(days=later))
    for one in again:
        assert one.until >= plan.get(one.snapshot_id, one.until)
    assert all(until > now for until in plan.values())
    for verdict in rows:
        if verdict.snapshot_id in plan:
            assert plan[verdict.snapshot_id] <= verdict.taken_at + timedelta(days=1098)


@given(
    st.dictionaries(
        st.sampled_from("abcdef"),
        st.tuples(st.integers(1, 5), st.frozensets(st.sampled_from("uvwxyz"))),
        min_size=1,
    )
)
def test_each_object_is_locked_once_for_the_snapshot_that_needs_it_longest(
    rows: dict[str, tuple[int, frozenset[str]]],
) -> None:
    """Against a twin that looks at each object by itself."""
    locks = [LockExtension(name, START + timedelta(days=n), "") for name, (n, _) in rows.items()]
    merged = merge_locks(locks, {name: keys for name, (_, keys) in rows.items()})
    assert list(merged) == sorted(merged, reverse=True)
    found = {key: until for until, keys in merged.items() for key in keys}
    assert sum(map(len, merged.values())) == len(found)
    assert found == {
        key: START + timedelta(days=max(n for n, keys in rows.values() if key in keys))
        for key in frozenset().union(*(keys for _, keys in rows.values()))
    }


def test_a_moment_without_zone_is_refused() -> None:
    """Weeks end in UTC."""
    with pytest.raises(InvalidInputError, match="time zone"):
        plan_lock_extensions([], lock_lengths(POLICY), datetime(2026, 1, 1))  # noqa: DTZ001
