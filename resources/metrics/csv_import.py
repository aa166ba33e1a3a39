"""Samples from CSV files, as declared by their layouts.

All files are checked before the first piece is handed on: a bad row refuses the import, and the
error names every line. Pieces are cut by row and named by the hash of their file, so that an import
which broke off is taken up or repeated without storing anything twice.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from fleet.errors import (
    PROBLEMS_LISTED_MAX,
    InvalidDocumentError,
    InvalidInputError,
    NotFoundError,
    Problem,
)
from fleet.metrics.csv_layout import (
    GENTD26,
    CsvLayout,
    layouts_of_document,
    validate_layout,
)
from fleet.metrics.labels import labels_of, series_id
from fleet.metrics.samples import SampleBatch, SeriesInfo
from fleet.ports.metric_source import SourcePiece
from resources.metrics.csv_file import CsvFile

if TYPE_CHECKING:
    from fleet.metrics.samples import BoolArray, FloatArray, Int64Array

PIECE_ROWS = 500_000
"""Rows of a file that make a piece."""
_READ_ROWS = 20_000
"""Rows that are checked together."""
_HINT = "docs/metric_sources.md describes the layout."


class _Rows(NamedTuple):
    """Checked rows of a file in columns."""

    lines: Int64Array
    ids: Int64Array
    ts_ms: Int64Array
    values: FloatArray


class _Checked(NamedTuple):
    """A file without bad rows."""

    path: Path
    layout: CsvLayout
    sha256: str


class CsvSource:
    """Files of a folder as a `MetricSource`.

    Of several samples of one series and time in a piece the first counts; those with another value
    are named in the problems of the piece.

    Args:
        folder: where they lie.
        layouts: which files; in this order they are read. A file may lie there with or without
            `.gz` behind its name.
        piece_rows: rows of a file that make a piece.
    """

    def __init__(
        self, folder: Path, layouts: Sequence[CsvLayout], *, piece_rows: int = PIECE_ROWS
    ) -> None:
        """Nothing is read before `read`.

        Raises:
            InvalidInputError: a layout breaks the rules.
        """
        self._folder = folder
        self._layouts = [validate_layout(layout) for layout in layouts]
        self._piece_rows = piece_rows
        self._series: dict[int, SeriesInfo] = {}
        self._identities: dict[tuple[str, tuple[str, ...]], int] = {}

    def read(self, start_ms: int, end_ms: int, resume: str = "") -> Iterator[SourcePiece]:
        """Pieces by file and row; see `MetricSource.read`.

        Raises:
            InvalidDocumentError: lists bad rows of all files with their lines.
            InvalidInputError: `resume` is no place in these files, or a file cannot be read.
            NotFoundError: a file does not exist.
        """
        first_file, first_piece = self._place(resume)
        for number, checked in enumerate(self._check()):
            if number < first_file:
                continue
            skipped = first_piece if number == first_file else 0
            yield from self._pieces(checked, number, skipped, start_ms, end_ms)

    def _place(self, resume: str) -> tuple[int, int]:
        if not resume:
            return 0, 0
        file, _, piece = resume.partition(":")
        if not (file.isdecimal() and piece.isdecimal()) or int(file) >= len(self._layouts):
            raise InvalidInputError("resume", resume[:80], "that of a piece, unchanged")
        return int(file), int(piece)

    def _check(self) -> list[_Checked]:
        """Read all files once; none has a bad row, or the error tells them all."""
        problems: list[Problem] = []
        count = 0
        checked = []
        for layout in self._layouts:
            path = _path(self._folder, layout)
            reader = CsvFile(path, layout)
            for _ in self._rows(reader):
                pass
            problems += reader.problems
            count += reader.count
            checked.append(_Checked(path, layout, reader.sha256))
        if count:
            names = ", ".join(one.path.name for one in checked)
            raise InvalidDocumentError(names, problems, count, hint=_HINT)
        return checked

    def _pieces(
        self, checked: _Checked, number: int, skipped: int, start_ms: int, end_ms: int
    ) -> Iterator[SourcePiece]:
        import numpy as np

        reader = CsvFile(checked.path, checked.layout)
        rows = self._rows(reader)
        chunks = max(1, self._piece_rows // _READ_ROWS)
        piece = 0
        while parts := list(islice(rows, chunks)):
            piece += 1
            if piece <= skipped:
                continue
            whole = _Rows(*(np.concatenate(column) for column in zip(*parts, strict=True)))
            kept, problems = _first_of_each(whole, checked.path.name)
            inside = kept & (whole.ts_ms > start_ms) & (whole.ts_ms <= end_ms)
            batch_id = f"csv-{checked.sha256[:32]}-{checked.layout.metric}-{piece}"
            if not inside[kept].all():
                batch_id += f"-{start_ms}-{end_ms}"
            if inside.any():
                ids = whole.ids[inside]
                series = {one: self._series[one] for one in np.unique(ids).tolist()}
                batch = SampleBatch(ids, whole.ts_ms[inside], whole.values[inside], series)
                yield SourcePiece(batch, batch_id, f"{number}:{piece}", problems)
        if reader.sha256 != checked.sha256:
            raise InvalidInputError(
                "file", str(checked.path), "a file that is not written while it is read"
            )

    def _rows(self, reader: CsvFile) -> Iterator[_Rows]:
        """Rows in columns, as many together as are checked together; bad ones are noted."""
        import numpy as np

        for chunk in reader.chunks(min(_READ_ROWS, self._piece_rows)):
            rows = zip(chunk.lines.tolist(), chunk.cells, strict=True)
            ids = [self._noted_identity(reader, line, cells) for line, cells in rows]
            yield _Rows(chunk.lines, np.array(ids, np.int64), chunk.ts_ms, chunk.values)

    def _noted_identity(self, reader: CsvFile, line: int, cells: tuple[str, ...]) -> int:
        """Identity of a row's series; 0, with the row noted, where its labels break the rules."""
        try:
            return self._identity(reader.layout, cells)
        except InvalidInputError as error:
            columns = ",".join(column for column, _ in reader.layout.label_columns)
            reader.note(line, columns, ",".join(cells), error.allowed)
            return 0

    def _identity(self, layout: CsvLayout, cells: tuple[str, ...]) -> int:
        key = layout.file, cells
        known = self._identities.get(key)
        if known is None:
            pairs = zip((label for _, label in layout.label_columns), cells, strict=True)
            labels = labels_of(layout.metric, [*layout.labels, *pairs])
            known = self._identities[key] = series_id(labels)
            info = SeriesInfo(labels, layout.type, layout.unit, layout.help, layout.interval_ms)
            self._series[known] = info
        return known


