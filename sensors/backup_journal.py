"""The journal between snapshots: written in the tick itself, because a run would cost more than it.

The one sensor that acts. What it does is idempotent, bounded in time, and told as evidence.
"""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import dagster as dg

from fleet.backup_declaration import BackupDeclaration
from fleet.backup_tables import JournalReach
from fleet.journal_ticks import add_reach, is_event_due
from fleet.ports.clock import Clock
from fleet.ports.control_store import ControlStore
from fleet.ports.lake import Lake
from ops.state_journal import JournalHandle, journal_changes, record_reach
from resources.vault.region_vaults import RegionVaults
from sensors.backups import covered_networks

Gathered = dict[str, dict[str, JournalReach]]
"""Network -> region -> what has gathered since the last event."""


def build_state_journal_sensor(interval_s: int, *, running: bool) -> dg.SensorDefinition:
    """The sensor that writes segments.

    Args:
        interval_s: between two segments.
        running: whether it runs unless somebody stops it in the UI.
    """
    status = dg.DefaultSensorStatus.RUNNING if running else dg.DefaultSensorStatus.STOPPED
    handle = JournalHandle()

    @dg.sensor(
        name="state_journal_sensor",
        minimum_interval_seconds=interval_s,
        default_status=status,
        description=(
            "Journals what agents stored since the last snapshot, in the home and in every "
            "replica, so that a disaster costs a minute and not an hour. Acts in its tick."
        ),
    )
    def state_journal_sensor(
        context: dg.SensorEvaluationContext,
        backup_declaration: dg.ResourceParam[BackupDeclaration],
        region_vaults: dg.ResourceParam[RegionVaults],
        control_store: dg.ResourceParam[ControlStore],
        lake: dg.ResourceParam[Lake],
        clock: dg.ResourceParam[Clock],
    ) -> dg.SensorResult | dg.SkipReason:
        agent_networks = set(backup_declaration.networks)
        covered = covered_networks(context.instance, backup_declaration)
        networks = [one for one in covered if one in agent_networks]
        if not networks:
            return dg.SkipReason("no network has a snapshot to journal behind")
        last_at, gathered = decode_gathered(context.cursor)
        for row in _journal(handle, region_vaults, control_store, clock, networks):
            mine = gathered.setdefault(row.network_id, {})
            mine[row.region] = add_reach(mine.get(row.region), row)
        faults = _faults(gathered)
        for fault in faults:
            context.log.error(fault)
        now = clock.now()
        if not is_event_due(last_at, _rows(gathered), now):
            context.update_cursor(encode_gathered(last_at, gathered))
            return dg.SkipReason(_summary(gathered, faults))
        events = [
            record_reach(lake, network_id, _home_first(rows, backup_declaration), clock)
            for network_id, rows in gathered.items()
        ]
        return dg.SensorResult(asset_events=events, cursor=encode_gathered(now, {}))

    return state_journal_sensor


def _journal(
    handle: JournalHandle,
    vaults: RegionVaults,
    control_store: ControlStore,
    clock: Clock,
    networks: Sequence[str],
) -> list[JournalReach]:
    """Journal with the kept vaults; after any fault the next tick opens them anew."""
    kept = handle.keep(vaults, clock)
    try:
        rows = journal_changes(kept, control_store, clock, networks, handle.networks)
    except BaseException:
        handle.drop()
        raise
    if any(row.fault for row in rows):
        handle.drop()
    return rows


def _rows(gathered: Gathered) -> list[JournalReach]:
    return [row for rows in gathered.values() for row in rows.values()]


def _home_first(
    rows: Mapping[str, JournalReach], declaration: BackupDeclaration
) -> Sequence[JournalReach]:
    home = declaration.home_region
    return sorted(rows.values(), key=lambda row: (row.region != home, row.region))


def _faults(gathered: Gathered) -> list[str]:
    return [
        f"journal of {row.network_id} in {row.region}: {row.fault}"
        for row in _rows(gathered)
        if row.fault
    ]


def _summary(gathered: Gathered, faults: Sequence[str]) -> str:
    segments = sum(row.segments for row in _rows(gathered))
    return "; ".join([f"{segments} segments since the last event", *faults[:3]])


def encode_gathered(last_at: datetime | None, gathered: Gathered) -> str:
    """What has gathered, as the sensor's cursor: some 300 bytes for each network and region."""
    rows = [
        [
            value.isoformat() if isinstance(value, datetime) else value
            for value in row._replace(fault=row.fault[:200], damaged=row.damaged[:20])
        ]
        for row in _rows(gathered)
    ]
    return json.dumps([last_at.isoformat() if last_at else None, rows])


def decode_gathered(cursor: str | None) -> tuple[datetime | None, Gathered]:
    """When the last event was, and what has gathered since; nothing from an unknown cursor."""
    gathered: Gathered = {}
    try:
        last, rows = json.loads(cursor or "")
        for fields in rows:
            row = _decode_row(fields)
            gathered.setdefault(row.network_id, {})[row.region] = row
        return (datetime.fromisoformat(last) if last else None), gathered
    except (ValueError, TypeError, KeyError):
        return None, {}


def _decode_row(fields: Sequence[Any]) -> JournalReach:
    row = JournalReach(*fields)
    until: Any = row.covered_until
    looked: Any = row.looked_at
    return row._replace(
        covered_until=datetime.fromisoformat(until) if until else None,
        looked_at=datetime.fromisoformat(looked),
        damaged=tuple(row.damaged),
    )
