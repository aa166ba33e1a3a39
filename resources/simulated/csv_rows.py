"""Strict reading of CSV files: every problem with its line, or all rows.

A file is read as a whole or refused as a whole. `ProblemList` collects across files, so that one
error tells everything there is to correct.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from fleet.errors import (
    PROBLEMS_LISTED_MAX,
    InvalidDocumentError,
    InvalidInputError,
    NotFoundError,
    Problem,
    TooLargeError,
)

CSV_MAX_BYTES = 256 * 1024 * 1024
"""Largest file: a thousand times the published recording; the rows are held in memory."""

_WHOLE = re.compile(r"[0-9]{1,15}", re.ASCII)
_NEGATIVE = re.compile(r"-[0-9.]+", re.ASCII)


class ProblemList:
    """Counts all problems and keeps the first ones."""

    def __init__(self) -> None:
        """Start without problems."""
        self.kept: list[Problem] = []
        self.count = 0

    def add(self, source: str, field: str, value: str, allowed: str) -> None:
        """Note a problem; a long value is cut, the line number finds the rest."""
        self.count += 1
        if len(self.kept) < PROBLEMS_LISTED_MAX:
            self.kept.append(Problem(source, field, value[:80], allowed))

    def raise_if_any(self, document: str) -> None:
        """Refuse the document when there is any problem.

        Raises:
            InvalidDocumentError: lists the first problems and counts all.
        """
        if self.count:
            raise InvalidDocumentError(
                document, self.kept, self.count, hint="docs/simulator.md describes the layout."
            )


class Row:
    """One data row; its readers note a problem and return a value that is never used."""

    __slots__ = ("_index", "_problems", "_values", "source")

    def __init__(
        self, source: str, values: list[str], index: dict[str, int], problems: ProblemList
    ) -> None:
        """Know where the row came from and which column is which."""
        self.source = source
        self._values = values
        self._index = index
        self._problems = problems

    def text(self, column: str) -> str:
        """The cell as it stands."""
        return self._values[self._index[column]]

    def whole(self, column: str, highest: int = 10**15) -> int:
        """The cell as a whole number from 0."""
        value = self._values[self._index[column]]
        if _WHOLE.fullmatch(value) and int(value) <= highest:
            return int(value)
        allowed = f"a whole number from 0 to {highest}"
        if _NEGATIVE.fullmatch(value):
            allowed += ", not negative"
        self.reject(column, allowed)
        return 0

    def optional_whole(self, column: str) -> int | None:
        """The cell as a whole number; None when it is empty."""
        return self.whole(column) if self._values[self._index[column]] else None

    def reject(self, column: str, allowed: str) -> None:
        """Note that a cell is not as it may be."""
        self._problems.add(self.source, column, self.text(column), allowed)


def read_rows(path: Path, columns: Sequence[str], problems: ProblemList) -> Iterator[Row]:
    """Yield the rows of a file that have all columns; note what is wrong with the others.

    Further columns are ignored, any order is accepted, empty lines are skipped.

    Raises:
        NotFoundError: no such file.
        TooLargeError: over CSV_MAX_BYTES.
        InvalidInputError: the path cannot be read as a file.
    """
    text = _decode(path, _read_bytes(path), problems)
    if text is None:
        return
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    index: dict[str, int] | None = None
    width = 0
    while True:
        line = reader.line_num + 1
        source = f"{path.name} line {line}"
        try:
            values = next(reader)
        except StopIteration:
            break
        except csv.Error as error:
            problems.add(source, "row", str(error), "well-formed CSV; the rest is not read")
            return
        if not values:
            continue
        if index is None:
            index = _header(source, values, columns, problems)
            width = len(values)
            if index is None:
                return
        elif len(values) != width:
            problems.add(source, "row", f"{len(values)} cells", f"{width} cells, as in the header")
        else:
            yield Row(source, values, index, problems)
    if index is None:
        problems.add(f"{path.name} line 1", "header", "", ",".join(columns))


def _header(
    source: str, names: list[str], columns: Sequence[str], problems: ProblemList
) -> dict[str, int] | None:
    """Where each column is; None, with the problems noted, when one is missing or repeated."""
    index = {name: position for position, name in enumerate(names)}
    before = problems.count
    for column in columns:
        if column not in index:
            problems.add(source, "header", ",".join(names), f"a column {column}")
        elif names.count(column) > 1:
            problems.add(source, "header", column, "each column once")
    return index if problems.count == before else None


def _read_bytes(path: Path) -> bytes:
    try:
        size = path.stat().st_size
        if size > CSV_MAX_BYTES:
            raise TooLargeError(f"{path} has {size} bytes; at most {CSV_MAX_BYTES} are read")
        return path.read_bytes()
    except FileNotFoundError as error:
        raise NotFoundError(f"no file {path}", hint="Give the path of a CSV file.") from error
    except OSError as error:
        raise InvalidInputError("path", str(path), f"a readable file ({error})") from error


def _decode(path: Path, data: bytes, problems: ProblemList) -> str | None:
    """The text; a wrong byte is named with its line and byte, and nothing is guessed."""
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        shown = data[error.start : error.start + 1].hex()
        problems.add(f"{path.name} line {line}", "encoding", f"byte 0x{shown}", "UTF-8")
        return None
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        problems.add(f"{path.name} line {line}", "encoding", "byte 0x00", "text without NUL")
        return None
    return text
