"""What each region holds of a network, and which of it may be restored: read when it is needed."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from fleet.backup_evidence import tainted_snapshots
from fleet.drill_plan import Candidate, RegionCopy, SnapshotCopy
from fleet.errors import CorruptObjectError, NotFoundError
from resources.vault.journal.moment import find_moment
from resources.vault.network import NetworkVault
from resources.vault.packs.manifest import Manifest
from resources.vault.restores.restore import find_manifest
from resources.vault.verification.evidence import read_local
from resources.vault.verification.verify import verify_structure


def copy_of(vault: NetworkVault, region: str) -> RegionCopy:
    """The live snapshots of a region with what its structure and its evidence say of them."""
    verified = verify_structure(vault)
    live = vault.log.refresh().live
    faults: dict[str, str] = {}
    for finding in verified.findings:
        for snapshot_id in finding.snapshots:
            faults.setdefault(snapshot_id, f"{finding.subject}: {finding.problem}")
    try:
        tainted = tainted_snapshots(read_local(vault, region))
    except CorruptObjectError:
        # Restoring needs no evidence: without it, what is whole now is taken as good.
        tainted = frozenset()
    journal_until, journal_fault = _journal_of(vault, faults)
    return RegionCopy(
        region,
        tuple(
            SnapshotCopy(
                one.snapshot_id,
                one.taken_at,
                faults.get(one.snapshot_id, ""),
                "its evidence names lost objects" if one.snapshot_id in tainted else "",
            )
            for one in live.values()
        ),
        journal_until=journal_until,
        journal_fault=journal_fault,
    )


def _journal_of(vault: NetworkVault, faults: Mapping[str, str]) -> tuple[datetime | None, str]:
    """Up to when the journal reaches, or why it cannot be used."""
    live = vault.log.refresh().live
    if not live or list(live)[-1] in faults:
        return None, ""
    try:
        moment = find_moment(vault, None)
    except (CorruptObjectError, NotFoundError) as error:
        return None, str(error)
    return (moment.achieved if moment.achieved > moment.taken_at else None), ""


def manifest_of(vault: NetworkVault, candidate: Candidate) -> Manifest:
    """The rows that a candidate restores."""
    if candidate.with_journal:
        return find_moment(vault, None).manifest
    return find_manifest(vault, None, candidate.snapshot_id)[1]
