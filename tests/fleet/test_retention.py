"""Retention keeps what restic would keep, says why, and never depends on when it runs."""

import re
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.errors import InvalidInputError
from fleet.retention import (
    CalendarSpan,
    RetentionPolicy,
    RetentionVerdict,
    Snapshot,
    parse_calendar_span,
    plan_retention,
)

NOW = datetime(2100, 1, 1, tzinfo=UTC)
NONE = RetentionPolicy(hourly=0, daily=0, weekly=0, monthly=0, yearly=0)
GFS = RetentionPolicy(hourly=0)
PRODUCTION = RetentionPolicy()


def every(step: timedelta, count: int, newest: datetime) -> list[Snapshot]:
    """`count` snapshots, `step` apart, ending at `newest`."""
    return [Snapshot(f"s{n}", newest - n * step) for n in range(count)]


def kept(snapshots: list[Snapshot], policy: RetentionPolicy) -> list[RetentionVerdict]:
    """The verdicts that keep."""
    return [one for one in plan_retention(snapshots, policy, NOW) if one.keep]


NOON = datetime(2026, 6, 17, 12, tzinfo=UTC)
DAY = timedelta(days=1)
HOUR = timedelta(hours=1)


@pytest.mark.parametrize(
    ("case", "snapshots", "policy", "count"),
    [
        # counts as restic 0.19 gives them
        ("one", every(DAY, 1, NOON), GFS, 1),
        ("two of one day", every(HOUR, 2, NOON), GFS, 2),
        ("every three weeks", every(21 * DAY, 90, NOON), GFS, 15),
        ("hourlies of sixty days", every(HOUR, 1440, NOON), GFS, 11),
    ],
)
def test_it_keeps_as_many_as_restic(
    case: str, snapshots: list[Snapshot], policy: RetentionPolicy, count: int
) -> None:
    """Daily 7, weekly 4, monthly 12, yearly 3 on inputs whose kept count restic gave."""
    assert len(kept(snapshots, policy)) == count, case


def test_production_keeps_two_days_of_hourly_points() -> None:
    """The default policy restores to any hour of the last 48."""
    snapshots = every(HOUR, 1440, NOON)
    ids = {one.snapshot_id for one in kept(snapshots, PRODUCTION)}
    assert {f"s{n}" for n in range(48)} <= ids


def test_a_young_network_keeps_its_first_snapshot_and_says_so() -> None:
    """While coarse rules have counts left, the oldest snapshot stays."""
    oldest = plan_retention(every(6 * HOUR, 20, NOON), GFS, NOW)[-1]
    assert oldest.keep
    assert "oldest of all (monthly 2 of 12)" in oldest.reasons
    assert "oldest of all (yearly 2 of 3)" in oldest.reasons


def test_an_outage_ages_nothing_away() -> None:
    """Counts are of days that have snapshots, not of days that passed."""
    late = every(DAY, 3, NOON)
    early = [Snapshot(f"e{n}", NOON - (40 + n) * DAY) for n in range(10)]
    ids = [one.snapshot_id for one in kept(late + early, RetentionPolicy(hourly=0, daily=7))]
    assert ids[:7] == ["s0", "s1", "s2", "e0", "e1", "e2", "e3"]


@pytest.mark.parametrize(
    ("newest_day", "week_of_next_year"),
    [(datetime(2019, 1, 1, tzinfo=UTC), True), (datetime(2021, 1, 1, tzinfo=UTC), False)],
)
def test_weeks_are_iso_weeks_also_at_new_year(
    newest_day: datetime, week_of_next_year: bool
) -> None:
    """31 December 2018 belongs to week 1 of 2019; 1 January 2021 to week 53 of 2020."""
    eve = newest_day - DAY
    weekly = RetentionPolicy(hourly=0, daily=0, weekly=5, monthly=0, yearly=0)
    sunday_before = eve - timedelta(days=eve.isoweekday())
    plan = plan_retention(
        [Snapshot("new", newest_day), Snapshot("eve", eve), Snapshot("sunday", sunday_before)],
        weekly,
        NOW,
    )
    assert eve.isocalendar()[:2] == newest_day.isocalendar()[:2]
    assert (eve.isocalendar()[0] == newest_day.year) is week_of_next_year
    assert [one.keep for one in plan] == [True, False, True]


