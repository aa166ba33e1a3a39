"""How each series is sampled: what rollups need of the catalogue, without labels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from fleet.metrics.rolling_up import Intervals
from resources.metrics.series_parts import merge_tables, read_rows

if TYPE_CHECKING:
    from fleet.metrics.samples import BoolArray, FloatArray, Int64Array
    from resources.metrics.metric_store import ObjectMetricStore

_COLUMNS = ("series_id", "interval_ms", "sketched")


class SeriesSampling:
    """Interval of each series, and whether it has a sketch; 17 bytes a series."""

    def __init__(self, ids: Int64Array, interval_ms: FloatArray, sketched: BoolArray) -> None:
        """Take columns of one length, ordered by identity."""
        self._ids = ids
        self._interval_ms = interval_ms
        self._sketched = sketched

    def intervals(self, ids: Int64Array) -> Intervals:
        """Intervals of series (ascending); NaN where unknown."""
        known, at = self._find(ids)
        found = np.full(len(ids), np.nan)
        found[known] = self._interval_ms[at[known]]
        return Intervals(ids, found)

    def sketched(self, ids: Int64Array) -> BoolArray:
        """Which series (ascending) have a sketch."""
        known, at = self._find(ids)
        flags = np.zeros(len(ids), np.bool_)
        flags[known] = self._sketched[at[known]]
        return flags

    def _find(self, ids: Int64Array) -> tuple[BoolArray, Int64Array]:
        if not len(self._ids):
            return np.zeros(len(ids), np.bool_), np.zeros(len(ids), np.int64)
        at = np.searchsorted(self._ids, ids)
        at[at == len(self._ids)] = 0
        return self._ids[at] == ids, at


def load_sampling(store: ObjectMetricStore) -> SeriesSampling:
    """How all series are sampled, as committed now.

    Raises:
        CorruptObjectError: a part of the catalogue is damaged.
        LakeUnavailableError: it cannot be read.
    """
    with store.log.reading() as state:
        parts = list(state.series.values())
    if not parts:
        none = np.empty(0)
        return SeriesSampling(none.astype(np.int64), none, none.astype(np.bool_))
    table = merge_tables([read_rows(store.files.open(part), _COLUMNS) for part in parts])
    interval: Any = table.column("interval_ms").combine_chunks()
    sketched: Any = table.column("sketched").combine_chunks()
    return SeriesSampling(
        table.column("series_id").to_numpy(),
        interval.cast("float64").fill_null(float("nan")).to_numpy(),
        sketched.cast("int8").to_numpy().astype(np.bool_),
    )
