"""One CSV file of samples, row by row: what is wrong with it is noted, and all of it is hashed.

Plain files and `.gz`. Blocks whose lines cannot be wrong are taken whole, the others line by line.
"""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import math
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from itertools import islice
from operator import itemgetter
from pathlib import Path
from typing import IO, TYPE_CHECKING, NamedTuple, cast

from fleet.errors import PROBLEMS_LISTED_MAX, InvalidInputError, Problem
from fleet.metrics.csv_layout import TIME_UNITS, CsvLayout
from fleet.metrics.exposition.numbers import is_number, parse_numbers

if TYPE_CHECKING:
    from _csv import Reader as CsvReader

    from fleet.metrics.samples import FloatArray, Int64Array

LINE_MAX_BYTES = 1024 * 1024
"""Longest line, with its end; a longer one is no row of samples."""
_BLOCK_BYTES = 256 * 1024


class CsvChunk(NamedTuple):
    """Good rows, before their labels are known."""

    lines: Int64Array
    ts_ms: Int64Array
    values: FloatArray
    cells: list[tuple[str, ...]]
    """Of the columns that become labels."""


class CsvFile:
    """One file, row by row; notes what is wrong, and hashes what it reads."""

    def __init__(self, path: Path, layout: CsvLayout) -> None:
        """Nothing is read yet."""
        self.path = path
        self.layout = layout
        self.problems: list[Problem] = []
        self.count = 0
        self._hash = hashlib.sha256()

    @property
    def sha256(self) -> str:
        """Of the unpacked text that was read so far."""
        return self._hash.hexdigest()

    def note(self, line: int, field: str, value: str, allowed: str) -> None:
        """Count a problem."""
        self.count += 1
        if len(self.problems) < PROBLEMS_LISTED_MAX:
            source = f"{self.path.name} line {line}"
            self.problems.append(Problem(source, field, value[:80], allowed))

    def chunks(self, size: int) -> Iterator[CsvChunk]:
        """Good rows in columns; the others are noted.

        Raises:
            InvalidInputError: the file cannot be read.
        """
        with ExitStack() as stack:
            try:
                file: IO[bytes] = stack.enter_context(self.path.open("rb"))
                if self.path.name.endswith(".gz"):
                    packed = gzip.GzipFile(fileobj=file)
                    stack.callback(packed.close)
                    file = io.BufferedReader(cast("io.RawIOBase", packed), 1 << 20)
                rows = self._rows(csv.reader(self._lines(file), strict=True))
                while found := list(islice(rows, size)):
                    yield self._chunk(found)
            except (OSError, EOFError, zlib.error) as error:
                raise InvalidInputError(
                    "path", str(self.path), f"a readable file ({error})"
                ) from error

    def _lines(self, file: IO[bytes]) -> Iterator[str]:
        number, rest = 0, b""
        while block := file.read(_BLOCK_BYTES):
            self._hash.update(block)
            rest += block
            end = rest.rfind(b"\n") + 1
            whole, rest = rest[:end], rest[end:]
            text = self._lines_without_fault(number, whole)
            if text is None:
                for line in io.BytesIO(whole):
                    number += 1
                    found = self._line(number, line)
                    if found is None:
                        return
                    yield found
            else:
                yield from io.StringIO(text, newline="\n")
                number += text.count("\n")
            if len(rest) >= LINE_MAX_BYTES:
                break
        if rest:
            found = self._line(number + 1, rest)
            if found is not None:
                yield found

    def _lines_without_fault(self, before: int, whole: bytes) -> str | None:
        """Lines as one text; None where one of them has a fault, or may be too long."""
        if len(whole) >= LINE_MAX_BYTES or b"\0" in whole:
            return None
        try:
            return whole.decode("utf-8" if before else "utf-8-sig")
        except UnicodeDecodeError:
            return None

    def _line(self, number: int, line: bytes) -> str | None:
        """One line; None, with the fault noted, where it has one."""
        text, wrong = "", ""
        try:
            text = line.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError as error:
            wrong = f"byte 0x{line[error.start]:02x}"
        if "\0" in text:
            wrong = "byte 0x00"
        elif len(line) >= LINE_MAX_BYTES:
            wrong = f"more than {LINE_MAX_BYTES} bytes"
        if not wrong:
            return text
        self.note(number, "encoding", wrong, "UTF-8 without NUL, in lines of usual length")
        return None

    def _rows(self, reader: CsvReader) -> Iterator[tuple[int, tuple[str, ...]]]:
        """Line and cells of each row that has all: time, value, labels."""
        choose: Callable[[list[str]], tuple[str, ...]] | None = None
        width, begin = 0, 1
        try:
            for row in reader:
                line, begin = begin, reader.line_num + 1
                if not row:
                    continue
                if choose is None:
                    places, width = self._header(line, row), len(row)
                    if places is None:
                        return
                    choose = itemgetter(*places)
                elif len(row) != width:
                    self.note(line, "row", f"{len(row)} cells", f"{width} cells, as in the header")
                else:
                    yield line, choose(row)
        except csv.Error as error:
            self.note(begin, "row", str(error), "well-formed CSV; the rest is not read")
        if choose is None and not self.count:
            self.note(1, "header", "", ",".join(self.layout.columns))

    def _header(self, line: int, names: list[str]) -> list[int] | None:
        before = self.count
        for column in self.layout.columns:
            if names.count(column) != 1:
                self.note(line, "header", ",".join(names), f"one column {column}")
        if self.count > before:
            return None
        return [names.index(column) for column in self.layout.columns]

    def _chunk(self, rows: list[tuple[int, tuple[str, ...]]]) -> CsvChunk:
        import numpy as np

        times = self._numbers(rows, 0) * TIME_UNITS[self.layout.time_unit]
        values = self._numbers(rows, 1)
        is_time = (times > 0) & (times < 2.0**53)
        for place in np.flatnonzero(~is_time).tolist():
            line, cells = rows[place]
            allowed = f"a time after 1970 in {self.layout.time_unit}"
            self.note(line, self.layout.time_column, cells[0], allowed)
        return CsvChunk(
            np.array([line for line, _ in rows], np.int64),
            np.rint(np.where(is_time, times, 0)).astype(np.int64),
            values,
            [cells[2:] for _, cells in rows],
        )

    def _numbers(self, rows: list[tuple[int, tuple[str, ...]]], place: int) -> FloatArray:
        """One column as numbers; those that are none are noted, and NaN."""
        import numpy as np

        texts = [cells[place].encode() for _, cells in rows]
        values = parse_numbers(texts)
        if values is not None:
            return values
        good = [is_number(text) for text in texts]
        if place:  # a time that is no number is noted as no time
            for (line, cells), is_good in zip(rows, good, strict=True):
                if not is_good:
                    self.note(line, self.layout.value_column, cells[place], "a number")
        numbers = [
            float(text) if is_good else math.nan for text, is_good in zip(texts, good, strict=True)
        ]
        return np.array(numbers, np.float64)
