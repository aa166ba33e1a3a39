"""Verifies each region's copies on one or more levels, and records the evidence.

Evidence is committed in the region's own log in the vault (see its module `evidence`);
the lake keeps the newest of each level for checks and SQL, and its history. What a verification
finds is a result: the run succeeds, the check turns red.
"""

import uuid
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

import dagster as dg
from pydantic import Field

from fleet.backup_declaration import PLATFORM_NETWORK
from fleet.backup_evidence import VerificationEvidence
from fleet.backup_tables import VERIFICATIONS, ProvenLevel
from fleet.errors import PermanentError, StateroomError
from fleet.ports.clock import Clock
from fleet.ports.control_store import ControlStore
from fleet.ports.lake import Lake
from fleet.ports.progress import Progress
from fleet.scrub_plan import PARTS_KEY, SHARE_KEY
from ops.backup_locks import extend_locks
from ops.backup_replicas import REGION, combined_error
from ops.backup_rows import read_rows, write_rows
from ops.evidence import number_evidence
from ops.inventory import AFTER
from ops.partitions import Recorded, record_partitions
from ops.shredded_networks import find_shredded, shown_shredded
from resources.vault.region_vaults import RegionVaults

MENDED_MAX = 50
"""Objects that the evidence of a scrub names."""

DRILL = "V5"
"""Starts agents, of which the platform's own network has none."""


class VerificationConfig(dg.Config):
    """What a run of `backup_verifications` looks at."""

    levels: list[str] = Field(
        default=["V1"],
        description="V1 structure, V2 stored bytes, V3 content, V4 restore test, V5 drill.",
    )
    whole: bool = Field(
        default=False,
        description="Look at everything. Without it V1 takes old records out of the log's "
        "checkpoints, V2 reads the seventh of the bytes that is due, and V3 a sample unless its "
        "weekly look at all is due.",
    )
    heal: bool = Field(
        default=False,
        description="Bring what is damaged back from another region, and look at it once more.",
    )
    networks: list[str] = Field(default=[], description="Only these networks; empty for all.")
    snapshots: list[str] = Field(
        default=[], description="Snapshots that a V3 opens; empty for the newest of each network."
    )


@dg.op(
    ins=AFTER,
    out=dg.Out(dg.Nothing),
    description="Look at each region's copies, and record what was found.",
)
def verify_op(
    context: dg.AssetExecutionContext,
    config: VerificationConfig,
    region_vaults: dg.ResourceParam[RegionVaults],
    control_store: dg.ResourceParam[ControlStore],
    lake: dg.ResourceParam[Lake],
    clock: dg.ResourceParam[Clock],
    progress: dg.ResourceParam[Progress],
) -> Recorded:
    """Verify every network of each region of the run, level by level."""
    stores = (region_vaults, control_store)

    def verify(region: str) -> dict[str, Any]:
        fresh: list[ProvenLevel] = []
        mended: list[str] = []
        failed: dict[str, StateroomError] = {}
        networks = config.networks or region_vaults.declaration.vault_networks
        shredded = find_shredded(region_vaults, networks)
        for network_id in (one for one in networks if one not in shredded):
            try:
                rows, words = _verify_network(*stores, region, network_id, config, progress)
                fresh += rows
                mended += words
            except StateroomError as error:
                failed[network_id] = error
        shown: dict[str, Any] = {"levels": ", ".join(config.levels), "objects_mended": len(mended)}
        if config.heal:
            try:
                shown |= _examine(region_vaults, region)
                shown |= extend_locks(region_vaults, region, shredded)
            except StateroomError as error:
                failed["store"] = error
        known = read_rows(lake, VERIFICATIONS, ProvenLevel, region)
        newest = newest_levels(row for row in (*known, *fresh) if row.network_id not in shredded)
        evidence = write_rows(lake, VERIFICATIONS, region, newest, ProvenLevel, clock.now())
        if failed:
            raise combined_error(failed)
        if mended:
            shown["mended"] = mended[:MENDED_MAX]
        return {**shown, **_numbers(fresh), **evidence, **shown_shredded(shredded)}

    yield from record_partitions(context, VERIFICATIONS, REGION, verify)


