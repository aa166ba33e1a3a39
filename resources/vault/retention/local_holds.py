"""Holds of one region: they keep snapshots from the sweep of its copy, by its own log.

A copy's main log is the home's, and nothing may be appended to it; who restores from a copy holds
what it reads here.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from fleet.errors import PermanentError, StoreUnavailableError
from fleet.vault_log import HoldRecord, ReleaseRecord, VaultState, replay
from resources.vault.network import NetworkVault

_TRIES = 20


def hold_locally(
    vault: NetworkVault,
    snapshot_ids: Iterable[str],
    reason: str,
    expires_at: datetime | None = None,
) -> str:
    """Keep what snapshots need from this region's sweep, by its local log; the hold's id.

    Raises:
        PermanentError: one of them is in no state to be restored here any more.
    """
    record = HoldRecord(vault.new_id(), frozenset(snapshot_ids), expires_at, reason)
    state = vault.log.refresh()
    unknown = record.snapshot_ids - state.live.keys() - state.forgotten.keys()
    if unknown:
        raise PermanentError(
            f"cannot hold: no snapshot {', '.join(sorted(unknown))}",
            hint="`stateroom backups list` names them.",
        )
    _append_locally(vault, record)
    return record.hold_id


def release_locally(vault: NetworkVault, hold_id: str) -> None:
    """End a hold of this region."""
    _append_locally(vault, ReleaseRecord(hold_id))


def local_holds(vault: NetworkVault) -> VaultState:
    """What the local log of the region holds; only `holds` of the state has a meaning.

    Raises:
        CorruptObjectError: the local log is damaged; nothing may be deleted before it is mended.
    """
    return replay(one.record for one in vault.local_log().refresh())


def _append_locally(vault: NetworkVault, record: HoldRecord | ReleaseRecord) -> None:
    log = vault.local_log()
    log.seek_tail()
    for _ in range(_TRIES):
        try:
            log.refresh()
            if any(one.record == record for one in log.records):
                return
            if log.append(record, vault.clock.now()) is not None:
                return
        except StoreUnavailableError:
            continue  # whether it was placed shows at the next look
    raise StoreUnavailableError(
        f"network {vault.network_id}: no local record could be placed in {_TRIES} tries",
        hint="Run it again.",
    )
