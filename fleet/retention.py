"""Which snapshots stay, and why: the grandfather-father-son rule, count based, in UTC.

The rule is restic's (0.16 and newer), reproduced decision for decision:

* Snapshots are looked at newest first. A counted rule keeps the newest snapshot of each of its
  buckets (hour, day, ISO week, month, year) until its count is spent; buckets without a snapshot
  cost nothing, so an outage never ages history away.
* A snapshot kept by several rules spends a count of each of them.
* While a rule has counts left it also keeps the oldest snapshot of all, so that a young network
  keeps its first one until the coarse rules are full.
* A `within` rule measures from the newest snapshot that is not in the future, never from now;
  running the plan late, or twice, changes nothing.

Times are bucketed in UTC only: buckets by local time shift between regions and lose snapshots.

Source: restic `internal/data/snapshot_policy.go` and its documentation "Removing snapshots
according to a policy".
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from fleet.errors import InvalidInputError

UNLIMITED = -1
"""Count of a rule that keeps every bucket."""


class CalendarSpan(NamedTuple):
    """A length of time in calendar units, as in `1y6m10d12h`."""

    years: int = 0
    months: int = 0
    days: int = 0
    hours: int = 0

    def __str__(self) -> str:
        """Write it the way it is parsed."""
        parts = zip(self, "ymdh", strict=True)
        return "".join(f"{number}{unit}" for number, unit in parts if number)

    def before(self, moment: datetime) -> datetime:
        """The moment that lies this span earlier.

        A day that the target month lacks rolls over into the next month (31 March less one month
        is 3 March), as Go's `Time.AddDate` does it and restic with it.
        """
        month_index = moment.year * 12 + (moment.month - 1) - self.years * 12 - self.months
        year, month = divmod(month_index, 12)
        if year < 1:
            return datetime.min.replace(tzinfo=UTC)
        first = moment.replace(year=year, month=month + 1, day=1)
        try:
            return first + timedelta(days=moment.day - 1 - self.days, hours=-self.hours)
        except OverflowError:
            return datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class RetentionPolicy:
    """How many buckets of each kind keep a snapshot; the default is that of production."""

    last: int = 0
    hourly: int = 48
    daily: int = 7
    weekly: int = 4
    monthly: int = 12
    yearly: int = 3
    within: CalendarSpan | None = None
    within_hourly: CalendarSpan | None = None
    within_daily: CalendarSpan | None = None
    within_weekly: CalendarSpan | None = None
    within_monthly: CalendarSpan | None = None
    within_yearly: CalendarSpan | None = None


class Snapshot(NamedTuple):
    """What the rule needs to know of a snapshot."""

    snapshot_id: str
    taken_at: datetime
    """Moment of the cut, aware."""


class RetentionVerdict(NamedTuple):
    """The fate of one snapshot, with every rule that keeps it."""

    snapshot_id: str
    taken_at: datetime
    keep: bool
    reasons: tuple[str, ...]
    """Never empty: why it is kept, or the sentence that no rule keeps it."""


def parse_calendar_span(field: str, text: str) -> CalendarSpan:
    """Read a span such as `10d` or `1y6m`.

    Args:
        field: name of the setting, for the error.
        text: numbers, each followed by y, m, d or h, in this order.

    Raises:
        InvalidInputError: anything else, also an empty or zero span.
    """
    pattern = r"(?:(\d+)y)?(?:(\d+)m)?(?:(\d+)d)?(?:(\d+)h)?"
    found = re.fullmatch(pattern, text.strip(), re.ASCII)
    span = CalendarSpan(*(int(part or 0) for part in found.groups())) if found else CalendarSpan()
    if not any(span):
        raise InvalidInputError(field, text, "numbers with y, m, d, h, for example 10d or 1y6m")
    return span


def plan_retention(
    snapshots: Sequence[Snapshot], policy: RetentionPolicy, now: datetime
) -> list[RetentionVerdict]:
    """Say of each snapshot whether the policy keeps it, and by which rules.

    Args:
        snapshots: in any order. Those taken at the same moment keep their given order.
        policy: counts and spans.
        now: only excludes future snapshots from being the newest that `within` measures from.

    Returns:
        One verdict per snapshot, newest first.

    Raises:
        InvalidInputError: the policy keeps nothing, or a count is below -1.
    """
    _validate(policy)
    ordered = sorted(snapshots, key=lambda one: one.taken_at, reverse=True)
    past = (one.taken_at for one in ordered if one.taken_at < now)
    rules = _rules(policy, next(past, _BEGINNING))
    verdicts = []
    for number, one in enumerate(ordered):
        is_oldest = number == len(ordered) - 1
        at = one.taken_at.astimezone(UTC)
        reasons = tuple(why for rule in rules if (why := rule.claim(at, number, is_oldest)))
        verdicts.append(
            RetentionVerdict(one.snapshot_id, one.taken_at, bool(reasons), reasons or (NO_RULE,))
        )
    return verdicts


NO_RULE = "no rule keeps it"
_BEGINNING = datetime.min.replace(tzinfo=UTC)

_BUCKETS: dict[str, Callable[[datetime, int], str]] = {
    "last": lambda _at, number: f"number {number + 1} by age",
    "hourly": lambda at, _number: f"newest of {at.date()} {at.hour:02d} h",
    "daily": lambda at, _number: f"newest of {at.date()}",
    "weekly": lambda at, _number: "newest of {}-W{:02d}".format(*at.isocalendar()),
    "monthly": lambda at, _number: f"newest of {at.year:04d}-{at.month:02d}",
    "yearly": lambda at, _number: f"newest of {at.year:04d}",
}
"""What a rule says of the snapshot that it keeps: the words differ exactly when the bucket does."""


class _Rule:
    """One rule on its way through the snapshots, newest first; remembers its bucket and count."""

    def __init__(self, kind: str, count: int, after: datetime | None, span: str = "") -> None:
        self._bucket_of = _BUCKETS.get(kind)
        self._count = count
        self._spent = 0
        self._after = after
        self._last = ""
        self._kind = kind
        self._span = span

    def claim(self, at: datetime, number: int, is_oldest: bool) -> str | None:
        """The reason for which this rule keeps the next snapshot, or None."""
        if self._spent == self._count or (self._after is not None and not at > self._after):
            return None
        if self._bucket_of is None:
            return f"within {self._span}"
        bucket = self._bucket_of(at, number)
        is_same = bucket == self._last
        if is_same and not is_oldest:
            return None
        self._last = bucket
        self._spent += 1
        return f"{'oldest of all' if is_same else bucket} ({self._which()})"

    def _which(self) -> str:
        """The rule, and which of its counts is spent: `daily 3 of 7`."""
        if self._span:
            return f"{self._kind} within {self._span}"
        limit = "" if self._count == UNLIMITED else f" of {self._count}"
        return f"{self._kind} {self._spent}{limit}"


def _rules(policy: RetentionPolicy, newest: datetime) -> list[_Rule]:
    """All rules that the policy sets, in restic's order of reasons."""
    spans = [
        _Rule(kind.removeprefix("within_"), UNLIMITED, span.before(newest), str(span))
        for kind in ("within", *_WITHIN_KINDS)
        if (span := getattr(policy, kind)) is not None
    ]
    counted = [_Rule(kind, getattr(policy, kind), None) for kind in _BUCKETS]
    first = 1 if policy.within is not None else 0
    return [*spans[:first], *counted, *spans[first:]]


_WITHIN_KINDS = tuple(f"within_{kind}" for kind in _BUCKETS if kind != "last")


def _validate(policy: RetentionPolicy) -> None:
    """Refuse counts below -1 and a policy that would remove everything."""
    for kind in _BUCKETS:
        count = getattr(policy, kind)
        if count < UNLIMITED:
            raise InvalidInputError(f"retention.{kind}", count, "0 or more, or -1 for all")
    if not any(getattr(policy, one.name) for one in fields(policy)):
        raise InvalidInputError(
            "retention",
            "no rule",
            "at least one rule that keeps something",
            hint="An empty policy would remove every snapshot; nothing was removed.",
        )
