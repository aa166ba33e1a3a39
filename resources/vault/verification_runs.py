"""Verifications as evidence: run on one region's copy, and recorded in that region's own log.

Damage that a verification finds is its result, not an error: it is recorded like a pass. Only what
keeps it from looking at all is raised.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version

from fleet.backup_evidence import VerificationEvidence
from fleet.vault_log import SnapshotRecord
from resources.vault.evidence import record_evidence
from resources.vault.network import NetworkVault
from resources.vault.verify import Verification, verify_bytes, verify_content, verify_structure

Look = Callable[[NetworkVault], Verification]

LOOKS: dict[str, Look] = {"V1": verify_structure, "V2": verify_bytes, "V3": verify_content}
"""Level -> what looks at a copy; V0 is part of every backup, V4 and V5 have runs of their own."""


def code_version() -> str:
    """Version of Stateroom that looks, as installed; `unknown` when it was not installed."""
    try:
        return version("stateroom")
    except PackageNotFoundError:
        return "unknown"


def run_verification(vault: NetworkVault, region: str, level: str) -> VerificationEvidence:
    """Look at a copy on one level, and record what was found.

    Raises:
        KeyError: no such level.
        StoreUnavailableError: the store does not answer; nothing was recorded.
    """
    started_at = vault.clock.now()
    found = LOOKS[level](vault)
    evidence = _evidence(vault, region, found, started_at)
    seq = record_evidence(vault, region, evidence)
    return evidence._replace(seq=seq)


def _evidence(
    vault: NetworkVault, region: str, found: Verification, started_at: datetime
) -> VerificationEvidence:
    live = _live_at(vault, started_at)
    looked = live if found.level != "V3" else live[-1:]
    failed = {one for finding in found.findings for one in finding.snapshots}
    return VerificationEvidence(
        network_id=vault.network_id,
        region=region,
        level=found.level,
        snapshot_id=live[-1] if live else "",
        started_at=started_at,
        seconds=found.seconds,
        items=found.items,
        bytes_checked=found.size_bytes,
        failures=tuple(f"{one.subject}: {one.problem}" for one in found.findings),
        code_version=code_version(),
        detail={"snapshots": looked, "failed_snapshots": sorted(failed)},
    )


def _live_at(vault: NetworkVault, moment: datetime) -> list[str]:
    """Live snapshots that were recorded before a moment, in the order of commit.

    One committed while the verification ran may not have been looked at: it is not vouched for.
    """
    state = vault.log.refresh()
    return [
        stored.record.snapshot_id
        for stored in vault.log.records
        if isinstance(stored.record, SnapshotRecord)
        and stored.record.snapshot_id in state.live
        and stored.written_at <= moment
    ]
