"""Takes snapshots, and lists what the vaults hold.

A snapshot is committed by its record in the vault's log, nowhere else (see
`resources/vault/snapshots/backup.py`); the lake's row and the materialization are evidence of it.
An op that dies between the two leaves a snapshot that the catalogue shows and the next run builds
on.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import dagster as dg
from pydantic import Field

from fleet.backup import PLATFORM_NETWORK, ArtefactDeclaration, BackupScope
from fleet.backup_tables import CATALOG, ITEMS, SNAPSHOTS, CataloguedSnapshot, TakenSnapshot
from fleet.errors import CorruptObjectError, NotFoundError
from fleet.ports.clock import Clock
from fleet.ports.control_store import ControlStore
from fleet.ports.lake import Lake
from ops.backup_rows import write_rows, write_table
from ops.bulk import collector_paused
from ops.evidence import number_evidence
from ops.inventory import AFTER
from ops.partitions import Recorded, record_partitions
from ops.pools import BACKUP_SNAPSHOTS
from ops.shredded_networks import leave_out_shredded
from resources.vault.region_vaults import RegionVaults

if TYPE_CHECKING:
    from resources.vault.network import NetworkVault
    from resources.vault.snapshots.backup import BackupResult

NETWORK = "network"

SNAPSHOT_OP = "take_snapshots_op"
"""Where the run config of a snapshot stands, in the graph of its asset."""


class SnapshotConfig(dg.Config):
    """What a run of `backup_snapshots` takes."""

    full: bool = Field(
        default=False, description="Read every file again, and write a full manifest."
    )
    kinds: list[str] = Field(
        default=[],
        description="Only these kinds of items: state, file, store, lake, index. Empty: all. What "
        "is left out is carried over from the snapshot before.",
    )
    artefacts: list[str] = Field(
        default=[], description="Only these artefacts; empty for all of the network."
    )
    reason: str = Field(default="asked for by a person", description="Kept with the snapshot.")
    scheduled: bool = Field(
        default=False,
        description="Whether a schedule or sensor asks. Retention counts on a snapshot that a "
        "person asked for only once somebody has approved it.",
    )


@dg.op(
    ins=AFTER,
    out=dg.Out(dg.Nothing),
    pool=BACKUP_SNAPSHOTS,
    description="Store what has changed since the newest snapshot, and commit a new one.",
)
def take_snapshots_op(
    context: dg.AssetExecutionContext,
    config: SnapshotConfig,
    region_vaults: dg.ResourceParam[RegionVaults],
    control_store: dg.ResourceParam[ControlStore],
    artefact_declarations: dg.ResourceParam[Sequence[ArtefactDeclaration]],
    lake: dg.ResourceParam[Lake],
    clock: dg.ResourceParam[Clock],
) -> Recorded:
    """Take a snapshot of each network of the run, in the region that writes."""
    run_id = context.run.run_id
    stores = (region_vaults, control_store, artefact_declarations)

    def take(network_id: str) -> dict[str, Any]:
        taken = _take(*stores, network_id, config, run_id)
        evidence = write_rows(lake, SNAPSHOTS, network_id, [taken], TakenSnapshot, taken.taken_at)
        return {**_words(taken), **_numbers(taken), **evidence}

    taking = leave_out_shredded(region_vaults, lake, clock, SNAPSHOTS, TakenSnapshot, take)
    yield from record_partitions(context, SNAPSHOTS, NETWORK, taking)


def _take(
    vaults: RegionVaults,
    control_store: ControlStore,
    artefacts: Sequence[ArtefactDeclaration],
    network_id: str,
    config: SnapshotConfig,
    run_id: str,
) -> TakenSnapshot:
    from resources.vault.snapshots.backup import back_up
    from resources.vault.verification.verification_runs import code_version

    notes = {
        "run_id": run_id,
        "reason": config.reason,
        "scheduled": config.scheduled,
        "code_version": code_version(),
    }
    vault = vaults.home(network_id)
    with collector_paused():
        done = back_up(
            vault,
            None if network_id == PLATFORM_NETWORK else control_store,
            artefacts=[one for one in artefacts if one.network_id == network_id],
            scope=_scope(config),
            full=config.full,
            notes=notes,
            distrusted=_lost_packs(vault, vaults.declaration.home_region),
        )
    _tell(network_id, done)
    return TakenSnapshot(
        network_id=network_id,
        snapshot_id=done.snapshot_id,
        seq=done.seq,
        taken_at=done.taken_at,
        base_id=done.base_id,
        manifest=done.manifest,
        agents=done.agents,
        changed=done.changed,
        removed=done.removed,
        damaged=done.damaged,
        logical_bytes=done.bytes_logical,
        stored_bytes=done.bytes_stored,
        taking_s=done.seconds,
        base_fault=done.base_fault,
        reason=config.reason,
        scheduled=config.scheduled,
        run_id=run_id,
        full=config.full,
        artefacts=tuple(one.name for one in done.artefacts),
        items=sum(one.items for one in done.artefacts),
        incomplete=tuple(f"{name}: {error}" for name, error in done.incomplete),
    )


def _tell(network_id: str, done: "BackupResult") -> None:
    """Say in the run's log why a snapshot took longer, and what somebody did by hand."""
    log = dg.get_dagster_logger()
    if done.compared_all:
        log.info("all states of %s were compared: %s", network_id, done.compared_all)
    if done.unlogged:
        log.warning(
            "%d states of %s differ from the snapshot before, and the change log does not name "
            "them: were tables of the control store changed by hand?",
            done.unlogged,
            network_id,
        )
    for doubt in done.log_doubts:
        # It costs requests, not safety; the next verification (V1) judges what lasts.
        log.warning("log of network %s: %s", network_id, doubt)


