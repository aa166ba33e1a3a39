"""What a materialization or a check shows: numbers that plot, previews, schemas, offenders."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from enum import Enum
from typing import Any

import dagster as dg

from fleet.inventory_checks import CheckVerdict, Severity
from fleet.ports.lake import LakeObject

PREVIEW_ROWS = 10
"""Rows of a preview: enough to see what a table is about, few enough for every event."""


def table_preview(records: Sequence[Any], fields: Sequence[str]) -> dg.TableMetadataValue:
    """The first records as a table of text; absent values are empty.

    Args:
        records: named tuples of one type.
        fields: their field names, also when there is no record.
    """
    rows = [
        dg.TableRecord({field: _cell(getattr(record, field)) for field in fields})
        for record in records[:PREVIEW_ROWS]
    ]
    schema = dg.TableSchema(columns=[dg.TableColumn(field, "string") for field in fields])
    return dg.MetadataValue.table(rows, schema=schema)


def _cell(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, Enum):
        return str(value.value)
    if isinstance(value, datetime):
        return value.isoformat(timespec="milliseconds")
    return str(value)


def column_schema(record: type[tuple[Any, ...]]) -> dg.TableSchema:
    """Name, type, unit and meaning of every column of a record's lake table."""
    from resources.lake.records import describe_columns

    return dg.TableSchema(
        columns=[
            dg.TableColumn(
                column.name,
                column.type,
                description=" ".join(filter(None, [column.comment, f"[{column.unit}]"]))
                if column.unit
                else column.comment or None,
                constraints=dg.TableColumnConstraints(nullable=column.nullable),
            )
            for column in describe_columns(record)
        ]
    )


def object_evidence(committed: LakeObject) -> dict[str, Any]:
    """Where the rows of one materialization lie, and what proves that they are unchanged."""
    return {
        "dagster/row_count": committed.rows,
        "lake_key": committed.key,
        "sha256": committed.sha256,
        "size_bytes": committed.size_bytes,
        "observed_at": dg.MetadataValue.timestamp(committed.written_at),
    }


def number_evidence(numbers: Mapping[str, int | float]) -> dict[str, int | float]:
    """Numbers as Dagster plots them; fractions keep three digits."""
    return {
        name: value if isinstance(value, int) else round(value, 3)
        for name, value in numbers.items()
    }


def check_result(key: dg.AssetCheckKey, verdict: CheckVerdict) -> dg.AssetCheckResult:
    """A verdict as the result of the asset check `key`, with a table of the offenders."""
    severity = (
        dg.AssetCheckSeverity.ERROR
        if verdict.severity == Severity.ERROR
        else dg.AssetCheckSeverity.WARN
    )
    metadata: dict[str, Any] = number_evidence(verdict.numbers)
    if verdict.offenders:
        fields = ("subject", "region", "detail")
        rows = [dg.TableRecord(offender._asdict()) for offender in verdict.offenders]
        columns = [dg.TableColumn(field, "string") for field in fields]
        metadata["offending"] = dg.MetadataValue.table(rows, dg.TableSchema(columns=columns))
    return dg.AssetCheckResult(
        passed=verdict.passed,
        asset_key=key.asset_key,
        check_name=key.name,
        severity=severity,
        description=verdict.reason,
        metadata=metadata,
    )
