"""Rows of the backup tables: written to the lake with their evidence, and read back."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, TypeVar

from fleet.backup_tables import (
    CATALOG,
    JOURNAL,
    OBJECTIVES,
    PLAN,
    REPLICAS,
    SHREDDED,
    SNAPSHOTS,
    VERIFICATIONS,
)
from fleet.errors import NotFoundError
from fleet.ports.lake import Lake
from ops.evidence import PREVIEW_ROWS, column_schema, object_evidence, table_preview

PREVIEW_FIELDS: Mapping[str, tuple[str, ...]] = {
    SNAPSHOTS: ("snapshot_id", "taken_at", "agents", "changed", "artefacts", "reason"),
    CATALOG: ("snapshot_id", "taken_at", "state", "agents", "changed", "verified_level", "hold"),
    PLAN: ("fate", "reason", "taken_at"),
    JOURNAL: ("region", "covered_until", "segments", "agents", "gap", "fault"),
    REPLICAS: ("network_id", "is_home", "snapshot_at", "records_behind", "copied_bytes"),
    VERIFICATIONS: ("network_id", "level", "passed", "started_at", "part", "failures"),
    SHREDDED: ("network_id", "shredded_at", "by", "reason"),
    OBJECTIVES: ("network_id", "rpo_s", "rto_s", "backup_age_s", "replica_lag_s", "missing"),
}
"""Columns that a person reads first, by table; all of them stand in the lake."""

R = TypeVar("R", bound=tuple[Any, ...])


def write_rows(
    lake: Lake, table: str, partition: str, rows: Sequence[R], record: type[R], at: datetime
) -> dict[str, Any]:
    """Commit the rows of one partition; returns what a materialization shows of them.

    Committed by `Lake.write`: killed before it, nothing is there; killed behind it, the next look
    supersedes what was written.
    """
    from resources.lake.records import to_table

    return write_table(lake, table, partition, to_table(rows, record), record, at, rows)


def write_table(
    lake: Lake,
    table: str,
    partition: str,
    found: Any,
    record: type[R],
    at: datetime,
    rows: Sequence[R] | None = None,
) -> dict[str, Any]:
    """Commit a table that has the columns of a record; otherwise as `write_rows`.

    Args:
        lake: to write to.
        table: its name.
        partition: network or region.
        found: a `pyarrow.Table`.
        record: names and describes its columns.
        at: the tick.
        rows: the same as records, where they are at hand, for the preview.
    """
    from resources.lake.records import from_table

    committed = lake.write(table, partition, found, at)
    shown = from_table(found.slice(0, PREVIEW_ROWS), record) if rows is None else rows
    return {
        "preview": table_preview([_rounded(row) for row in shown], PREVIEW_FIELDS[table]),
        **object_evidence(committed),
        "dagster/table_name": table,
        "dagster/column_schema": column_schema(record),
    }


def _rounded(row: R) -> R:
    """Seconds to the millisecond: what stands in a preview is read by people."""
    values = row._asdict()  # type: ignore[attr-defined]  # every record is a NamedTuple
    short = {
        name: "; ".join(map(str, value)) if isinstance(value, tuple) else value
        for name, value in values.items()
    }
    exact = {name: round(v, 3) for name, v in short.items() if isinstance(v, float)}
    return row._replace(**{**short, **exact})  # type: ignore[attr-defined,no-any-return]


def read_rows(lake: Lake, table: str, record: type[R], partition: str | None = None) -> list[R]:
    """The newest rows of a partition (None: of all); none when nothing was ever recorded.

    Raises:
        CorruptObjectError: an object is damaged; the next materialization heals the view.
    """
    from resources.lake.records import from_table

    try:
        return from_table(lake.read_latest(table, partition), record)
    except NotFoundError:
        return []
