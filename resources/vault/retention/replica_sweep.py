"""Deleting in a replica what the writing region's gc condemned, three days after it was told.

A wrong or hostile prune travels with the log as fast as a good one. So a replica counts from the
moment the gc record ARRIVED, by its own store's clock, and asks its own copy of the log what is
needed. Deletion is per object; killed anywhere, it is run again.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime, timedelta
from typing import NamedTuple

from fleet.backup_evidence import SweepEvidence, bound_list
from fleet.errors import InvalidInputError
from fleet.vault_keyspace import parse_place
from fleet.vault_log import (
    GcRecord,
    VaultState,
    restorable_snapshots,
)
from resources.vault.network import NetworkVault
from resources.vault.replicas.promote import branch_packs
from resources.vault.retention.local_holds import local_holds
from resources.vault.retention.removal import store_time
from resources.vault.verification.evidence import record_evidence

REPLICA_DELAY = timedelta(hours=72)
"""Long enough for a person to notice a bad prune over a weekend."""


class ReplicaSweepResult(NamedTuple):
    """What a replica's sweep deleted, and what it kept although it was condemned."""

    objects: int
    bytes_freed: int
    kept: tuple[str, ...]
    """Keys of condemned objects that something here still needs."""


def condemned_snapshots(vault: NetworkVault) -> frozenset[str]:
    """Forgotten snapshots of which a gc record has condemned something."""
    state = vault.log.refresh()
    return frozenset(
        one.snapshot_id for one in state.forgotten.values() if one.packs & state.condemned
    )


def sweep_replica(
    vault: NetworkVault,
    delay: timedelta = REPLICA_DELAY,
    spared: Collection[str] = frozenset(),
) -> ReplicaSweepResult:
    """Delete in a replica what gc records condemned that arrived at least `delay` ago.

    Needed is whatever a snapshot reads that is live in the replica's copy of the log, that an
    undelete may still ask for, that is held (in the log or locally), or that lies on a branch.

    Args:
        vault: the replica, opened with its region.
        delay: since the gc record arrived here, by this store's clock.
        spared: forgotten snapshots that this region would have kept (guard G10).

    Raises:
        InvalidInputError: the vault was opened without its region.
        CorruptObjectError: the log or the local log is damaged; nothing was deleted.
    """
    if not vault.region:
        raise InvalidInputError("region", vault.region, "the region whose copy is swept")
    state = vault.log.refresh()
    condemned, aborted = _arrived(vault, store_time(vault.store) - delay)
    needed = _needed(vault, state).union(*(state.forgotten[one].packs for one in spared))
    doomed, kept = [], []
    for listed in vault.list_packs():
        place = parse_place(listed.key, listed.size_bytes)
        if place.sha256 not in condemned and place.owner not in aborted:
            continue
        if place.sha256 in needed:
            kept.append(listed.key)
        else:
            doomed.append(listed)
    vault.store.delete([one.key for one in doomed])
    result = ReplicaSweepResult(
        len(doomed), sum(one.size_bytes for one in doomed), tuple(sorted(kept))
    )
    if doomed:
        evidence = SweepEvidence(
            vault.network_id,
            vault.region,
            result.objects,
            result.bytes_freed,
            bound_list(result.kept),
            vault.clock.now(),
        )
        record_evidence(vault, vault.region, evidence)
    return result


def _arrived(vault: NetworkVault, due: datetime) -> tuple[frozenset[str], frozenset[str]]:
    """What gc records condemned and gave up that lie here since before a moment."""
    listed = vault.store.list_objects(vault.log.folder)
    old = {one.key for one in listed if one.modified_at <= due}
    records = [
        one.record
        for one in vault.log.records
        if isinstance(one.record, GcRecord) and vault.log.key_at(one) in old
    ]
    condemned = frozenset[str]().union(*(one.condemned for one in records))
    return condemned, frozenset[str]().union(*(one.aborted for one in records))


def _needed(vault: NetworkVault, state: VaultState) -> frozenset[str]:
    now = vault.clock.now()
    holds = local_holds(vault).holds.values()
    held = frozenset[str]().union(
        *(one.snapshot_ids for one in holds if one.expires_at is None or now < one.expires_at)
    )
    snapshots = restorable_snapshots(state) | {
        one: record for one, record in state.forgotten.items() if one in held
    }
    return branch_packs(vault).union(*(one.packs for one in snapshots.values()))
