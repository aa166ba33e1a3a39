"""What is known of the series of a batch that was read, looked up when somebody asks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from fleet.metrics.samples import SeriesInfo

if TYPE_CHECKING:
    from fleet.metrics.samples import Int64Array


class LazySeries(Mapping[int, SeriesInfo]):
    """What is known of the series in a batch; nothing is built before it is asked for."""

    def __init__(self, ids: Int64Array, infos: Sequence[SeriesInfo]) -> None:
        """Nothing is looked up yet.

        Args:
            ids: series, maybe several times.
            infos: of each distinct one, ascending.
        """
        self._ids = np.unique(ids)
        self._infos = infos

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
