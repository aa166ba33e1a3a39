"""When an index is worth a refresh: by how many notes wait, by their share, by how long they wait.

Notes come all the time, and a run costs more than the few that came since the last one. So they are
gathered; an index is never renewed because it is old, only because notes wait for it.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from fleet.errors import InvalidInputError

SHARE_NOTES_MIN = 1000
"""Fewer waiting notes than this are never due by their share: a tenth of fifty notes is five, and
a run for five notes costs as much as one for five thousand."""

AGAIN_S = 300.0
"""After a refresh that published nothing the next begins at the earliest so much later: what made
it fail is seldom gone sooner, and people are told meanwhile."""


@dataclass(frozen=True, slots=True)
class RefreshThresholds:
    """What makes a refresh due; one of the three is enough.

    Raises:
        InvalidInputError: a value that cannot be.
    """

    notes: int = 10_000
    """So many notes wait."""
    share: float = 0.1
    """So many wait, as a share of those inside the index."""
    age_s: float = 30.0
    """The note that came first has waited so long."""
    behind_max_s: float = 900.0
    """An index whose oldest waiting note has waited so long is stale: checks and alerts say so."""

    def __post_init__(self) -> None:
        """Refuse thresholds that are never or always met."""
        if self.notes < 1:
            raise InvalidInputError("vectors.refresh_notes", self.notes, "1 or more")
        if not 0.0 < self.share <= 1.0:
            raise InvalidInputError("vectors.refresh_share", self.share, "0 < share <= 1")
        if not 0.0 < self.age_s < self.behind_max_s:
            raise InvalidInputError(
                "vectors.refresh_age_s",
                self.age_s,
                f"more than 0 and less than behind_max_s ({self.behind_max_s:g})",
            )


class Waiting(NamedTuple):
    """Notes of a network that its index does not hold yet."""

    notes: int
    """Changes of notes; counted up to a limit, so this or more."""
    oldest_at: datetime | None
    """When the first of them was stored; None where nothing waits."""


class DueVerdict(NamedTuple):
    """Whether to refresh now, and why or why not."""

    is_due: bool
    reason: str


def decide_due(
    waiting: Waiting,
    live: int,
    thresholds: RefreshThresholds,
    now: datetime,
    *,
    failed_at: datetime | None = None,
) -> DueVerdict:
    """Say whether a network's index is to be refreshed now.

    Args:
        waiting: what it does not hold.
        live: notes that it holds; 0 where there is no index.
        thresholds: of the network.
        now: by the clock that dated the waiting notes.
        failed_at: end of the last refresh, where it published nothing; None otherwise.
    """
    if waiting.oldest_at is None:
        return DueVerdict(False, "no note waits")
    waited_s = (now - waiting.oldest_at).total_seconds()
    told = f"{waiting_text(waiting.notes)}, the first for {max(0.0, waited_s):.0f} s"
    if failed_at is not None:
        left_s = AGAIN_S - (now - failed_at).total_seconds()
        # A failure that lies far ahead was dated by a clock that has been set back since.
        if 0 < left_s <= 2 * AGAIN_S:
            return DueVerdict(False, f"{told}; tried again in {left_s:.0f} s")
    if waiting.notes >= thresholds.notes:
        return DueVerdict(True, f"{told}; {thresholds.notes} are enough")
    if waiting.notes >= max(SHARE_NOTES_MIN, thresholds.share * live):
        return DueVerdict(True, f"{told}; {thresholds.share:.0%} of {live} are enough")
    if waited_s >= thresholds.age_s:
        return DueVerdict(True, f"{told}; {thresholds.age_s:g} s are enough")
    return DueVerdict(False, f"{told}; due after {thresholds.age_s:g} s")


def waiting_text(notes: int) -> str:
    """How many wait, in words."""
    return "1 note waits" if notes == 1 else f"{notes} notes wait"
