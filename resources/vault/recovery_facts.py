"""What one region can restore of a network, and what it has proven: read from its own vault."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import NamedTuple

from fleet.backup_evidence import VerificationEvidence
from fleet.recovery_objectives import Drill, RecoveryFacts
from fleet.rpo_alert import RecoveryPoint
from resources.vault.evidence import read_evidence
from resources.vault.network import NetworkVault
from resources.vault.snapshot_facts import gather_facts

_DRILL_LEVEL = "V5"
_DRILL_TIME = "rto_all_s"
"""Detail of a drill's evidence: seconds from its declaration until all agents ran."""


class RegionRecovery(NamedTuple):
    """What the objectives of one network in one region are judged by."""

    facts: RecoveryFacts
    points: tuple[RecoveryPoint, ...]
    """Restorable snapshots, in the order of the log: what an alarm tells delays from."""


def gather_recovery(
    vault: NetworkVault,
    region: str,
    now: datetime,
    *,
    home: bool,
    journal_at: datetime | None = None,
) -> RegionRecovery:
    """Read log and evidence of a region; no pack and no manifest.

    A snapshot counts once its record lies in the region, for then all that it needs does; one that
    fails a verification or is tainted there does not.

    Args:
        vault: the opened network, in the region's vault.
        region: whose copy.
        now: the store's time.
        home: whether this region writes the network.
        journal_at: moment up to which the journal in this region covers; None for none.

    Raises:
        CorruptObjectError: log or evidence is damaged.
    """
    found = gather_facts(vault, region, now)
    good = [f for f in found.snapshots if f.live and not f.tainted and f.failed_at is None]
    points = tuple(RecoveryPoint(f.taken_at, f.stored_at or f.written_at) for f in good)
    live = [found.status[f.snapshot_id] for f in found.snapshots if f.live and f[0] in found.status]
    verified_at: dict[str, datetime] = {}
    for status in found.status.values():
        for level, at in status.passed.items():
            verified_at[level] = max(at, verified_at.get(level, at))
    failing = {level: text for one in live for level, (_, text) in one.failed.items()}
    facts = RecoveryFacts(
        vault.network_id,
        region,
        max((f.taken_at for f in good), default=None),
        journal_at,
        verified_at,
        newest_drill(read_evidence(vault, region)),
        home,
        failing,
    )
    return RegionRecovery(facts, points)


def newest_drill(evidence: Iterable[VerificationEvidence]) -> Drill | None:
    """The newest drill among a region's evidence; None when it was never drilled.

    A drill that timed nothing has not shown that agents ran: it counts as failed.
    """
    newest = max(
        (one for one in evidence if one.level == _DRILL_LEVEL),
        key=lambda one: (one.started_at, one.seq),
        default=None,
    )
    if newest is None:
        return None
    finished_at = newest.started_at + timedelta(seconds=newest.seconds)
    took_s = newest.detail.get(_DRILL_TIME)
    if newest.failures:
        return Drill(finished_at, newest.seconds, newest.failures[0])
    if not isinstance(took_s, int | float):
        return Drill(finished_at, newest.seconds, "it did not measure when all agents ran")
    return Drill(finished_at, float(took_s))
