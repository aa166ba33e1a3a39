"""`stateroom sql` on a real lake: three forms of output, read-only, errors with exit codes."""

from __future__ import annotations

import csv
import io
import json
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pytest

from platform_defs.command import exit_codes
from resources.lake.directory_store import DirectoryStore
from resources.lake.parquet_lake import ParquetLake
from tests.platform_defs.command.conftest import Run

ROWS = {"name": ["a", 'quote " and, comma', None], "value": [1, 2, 3]}


@pytest.fixture
def lake(fleet_dir: Path) -> Path:
    """One table with three rows where the settings look for the lake."""
    path = fleet_dir / "state" / "lake"
    at = datetime(2026, 1, 1, tzinfo=UTC)
    ParquetLake(DirectoryStore(path)).write("sample", "all", pa.table(ROWS), at)
    return path


def test_a_table_is_aligned_and_counted(run: Run, lake: Path) -> None:
    """NULL is `-`; only so many rows are printed."""
    done = run("sql", "SELECT name, value FROM sample ORDER BY value", "--limit", "2")
    assert done.stdout == (
        "name                value\n"
        "a                       1\n"
        'quote " and, comma      2\n'
        "(3 rows, 2 shown)\n"
    )


def test_json_and_csv_hold_every_row(run: Run, lake: Path) -> None:
    """Both can be read back."""
    query = "SELECT name, value FROM sample ORDER BY value"
    rows = json.loads(run("sql", query, "--json").stdout)
    assert {name: [row[name] for row in rows] for name in ROWS} == ROWS
    read = list(csv.DictReader(io.StringIO(run("sql", query, "--csv").stdout)))
    assert [row["name"] for row in read] == ["a", 'quote " and, comma', ""]
    assert [row["value"] for row in read] == ["1", "2", "3"]


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("SELECT * FROM smaple", "Did you mean sample?"),
        ("SELEC 1", "syntax error"),
        ("DROP TABLE sample", "one SELECT statement (found: DROP)"),
        ("SELECT * FROM read_csv('/etc/passwd')", "disabled"),
    ],
)
def test_what_is_no_read_only_query_is_refused(run: Run, lake: Path, query: str, said: str) -> None:
    """Exit code 2, with what DuckDB says."""
    done = run("sql", query)
    assert done.exit_code == exit_codes.USAGE
    assert said in done.stderr
    assert done.stdout == ""


def test_without_a_lake_nothing_is_made(run: Run, fleet_dir: Path) -> None:
    """Exit code 3; an inspection creates no folders."""
    done = run("sql", "SELECT 1")
    assert done.exit_code == exit_codes.TRANSIENT
    assert not (fleet_dir / "state").exists()


def test_two_forms_at_once_are_refused(run: Run, lake: Path) -> None:
    """Usage error."""
    assert run("sql", "SELECT 1", "--json", "--csv").exit_code == exit_codes.USAGE