def gentd26_source(folder: Path) -> CsvSource:
    """The published day of a serving fleet; `folder` holds its `*.csv.gz`."""
    return CsvSource(folder, GENTD26)


def csv_source(layout_path: Path) -> CsvSource:
    """Files beside a TOML document that declares them, one `[[layout]]` a file.

    Raises:
        NotFoundError: there is no such document.
        InvalidInputError: it cannot be read, or declares what is not allowed.
    """
    try:
        document = tomllib.loads(layout_path.read_text("utf-8"))
    except FileNotFoundError as error:
        raise NotFoundError(f"no file {layout_path}", hint=_HINT) from error
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise InvalidInputError("path", str(layout_path), f"TOML ({error})", hint=_HINT) from error
    rows = document.get("layout")
    if set(document) != {"layout"} or not isinstance(rows, list):
        raise InvalidInputError("layout", sorted(document), "[[layout]] and nothing else")
    return CsvSource(layout_path.parent, layouts_of_document(rows))


def _path(folder: Path, layout: CsvLayout) -> Path:
    named = folder / layout.file
    other = named.with_suffix("") if named.suffix == ".gz" else folder / f"{layout.file}.gz"
    for path in (named, other):
        if path.is_file():
            return path
    raise NotFoundError(f"no file {named}, nor {other.name} there", hint=_HINT)


def _first_of_each(rows: _Rows, name: str) -> tuple[BoolArray, tuple[str, ...]]:
    """Which rows are the first of their series and time, and a sentence on other values."""
    import numpy as np

    order = np.lexsort((rows.lines, rows.ts_ms, rows.ids))
    ids, ts_ms, values = rows.ids[order], rows.ts_ms[order], rows.values.view(np.int64)[order]
    again = np.zeros(len(order), np.bool_)
    again[1:] = (np.diff(ids) == 0) & (np.diff(ts_ms) == 0)
    kept = np.ones(len(order), np.bool_)
    kept[order[again]] = False
    first = np.maximum.accumulate(np.where(again, 0, np.arange(len(order))))
    other = np.flatnonzero(again & (values != values[first]))
    if not len(other):
        return kept, ()
    lines = sorted(rows.lines[order[other]].tolist())
    shown = ", ".join(map(str, lines[:PROBLEMS_LISTED_MAX]))
    more = f" and {len(lines) - PROBLEMS_LISTED_MAX} more" if len(lines) > 20 else ""
    text = f"{name}: left out, another value of the same series and time stands before: line "
    return kept, (f"{text}{shown}{more}",)