def _examine(vaults: RegionVaults, region: str) -> dict[str, Any]:
    """What the region's store can do, found out once more by trying.

    Raises:
        PermanentError: it can no longer do what a vault stands on.
        StoreUnavailableError: it does not answer.
    """
    from resources.object_store.probe import examine_store

    probe = examine_store(vaults.store(region), uuid.uuid4().hex)
    if probe.faults:
        raise PermanentError(
            f"the store of {region} no longer passes its self-test: {'; '.join(probe.faults)}",
            hint="Stop writing to it until it does; the copies of other regions are not affected.",
        )
    return {
        "store_can": ", ".join(sorted(name for name, holds in probe.capabilities.items() if holds))
    }


def _verify_network(
    vaults: RegionVaults,
    control_store: ControlStore,
    region: str,
    network_id: str,
    config: VerificationConfig,
    progress: Progress,
) -> tuple[list[ProvenLevel], list[str]]:
    """Evidence of one network, and what was healed; none while this copy has no snapshot.

    Where damage was found and may be healed, what failed is looked at once more behind it.
    """
    from resources.vault.verification.verification_runs import VerificationRuns

    if not vaults.replica(region, network_id).log.refresh().live:
        return [], []

    def runs() -> VerificationRuns:
        return VerificationRuns(
            vaults,
            control_store,
            region,
            network_id,
            snapshot_ids=config.snapshots,
            whole=config.whole,
            on_phase=lambda phase: progress.finish(phase.name, phase.seconds),
        )

    first = runs()
    levels = [one for one in config.levels if not (one == DRILL and network_id == PLATFORM_NETWORK)]
    rows = [_row(found) for level in levels for found in first.run(level)]
    failed = sorted({row.level for row in rows if not row.passed})
    if not (config.heal and failed):
        return rows, []
    healed = first.heal()
    again = runs()
    rows += [_row(found) for level in failed for found in again.run(level)]
    return rows, [
        *(
            f"{one.key} healed{f' from {one.source}' if one.source else ''}: {one.cause}"
            for one in healed.healed
        ),
        *(f"{one.key} is lost in every region: {one.cause}" for one in healed.lost),
        *healed.undecided,
    ]


def _row(found: VerificationEvidence) -> ProvenLevel:
    recovery_s = found.detail.get("rto_all_s")
    oldest = found.detail.get("oldest_read_at")
    return ProvenLevel(
        region=found.region,
        network_id=found.network_id,
        level=found.level,
        snapshot_id=found.snapshot_id,
        started_at=found.started_at,
        verifying_s=found.seconds,
        items=found.items,
        checked_bytes=found.bytes_checked,
        passed=found.ok,
        failures=found.failures[:100],
        code_version=found.code_version,
        passed_at=_passed_at(found),
        recovery_s=recovery_s if isinstance(recovery_s, float) else None,
        part=str(found.detail.get("part", "")),
        oldest_read_at=datetime.fromisoformat(oldest) if oldest else None,
    )


def _passed_at(found: VerificationEvidence) -> datetime | None:
    """Since when the whole level is proven; None where this look does not say it.

    A look at some parts proves them all since the oldest reading; a sample proves nothing of the
    rest.
    """
    if not found.ok or SHARE_KEY in found.detail:
        return None
    if PARTS_KEY in found.detail:
        since = found.detail.get("proven_since")
        return datetime.fromisoformat(since) if since else None
    return found.started_at


def newest_levels(rows: Iterable[ProvenLevel]) -> list[ProvenLevel]:
    """The newest row of each network and level, by network and level.

    It keeps the moment when the level passed last, though it may have failed since.

    Args:
        rows: of one region, in the order in which they came about.
    """
    newest: dict[tuple[str, str], ProvenLevel] = {}
    for row in rows:
        key = (row.network_id, row.level)
        before = newest.get(key)
        passed_at = row.passed_at or (before.passed_at if before else None)
        newest[key] = row._replace(passed_at=passed_at)
    return [newest[key] for key in sorted(newest)]


def _numbers(fresh: Sequence[ProvenLevel]) -> dict[str, int | float]:
    return number_evidence(
        {
            "networks": len({row.network_id for row in fresh}),
            "items_checked": sum(row.items for row in fresh),
            "checked_bytes": sum(row.checked_bytes for row in fresh),
            "failures": sum(len(row.failures) for row in fresh),
            "verifying_s": sum(row.verifying_s for row in fresh),
        }
    )
