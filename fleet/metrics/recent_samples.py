"""The samples of the last minutes in memory, before a store: what rules look at all the time.

Whatever lies wholly within what is held is answered from memory; anything older from the store,
which has everything that was committed. So a query gets one or the other, never half of each.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from fleet.metrics.labels import METRIC_NAME, Labels, Matcher, MatchKind, metric_of
from fleet.metrics.levels import MINUTE_MS, Level
from fleet.metrics.record import RollupColumns
from fleet.metrics.samples import SampleBatch, SeriesInfo, empty_batch
from fleet.ports.metric_store import MetricReader, SelectedSeries

if TYPE_CHECKING:
    from fleet.metrics.histogram_columns import HistogramSamples
    from fleet.metrics.histogram_records import HistogramRecords
    from fleet.metrics.samples import Int64Array
    from fleet.metrics.sketches import SketchColumns

HELD_MS = 20 * MINUTE_MS
"""The shipped rules look back 10 minutes and the 5 of an instant selector, and a little more."""
HELD_MAX = 20_000_000
"""Samples that are held: 480 MB, 20 minutes of 250,000 series each 15 s."""


class RecentSamples:
    """A `MetricReader` whose newest samples are in memory; for one thread.

    What other writers commit for these minutes (an import, a collector) is in the store alone:
    `leave` has it answered there.

    Args:
        below: the store.
        began_ms: since when everything is added here, too; nothing older is answered from memory.
        held_ms: how much time is held.
        held_max: samples; with more, less time is held, and the store answers more.
    """

    def __init__(
        self,
        below: MetricReader,
        began_ms: int,
        held_ms: int = HELD_MS,
        held_max: int = HELD_MAX,
    ) -> None:
        """Hold nothing yet."""
        self._below = below
        self._from_ms = began_ms
        self._held_ms, self._held_max = held_ms, held_max
        self._sorted = empty_batch()
        self._added: list[SampleBatch] = []
        self._infos: dict[int, SeriesInfo] = {}
        self._of_metric: dict[str, set[int]] = {}

    def __len__(self) -> int:
        """Samples that are held."""
        return len(self._sorted) + sum(map(len, self._added))

    def add(self, batch: SampleBatch) -> None:
        """Hold a batch; a later value of one series and time replaces an earlier one."""
        self._added.append(batch)
        for identity, info in batch.series.items():
            if identity not in self._infos:
                self._of_metric.setdefault(metric_of(info.labels), set()).add(identity)
            self._infos[identity] = info

    def forget(self, now_ms: int) -> None:
        """Let go of what is older than is to be held, and of series without a sample."""
        import numpy as np

        self._from_ms = max(self._from_ms, now_ms - self._held_ms)
        held = self._consolidated()
        surplus = len(held) - self._held_max
        if surplus > 0:
            self._from_ms = max(self._from_ms, int(np.partition(held.ts_ms, surplus)[surplus]))
        keep = held.ts_ms > self._from_ms
        self._sorted = SampleBatch(held.series_ids[keep], held.ts_ms[keep], held.values[keep])
        alive = set(np.unique(self._sorted.series_ids).tolist())
        for identity in self._infos.keys() - alive:
            name = metric_of(self._infos.pop(identity).labels)
            self._of_metric[name].discard(identity)
            if not self._of_metric[name]:
                del self._of_metric[name]

    def leave(self, until_ms: int) -> None:
        """Answer nothing from memory up to a time: the store has samples that are not held here."""
        self._from_ms = max(self._from_ms, until_ms)

    def select(self, matchers: Sequence[Matcher], start_ms: int, end_ms: int) -> SelectedSeries:
        """See the port; where the range begins before what is held, the store answers."""
        import numpy as np

        if start_ms < self._from_ms:
            return self._below.select(matchers, start_ms, end_ms)
        named = [one for one in matchers if one[:2] == (METRIC_NAME, MatchKind.EQUAL)]
        found = sorted(self._of_metric.get(named[0].value, ()) if named else self._infos)
        others = [one for one in matchers if one not in named[:1]]
        if others:
            found = [one for one in found if _satisfies(self._infos[one].labels, others)]
        return SelectedSeries(np.array(found, np.int64), [self._infos[one] for one in found])

    def samples(self, ids: Int64Array, start_ms: int, end_ms: int) -> SampleBatch:
        """See the port; where the range begins before what is held, the store answers."""
        import numpy as np

        if start_ms < self._from_ms:
            return self._below.samples(ids, start_ms, end_ms)
        held = self._consolidated()
        wanted = np.asarray(ids, np.int64)
        if not (wanted[1:] > wanted[:-1]).all():
            wanted = np.unique(wanted)
        first = np.searchsorted(held.series_ids, wanted, "left")
        last = np.searchsorted(held.series_ids, wanted, "right")
        rows = _ranges(first, last)
        within = (held.ts_ms[rows] > start_ms) & (held.ts_ms[rows] <= end_ms)
        rows = rows[within]
        infos = {int(one): self._infos[int(one)] for one in wanted if int(one) in self._infos}
        return SampleBatch(held.series_ids[rows], held.ts_ms[rows], held.values[rows], infos)

    def records(self, ids: Int64Array, level: Level, start_ms: int, end_ms: int) -> RollupColumns:
        """Those of the store; asked only where `covers` holds."""
        return self._below.records(ids, level, start_ms, end_ms)

    def sketches(self, ids: Int64Array, level: Level, start_ms: int, end_ms: int) -> SketchColumns:
        """Those below."""
        return self._below.sketches(ids, level, start_ms, end_ms)

    def histograms(self, ids: Int64Array, start_ms: int, end_ms: int) -> HistogramSamples:
        """Those below: what is held here are numbers."""
        return self._below.histograms(ids, start_ms, end_ms)

    def histogram_records(
        self, ids: Int64Array, level: Level, start_ms: int, end_ms: int
    ) -> HistogramRecords:
        """Those below."""
        return self._below.histogram_records(ids, level, start_ms, end_ms)

    def covers(self, level: Level, start_ms: int, end_ms: int) -> bool:
        """Whether the store's level covers the range."""
        return self._below.covers(level, start_ms, end_ms)

    def keeps_raw(self, start_ms: int, end_ms: int) -> bool:
        """Whether all samples of the range are there, in memory or in the store."""
        return start_ms >= self._from_ms or self._below.keeps_raw(start_ms, end_ms)

    def _consolidated(self) -> SampleBatch:
        """All that is held by (series, time), one sample per pair."""
        import numpy as np

        if self._added:
            parts = [self._sorted, *self._added]
            series_ids = np.concatenate([one.series_ids for one in parts])
            ts_ms = np.concatenate([one.ts_ms for one in parts])
            values = np.concatenate([one.values for one in parts])
            order = np.lexsort((ts_ms, series_ids))  # stable: the last added stays last
            series_ids, ts_ms, values = series_ids[order], ts_ms[order], values[order]
            last = np.ones(len(order), np.bool_)
            last[:-1] = (series_ids[1:] != series_ids[:-1]) | (ts_ms[1:] != ts_ms[:-1])
            self._sorted = SampleBatch(series_ids[last], ts_ms[last], values[last])
            self._added = []
        return self._sorted


def _ranges(first: Int64Array, last: Int64Array) -> Int64Array:
    """All numbers of several ranges [first, last), one range after the other."""
    import numpy as np

    counts = last - first
    ends = np.cumsum(counts)
    rows: Int64Array = np.arange(ends[-1] if len(ends) else 0, dtype=np.int64)
    rows += np.repeat(first - (ends - counts), counts)
    return rows


def _satisfies(labels: Labels, matchers: Sequence[Matcher]) -> bool:
    named = dict(labels)
    return all(one.matches(named.get(one.name, "")) for one in matchers)
