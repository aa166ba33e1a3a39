"""Keeps what stands for a week, month or year locked for as long as it is kept (guard G11).

Part of the nightly scrub: weeks, months and years end at midnight, and each object costs a request
or two. A store without locks is left alone. Killed anywhere, the next night does the same again.
"""

from collections.abc import Collection
from typing import Any

from fleet.retention import RetentionVerdict
from fleet.retention_lock import lock_lengths, plan_lock_extensions
from fleet.snapshot_fitness import GuardPolicy
from resources.vault.region_vaults import RegionVaults


def extend_locks(
    vaults: RegionVaults, region: str, without: Collection[str] = ()
) -> dict[str, Any]:
    """Lock the region's copies of snapshots that stand for a class; what was done, in numbers.

    Args:
        vaults: of all regions.
        region: whose copies.
        without: networks that are left out.

    Raises:
        PermanentError: the store refuses to lock.
        CorruptObjectError: a snapshot names a pack that this copy lacks.
        StoreUnavailableError: the store does not answer.
    """
    from resources.vault.retention.locking import extend_snapshot_locks
    from resources.vault.retention.retention_plan import plan_vault

    if vaults.store(region).features().lock_days is None:
        return {}
    policy, snapshots, extended = vaults.declaration.retention, 0, 0
    for network_id in (one for one in vaults.declaration.vault_networks if one not in without):
        vault = vaults.replica(region, network_id)
        if not vault.log.refresh().live:
            continue
        decided = plan_vault(vault, region, policy, GuardPolicy())
        verdicts = [
            RetentionVerdict(row.snapshot_id, row.taken_at, True, row.rules)
            for row in decided.plan.rows
            if row.rules
        ]
        due = plan_lock_extensions(verdicts, lock_lengths(policy), decided.decided_at)
        done = extend_snapshot_locks(vault, due)
        snapshots, extended = snapshots + done.snapshots, extended + done.extended
    return {"snapshots_locked": snapshots, "locks_extended": extended}
