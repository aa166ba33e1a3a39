"""What is recorded of failover: node health, incidents with their stories, placements as ticks.

Each op reads the control store and commits one lake object per table, partition and look; an op
that dies before `Lake.write` leaves nothing, one that dies after it is superseded by the next look.
"""

from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from typing import Any

import dagster as dg

from fleet.failover_tables import (
    FLEET,
    INCIDENTS,
    NODE_HEALTH,
    PLACEMENTS,
    IncidentRow,
    NodeHealth,
    PlacedRow,
)
from fleet.incident_rows import incident_row, total_incidents
from fleet.incident_story import tell_incident
from fleet.incident_timeline import Incident, read_incident
from fleet.incidents import IncidentHeader
from fleet.node_health import join_health, total_health
from fleet.placement_history import PlacementRecord
from fleet.placement_judgement import moves_by_reason
from fleet.ports.clock import Clock
from fleet.ports.control_store import ControlStore
from fleet.ports.lake import Lake
from ops.backup_rows import read_rows
from ops.evidence import (
    column_schema,
    number_evidence,
    object_evidence,
    table_preview,
)
from ops.inventory import AFTER
from ops.outcomes import outcomes
from ops.partitions import Recorded, record_partitions

ENDED_WITHIN = timedelta(days=1)
"""How long an incident that has ended is still part of each look."""

INCIDENTS_MAX = 200
"""Incidents of one look, and again as many that are open; each costs one read of its journal."""

STORIES_MAX = 5
"""Stories in one materialization: each is a page, and stays in Dagster's storage."""

PAGE_ROWS = 20_000
"""Rows of the history that are read at once."""

PAGES_MAX = 10
"""Pages that one look records; what is left follows with the next."""

PREVIEWS: dict[str, tuple[str, ...]] = {
    NODE_HEALTH: (
        "node_id", "state", "since", "heartbeat_age_s", "lease_left_s", "votes_dead", "incident_id",
    ),
    INCIDENTS: (
        "incident_id", "state", "opened_at", "detection_s", "recovery_s", "agents_moved",
        "agents_parked", "acknowledged_by", "reason",
    ),
    PLACEMENTS: ("placed_at", "agent_id", "epoch", "node_id", "term", "desired", "reason"),
}  # fmt: skip
"""Columns that a person reads first."""


def commit_rows(
    lake: Lake, table: str, partition: str, rows: list[Any], record: type[Any], at: datetime
) -> dict[str, Any]:
    """Write the rows of one look; returns what its materialization shows of them."""
    from resources.lake.records import to_table

    committed = lake.write(table, partition, to_table(rows, record), at)
    return {
        **object_evidence(committed),
        "dagster/table_name": table,
        "dagster/column_schema": column_schema(record),
        "preview": table_preview(rows, PREVIEWS.get(table, record._fields)),
    }


@dg.op(
    ins=AFTER,
    out=dg.Out(dg.Nothing),
    description="Join the nodes' signs of life with what the controller makes of them.",
)
def record_health_op(
    context: dg.AssetExecutionContext,
    lake: dg.ResourceParam[Lake],
    control_store: dg.ResourceParam[ControlStore],
    clock: dg.ResourceParam[Clock],
) -> Recorded:
    """Record the health of the nodes of each region of the run."""

    def record(region: str) -> dict[str, Any]:
        regions = {
            one.node_id: one.region
            for one in control_store.roster().members
            if one.region == region
        }
        beats, kept = control_store.node_beats(), control_store.controller_view()
        now = clock.now()
        rows = join_health(beats, regions, kept, now)
        rows.sort(key=lambda row: (row.since is None, row.node_id))
        controller = {} if kept is None else _controller_evidence(kept.view, kept.kept_at, now)
        return {
            **commit_rows(lake, NODE_HEALTH, region, rows, NodeHealth, now),
            **number_evidence(total_health(rows)),
            **controller,
        }

    yield from record_partitions(context, NODE_HEALTH, "region", record)


def _controller_evidence(view: Any, kept_at: datetime, now: datetime) -> dict[str, Any]:
    return {
        "controller": str(view.controller),
        "controller_holder": view.holder,
        "controller_term": view.term,
        "frozen_by": ", ".join(view.frozen_by) or "nothing",
        "observers_reporting": view.observers_reporting,
        "observers_configured": view.observers_configured,
        "last_look_s": round(max(0.0, (now - kept_at).total_seconds()), 3),
    }