def _lost_packs(vault: "NetworkVault", region: str) -> frozenset[str]:
    """Packs that no region has any more: what they held is stored again from the live states."""
    from fleet.backup_evidence import lost_packs
    from resources.vault.verification.evidence import read_local

    try:
        return lost_packs(read_local(vault, region))
    except CorruptObjectError as error:
        # The evidence log is no reason to take no backup; its own claim turns red.
        dg.get_dagster_logger().warning("evidence of %s cannot be read: %s", region, error)
        return frozenset()


def _scope(config: SnapshotConfig) -> BackupScope:
    return BackupScope(
        kinds=frozenset(config.kinds) or None, artefacts=frozenset(config.artefacts) or None
    )


def _numbers(taken: TakenSnapshot) -> dict[str, int | float]:
    """What plots."""
    return number_evidence(
        {
            "agents": taken.agents,
            "agents_changed": taken.changed,
            "agents_removed": taken.removed,
            "agents_damaged": len(taken.damaged),
            "artefacts": len(taken.artefacts),
            "artefacts_incomplete": len(taken.incomplete),
            "artefact_items": taken.items,
            "logical_bytes": taken.logical_bytes,
            "stored_bytes": taken.stored_bytes,
            "taking_s": taken.taking_s,
            "log_record": taken.seq,
        }
    )


def _words(taken: TakenSnapshot) -> dict[str, str]:
    """What a person reads: the fields that are empty say nothing, and are left out."""
    words = {
        "snapshot_id": taken.snapshot_id,
        "base": taken.base_id or "none: the first snapshot",
        "manifest": taken.manifest,
        "reason": taken.reason,
        "damaged": ", ".join(taken.damaged[:20]),
        "base_fault": taken.base_fault,
        "artefacts_taken": ", ".join(taken.artefacts[:20]),
        "incomplete": "; ".join(taken.incomplete[:20]),
    }
    return {name: word for name, word in words.items() if word}


@dg.op(
    ins=AFTER,
    out=dg.Out(dg.Nothing),
    description="List what the log of each network knows, live and forgotten.",
)
def list_snapshots_op(
    context: dg.AssetExecutionContext,
    region_vaults: dg.ResourceParam[RegionVaults],
    lake: dg.ResourceParam[Lake],
    clock: dg.ResourceParam[Clock],
) -> Recorded:
    """Record every snapshot that the writing region knows."""

    def catalogue(network_id: str) -> dict[str, Any]:
        from resources.vault.snapshots.catalog import catalogue_snapshots

        home = region_vaults.declaration.home_region
        vault = region_vaults.home(network_id)
        runs = _list_items(lake, vault, network_id, clock)
        table = catalogue_snapshots(vault, home)
        evidence = write_table(lake, CATALOG, network_id, table, CataloguedSnapshot, clock.now())
        return {**_totals(table.to_pylist()), "item_runs": runs, **evidence}

    listing = leave_out_shredded(region_vaults, lake, clock, CATALOG, CataloguedSnapshot, catalogue)
    yield from record_partitions(context, CATALOG, NETWORK, listing)


def _list_items(lake: Lake, vault: "NetworkVault", network_id: str, clock: Clock) -> int:
    """Write which snapshots hold which version of which item; how many rows that took.

    Built from the table before it, whose objects then go: the vault can tell every one of them.
    """
    from resources.vault.snapshots.catalog import catalogue_items

    before = lake.objects(ITEMS, network_id)
    try:
        previous = lake.read_latest(ITEMS, network_id) if before else None
    except (CorruptObjectError, NotFoundError):
        previous = None  # a cache that cannot be read is built anew
    items = catalogue_items(vault, previous)
    written = lake.write(ITEMS, network_id, items, clock.now())
    lake.remove(one for one in before if one.key != written.key)
    return int(written.rows)


def _totals(rows: list[dict[str, Any]]) -> dict[str, Any]:
    live = [row for row in rows if row["state"] == "live"]
    totals: dict[str, Any] = {
        "snapshots_live": len(live),
        "snapshots_held": sum(bool(row["hold"]) for row in live),
        "snapshots_verified": sum(bool(row["verified_level"]) for row in live),
        "snapshots_forgotten": len(rows) - len(live),
    }
    if live:
        totals["newest"] = dg.MetadataValue.timestamp(max(row["taken_at"] for row in live))
        totals["oldest"] = dg.MetadataValue.timestamp(min(row["taken_at"] for row in live))
    return totals
