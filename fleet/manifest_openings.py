"""Which manifests the hourly V1 opens: those that no look has opened, and those whose day it is.

Pure: evidence and day are arguments. Manifests and packs are named by their hash and never change.
Once all manifests of a snapshot have opened, and everything that it reads was listed in its size,
the same listing says the same; opening them again would say nothing that re-hashing their bytes
(V2) does not. So evidence keeps, for each snapshot, a digest of what was listed, and a look opens
what has none, or another. Each chain is opened again on its day of the week, whatever is listed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from datetime import UTC, date, datetime
from typing import Any, NamedTuple

from fleet.backup_evidence import NAMED_MAX, VerificationEvidence
from fleet.errors import CorruptObjectError
from fleet.verification_sampling import SLICES, part_of, slice_of

OPENED_KEY = "opened"
"""In the detail of V1 evidence: snapshots whose manifests it opened; absent: none are known."""


class Opening(NamedTuple):
    """All manifests of a snapshot have opened, and what it reads was listed in its size."""

    objects: str
    """What was listed: `digest_objects` of all that the snapshot reads."""
    opened_at: datetime
    """By the clock of whoever looked: when the one opened longest ago was opened."""


def digest_objects(sizes: Mapping[str, int]) -> str:
    """SHA-256, in hex, of objects and their sizes, by key; of any order the same."""
    lines = "\n".join(f"{key} {size}" for key, size in sorted(sizes.items()))
    return hashlib.sha256(lines.encode()).hexdigest()


def encode_openings(openings: Mapping[str, Opening]) -> dict[str, list[str]]:
    """As V1 evidence names them; at most `NAMED_MAX`: the others are opened again next time."""
    named = list(openings.items())[:NAMED_MAX]
    return {
        snapshot_id: [one.objects, one.opened_at.astimezone(UTC).isoformat()]
        for snapshot_id, one in named
    }


def fold_openings(evidence: Iterable[VerificationEvidence]) -> dict[str, Opening]:
    """What is known of each snapshot, by the evidence of one region's copy, in its order.

    Damage that any level finds in a snapshot ends what is known of it.

    Raises:
        CorruptObjectError: evidence names an opening that is none.
    """
    known: dict[str, Opening] = {}
    for one in evidence:
        if not one.ok:
            held = one.detail.get("snapshots", [one.snapshot_id])
            for snapshot_id in one.detail.get("failed_snapshots", held):
                known.pop(snapshot_id, None)
        if one.level == "V1":
            known |= _decoded(one.detail.get(OPENED_KEY, {}), one.seq)
    return known


def _decoded(named: Any, seq: int) -> dict[str, Opening]:
    try:
        return {
            snapshot_id: Opening(str(objects), datetime.fromisoformat(opened_at))
            for snapshot_id, (objects, opened_at) in named.items()
        }
    except (AttributeError, TypeError, ValueError) as error:
        raise CorruptObjectError(f"evidence {seq} names openings badly: {error}") from error


def reason_to_open(opening: Opening | None, base_sha256: str, today: date) -> str:
    """Why the manifests of a snapshot are to be opened; empty when what is known of it will do.

    Of any `SLICES` days with a look, each manifest is opened on one at least; after days without
    one, the next look opens what was missed.

    Args:
        opening: what is known of it; None for nothing.
        base_sha256: name of the full manifest of its chain, so that a chain has one day.
        today: the day, UTC.
    """
    if opening is None:
        return "new"
    age_days = (today - opening.opened_at.astimezone(UTC).date()).days
    if age_days < 0:
        return "dated in the future"
    if age_days >= SLICES:
        return f"opened {age_days} days ago"
    if age_days and part_of(base_sha256) == slice_of(today):
        return "its day"
    return ""
