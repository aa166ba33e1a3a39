"""What a vault's log says of its snapshots, as rows for people and tables."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, NamedTuple

from fleet.backup_tables import CataloguedSnapshot
from fleet.vault_log import SnapshotRecord, VaultState, held_snapshots
from fleet.vault_records import StoredRecord
from resources.vault.network import NetworkVault


class CopyHead(NamedTuple):
    """How far one copy of a network has come."""

    records: int
    snapshot_id: str
    """Newest live snapshot; empty for none."""
    snapshot_at: datetime | None


def copy_head(vault: NetworkVault) -> CopyHead:
    """Read a copy's log up to its end.

    Raises:
        CorruptObjectError: the log is damaged.
    """
    state = vault.log.refresh()
    newest = max(state.live.values(), key=lambda one: one.taken_at, default=None)
    if newest is None:
        return CopyHead(state.head, "", None)
    return CopyHead(state.head, newest.snapshot_id, newest.taken_at)


def catalogue_snapshots(vault: NetworkVault, now: datetime) -> list[CataloguedSnapshot]:
    """Every snapshot that the log knows, newest first, forgotten ones last.

    Raises:
        CorruptObjectError: the log is damaged.
    """
    state = vault.log.refresh()
    held = held_snapshots(state, now)
    rows = [
        _row(vault.network_id, stored, stored.record, state, held)
        for stored in vault.log.records
        if isinstance(stored.record, SnapshotRecord)
    ]
    return sorted(rows, key=lambda row: (row.status == "forgotten", -row.seq))


def _row(
    network_id: str,
    stored: StoredRecord,
    record: SnapshotRecord,
    state: VaultState,
    held: frozenset[str],
) -> CataloguedSnapshot:
    snapshot_id = record.snapshot_id
    status = "live" if snapshot_id in state.live else "forgotten"
    if snapshot_id in held and status == "live":
        status = "held"
    extra = stored.extra
    return CataloguedSnapshot(
        network_id=network_id,
        snapshot_id=snapshot_id,
        seq=stored.position.seq,
        taken_at=record.taken_at,
        status=status,
        agents=_count(extra, "agents"),
        changed=_count(extra, "changed"),
        packs=len(record.packs),
        stored_bytes=_count(extra, "bytes_stored"),
        run_id=str(extra.get("run_id", "")),
        reason=str(extra.get("reason", "")),
    )


def _count(extra: Mapping[str, Any], name: str) -> int | None:
    """A number that the writer added; None where an older or other writer did not."""
    found = extra.get(name)
    return found if isinstance(found, int) else None
