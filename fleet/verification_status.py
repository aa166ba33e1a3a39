"""What a region's evidence adds up to for each snapshot: the level it passed, what it still fails.

A failure is not forgotten because a weaker look found nothing. It ends when the same level passes,
or when V3 or more does: from V3 on every blob of the snapshot is read and compared. V2 ends no
failure of V1, for it re-hashes what is there and does not miss what is not.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import NamedTuple

from fleet.backup_evidence import VerificationEvidence
from fleet.scrub_plan import FAILED_PARTS_KEY, PARTS_KEY, SHARE_KEY
from fleet.verification_sampling import SLICES

READS_EVERYTHING = "V3"
"""From this level on a pass proves every blob of the snapshot."""


class VerificationStatus(NamedTuple):
    """What one region has proven about one snapshot."""

    passed: Mapping[str, datetime]
    """By level, when it was passed last."""
    failed: Mapping[str, tuple[datetime, str]]
    """By level, since when it fails, and the first thing found; only what nothing has ended."""

    @property
    def level(self) -> str:
        """Highest level passed; empty for none."""
        return max(self.passed, default="")

    @property
    def failed_level(self) -> str:
        """Highest level that it fails; empty for none."""
        return max(self.failed, default="")


NEVER = VerificationStatus({}, {})
"""Of a snapshot that nobody has looked at."""


class _Fold:
    """What is known of one snapshot while its evidence is added up."""

    def __init__(self) -> None:
        self.passed: dict[str, datetime] = {}
        self.failed: dict[str, tuple[datetime, str]] = {}
        self._parts_passed: dict[int, datetime] = {}
        self._parts_failed: set[int] = set()

    def add(self, one: VerificationEvidence, *, is_bad: bool) -> None:
        if one.level == "V2":
            self._add_parts(one, is_bad=is_bad)
        elif is_bad:
            self._fail(one)
        elif SHARE_KEY not in one.detail:  # a sample that found nothing proves nothing of the rest
            self._pass(one.level, one.started_at)

    def _add_parts(self, one: VerificationEvidence, *, is_bad: bool) -> None:
        """A look at some parts: the level is passed when each of them was, the oldest says when."""
        parts = set(one.detail.get(PARTS_KEY, range(SLICES)))
        bad = set(one.detail.get(FAILED_PARTS_KEY) or parts) if is_bad else set()
        self._parts_passed.update(dict.fromkeys(parts - bad, one.started_at))
        self._parts_failed = (self._parts_failed - parts) | bad
        for part in bad:
            self._parts_passed.pop(part, None)
        if bad:
            self._fail(one)
        elif not self._parts_failed:
            self.failed.pop(one.level, None)
            if len(self._parts_passed) == SLICES:
                self._pass(one.level, min(self._parts_passed.values()))

    def _fail(self, one: VerificationEvidence) -> None:
        self.failed.setdefault(one.level, (one.started_at, one.failures[0]))
        self.passed.pop(one.level, None)

    def _pass(self, level: str, at: datetime) -> None:
        self.passed[level] = at
        for ended in [one for one in self.failed if _ends(level, one)]:
            del self.failed[ended]
        if level >= READS_EVERYTHING:
            self._parts_failed.clear()


def fold_verifications(evidence: Iterable[VerificationEvidence]) -> dict[str, VerificationStatus]:
    """Add up the evidence of one region, snapshot by snapshot.

    Args:
        evidence: of one network in one region, in the order of its log. `detail["snapshots"]`
            names the snapshots that it holds for; without it, `snapshot_id` alone; empty, it
            says nothing of any snapshot (a drill that failed at starting agents). Of a failed
            one, `detail["failed_snapshots"]` names those that failed; without it, all of them.
            A V2 of some parts (`fleet.scrub_plan`) passes when all parts have passed.
    """
    folds: dict[str, _Fold] = {}
    for one in evidence:
        names = set(one.detail.get("snapshots", [one.snapshot_id]))
        bad = set() if one.ok else set(one.detail.get("failed_snapshots", names))
        for snapshot_id in names | bad:
            folds.setdefault(snapshot_id, _Fold()).add(one, is_bad=snapshot_id in bad)
    return {
        snapshot_id: VerificationStatus(fold.passed, fold.failed)
        for snapshot_id, fold in sorted(folds.items())
    }


def _ends(passed: str, failed: str) -> bool:
    """Whether passing a level takes back that another one failed."""
    return passed == failed or (passed >= READS_EVERYTHING and passed > failed)
