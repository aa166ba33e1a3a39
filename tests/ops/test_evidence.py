"""What a materialization shows is bounded, readable and true to the record."""

from __future__ import annotations

from fleet.inventory import Agent, AgentStateInfo, Gpu, Node
from ops.evidence import PREVIEW_ROWS, column_schema, number_evidence, table_preview
from tests.fleet.inventory_records import a_node


def test_every_column_of_every_table_has_type_description_and_nullability() -> None:
    """The schema is the record's: same names, same order."""
    for record in (Node, Gpu, Agent, AgentStateInfo):
        schema = column_schema(record)
        assert [column.name for column in schema.columns] == list(record._fields)
        assert not [column.name for column in schema.columns if not column.description]
    columns = {column.name: column for column in column_schema(Node).columns}
    assert (columns["memory_bytes"].description or "").endswith("[bytes]")
    assert columns["heartbeat_at"].type == "timestamp[us, tz=UTC]"
    assert columns["node_id"].constraints.nullable is False
    assert columns["pid"].constraints.nullable is True
    assert "0 means none is declared" in (columns["bandwidth_bps"].description or "")


def test_a_preview_is_bounded_and_absent_values_are_empty() -> None:
    """Ten rows of text, whatever the size of the table."""
    preview = table_preview([a_node(f"n{i}") for i in range(99)], Node._fields)
    assert len(preview.records) == PREVIEW_ROWS
    first = preview.records[0].data
    assert (first["pid"], first["phase"], first["node_id"]) == ("", "running", "n0")
    assert first["heartbeat_at"] == "2026-01-02T03:04:04.000+00:00"


def test_a_preview_of_no_rows_still_names_the_columns() -> None:
    """An empty region is shown as an empty table."""
    preview = table_preview([], Node._fields)
    assert [column.name for column in preview.schema.columns] == list(Node._fields)
    assert preview.records == []


def test_whole_numbers_stay_whole_and_fractions_are_short() -> None:
    """Counts plot as integers."""
    assert number_evidence({"a": 3, "b": 1 / 3}) == {"a": 3, "b": 0.333}
