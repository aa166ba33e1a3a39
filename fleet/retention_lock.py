"""How long what a snapshot reads is locked against deletion (guard G11).

Every object is locked for some days when it is written. When a snapshot has *become* the one that
stands for its week, month or year, it is locked for as long as that class is kept. It has become
so only when that week, month or year is over: until then every newest snapshot is the newest of
its week, month and year, and would be locked for years by the next tick.

Locks are measured from the cut and never shortened, so the plan may be made and applied again.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from fleet.errors import InvalidInputError
from fleet.retention import RetentionPolicy, RetentionVerdict

DEFAULT_LOCK_DAYS = 14
"""Advised length of the lock that every object is written under."""


class LockLengths(NamedTuple):
    """How long a snapshot of a class is locked, from its cut; None leaves the class alone."""

    weekly: timedelta | None
    monthly: timedelta | None
    yearly: timedelta | None


class LockExtension(NamedTuple):
    """A snapshot whose objects are to be locked at least until a moment."""

    snapshot_id: str
    until: datetime
    reason: str


def lock_lengths(policy: RetentionPolicy) -> LockLengths:
    """The lengths for which a policy keeps its classes; an unlimited one is left alone.

    A snapshot is the one of its week for as many weeks as the policy counts, and so on; months
    have 31 days and years 366, so that no lock ends before the policy lets go.
    """
    counts = (policy.weekly, policy.monthly, policy.yearly)
    return LockLengths(
        *(
            timedelta(days=count * days) if count > 0 else None
            for count, days in zip(counts, (7, 31, 366), strict=True)
        )
    )


def plan_lock_extensions(
    verdicts: Sequence[RetentionVerdict], lengths: LockLengths, now: datetime
) -> tuple[LockExtension, ...]:
    """Which snapshots are to be locked until when.

    Args:
        verdicts: of the retention rule over all live snapshots, with its reasons.
        lengths: of the classes.
        now: aware; weeks, months and years that have not ended by then change nothing.

    Returns:
        One extension for each snapshot whose longest lock has not passed, newest first; that of
        several classes is the longest. Kept as the oldest of all does not count: that ends
        with the next snapshots.

    Raises:
        InvalidInputError: `now` has no time zone.
    """
    if now.tzinfo is None:
        raise InvalidInputError("now", now.isoformat(), "a moment with time zone")
    found = []
    for verdict in verdicts:
        ends = [
            (verdict.taken_at + length, name)
            for name, length in zip(LockLengths._fields, lengths, strict=True)
            if length is not None and _stands_for(verdict, name, now)
        ]
        until, name = max(ends, default=(now, ""))
        if until > now:
            reason = f"the {name} one; locked until {until.astimezone(UTC):%Y-%m-%d}"
            found.append(LockExtension(verdict.snapshot_id, until, reason))
    return tuple(sorted(found, key=lambda one: one.until, reverse=True))


def merge_locks(
    extensions: Iterable[LockExtension], objects: Mapping[str, Iterable[str]]
) -> dict[datetime, tuple[str, ...]]:
    """The objects of several snapshots, each once, under the latest moment that one of them needs.

    Args:
        extensions: snapshots and moments.
        objects: keys of what each snapshot reads, by snapshot id.

    Returns:
        Keys in order, by moment, latest first.
    """
    latest: dict[str, datetime] = {}
    for one in extensions:
        for key in objects[one.snapshot_id]:
            latest[key] = max(one.until, latest.get(key, one.until))
    merged: dict[datetime, list[str]] = {}
    for key, until in sorted(latest.items()):
        merged.setdefault(until, []).append(key)
    return {until: tuple(merged[until]) for until in sorted(merged, reverse=True)}


def _stands_for(verdict: RetentionVerdict, name: str, now: datetime) -> bool:
    """Whether a class keeps the snapshot, and its week, month or year is over."""
    stands = re.compile(rf"newest of .* \({name}\b")
    kept = any(stands.match(one) for one in verdict.reasons)
    return verdict.keep and kept and _ENDS[name](verdict.taken_at.astimezone(UTC)) <= now


def _end_of_week(at: datetime) -> datetime:
    return _midnight(at) + timedelta(days=7 - at.weekday())


def _end_of_month(at: datetime) -> datetime:
    return (_midnight(at).replace(day=1) + timedelta(days=32)).replace(day=1)


def _end_of_year(at: datetime) -> datetime:
    return _midnight(at).replace(year=at.year + 1, month=1, day=1)


def _midnight(at: datetime) -> datetime:
    return at.replace(hour=0, minute=0, second=0, microsecond=0)


_ENDS: Mapping[str, Callable[[datetime], datetime]] = {
    "weekly": _end_of_week,
    "monthly": _end_of_month,
    "yearly": _end_of_year,
}