@pytest.mark.parametrize(
    ("span", "moment", "earlier"),
    [
        ("1m", datetime(2026, 3, 31, tzinfo=UTC), datetime(2026, 3, 3, tzinfo=UTC)),
        ("1y", datetime(2024, 2, 29, tzinfo=UTC), datetime(2023, 3, 1, tzinfo=UTC)),
        ("1d12h", datetime(2026, 1, 2, 6, tzinfo=UTC), datetime(2025, 12, 31, 18, tzinfo=UTC)),
        ("1y2m", datetime(2026, 1, 15, tzinfo=UTC), datetime(2024, 11, 15, tzinfo=UTC)),
        ("3000y", datetime(2026, 1, 15, tzinfo=UTC), datetime.min.replace(tzinfo=UTC)),
        ("900000d", datetime(2026, 1, 15, tzinfo=UTC), datetime.min.replace(tzinfo=UTC)),
    ],
)
def test_calendar_spans_roll_over_as_in_restic(
    span: str, moment: datetime, earlier: datetime
) -> None:
    """A day that the target month lacks rolls into the next month."""
    assert parse_calendar_span("within", span).before(moment) == earlier


def test_within_keeps_what_is_strictly_younger_than_the_newest_past_snapshot_less_the_span() -> (
    None
):
    """A snapshot of the year 2099 does not move the window; the edge itself is outside."""
    policy = RetentionPolicy(0, 0, 0, 0, 0, 0, within=CalendarSpan(days=2))
    now = NOON + HOUR
    snapshots = [Snapshot("bogus", NOON + 9999 * DAY), *every(DAY, 4, NOON)]
    plan = plan_retention(snapshots, policy, now)
    assert [one.keep for one in plan] == [True, True, True, False, False]
    assert plan[1].reasons == ("within 2d",)
    assert plan[-1].reasons == ("no rule keeps it",)


def test_within_rules_keep_one_of_each_bucket_without_a_count() -> None:
    """`within_daily 3d` keeps the newest of each day inside three days, and the oldest inside."""
    policy = RetentionPolicy(0, 0, 0, 0, 0, 0, within_daily=CalendarSpan(days=3))
    plan = [one for one in plan_retention(every(6 * HOUR, 40, NOON), policy, NOW) if one.keep]
    assert [one.snapshot_id for one in plan] == ["s0", "s3", "s7", "s11"]
    assert plan[0].reasons == ("newest of 2026-06-17 (daily within 3d)",)


def test_when_every_snapshot_lies_in_the_future_within_keeps_all() -> None:
    """With no past snapshot there is nothing to measure from, so nothing is judged too old."""
    policy = RetentionPolicy(0, 0, 0, 0, 0, 0, within=CalendarSpan(hours=1))
    plan = plan_retention(every(DAY, 3, NOON), policy, NOON - 99 * DAY)
    assert all(one.keep for one in plan)


@pytest.mark.parametrize("text", ["", "0d", "5", "d", "5w", "1h2d", "-3d", "1.5d"])
def test_a_span_that_is_none_is_refused_by_name(text: str) -> None:
    """The error names the field and shows what is allowed."""
    with pytest.raises(InvalidInputError, match=r"retention\.within.*allowed: numbers with y"):
        parse_calendar_span("retention.within", text)


def test_an_empty_policy_is_refused_because_it_would_remove_everything() -> None:
    """As in restic, no rule at all is an error, not a licence."""
    with pytest.raises(InvalidInputError, match="at least one rule"):
        plan_retention(every(DAY, 3, NOON), NONE, NOW)


def test_a_negative_count_is_refused() -> None:
    """-1 means all; anything below means nothing anybody could want."""
    with pytest.raises(InvalidInputError, match=r"retention\.daily: -2"):
        plan_retention([], RetentionPolicy(daily=-2), NOW)


counts = st.integers(-1, 6)
policies = st.builds(RetentionPolicy, counts, counts, counts, counts, counts, counts).filter(
    lambda p: any((p.last, p.hourly, p.daily, p.weekly, p.monthly, p.yearly))
)
times = st.lists(st.integers(0, 4 * 366 * 86_400), min_size=1, max_size=60, unique=True)
histories = times.map(
    lambda ages_s: [
        Snapshot(f"s{n}", NOON - timedelta(seconds=age_s)) for n, age_s in enumerate(ages_s)
    ]
)


