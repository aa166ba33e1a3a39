"""A finished verification as evidence: which snapshots it holds for, and which part it read."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any

from fleet.backup_evidence import ENGINE_VERSION, VerificationEvidence
from fleet.manifest_openings import OPENED_KEY, encode_openings
from fleet.scrub_plan import FAILED_PARTS_KEY, PARTS_KEY
from fleet.vault_log import MapRecord, SnapshotRecord
from fleet.verification_sampling import part_of
from resources.vault.network import NetworkVault
from resources.vault.verification.finding import Finding, Verification
from resources.vault.verification.verify import name_of


def evidence_of(
    vault: NetworkVault,
    done: Verification,
    started_at: datetime,
    *,
    snapshots: Sequence[str] | None = None,
    detail: Mapping[str, Any] | None = None,
    code_version: str = ENGINE_VERSION,
) -> VerificationEvidence:
    """A verification as evidence of the vault's region, ready for `record_evidence`.

    Args:
        vault: opened with its region.
        done: what was found.
        started_at: by the clock of whoever ran it.
        snapshots: that it holds for; None as its level says: all live ones, of a V3 the newest.
        detail: part, seed, share: what makes it repeatable.
        code_version: of whoever looked.
    """
    if snapshots is None:
        live = live_at(vault, started_at)
        snapshots = live if done.level != "V3" else live[-1:]
    failed = {name for one in done.findings for name in _failing(vault, one, snapshots)}
    return VerificationEvidence(
        network_id=vault.network_id,
        region=vault.region,
        level=done.level,
        snapshot_id=snapshots[-1] if snapshots else "",
        started_at=started_at,
        seconds=done.seconds,
        items=done.items,
        bytes_checked=done.size_bytes,
        failures=tuple(map(str, done.findings)),
        code_version=code_version,
        detail={
            "snapshots": list(snapshots),
            "failed_snapshots": sorted(failed),
            **({OPENED_KEY: encode_openings(done.opened)} if done.opened else {}),
            **(detail or {}),
        },
    )


def part_detail(
    findings: Collection[Finding], parts: Collection[int] | None
) -> dict[str, list[int]]:
    """Which parts a V2 has read, and in which it found damage.

    What belongs to no part by its name (a record's key holds no hash) counts as damage in all that
    were read, so that all of them are read again.
    """
    if parts is None:
        return {}
    names = [name_of(one.subject) for one in findings]
    bad = {part_of(name) for name in names if name} if None not in names else set(parts)
    return {PARTS_KEY: sorted(parts), FAILED_PARTS_KEY: sorted(bad)}


def _failing(vault: NetworkVault, finding: Finding, looked: Sequence[str]) -> Collection[str]:
    """Snapshots that a finding makes fail: those that it names, or that read the object.

    V2 knows objects alone; the log says who needs them. A pack that others were repacked into may
    be read by any snapshot.
    """
    if finding.snapshots or not finding.subject.startswith(("packs/", "manifests/")):
        return finding.snapshots
    name = name_of(finding.subject)
    state = vault.log.refresh()
    if any(
        isinstance(one.record, MapRecord) and name == one.record.new for one in vault.log.records
    ):
        return looked
    return [one for one in looked if one in state.live and name in state.live[one].packs]


def live_at(vault: NetworkVault, moment: datetime) -> list[str]:
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
