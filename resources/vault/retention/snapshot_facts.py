"""What a region knows of each snapshot of a network: from the log, its evidence, and its store."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import NamedTuple

from fleet.approvals import Approvals, fold_approvals
from fleet.backup_evidence import TaintEvidence, VerificationEvidence, tainted_snapshots
from fleet.errors import CorruptObjectError
from fleet.snapshot_fitness import SnapshotFacts, utc_text
from fleet.vault_keyspace import log_folder, log_key
from fleet.vault_log import SnapshotRecord, VaultState
from fleet.vault_records import StoredRecord
from fleet.verification_status import NEVER, VerificationStatus, fold_verifications
from resources.vault.network import NetworkVault
from resources.vault.verification.evidence import read_local


class VaultFacts(NamedTuple):
    """All that a retention plan is computed from, at one log head."""

    state: VaultState
    snapshots: tuple[SnapshotFacts, ...]
    """Of all snapshots that were ever committed, in the order of the log."""
    approvals: Approvals
    status: Mapping[str, VerificationStatus]
    """What this region has proven, by snapshot."""


def gather_facts(vault: NetworkVault, region: str, now: datetime) -> VaultFacts:
    """Read log and evidence up to their heads.

    Three listings (log, evidence, and the log again with the store's times) and one read for each
    new record: nothing is read of packs or manifests.

    Args:
        vault: the opened network, in the region's vault.
        region: whose evidence counts.
        now: the store's time; decides which holds have expired.

    Raises:
        CorruptObjectError: log or evidence is damaged; nothing can be planned before it is mended.
    """
    listed = vault.store.list_objects(log_folder(vault.network_id))
    stored_at = {one.key: one.modified_at for one in listed}
    state = vault.log.refresh()
    evidence = read_local(vault, region)
    status = fold_verifications(e for e in evidence if isinstance(e, VerificationEvidence))
    tainted = tainted_snapshots(evidence)
    taints = {
        one: f"{taint.agents_total} agents lost with {taint.key.rpartition('/')[2]}"
        for taint in evidence
        if isinstance(taint, TaintEvidence)
        for one in taint.snapshots
        if one in tainted
    }
    approvals = fold_approvals(one.record for one in vault.log.records)
    holds = _holds(state, now)
    facts = []
    for stored in vault.log.records:
        if isinstance(stored.record, SnapshotRecord):
            one = _from_record(stored, stored.record)
            one = _with_status(one, status.get(one.snapshot_id, NEVER))
            key = log_key(vault.network_id, stored.position.epoch, stored.position.seq)
            name = one.snapshot_id
            facts.append(
                one._replace(
                    live=name in state.live,
                    stored_at=stored_at.get(key),
                    tainted=taints.get(name, ""),
                    hold=holds.get(name, ""),
                    approved=approvals.snapshots.get(name, ""),
                )
            )
    return VaultFacts(state, tuple(facts), approvals, status)


def _from_record(stored: StoredRecord, record: SnapshotRecord) -> SnapshotFacts:
    """What the record says; one that does not say how it was started was started on schedule."""
    extra = stored.extra
    try:
        return SnapshotFacts(
            record.snapshot_id,
            stored.position.seq,
            record.taken_at,
            stored.written_at,
            agents=int(extra["agents"]),
            changed=int(extra["changed"]),
            scheduled=bool(extra.get("scheduled", True)),
            incomplete=tuple(map(str, extra.get("incomplete", ()))),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise CorruptObjectError(
            f"log record {stored.position.seq} does not say what its snapshot holds: {error!r}"
        ) from error


def _with_status(one: SnapshotFacts, status: VerificationStatus) -> SnapshotFacts:
    if status.failed:
        failed_at, failure = status.failed[status.failed_level]
        one = one._replace(failed_level=status.failed_level, failed_at=failed_at, failure=failure)
    if status.passed:
        one = one._replace(verified_level=status.level, verified_at=status.passed[status.level])
    return one


def _holds(state: VaultState, now: datetime) -> dict[str, str]:
    """Reasons of the holds in force, by snapshot."""
    reasons: dict[str, list[str]] = {}
    for hold in state.holds.values():
        if hold.expires_at is None or now < hold.expires_at:
            until = "" if hold.expires_at is None else f" until {utc_text(hold.expires_at)}"
            for name in hold.snapshot_ids:
                reasons.setdefault(name, []).append(f"{hold.reason}{until}")
    return {name: ", ".join(sorted(texts)) for name, texts in reasons.items()}
