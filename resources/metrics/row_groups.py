"""Rows that come in pieces and go out in row groups; a row group begins with a series.

Which rows a group holds depends on the rows alone, so that the same rows give the same bytes in
whatever pieces they came.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar

from resources.metrics.series_ranges import group_cuts

if TYPE_CHECKING:
    from fleet.metrics.samples import Int64Array

Rows = TypeVar("Rows")


class RowKind(NamedTuple, Generic[Rows]):
    """What has to be known of rows to write them."""

    ids: Callable[[Rows], Int64Array]
    """Their series, ascending."""
    concat: Callable[[Sequence[Rows]], Rows]
    take: Callable[[Rows, slice], Rows]
    to_table: Callable[[Rows], Any]
    open: Callable[[Any], Any]
    """The Parquet writer on a file object."""


class RowGroupWriter(Generic[Rows]):
    """A part in memory that grows piece by piece.

    Args:
        kind: of its rows.
        group_rows: least rows of a group, but for the last one.
    """

    def __init__(self, kind: RowKind[Rows], group_rows: int) -> None:
        """An empty part."""
        self._kind, self._group_rows = kind, group_rows
        self._sink = io.BytesIO()
        self._writer = kind.open(self._sink)
        self._held: list[Rows] = []
        self._rows_held = 0
        self.rows = 0

    def write(self, rows: Rows) -> None:
        """Append rows that sort behind all before them."""
        count = len(self._kind.ids(rows))
        self.rows += count
        self._held.append(rows)
        self._rows_held += count
        if self._rows_held >= 2 * self._group_rows:
            self._flush(is_end=False)

    def finish(self) -> bytes:
        """The bytes of the part."""
        self._flush(is_end=True)
        self._writer.close()
        return self._sink.getvalue()

    def _flush(self, *, is_end: bool) -> None:
        kind = self._kind
        held = kind.concat(self._held)
        ids = kind.ids(held)
        cuts = [0, *group_cuts(ids, self._group_rows, is_end=is_end)]
        for start, end in pairwise(cuts):
            self._writer.write_table(kind.to_table(kind.take(held, slice(start, end))))
        self._held = [kind.take(held, slice(cuts[-1], None))]
        self._rows_held = len(ids) - cuts[-1]