@dg.op(
    ins=AFTER,
    out=dg.Out(dg.Nothing),
    description="Record every incident that is open or ended lately, with its story.",
)
def record_incidents_op(
    context: dg.AssetExecutionContext,
    lake: dg.ResourceParam[Lake],
    control_store: dg.ResourceParam[ControlStore],
    clock: dg.ResourceParam[Clock],
) -> None:
    """One row for each incident; none when there is none, which is a look all the same."""
    with outcomes(context.op_execution_context.retry_number):
        now = clock.now()
        found = [
            read_incident(one, control_store.journal(one.incident_id))
            for one in select_incidents(control_store, now)
        ]
        rows = [incident_row(one, now) for one in found]
        evidence = commit_rows(lake, INCIDENTS, FLEET, rows, IncidentRow, now)
    context.add_asset_metadata(
        {
            # The page shows them in this order: what a person on call reads comes first.
            "stories": dg.MetadataValue.md(tell_stories(found, now)),
            **number_evidence(total_incidents(rows, now)),
            **evidence,
        }
    )


def select_incidents(store: ControlStore, now: datetime) -> list[IncidentHeader]:
    """Incidents that are open or ended within the last day, newest first."""
    newest = store.incidents(limit=INCIDENTS_MAX)
    known = {one.incident_id for one in newest}
    standing = [
        one
        for one in store.incidents(open_only=True, limit=INCIDENTS_MAX)
        if one.incident_id not in known
    ]
    return [
        one
        for one in (*newest, *standing)
        if one.ended_at is None or now - one.ended_at < ENDED_WITHIN
    ]


def tell_stories(incidents: Iterable[Incident], now: datetime) -> str:
    """The newest incidents told in Markdown, those that have not ended first."""
    ordered = sorted(incidents, key=lambda one: one.header.ended_at is not None)
    if not ordered:
        return "No incident is open, and none has ended within the last day."
    told = []
    for one in ordered[:STORIES_MAX]:
        head, *lines = tell_incident(one, now)
        items = "\n".join(f"- {_escaped(line)}" for line in lines)
        told.append(f"### {_escaped(head)}\n\n`{one.header.incident_id}`\n\n{items}")
    if len(ordered) > STORIES_MAX:
        told.append(f"{len(ordered) - STORIES_MAX} more: `stateroom incidents`")
    return "\n\n".join(told)


def _escaped(line: str) -> str:
    """A line that Markdown shows as it is; what stands between backticks is shown so already."""
    outside = line.split("`")
    outside[::2] = [
        part.replace("<", "&lt;").replace("*", "\\*").replace("_", "\\_") for part in outside[::2]
    ]
    return "`".join(outside)


@dg.op(
    ins=AFTER,
    out=dg.Out(dg.Nothing),
    description="Append what the store has recorded of placements since the last look.",
)
def record_placements_op(
    context: dg.AssetExecutionContext,
    lake: dg.ResourceParam[Lake],
    control_store: dg.ResourceParam[ControlStore],
    clock: dg.ResourceParam[Clock],
) -> None:
    """Write the new rows as one tick; no tick where nothing was placed.

    The cursor is the highest `history_id` in the lake itself, so that a run which died behind its
    write appends nothing twice.
    """
    with outcomes(context.op_execution_context.retry_number):
        after = last_recorded(lake)
        rows, more = _new_rows(control_store, after)
        evidence: dict[str, Any] = {"dagster/table_name": PLACEMENTS}
        if rows:
            placed = [PlacedRow._make(row) for row in rows]
            evidence = commit_rows(lake, PLACEMENTS, FLEET, placed, PlacedRow, clock.now())
    context.add_asset_metadata(
        {
            **evidence,
            "rows_appended": len(rows),
            "agents_placed": len({row.agent_id for row in rows}),
            "agents_moved": sum(row.epoch > 1 for row in rows),
            "agents_parked": sum(row.desired == "parked" for row in rows),
            "cursor": rows[-1].history_id if rows else after,
            "more_to_come": more,
            "moves_by_reason": _reasons(rows),
        }
    )


def last_recorded(lake: Lake) -> int:
    """Highest number of a placement that the lake holds; 0 for none."""
    return max((row.history_id for row in read_rows(lake, PLACEMENTS, PlacedRow)), default=0)


def _new_rows(store: ControlStore, after: int) -> tuple[list[PlacementRecord], bool]:
    """Rows behind a cursor, and whether there are more than one look takes."""
    rows: list[PlacementRecord] = []
    for page in placement_pages(store, after):
        rows += page
        if len(rows) >= PAGES_MAX * PAGE_ROWS:
            return rows, True
    return rows, False


def placement_pages(store: ControlStore, after: int = 0) -> Iterator[list[PlacementRecord]]:
    """The history behind a cursor, page by page; every page but the last one is full."""
    while page := store.placement_history(after, PAGE_ROWS):
        yield page
        after = page[-1].history_id
        if len(page) < PAGE_ROWS:
            return


def _reasons(rows: Iterable[PlacementRecord]) -> dg.TableMetadataValue:
    found = moves_by_reason(rows)
    records = [dg.TableRecord({"reason": reason, "agents": count}) for reason, count in found]
    columns = [dg.TableColumn("reason", "string"), dg.TableColumn("agents", "int")]
    return dg.MetadataValue.table(records, dg.TableSchema(columns=columns))
