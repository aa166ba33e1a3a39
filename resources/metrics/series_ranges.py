"""Reading Parquet files by series: what is ordered by identity is read in ranges, not as a whole.

Columns travel as a tuple of arrays of one length, the identities first.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt
    import pyarrow as pa
    import pyarrow.parquet as pq

    from fleet.metrics.samples import BoolArray, Int64Array

    Columns = tuple[npt.NDArray[Any], ...]
    Decode = Callable[[pa.Table], Columns]


class RangeReader:
    """One file; row groups are read when a range of series needs them.

    Args:
        file: ordered by its first column, the identity, of which it has statistics.
        decode: makes columns of what was read.
    """

    def __init__(self, file: pq.ParquetFile, decode: Decode) -> None:
        """Look at the footer only."""
        self._file = file
        self._decode = decode
        meta = file.metadata
        groups = [meta.row_group(each) for each in range(meta.num_row_groups)]
        bounds: list[Any] = [group.column(0).statistics for group in groups]
        self.lowest = np.array([one.min for one in bounds], np.int64)
        self.highest = np.array([one.max for one in bounds], np.int64)
        self.rows = np.array([group.num_rows for group in groups], np.int64)
        self._last: tuple[int, Columns] | None = None

    def read(self, above: int, upto: int) -> Columns:
        """Rows of series in (above, upto]; the last row group is remembered for the next range."""
        groups = np.flatnonzero((self.highest > above) & (self.lowest <= upto)).tolist()
        held: list[Columns] = []
        if groups and self._last is not None and self._last[0] == groups[0]:
            held.append(self._last[1])
            groups = groups[1:]
        if groups or not held:
            new = self._decode(self._file.read_row_groups(groups, use_threads=True))
            held.append(new)
            if groups and self.highest[groups[-1]] > upto:
                tail = int(self.rows[groups[-1]])
                self._last = groups[-1], tuple(column[-tail:] for column in new)
        columns = concat(held)
        start, end = np.searchsorted(columns[0], [above, upto], side="right")
        return tuple(column[start:end] for column in columns)

    def read_ids(self, ids: Int64Array) -> Columns:
        """Rows of some series.

        Args:
            ids: ascending, none twice.
        """
        first = np.searchsorted(ids, self.lowest, side="left")
        behind = np.searchsorted(ids, self.highest, side="right")
        groups = np.flatnonzero(behind > first).tolist()
        columns = self._decode(self._file.read_row_groups(groups, use_threads=True))
        if len(ids):
            start = int(np.searchsorted(columns[0], ids[0], side="left"))
            end = int(np.searchsorted(columns[0], ids[-1], side="right"))
            columns = tuple(column[start:end] for column in columns)
        mask = rows_of(columns[0], ids)
        return columns if mask is None else tuple(column[mask] for column in columns)


def cuts(readers: Sequence[RangeReader], chunk_rows: int) -> list[int]:
    """Identities up to which ranges go, so that each holds about `chunk_rows` of all files."""
    if not readers:
        return []
    highest = np.concatenate([reader.highest for reader in readers])
    rows = np.concatenate([reader.rows for reader in readers])
    order = np.argsort(highest, kind="stable")
    chunk = (np.cumsum(rows[order]) - 1) // chunk_rows
    is_last = np.ones(len(chunk), np.bool_)
    np.not_equal(chunk[1:], chunk[:-1], out=is_last[:-1])
    return sorted(set(highest[order][is_last].tolist()))


def group_cuts(ids: Int64Array, rows: int, *, is_end: bool) -> list[int]:
    """Where rows are divided into row groups: at the first series behind each `rows` rows.

    So a row group begins with a series, and neighbouring groups have no series in common; the cuts
    depend on the rows alone, not on the pieces in which they came.

    Args:
        ids: ordered identities of the rows that wait.
        rows: least rows of a group.
        is_end: whether no row comes behind them; else what is left over waits.

    Returns:
        Ends of the groups, ascending.
    """
    starts = series_starts(ids)
    cuts: list[int] = []
    first = 0
    while len(ids) - first > rows:
        at = int(np.searchsorted(starts, first + rows))
        if at == len(starts):
            break
        first = int(starts[at])
        cuts.append(first)
    return [*cuts, len(ids)] if is_end and first < len(ids) else cuts


def concat(parts: Sequence[Columns]) -> Columns:
    """Columns one after another; at least one part."""
    if len(parts) == 1:
        return parts[0]
    return tuple(np.concatenate(columns) for columns in zip(*parts, strict=True))


def series_starts(ids: Int64Array) -> Int64Array:
    """Index at which each series of an ordered column begins."""
    if not len(ids):
        return np.empty(0, np.int64)
    is_first = np.ones(len(ids), np.bool_)
    np.not_equal(ids[1:], ids[:-1], out=is_first[1:])
    return np.flatnonzero(is_first)


def rows_of(ordered: Int64Array, ids: Int64Array) -> BoolArray | None:
    """Which rows of an ordered column are of some series; None for all of them."""
    starts = series_starts(ordered)
    if not len(starts) or not len(ids):
        return np.zeros(len(ordered), np.bool_)
    there = ordered[starts]
    at = places_of(there, ids)
    at[at == len(ids)] = 0
    wanted = ids[at] == there
    if wanted.all():
        return None
    return np.repeat(wanted, np.diff(starts, append=len(ordered)))


def places_of(some: Int64Array, ids: Int64Array) -> Int64Array:
    """Where ascending identities lie among others, as `np.searchsorted` says.

    Mostly they are neighbours there, too: then nothing is searched but the first.
    """
    first = int(np.searchsorted(ids, some[0])) if len(some) else 0
    if np.array_equal(ids[first : first + len(some)], some):
        return np.arange(first, first + len(some), dtype=np.int64)
    return np.searchsorted(ids, some).astype(np.int64, copy=False)


def interleaved(parts: Sequence[Columns]) -> Columns:
    """Ordered files as one, series by series; rows of one series in the order of the files.

    Args:
        parts: each ordered by identity; at least one.
    """
    columns = concat(parts)
    starts = series_starts(columns[0])
    ids = columns[0][starts]
    if len(ids) < 2 or bool(np.all(ids[1:] > ids[:-1])):
        return columns
    order = np.argsort(ids, kind="stable")
    lengths = np.diff(starts, append=len(columns[0]))[order]
    offsets = np.cumsum(lengths) - lengths
    index = np.arange(len(columns[0])) + np.repeat(starts[order] - offsets, lengths)
    return tuple(column[index] for column in columns)
