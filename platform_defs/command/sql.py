"""`stateroom sql`: one read-only query over the lake's newest tables."""

from __future__ import annotations

import csv
import io
import sys
from typing import TYPE_CHECKING

import click

from fleet.errors import LakeUnavailableError
from platform_defs.command.output import table, to_json
from platform_defs.settings import load_settings

if TYPE_CHECKING:
    import pyarrow as pa


@click.command()
@click.argument("query")
@click.option("--json", "as_json", is_flag=True, help="A JSON list with one object per row.")
@click.option("--csv", "as_csv", is_flag=True, help="CSV with a header line.")
@click.option("--limit", type=click.IntRange(1), default=1000, show_default=True,
              help="Rows of a printed table; --json and --csv give all.")  # fmt: skip
def sql(query: str, as_json: bool, as_csv: bool, limit: int) -> None:
    """Answer one SELECT over the lake's tables with DuckDB; `-` reads it from standard input.

    Each table holds the newest rows of every partition; `<table>_history` holds all ticks.

    \b
    Examples:
      stateroom sql "SELECT region, count(*) FROM node_inventory GROUP BY region"
      stateroom sql "SELECT * FROM agent_inventory_history" --csv > history.csv
      stateroom sql - --json < query.sql
    """  # noqa: D301
    if as_json and as_csv:
        raise click.UsageError("--json and --csv exclude each other")
    text = sys.stdin.read() if query == "-" else query
    settings = load_settings()
    if not settings.lake.path.is_dir():
        raise LakeUnavailableError(
            f"no lake at {settings.lake.path}", hint="Start the fleet with `stateroom up`."
        )
    from resources.lake.directory_store import DirectoryStore
    from resources.lake.parquet_lake import ParquetLake

    answer: pa.Table = ParquetLake(DirectoryStore(settings.lake.path)).query(text)
    if as_json:
        click.echo(to_json(answer.to_pylist()))
    elif as_csv:
        click.echo(to_csv(answer), nl=False)
    else:
        click.echo(to_table(answer, limit))


def to_csv(answer: pa.Table) -> str:
    """CSV as RFC 4180 has it, lines ending in a line feed; NULL is an empty field."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(answer.column_names)
    writer.writerows(zip(*(column.to_pylist() for column in answer.columns), strict=True))
    return text.getvalue()


def to_table(answer: pa.Table, limit: int) -> str:
    """An aligned table of the first rows, and how many there are."""
    shown = answer.slice(0, limit)
    rows = list(zip(*(column.to_pylist() for column in shown.columns), strict=True))
    count = f"({answer.num_rows} row{'' if answer.num_rows == 1 else 's'}"
    rest = f", {limit} shown)" if answer.num_rows > limit else ")"
    return f"{table(answer.column_names, rows)}\n{count}{rest}"
