"""What a nightly scrub reads of a copy, so that a week of them reads all: parts, reasons, coverage.

Pure: evidence and day are arguments. Each object belongs to one of `SLICES` parts by its hash; a
part has its day of the week, and what was missed, or found damaged, is read in addition. "Verified"
is then the oldest of the newest readings: the moment since which every part has passed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, date, datetime
from typing import NamedTuple

from fleet.backup_evidence import VerificationEvidence
from fleet.verification_sampling import SLICES, slice_of

PARTS_KEY, FAILED_PARTS_KEY = "parts", "failed_parts"
"""In the detail of V2 evidence: parts that were read, and those with damage; absent: all."""
SHARE_KEY = "sample_share"
"""In the detail of V3 evidence: share of the items that was read; absent: all."""
CHOSEN_KEY = "chosen"
"""In the detail of V3 evidence: whether somebody chose the snapshots; absent: no."""
SAMPLE_SHARE = 0.01
"""Of the newest snapshot's items that V3 opens on the days between two whole looks."""


class PartReading(NamedTuple):
    """The newest look at the bytes of one part."""

    read_at: datetime
    failure: str
    """First thing found wrong with it; empty when it passed."""


class DuePart(NamedTuple):
    """A part that is to be read today, and why."""

    part: int
    reason: str


class ScrubCoverage(NamedTuple):
    """How far back the reading of a copy goes."""

    readings: Mapping[int, PartReading]
    """By part; those never read are absent."""

    @property
    def oldest_read_at(self) -> datetime | None:
        """When the part that was read longest ago was read; None while one never was."""
        if len(self.readings) < SLICES:
            return None
        return min(one.read_at for one in self.readings.values())

    @property
    def proven_since(self) -> datetime | None:
        """The same, when no part's newest reading found damage; else None."""
        if any(one.failure for one in self.readings.values()):
            return None
        return self.oldest_read_at

    def __str__(self) -> str:
        """As a report says it."""
        never = sorted(set(range(SLICES)) - self.readings.keys())
        if never:
            read = f"{len(self.readings)} of {SLICES} parts read"
            return f"{read}; never: {', '.join(map(str, never))}"
        oldest = self.oldest_read_at
        return f"all {SLICES} parts read; oldest reading {oldest:%Y-%m-%d %H:%M} UTC"


class ContentLook(NamedTuple):
    """How much of the content V3 opens today, and why."""

    share: float
    """Of the items of each snapshot; 1 opens all."""
    seed: int
    """Chooses the sample, and the older snapshot of a whole look."""
    reason: str

    @property
    def is_whole(self) -> bool:
        """Whether all is opened, of the newest snapshot and a random older one."""
        return self.share >= 1


def fold_readings(evidence: Iterable[VerificationEvidence]) -> ScrubCoverage:
    """Add up the V2 evidence of one region's copy, in the order of its log."""
    readings: dict[int, PartReading] = {}
    for one in evidence:
        if one.level != "V2":
            continue
        parts = one.detail.get(PARTS_KEY, range(SLICES))
        failed = set() if one.ok else set(one.detail.get(FAILED_PARTS_KEY) or parts)
        for part in parts:
            failure = one.failures[0] if part in failed else ""
            readings[part] = PartReading(one.started_at, failure)
    return ScrubCoverage(readings)


def plan_scrub(
    coverage: ScrubCoverage, today: date, holds_since: datetime | None
) -> tuple[DuePart, ...]:
    """The parts to read today, in their order, each with its reason.

    Of any `SLICES` consecutive days with a scrub, each part is read on one at least; after days
    without one, the next scrub reads what was missed.

    Args:
        coverage: what was read before.
        today: the day, UTC.
        holds_since: moment of the oldest snapshot in the copy; None for none.
    """
    due: list[DuePart] = []
    for part in range(SLICES):
        reason = _reason_to_read(coverage.readings.get(part), part, today, holds_since)
        if reason:
            due.append(DuePart(part, reason))
    return tuple(due)


def _reason_to_read(
    reading: PartReading | None, part: int, today: date, holds_since: datetime | None
) -> str:
    if part == slice_of(today):
        return "its day"
    if reading is None:
        if holds_since is None or (today - _day(holds_since)).days < SLICES:
            return ""  # its day comes before the copy is a week old
        return f"never read, and the copy holds snapshots since {_day(holds_since)}"
    if reading.failure:
        return f"damage was found on {_day(reading.read_at)}"
    if (today - _day(reading.read_at)).days >= SLICES:
        return f"last read on {_day(reading.read_at)}"
    return ""


def plan_content(evidence: Iterable[VerificationEvidence], today: date) -> ContentLook:
    """How much V3 opens today: all once a week and after damage, else a sample that moves on.

    Args:
        evidence: of one region's copy, in the order of its log.
        today: the day, UTC.
    """
    seed = today.toordinal()
    whole_at: datetime | None = None
    failed_at: datetime | None = None
    for one in evidence:
        if one.level != "V3" or not one.detail.get("snapshots", [one.snapshot_id]):
            continue
        is_whole = SHARE_KEY not in one.detail and not one.detail.get(CHOSEN_KEY, False)
        if not one.ok:
            failed_at = one.started_at
        elif is_whole:
            failed_at = None
        if is_whole:
            whole_at = one.started_at
    if whole_at is None:
        return ContentLook(1.0, seed, "all was never opened")
    if failed_at is not None:
        return ContentLook(1.0, seed, f"damage was found on {_day(failed_at)}")
    if (today - _day(whole_at)).days >= SLICES:
        return ContentLook(1.0, seed, f"all was last opened on {_day(whole_at)}")
    return ContentLook(SAMPLE_SHARE, seed, f"all was opened on {_day(whole_at)}")


def _day(at: datetime) -> date:
    return at.astimezone(UTC).date()
