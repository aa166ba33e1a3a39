"""Pulls each region's replica up to the home's head, and records how far every copy has come.

Committed record by record (`resources/vault/replicas/replicate.py`): killed anywhere, the replica
is a valid prefix, and the next run goes on from there.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import dagster as dg

from fleet.backup_tables import REPLICAS, Replica
from fleet.errors import PermanentError, StateroomError, TransientError
from fleet.ports.clock import Clock
from fleet.ports.lake import Lake
from ops.backup_rows import write_rows
from ops.evidence import number_evidence
from ops.inventory import AFTER
from ops.partitions import Recorded, record_partitions
from ops.shredded_networks import find_shredded, shown_shredded
from resources.vault.region_vaults import RegionVaults

REGION = "region"


@dg.op(
    ins=AFTER,
    out=dg.Out(dg.Nothing),
    description="Copy what each region's vault lacks of the home's, checked byte by byte.",
)
def replicate_op(
    context: dg.AssetExecutionContext,
    region_vaults: dg.ResourceParam[RegionVaults],
    lake: dg.ResourceParam[Lake],
    clock: dg.ResourceParam[Clock],
) -> Recorded:
    """Replicate every network to each region of the run; the home's own row shows its head."""

    def pull(region: str) -> dict[str, Any]:
        rows: list[Replica] = []
        failed: dict[str, StateroomError] = {}
        networks = region_vaults.declaration.vault_networks
        shredded = find_shredded(region_vaults, networks)
        for network_id in (one for one in networks if one not in shredded):
            try:
                rows += _pull_network(region_vaults, clock, region, network_id)
            except StateroomError as error:
                failed[network_id] = error
        evidence = write_rows(lake, REPLICAS, region, rows, Replica, clock.now())
        if failed:
            raise combined_error(failed)
        return {**_numbers(rows), **evidence, **shown_shredded(shredded)}

    yield from record_partitions(context, REPLICAS, REGION, pull)


def _pull_network(
    vaults: RegionVaults, clock: Clock, region: str, network_id: str
) -> list[Replica]:
    """One network's row; none when the home has no snapshot of it yet."""
    from resources.vault.replicas.replicate import replicate
    from resources.vault.verification.copy_head import copy_head

    source = vaults.home(network_id)
    home = copy_head(source)
    if not home.records:
        return []
    is_home = region == vaults.declaration.home_region
    began_s = clock.monotonic_s()
    copied = None if is_home else replicate(source, vaults.replica(region, network_id))
    seconds = clock.monotonic_s() - began_s
    copy = home if is_home else copy_head(vaults.replica(region, network_id))
    return [
        Replica(
            region=region,
            network_id=network_id,
            is_home=is_home,
            records=copy.records,
            records_behind=max(home.records - copy.records, 0),
            snapshot_id=copy.snapshot_id,
            snapshot_at=copy.snapshot_at,
            home_snapshot_at=home.snapshot_at,
            copied_records=copied.records if copied else 0,
            copied_objects=copied.objects if copied else 0,
            copied_bytes=copied.size_bytes if copied else 0,
            copying_s=seconds,
            looked_at=clock.now(),
        )
    ]


def _numbers(rows: Sequence[Replica]) -> dict[str, int | float]:
    return number_evidence(
        {
            "networks": len(rows),
            "copied_records": sum(row.copied_records for row in rows),
            "copied_objects": sum(row.copied_objects for row in rows),
            "copied_bytes": sum(row.copied_bytes for row in rows),
            "copying_s": sum(row.copying_s for row in rows),
            "records_behind": sum(row.records_behind for row in rows),
            "replica_lag_s": max((_lag_s(row) for row in rows), default=0.0),
        }
    )


def _lag_s(row: Replica) -> float:
    """How much older the copy's newest snapshot is than the home's; all of it without one."""
    if row.home_snapshot_at is None:
        return 0.0
    reached = row.snapshot_at or row.looked_at
    return abs((row.home_snapshot_at - reached).total_seconds())


def combined_error(failed: Mapping[str, StateroomError]) -> StateroomError:
    """One error for all networks that failed: transient when any of them was."""
    if len(failed) == 1:
        ((network_id, error),) = failed.items()
        kind = TransientError if isinstance(error, TransientError) else PermanentError
        raised = kind(f"network {network_id}: {error}", hint=error.hint)
    else:
        said = "; ".join(f"network {name}: {error}" for name, error in failed.items())
        hint = next((error.hint for error in failed.values() if error.hint), "")
        transient = any(isinstance(error, TransientError) for error in failed.values())
        raised = (TransientError if transient else PermanentError)(said, hint=hint)
    raised.__cause__ = next(iter(failed.values()))
    return raised
