"""Recorded load from CSV files, plain or gzipped: values over time, or arrivals one by one.

Three layouts are told apart by their columns:

* `time,value`: values; rows of the same time are added up.
* `timestamp_anon,value[,...]`: the same, as Alibaba's GenAI trace of 2026 has it (`gentd26`: `qps`,
  `queue_size`); other columns can be chosen from (`where`).
* `TIMESTAMP,ContextTokens,GeneratedTokens`: arrivals of requests, as Azure's LLM inference traces
  of 2023 have them; counted by second, as requests or as tokens.

Times are seconds since 1970 or ISO 8601 (UTC where no zone stands).
"""

from __future__ import annotations

import csv
import gzip
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, NamedTuple

from fleet.errors import InvalidInputError, NotFoundError
from fleet.rescaling.load_trace import STEP_S, LoadTrace, arrivals_trace, sampled_trace

TIME_COLUMNS = ("time", "timestamp", "timestamp_anon")
VALUE_COLUMNS = ("value", "load", "qps")
_ARRIVALS = ("TIMESTAMP", "ContextTokens", "GeneratedTokens")
COUNTS = ("requests", "tokens")
_GZIP_MAGIC = b"\x1f\x8b"


class _Row(NamedTuple):
    """One row with where it stands."""

    line: int
    cells: Mapping[str, str]


def read_load_trace(
    path: Path,
    *,
    count: str = "requests",
    where: Mapping[str, str] | None = None,
    step_s: int = STEP_S,
) -> LoadTrace:
    """A recorded load on an even grid.

    Args:
        path: of the CSV file; gzipped or not is seen from its content.
        count: of arrivals: `requests`, or `tokens` (context and generated together).
        where: column -> value that rows must have to count.
        step_s: of the grid.

    Raises:
        NotFoundError: no such file.
        InvalidInputError: another layout, or a row that cannot be; names file, line and column.
    """
    if count not in COUNTS:
        raise InvalidInputError("count", count, " or ".join(COUNTS))
    try:
        with _opened(path) as lines:
            return _read(path.name, lines, count, where or {}, step_s)
    except FileNotFoundError as error:
        hint = "Give the path of a CSV file with columns time,value."
        raise NotFoundError(f"no file {path}", hint=hint) from error
    except (OSError, EOFError, csv.Error, UnicodeDecodeError) as error:
        raise InvalidInputError(str(path), str(error), "a CSV file, plain or gzipped") from error


def _opened(path: Path) -> IO[str]:
    with path.open("rb") as raw:
        zipped = raw.read(2) == _GZIP_MAGIC
    if zipped:
        return gzip.open(path, "rt", encoding="utf-8-sig", newline="")
    return path.open(encoding="utf-8-sig", newline="")


def _read(
    name: str, lines: IO[str], count: str, where: Mapping[str, str], step_s: int
) -> LoadTrace:
    reader = csv.DictReader(lines)
    columns = list(reader.fieldnames or ())
    for column in where:
        if column not in columns:
            allowed = f"a column of {name}: {', '.join(columns)}"
            raise InvalidInputError("where", column, allowed)
    rows = (
        _Row(reader.line_num, cells)
        for cells in reader
        if all(cells.get(column) == value for column, value in where.items())
    )
    if set(_ARRIVALS) <= set(columns):
        return arrivals_trace(name, _arrivals(name, rows, count), step_s)
    time = next((one for one in TIME_COLUMNS if one in columns), None)
    value = next((one for one in VALUE_COLUMNS if one in columns), None)
    if time is None or value is None:
        allowed = f"{' or '.join(TIME_COLUMNS)}, and {' or '.join(VALUE_COLUMNS)}"
        raise InvalidInputError(f"columns of {name}", ",".join(columns), allowed)
    samples: dict[float, float] = {}
    for row in rows:
        at = _cell(name, row, time, seconds_of)
        samples[at] = samples.get(at, 0.0) + _cell(name, row, value, float)
    return sampled_trace(name, samples, step_s)


def _arrivals(name: str, rows: Iterator[_Row], count: str) -> Iterator[tuple[float, float]]:
    """Time and size of each request."""
    time, *tokens = _ARRIVALS
    for row in rows:
        size = 1.0
        if count == "tokens":
            size = sum(_cell(name, row, column, float) for column in tokens)
        yield _cell(name, row, time, seconds_of), size


def seconds_of(text: str) -> float:
    """Seconds since 1970 of a number or of ISO 8601.

    Raises:
        ValueError: it is neither.
    """
    try:
        return float(text)
    except ValueError:
        whole, _, digits = text.partition(".")
        # tenths of microseconds, as Azure writes them, are more than Python reads
        moment = datetime.fromisoformat(f"{whole}.{digits[:6]}" if digits.isdigit() else text)
        moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment
        return moment.timestamp()


def _cell(name: str, row: _Row, column: str, read: Callable[[str], float]) -> float:
    text = row.cells.get(column)
    try:
        return read(text or "")
    except ValueError as error:
        allowed = "a number" if read is float else "seconds since 1970, or ISO 8601"
        raise InvalidInputError(f"{name} line {row.line}, {column}", text, allowed) from error
