"""Which runs of the orchestrator are forgotten: the old ones that no asset stands on any more."""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NamedTuple

from fleet.errors import InvalidInputError


@dataclass(frozen=True, slots=True)
class RunHistoryPolicy:
    """How long finished runs are kept, and how many are forgotten at a time.

    Raises:
        InvalidInputError: a value below 1.
    """

    keep_days: int = 14
    runs_max: int = 2000
    """Of one pruning: bounds its time; the rest is left for the next day."""

    def __post_init__(self) -> None:
        """Refuse a policy that would forget runs that have just ended, or never forget any."""
        for field in ("keep_days", "runs_max"):
            if getattr(self, field) < 1:
                raise InvalidInputError(field, getattr(self, field), "1 or more")


class FinishedRun(NamedTuple):
    """A run that has ended."""

    run_id: str
    created_at: datetime


def plan_run_pruning(
    runs: Iterable[FinishedRun],
    newest: AbstractSet[str],
    policy: RunHistoryPolicy,
    now: datetime,
) -> list[FinishedRun]:
    """Choose the runs to forget, oldest first.

    Args:
        runs: finished runs, in any order.
        newest: ids of runs that hold the newest materialization or check of something; they stay,
            however old, because the catalogue shows them.
        policy: how long and how many.
        now: the moment of the decision, aware UTC.
    """
    before = now - timedelta(days=policy.keep_days)
    old = (run for run in runs if run.created_at < before and run.run_id not in newest)
    return sorted(old, key=lambda run: (run.created_at, run.run_id))[: policy.runs_max]
