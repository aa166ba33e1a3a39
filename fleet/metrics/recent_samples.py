"""The samples of the last minutes in memory, before a store: what rules look at all the time.

Whatever lies wholly within what is held is answered from memory; anything older from the store,
which has everything that was committed. So a query gets one or the other, never half of each.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from fleet.metrics.labels import METRIC_NAME, Labels, Matcher, MatchKind, metric_of
from fleet.metrics.levels import MINUTE_MS, Level
from fleet.metrics.record import RollupColumns
from fleet.metrics.sample_runs import SampleRuns, is_among
from fleet.metrics.samples import SampleBatch, SeriesInfo, distinct
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
SELECTIONS_MAX = 100
"""Questions for the series of one metric whose answers are remembered until one comes or goes."""


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
        self._held_ms = held_ms
        self._runs = SampleRuns(held_max)
        self._infos: dict[int, SeriesInfo] = {}
        self._of_metric: dict[str, set[int]] = {}
        self._known: Int64Array | None = None
        """Identities of `_infos`, ascending; None: one came or went since."""
        self._selections: dict[str, dict[tuple[Matcher, ...], SelectedSeries]] = {}
        """Metric -> what was asked of it -> the series."""

    def __len__(self) -> int:
        """Samples that are held."""
        return len(self._runs)

    def add(self, batch: SampleBatch) -> None:
        """Hold a batch; a later value of one series and time replaces an earlier one.

        Args:
            batch: may leave out what its series are; see `unexplained`.
        """
        self._runs.add(batch)
        if batch.series:
            self.explain(batch.series, batch.series_ids)

    def explain(self, series: Mapping[int, SeriesInfo], ids: Int64Array) -> None:
        """Know what series with samples are.

        Args:
            series: what they are; others among them are left out.
            ids: the series, in any order, with repetitions.
        """
        for identity in distinct(ids).tolist():
            info = series.get(identity)
            before = self._infos.get(identity)
            if info is None or before == info:
                continue
            self._infos[identity] = info
            name = metric_of(info.labels)
            self._selections.pop(name, None)
            if before is None:
                self._of_metric.setdefault(name, set()).add(identity)
                self._known = None

    def unexplained(self, ids: Int64Array) -> Int64Array:
        """Series of which it is not known what they are: `select` does not find them.

        Args:
            ids: in any order, with repetitions.
        """
        import numpy as np

        if self._known is None:
            self._known = np.fromiter(self._infos, np.int64, len(self._infos))
            self._known.sort()
        wanted = distinct(ids)
        if not len(self._known):
            return wanted
        return wanted[~is_among(wanted, self._known)]

    def forget(self, now_ms: int) -> None:
        """Let go of what is older than is to be held, and of series without a sample."""
        until_ms = max(self._from_ms, now_ms - self._held_ms)
        self._from_ms, gone = self._runs.forget(until_ms)
        for identity in gone.tolist():
            info = self._infos.pop(identity, None)
            if info is None:
                continue
            name = metric_of(info.labels)
            self._selections.pop(name, None)
            self._of_metric[name].discard(identity)
            if not self._of_metric[name]:
                del self._of_metric[name]
            self._known = None

    def leave(self, until_ms: int) -> None:
        """Answer nothing from memory up to a time: the store has samples that are not held here."""
        self._from_ms = max(self._from_ms, until_ms)

    def select(self, matchers: Sequence[Matcher], start_ms: int, end_ms: int) -> SelectedSeries:
        """See the port; where the range begins before what is held, the store answers."""
        if start_ms < self._from_ms:
            return self._below.select(matchers, start_ms, end_ms)
        named = [one for one in matchers if one[:2] == (METRIC_NAME, MatchKind.EQUAL)]
        if not named:
            return self._selected(self._infos, matchers)
        name = named[0].value
        answers = self._selections.setdefault(name, {})
        others = tuple(one for one in matchers if one != named[0])
        if others not in answers:
            if len(answers) == SELECTIONS_MAX:
                answers.clear()
            answers[others] = self._selected(self._of_metric.get(name, ()), others)
        return answers[others]

    def samples(self, ids: Int64Array, start_ms: int, end_ms: int) -> SampleBatch:
        """See the port; where the range begins before what is held, the store answers."""
        import numpy as np

        if start_ms < self._from_ms:
            return self._below.samples(ids, start_ms, end_ms)
        wanted = distinct(np.asarray(ids, np.int64))
        found = self._runs.samples(wanted, start_ms, end_ms)
        series = _HeldSeries(wanted, self._infos)
        return SampleBatch(found.series_ids, found.ts_ms, found.values, series)

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

    def _selected(self, among: Iterable[int], matchers: Sequence[Matcher]) -> SelectedSeries:
        import numpy as np

        found = sorted(among)
        if matchers:
            found = [one for one in found if _satisfies(self._infos[one].labels, matchers)]
        return SelectedSeries(np.array(found, np.int64), [self._infos[one] for one in found])


class _HeldSeries(Mapping[int, SeriesInfo]):
    """What is known of the series that were asked for; looked up when somebody asks.

    Args:
        wanted: ascending.
        infos: of all series that are held; may lack some.
    """

    def __init__(self, wanted: Int64Array, infos: Mapping[int, SeriesInfo]) -> None:
        """Look at nothing."""
        self._wanted, self._infos = wanted, infos

    def __getitem__(self, one: int) -> SeriesInfo:
        """What is known of a series."""
        at = int(self._wanted.searchsorted(one))
        if at == len(self._wanted) or self._wanted[at] != one:
            raise KeyError(one)
        return self._infos[one]

    def __iter__(self) -> Iterator[int]:
        """Identities, ascending."""
        return (one for one in self._wanted.tolist() if one in self._infos)

    def __len__(self) -> int:
        """Number of series."""
        return sum(1 for _ in self)


def _satisfies(labels: Labels, matchers: Sequence[Matcher]) -> bool:
    named = dict(labels)
    return all(one.matches(named.get(one.name, "")) for one in matchers)
