"""Rows of the backup tables: written to the lake with their evidence, and read back."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, TypeVar, get_type_hints

from fleet.errors import NotFoundError
from fleet.ports.lake import Lake
from ops.evidence import column_schema, object_evidence, table_preview

R = TypeVar("R", bound=tuple[Any, ...])


def write_rows(
    lake: Lake, table: str, partition: str, rows: Sequence[R], record: type[R], at: datetime
) -> dict[str, Any]:
    """Commit the rows of one partition; returns what a materialization shows of them.

    Committed by `Lake.write`: killed before it, nothing is there; killed behind it, the next look
    supersedes what was written.
    """
    from resources.lake.records import to_table

    committed = lake.write(table, partition, to_table(rows, record), at)
    return {
        **object_evidence(committed),
        "dagster/table_name": table,
        "dagster/column_schema": column_schema(record),
        "preview": table_preview(rows, tuple(get_type_hints(record))),
    }


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
