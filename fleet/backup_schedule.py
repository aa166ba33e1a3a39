"""When backups are due: crons of each duty, missed runs made up for once, networks that are new."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NamedTuple

LATE_AFTER = timedelta(minutes=3)
"""A schedule evaluated later than this was missed: nothing ran at that time. Well above the
seconds that a busy daemon is behind, well below the shortest cron that makes sense for a backup."""

LOOK_FIRST_S, LOOK_LAST_S = 10.0, 300.0
"""Between two looks for the first state of a network that has none: each waits half as long again
as there was nothing to see, so that a network without agents costs nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BackupCrons:
    """When each duty falls due: five cron fields, in UTC."""

    snapshot: str = "0 * * * *"
    nightly: str = "0 2 * * *"
    control_store: str = "0 */6 * * *"
    retention: str = "40 2 * * *"
    """When the nightly snapshot has been verified."""
    structure: str = "20 * * * *"
    scrub: str = "0 5 * * *"
    restore_test: str = "0 4 * * 0"
    drill: str = "0 6 1 * *"


class RunVerdict(NamedTuple):
    """Whether a run is requested, and why (not)."""

    request: bool
    reason: str


def decide_catch_up(
    scheduled_at: datetime, newest_at: datetime | None, now: datetime
) -> RunVerdict:
    """Say whether a tick of a schedule asks for a run: each missed duty is made up for once.

    Dagster evaluates the latest of all missed ticks when its daemon comes back. That one is
    made up for, unless a run of the same duty has begun since it fell due (somebody was faster).

    Args:
        scheduled_at: when the tick fell due.
        newest_at: when the newest run of the same duty that did not fail began; None for none.
        now: the moment of the decision.
    """
    late = now - scheduled_at
    if late <= LATE_AFTER:
        return RunVerdict(True, f"due at {_minute(scheduled_at)}")
    if newest_at is not None and newest_at >= scheduled_at:
        reason = (
            f"missed at {_minute(scheduled_at)} and made up for: a run began {_minute(newest_at)}"
        )
        return RunVerdict(False, reason)
    return RunVerdict(True, f"missed at {_minute(scheduled_at)}, {_hours(late)} ago: made up for")


class FirstLook(NamedTuple):
    """What a sensor remembers of its looks for networks without any snapshot."""

    looked_at: datetime
    began_at: datetime
    """First look at this same set of networks."""
    missing: tuple[str, ...]


def is_look_due(last: FirstLook | None, missing: Sequence[str], now: datetime) -> bool:
    """Tell whether networks without a snapshot are worth another look at the control store."""
    if not missing:
        return False
    if last is None or last.missing != tuple(missing):
        return True
    waited_s = (last.looked_at - last.began_at).total_seconds()
    pause_s = min(max(waited_s / 2, LOOK_FIRST_S), LOOK_LAST_S)
    return (now - last.looked_at).total_seconds() >= pause_s


def select_first_snapshots(missing: Sequence[str], stated: Collection[str]) -> tuple[str, ...]:
    """Networks that have states and no snapshot: their first one does not wait for the hour.

    Args:
        missing: declared networks that never had a snapshot.
        stated: networks of which the control store holds a state.
    """
    return tuple(one for one in missing if one in stated)


def _minute(at: datetime) -> str:
    return at.isoformat(timespec="minutes")


def _hours(span: timedelta) -> str:
    hours = span.total_seconds() / 3600
    return f"{hours:.1f} h"
