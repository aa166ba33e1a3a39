"""Samples in memory as a `MetricReader`: those of a rule test, or what rules have just recorded."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from typing import TYPE_CHECKING

from fleet.errors import InvalidInputError
from fleet.metrics.labels import METRIC_NAME, Labels, Matcher, MatchKind, metric_of, series_id
from fleet.metrics.levels import Level
from fleet.metrics.record import RollupColumns
from fleet.metrics.samples import SampleBatch, SeriesInfo
from fleet.metrics.vectors import InstantVector
from fleet.ports.metric_store import MetricReader, SelectedSeries

if TYPE_CHECKING:
    from fleet.metrics.histogram_columns import HistogramSamples
    from fleet.metrics.histogram_records import HistogramRecords
    from fleet.metrics.samples import Int64Array
    from fleet.metrics.sketches import SketchColumns


class _Series:
    """One series: times in rising order, and their values."""

    __slots__ = ("info", "ts_ms", "values")

    def __init__(self, labels: Labels) -> None:
        self.info = SeriesInfo(labels)
        self.ts_ms: list[int] = []
        self.values: list[float] = []

    def put(self, ts_ms: int, value: float) -> None:
        at = bisect_right(self.ts_ms, ts_ms)
        if at and self.ts_ms[at - 1] == ts_ms:
            self.values[at - 1] = value
        else:
            self.ts_ms.insert(at, ts_ms)
            self.values.insert(at, value)

    def between(self, start_ms: int, end_ms: int) -> tuple[int, int]:
        """Positions of the samples in (start_ms, end_ms]."""
        return bisect_right(self.ts_ms, start_ms), bisect_right(self.ts_ms, end_ms)


class MemorySeries:
    """Samples that are held, read and written by one thread; also a `SampleSink`."""

    def __init__(self) -> None:
        """Begin empty."""
        self._series: dict[int, _Series] = {}
        self._by_labels: dict[Labels, _Series] = {}
        self._of_metric: dict[str, list[int]] = {}

    def __len__(self) -> int:
        """Number of samples."""
        return sum(len(one.ts_ms) for one in self._series.values())

    def put(self, labels: Labels, ts_ms: int, value: float) -> None:
        """Keep one sample; a later value at one time replaces the earlier."""
        self._of(labels).put(ts_ms, value)

    def write(self, samples: InstantVector) -> None:
        """Keep the elements of a vector as samples of its moment."""
        for labels, value in zip(samples.labels, samples.values, strict=True):
            self._of(labels).put(samples.at_ms, float(value))

    def _of(self, labels: Labels) -> _Series:
        found = self._by_labels.get(labels)
        if found is None:
            identity = series_id(labels)
            other = self._series.get(identity)
            if other is not None:
                allowed = f"another identity than {other.info.labels}"
                raise InvalidInputError("series", labels, allowed)
            found = self._series[identity] = self._by_labels[labels] = _Series(labels)
            self._of_metric.setdefault(metric_of(labels), []).append(identity)
        return found

    def clear(self) -> None:
        """Forget every sample and series."""
        for held in (self._series, self._by_labels, self._of_metric):
            held.clear()

    def select(self, matchers: Sequence[Matcher], start_ms: int, end_ms: int) -> SelectedSeries:
        """See the port."""
        import numpy as np

        named = [one.value for one in matchers if one[:2] == (METRIC_NAME, MatchKind.EQUAL)]
        candidates = self._of_metric.get(named[0], []) if named else list(self._series)
        found = []
        for identity in candidates:
            series = self._series[identity]
            first, last = series.between(start_ms, end_ms)
            if first < last and _satisfies(series.info.labels, matchers):
                found.append(identity)
        found.sort()
        infos = [self._series[identity].info for identity in found]
        return SelectedSeries(np.array(found, np.int64), infos)

    def samples(self, ids: Int64Array, start_ms: int, end_ms: int) -> SampleBatch:
        """See the port."""
        import numpy as np

        chosen = sorted({int(one) for one in ids} & self._series.keys())
        cuts = [self._series[one].between(start_ms, end_ms) for one in chosen]
        counts = [last - first for first, last in cuts]
        total = sum(counts)
        ts_ms, values = np.empty(total, np.int64), np.empty(total, np.float64)
        at = 0
        for one, (first, last) in zip(chosen, cuts, strict=True):
            ts_ms[at : at + last - first] = self._series[one].ts_ms[first:last]
            values[at : at + last - first] = self._series[one].values[first:last]
            at += last - first
        series_ids = np.repeat(np.array(chosen, np.int64), counts)
        infos = {one: self._series[one].info for one in chosen}
        return SampleBatch(series_ids, ts_ms, values, infos)

    def batch(self) -> SampleBatch:
        """All samples, as a store takes them."""
        import numpy as np

        everything = np.array(sorted(self._series), np.int64)
        return self.samples(everything, -(2**62), 2**62)

    def records(self, ids: Int64Array, level: Level, start_ms: int, end_ms: int) -> RollupColumns:
        """There are no records: `covers` says so."""
        raise InvalidInputError(
            "level", f"{level.text} of {len(ids)} series, {start_ms} to {end_ms}", "raw samples"
        )

    def sketches(self, ids: Int64Array, level: Level, start_ms: int, end_ms: int) -> SketchColumns:
        """None: no series here is sketched."""
        from fleet.metrics.sketches import concat_sketches

        del ids, level, start_ms, end_ms
        return concat_sketches([])

    def histograms(self, ids: Int64Array, start_ms: int, end_ms: int) -> HistogramSamples:
        """None: what rules record are numbers."""
        from fleet.metrics.histogram_columns import no_histogram_samples

        del ids, start_ms, end_ms
        return no_histogram_samples()

    def histogram_records(
        self, ids: Int64Array, level: Level, start_ms: int, end_ms: int
    ) -> HistogramRecords:
        """None, as `histograms`."""
        from fleet.metrics.histogram_records import ordered_records

        del ids, level, start_ms, end_ms
        return ordered_records([])

    def covers(self, level: Level, start_ms: int, end_ms: int) -> bool:
        """Never: everything is answered from the samples."""
        del level, start_ms, end_ms
        return False

    def keeps_raw(self, start_ms: int, end_ms: int) -> bool:
        """Always."""
        del start_ms, end_ms
        return True


class OverlaidReader:
    """A reader with samples in memory laid over it: rules see what rules have just recorded."""

    def __init__(self, below: MetricReader, recorded: MemorySeries) -> None:
        """Lay `recorded` over `below`."""
        self._below = below
        self._recorded = recorded

    def select(self, matchers: Sequence[Matcher], start_ms: int, end_ms: int) -> SelectedSeries:
        """Series of both, each once."""
        import numpy as np

        upper = self._recorded.select(matchers, start_ms, end_ms)
        lower = self._below.select(matchers, start_ms, end_ms)
        if not len(upper.ids):
            return lower
        infos = dict(zip(upper.ids.tolist(), upper.infos, strict=True))
        infos |= dict(zip(lower.ids.tolist(), lower.infos, strict=True))
        ids = sorted(infos)
        return SelectedSeries(np.array(ids, np.int64), [infos[one] for one in ids])

    def samples(self, ids: Int64Array, start_ms: int, end_ms: int) -> SampleBatch:
        """Samples of both by (series, time); what rules recorded counts at one time."""
        import numpy as np

        upper = self._recorded.samples(ids, start_ms, end_ms)
        lower = self._below.samples(ids, start_ms, end_ms)
        if not len(upper):
            return lower
        series_ids = np.concatenate([lower.series_ids, upper.series_ids])
        ts_ms = np.concatenate([lower.ts_ms, upper.ts_ms])
        values = np.concatenate([lower.values, upper.values])
        layer = np.repeat(np.array([0, 1]), [len(lower), len(upper)])
        order = np.lexsort((layer, ts_ms, series_ids))
        series_ids, ts_ms, values = series_ids[order], ts_ms[order], values[order]
        last = np.ones(len(order), np.bool_)
        last[:-1] = (series_ids[1:] != series_ids[:-1]) | (ts_ms[1:] != ts_ms[:-1])
        infos = {**upper.series, **lower.series}
        return SampleBatch(series_ids[last], ts_ms[last], values[last], infos)

    def records(self, ids: Int64Array, level: Level, start_ms: int, end_ms: int) -> RollupColumns:
        """Those below; asked only where `covers` holds."""
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
        """Whether the level below holds everything: not where rules have recorded since."""
        recorded = self._recorded.select((), start_ms, end_ms)
        return not len(recorded.ids) and self._below.covers(level, start_ms, end_ms)

    def keeps_raw(self, start_ms: int, end_ms: int) -> bool:
        """As below."""
        return self._below.keeps_raw(start_ms, end_ms)


def _satisfies(labels: Labels, matchers: Sequence[Matcher]) -> bool:
    named = dict(labels)
    return all(one.matches(named.get(one.name, "")) for one in matchers)
