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


def fold_verifications(evidence: Iterable[VerificationEvidence]) -> dict[str, VerificationStatus]:
    """Add up the evidence of one region, snapshot by snapshot.

    Args:
        evidence: of one network in one region, in the order of its log. `detail["snapshots"]`
            names the snapshots that it holds for; without it, `snapshot_id` alone; empty, it
            says nothing of any snapshot (a drill that failed at starting agents). Of a failed
            one, `detail["failed_snapshots"]` names those that failed; without it, all of them.
    """
    passed: dict[str, dict[str, datetime]] = {}
    failed: dict[str, dict[str, tuple[datetime, str]]] = {}
    for one in evidence:
        names = set(one.detail.get("snapshots", [one.snapshot_id]))
        bad = set() if one.ok else set(one.detail.get("failed_snapshots", names))
        for snapshot_id in bad:
            open_failures = failed.setdefault(snapshot_id, {})
            open_failures.setdefault(one.level, (one.started_at, one.failures[0]))
            passed.get(snapshot_id, {}).pop(one.level, None)
        for snapshot_id in names - bad:
            passed.setdefault(snapshot_id, {})[one.level] = one.started_at
            open_failures = failed.get(snapshot_id, {})
            for level in [level for level in open_failures if _ends(one.level, level)]:
                del open_failures[level]
    return {
        snapshot_id: VerificationStatus(passed.get(snapshot_id, {}), failed.get(snapshot_id, {}))
        for snapshot_id in sorted(passed.keys() | failed.keys())
    }


def _ends(passed: str, failed: str) -> bool:
    """Whether passing a level takes back that another one failed."""
    return passed == failed or (passed >= READS_EVERYTHING and passed > failed)
