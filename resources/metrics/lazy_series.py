"""What is known of the series of a batch that was read, looked up when somebody asks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from fleet.metrics.samples import SeriesInfo
from resources.metrics.series_ranges import series_starts

if TYPE_CHECKING:
    from fleet.metrics.samples import Int64Array


class LazySeries(Mapping[int, SeriesInfo]):
    """What is known of the series in a batch; nothing is built before it is asked for."""

    def __init__(
        self, rows: Int64Array, infos: Callable[[Int64Array], Sequence[SeriesInfo]]
    ) -> None:
        """Nothing is looked up yet: mostly nobody asks, and rows are millions.

        Args:
            rows: series of each row, ordered.
            infos: tells what is known of distinct series, ascending.
        """
        self._rows, self._known = rows, infos

    @cached_property
    def _ids(self) -> Int64Array:
        return self._rows[series_starts(self._rows)]

    @cached_property
    def _infos(self) -> Sequence[SeriesInfo]:
        return self._known(self._ids)

    def __getitem__(self, one: int) -> SeriesInfo:
        """What is known of a series."""
        at = int(np.searchsorted(self._ids, one))
        if at == len(self._ids) or self._ids[at] != one:
            raise KeyError(one)
        return self._infos[at]

    def __iter__(self) -> Iterator[int]:
        """Identities, ascending."""
        return iter(self._ids.tolist())

    def __len__(self) -> int:
        """Number of series."""
        return len(self._ids)