@given(histories, policies)
def test_the_newest_snapshot_always_stays(
    snapshots: list[Snapshot], policy: RetentionPolicy
) -> None:
    """Whatever the policy, the newest one is kept."""
    assert plan_retention(snapshots, policy, NOW)[0].keep


@given(histories, policies, st.randoms(use_true_random=False))
def test_the_plan_does_not_depend_on_the_order_of_its_input(
    snapshots: list[Snapshot], policy: RetentionPolicy, random: object
) -> None:
    """Shuffled input, same plan."""
    shuffled = list(snapshots)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert plan_retention(shuffled, policy, NOW) == plan_retention(snapshots, policy, NOW)


@given(histories, policies)
def test_applying_the_plan_twice_removes_nothing_more(
    snapshots: list[Snapshot], policy: RetentionPolicy
) -> None:
    """What one plan keeps, the next plan keeps too."""
    first = {one.snapshot_id for one in kept(snapshots, policy)}
    left = [one for one in snapshots if one.snapshot_id in first]
    assert {one.snapshot_id for one in kept(left, policy)} == first


@given(histories, policies)
def test_no_rule_keeps_more_than_its_count(
    snapshots: list[Snapshot], policy: RetentionPolicy
) -> None:
    """Each rule numbers what it keeps from 1 on, without a gap, and never beyond its count."""
    reasons = [why for one in plan_retention(snapshots, policy, NOW) for why in one.reasons]
    for kind in ("last", "hourly", "daily", "weekly", "monthly", "yearly"):
        count = getattr(policy, kind)
        numbers = [int(found[1]) for why in reasons if (found := re.search(rf"{kind} (\d+)", why))]
        assert numbers == list(range(1, len(numbers) + 1))
        assert count == -1 or len(numbers) <= count


@pytest.mark.parametrize(
    ("policy", "reason"),
    [
        (RetentionPolicy(5, 0, 0, 0, 0, 0), "number 3 by age (last 3 of 5)"),
        (RetentionPolicy(0, 48, 0, 0, 0, 0), "newest of 2026-06-15 12 h (hourly 3 of 48)"),
        (RetentionPolicy(0, 0, 7, 0, 0, 0), "newest of 2026-06-15 (daily 3 of 7)"),
        (RetentionPolicy(0, 0, -1, 0, 0, 0), "newest of 2026-06-15 (daily 3)"),
        (RetentionPolicy(0, 0, 0, 4, 0, 0), "oldest of all (weekly 2 of 4)"),
        (RetentionPolicy(0, 0, 0, 0, 12, 0), "oldest of all (monthly 2 of 12)"),
        (RetentionPolicy(0, 0, 0, 0, 0, 3), "oldest of all (yearly 2 of 3)"),
    ],
)
def test_a_reason_names_the_bucket_and_which_of_the_counts_is_spent(
    policy: RetentionPolicy, reason: str
) -> None:
    """What an operator reads beside the oldest of three daily snapshots."""
    assert plan_retention(every(DAY, 3, NOON), policy, NOW)[-1].reasons == (reason,)


@given(histories, policies)
def test_a_plain_twin_that_groups_by_bucket_agrees(
    snapshots: list[Snapshot], policy: RetentionPolicy
) -> None:
    """Newest of each of the newest `count` buckets, plus the oldest while counts are left."""
    ordered = sorted(snapshots, key=lambda one: one.taken_at, reverse=True)
    formats = {"hourly": "%Y%m%d%H", "daily": "%Y%m%d", "weekly": "%G%V", "monthly": "%Y%m"}
    expected: set[str] = set()
    for kind in ("last", "hourly", "daily", "weekly", "monthly", "yearly"):
        count = getattr(policy, kind)
        limit = len(ordered) if count == -1 else count
        form = formats.get(kind, "%Y")
        newest_of: dict[str, str] = {}
        for number, one in enumerate(ordered):
            bucket = str(number) if kind == "last" else one.taken_at.strftime(form)
            newest_of.setdefault(bucket, one.snapshot_id)
        chosen = list(newest_of.values())
        expected |= set(chosen[:limit])
        if count and (count == -1 or len(chosen) < limit):
            expected.add(ordered[-1].snapshot_id)
    assert {one.snapshot_id for one in kept(snapshots, policy)} == expected
