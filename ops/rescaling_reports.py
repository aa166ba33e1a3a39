"""What is shown of rescaling: each look as numbers that plot, the log as a table of the lake."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import dagster as dg

from fleet.ports.clock import Clock
from fleet.ports.control_store import ControlStore
from fleet.ports.lake import Lake
from fleet.rescaling.standing import LoggedDecision
from fleet.rescaling.tables import SCALING_DECISIONS, ScalingDecisionRow, decision_row
from ops.backup_rows import read_rows
from ops.evidence import column_schema, number_evidence, object_evidence, table_preview
from ops.inventory import AFTER
from ops.outcomes import outcomes

SHOWN_MAX = 20
"""Workloads whose numbers plot at once: those that are to change first, then by name."""
PAGE_ROWS = 20_000
PAGES_MAX = 10
KEEP_LOG = timedelta(days=7)
"""How long the control store keeps decisions that are in the lake."""
FLEET = "fleet"
"""Partition in the lake: decisions cross regions and are not partitioned."""

PREVIEW = (
    "last_at", "workload", "region", "verdict", "current", "desired", "min_replicas",
    "max_replicas", "ready", "load", "limited_by", "times", "reason",
)  # fmt: skip
"""Columns that a person reads first."""


def observations_of(decisions: Sequence[LoggedDecision]) -> list[dg.AssetObservation]:
    """One look, as an observation of the asset; none where nothing is scaled."""
    if not decisions:
        return []
    return [dg.AssetObservation(asset_key=SCALING_DECISIONS, metadata=decision_metadata(decisions))]


def decision_metadata(decisions: Sequence[LoggedDecision]) -> dict[str, Any]:
    """Numbers of each workload and region, so that each plots, and the reasons as a table."""
    ordered = sorted(decisions, key=lambda one: (one.current == one.desired, one.key))
    shown = ordered[:SHOWN_MAX]
    metadata: dict[str, Any] = {}
    for one in sorted(shown, key=lambda each: each.key):
        metadata |= number_evidence(
            {f"{one.workload} {one.region}: {name}": v for name, v in _numbers(one).items()}
        )
    if shown:
        metadata["reasons"] = table_preview(
            shown, ("workload", "region", "verdict", "current", "desired", "limited_by", "reason")
        )
    if len(ordered) > len(shown):
        metadata["workloads_not_shown"] = len(ordered) - len(shown)
    return metadata


def _numbers(one: LoggedDecision) -> Mapping[str, int | float]:
    """A load that could not be measured is absent: it must not plot as 0."""
    numbers: dict[str, int | float] = {
        "replicas": one.current,
        "ready": one.ready,
        "desired": one.desired,
        "min": one.min_replicas,
        "max": one.max_replicas,
    }
    if one.load is not None:
        numbers["load, % of target"] = 100.0 * one.load
    return numbers


@dg.op(
    ins=AFTER,
    out=dg.Out(dg.Nothing),
    description="Append the decisions that were written down since the last look.",
)
def record_scaling_op(
    context: dg.AssetExecutionContext,
    lake: dg.ResourceParam[Lake],
    control_store: dg.ResourceParam[ControlStore],
    clock: dg.ResourceParam[Clock],
) -> None:
    """Write the new rows as one tick; no tick where nothing was decided.

    The cursor is the newest (last look, id) in the lake itself, so that a run which died behind its
    write appends nothing twice. What is in the lake leaves the store after a week.
    """
    with outcomes(context.op_execution_context.retry_number):
        after = last_recorded(lake)
        found, more = new_decisions(control_store, after)
        evidence: dict[str, Any] = {"dagster/table_name": SCALING_DECISIONS}
        now = clock.now()
        if found:
            rows = [decision_row(one) for one in found]
            evidence = _commit(lake, rows, now)
        trimmed = control_store.trim_scaling_decisions(min(now, after[0]) - KEEP_LOG)
    context.add_asset_metadata(
        {
            **evidence,
            "rows_appended": len(found),
            "rows_trimmed": trimmed,
            "more_to_come": more,
        }
    )


def _commit(lake: Lake, rows: list[ScalingDecisionRow], now: datetime) -> dict[str, Any]:
    from resources.lake.records import to_table

    committed = lake.write(SCALING_DECISIONS, FLEET, to_table(rows, ScalingDecisionRow), now)
    newest = sorted(rows, key=lambda row: (row.last_at, row.decision_id), reverse=True)
    return {
        **object_evidence(committed),
        "dagster/table_name": SCALING_DECISIONS,
        "dagster/column_schema": column_schema(ScalingDecisionRow),
        "preview": table_preview(newest, PREVIEW),
    }


def last_recorded(lake: Lake) -> tuple[datetime, int]:
    """The newest (last look, id) that the lake holds; the beginning of time for none."""
    rows = read_rows(lake, SCALING_DECISIONS, ScalingDecisionRow)
    beginning = (datetime(1970, 1, 1, tzinfo=UTC), 0)
    return max(((row.last_at, row.decision_id) for row in rows), default=beginning)


def new_decisions(
    store: ControlStore, after: tuple[datetime, int]
) -> tuple[list[LoggedDecision], bool]:
    """Rows behind a cursor, in its order, and whether there are more than one look takes."""
    found: list[LoggedDecision] = []
    for _ in range(PAGES_MAX):
        page = store.scaling_decisions_since(*after, PAGE_ROWS)
        found += page
        if len(page) < PAGE_ROWS:
            return found, False
        after = (page[-1].last_at, page[-1].decision_id)
    return found, True


def newest_of(decisions: Iterable[LoggedDecision]) -> list[LoggedDecision]:
    """The newest decision about each workload and region, by key."""
    newest: dict[tuple[str, str], LoggedDecision] = {}
    for one in decisions:
        before = newest.get(one.key)
        if before is None or (before.last_at, before.decision_id) <= (one.last_at, one.decision_id):
            newest[one.key] = one
    return [newest[key] for key in sorted(newest)]
