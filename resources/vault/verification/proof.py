"""V0: proof that what a backup stored is there, before the backup reports success."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import datetime
from typing import NamedTuple

from fleet.backup_evidence import ENGINE_VERSION, VerificationEvidence
from fleet.errors import CorruptObjectError, FencedError, StateroomError
from fleet.vault_keyspace import log_key
from resources.vault.keys.shredding import demand_unshredded
from resources.vault.network import NetworkVault
from resources.vault.verification.evidence import record_evidence


class StoredObjects(NamedTuple):
    """What one snapshot attempt has created."""

    snapshot_id: str
    keys: Mapping[str, str]
    """By hash."""
    sizes: Mapping[str, int]
    """Bytes, by hash."""


def prove_snapshot(vault: NetworkVault, stored: StoredObjects) -> str:
    """Run V0 and record it where the vault knows its region.

    Returns:
        Why the evidence could not be recorded, or ''. A fault of the evidence log does not make a
        snapshot that is committed and proven a failure.

    Raises:
        CorruptObjectError: something is not there as it was stored.
        FencedError: the snapshot was forgotten or left aside by another region's epoch.
    """
    clock = vault.clock
    started_at, began_s = clock.now(), clock.monotonic_s()
    try:
        _prove(vault, stored)
    except CorruptObjectError as error:
        took_s = clock.monotonic_s() - began_s
        _record(vault, stored, started_at, took_s, (str(error),))
        raise
    return _record(vault, stored, started_at, clock.monotonic_s() - began_s, ())


def _prove(vault: NetworkVault, stored: StoredObjects) -> None:
    """All that the attempt created is there in its size, and the record reads back."""
    # Once more from the store: another region may have begun an epoch that left this out.
    _demand_live(vault, stored.snapshot_id)
    record = vault.snapshot(stored.snapshot_id)
    for folder in ("packs", "manifests") if stored.keys else ():
        prefix = f"{folder}/{vault.network_id}/{stored.snapshot_id}/"
        listed = {one.key: one.size_bytes for one in vault.store.list_objects(prefix)}
        for sha256, key in stored.keys.items():
            if key.startswith(prefix) and listed.get(key) != stored.sizes[sha256]:
                _demand_live(vault, stored.snapshot_id)
                raise CorruptObjectError(
                    f"object {key}: stored {stored.sizes[sha256]} bytes, "
                    f"the store lists {listed.get(key)}",
                    hint="Run the backup again, distrusting this pack; check the store.",
                )
    key = log_key(vault.network_id, record.position.epoch, record.position.seq)
    if hashlib.sha256(vault.store.get(key)).hexdigest() != record.sha256:
        raise CorruptObjectError(f"log record {key} does not read back as written")
    # A process that opened the network before it was shredded must not report a backup.
    demand_unshredded(vault.store, vault.network_id)


def _demand_live(vault: NetworkVault, snapshot_id: str) -> None:
    """Tell a snapshot that somebody has removed already from one that was badly stored."""
    if snapshot_id not in vault.log.refresh().live:
        raise FencedError(
            f"snapshot {snapshot_id} was committed, and forgotten (or left aside by another "
            "region's epoch) before it was proven",
            hint="Run the backup again.",
        )


def _record(
    vault: NetworkVault,
    stored: StoredObjects,
    started_at: datetime,
    seconds: float,
    failures: tuple[str, ...],
) -> str:
    if not vault.region:
        return ""
    evidence = VerificationEvidence(
        network_id=vault.network_id,
        region=vault.region,
        level="V0",
        snapshot_id=stored.snapshot_id,
        started_at=started_at,
        seconds=seconds,
        items=len(stored.keys) + 1,
        bytes_checked=sum(stored.sizes.values()),
        failures=failures,
        code_version=ENGINE_VERSION,
    )
    try:
        record_evidence(vault, vault.region, evidence)
    except StateroomError as error:
        return str(error)
    return ""
