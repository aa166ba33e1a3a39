"""What one scrape of a target yields: its samples, the end of series, and how the scrape went.

Source: Prometheus, scrape/scrape.go. A scrape counts whole or not at all; one that failed ends all
series of its target, as one that exposes nothing does.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, NamedTuple

from fleet.errors import InvalidInputError
from fleet.metrics.exposition.exposed import NO_TIMESTAMP, Exposition
from fleet.metrics.exposition.numbers import ExpositionFormat
from fleet.metrics.exposition.parser import ExpositionParser
from fleet.metrics.labels import labels_of, metric_of, series_id
from fleet.metrics.levels import HOUR_MS, span_starts_ms
from fleet.metrics.samples import (
    MetricType,
    SampleBatch,
    SeriesInfo,
    stale_marker,
)
from fleet.metrics.targets import ScrapeTarget, with_target_labels

if TYPE_CHECKING:
    from fleet.metrics.exposition.lines import Pairs
    from fleet.metrics.labels import Labels
    from fleet.metrics.samples import BoolArray, FloatArray, Int64Array

AHEAD_MAX_MS = 10 * 60 * 1000
"""Samples further in the future are refused. Source: Prometheus, scrape.go (`maxAheadTime`)."""
HOURS_MAX = 48
"""Different hours of one scrape, where samples bear times of their own; of more the newest count.
Late samples are welcome, but each hour of them is a part to store and a rollup to make anew."""
CREATED_AGE_MAX_MS = 5 * 60 * 1000
"""How long before the first sample that we see of a series its counting may have begun for a zero
sample; Prometheus takes what its head block still takes. Earlier is a time nobody watched."""

LINES_A_SAMPLE, LINES_SPARE = 4, 10_000
"""A body may have so many lines for each sample that its target may expose (HELP, TYPE and UNIT
come with a family), and these more; one with more is not taken apart."""

REPORTS = (
    ("up", "Whether the last scrape of the target worked."),
    ("scrape_duration_seconds", "How long the scrape took."),
    ("scrape_samples_scraped", "Samples that the target exposed."),
    ("scrape_samples_post_metric_relabeling", "Samples left after relabeling: all of them."),
    ("scrape_series_added", "Series that the scrape before did not have."),
)


class SaidOfSeries(dict[int, SeriesInfo]):
    """What a scrape says of its series; lives until its target says something else."""

    __slots__ = ("__weakref__",)


class ScrapeResult(NamedTuple):
    """What a scrape gave."""

    batch: SampleBatch
    """Its `series` is the same object as in the scrape before where it says the same."""
    up: bool
    problems: tuple[str, ...] = ()
    """Why it failed, or what of it was left out; sentences that begin with the target's URL."""
    repeated: int = 0
    """Samples whose series and time stood in the body before."""
    ahead: int = 0
    """Samples too far in the future."""


class ScrapedTarget:
    """A target over time: what it exposed last decides what a new scrape means.

    Where a series counts since a time that the target tells (`_created` of OpenMetrics), it gets a
    sample of 0 at that time, so that what it counted before its first scrape is not lost: once, if
    the time lies after the last sample of the series, or at most `CREATED_AGE_MAX_MS` before the
    first. Prometheus does the same with created-timestamp-zero-ingestion.
    """

    def __init__(self, target: ScrapeTarget) -> None:
        """Know nothing of what it exposes."""
        self.target = target
        self._parser: ExpositionParser | None = None
        self._report = _report_series(target)
        self._exposed: frozenset[int] = frozenset()
        """Series of the last scrape that worked."""
        self._tracked: frozenset[int] = frozenset()
        """Of these, those that end when they are not exposed again: without times of their own."""
        self._last_ms = 0
        """Time of that scrape."""
        self._reported = False
        self._previous: Exposition | None = None
        self._ended: dict[int, int] = {}
        """Series that are gone -> time of their last sample."""
        self._series: Mapping[int, SeriesInfo] = {}
        self._explained: Mapping[int, SeriesInfo] = {}
        """What the scrape before said of its series."""
        self._told: frozenset[tuple[int, int, int]] = frozenset()
        """Series, time and bits of the samples of the scrape before, where it told times."""

    def retarget(self, target: ScrapeTarget) -> None:
        """Go on at another URL, interval or limit; labels must be the same."""
        self.target = target
        self._report = _report_series(target)
        self._parser = None

    def answered(
        self, body: bytes, form: ExpositionFormat, ts_ms: int, duration_s: float
    ) -> ScrapeResult:
        """The target answered with a body.

        Args:
            body: uncompressed.
            form: what its content type says.
            ts_ms: when the scrape was due, milliseconds since 1970; later than the last one.
            duration_s: from asking until the body was there.
        """
        lines_max = LINES_A_SAMPLE * self.target.samples_max + LINES_SPARE
        if (lines := body.count(b"\n")) > lines_max:
            return self.failed(
                f"answers {lines} lines; at most {lines_max} are read", ts_ms, duration_s
            )
        if self._parser is None or self._parser.form is not form:
            self._parser = ExpositionParser(form, self._labels, self.target.interval_ms)
        try:
            found = self._parser.parse(body)
        except InvalidInputError as error:
            return self.failed(str(error), ts_ms, duration_s)
        if found.lines > self.target.samples_max:
            reason = f"exposes {found.lines} samples; at most {self.target.samples_max} are taken"
            return self.failed(reason, ts_ms, duration_s)
        return self._took(found, ts_ms, duration_s)

    def answered_as_before(
        self, body: bytes, form: ExpositionFormat, ts_ms: int, duration_s: float
    ) -> ScrapeResult | None:
        """`answered` for a body that is as the last one but for its numbers; quick.

        Returns:
            None for any other body: nothing is taken of it.
        """
        if self._parser is None or self._parser.form is not form:
            return None
        found = self._parser.parse_as_before(body)
        if found is None or found.lines > self.target.samples_max:
            return None
        return self._took(found, ts_ms, duration_s)

    def failed(self, reason: str, ts_ms: int, duration_s: float) -> ScrapeResult:
        """The target gave nothing that can be kept: it is down, and its series end."""
        columns = _Columns()
        columns.add_stale(self._tracked, ts_ms, self._series)
        self._tracked = frozenset()
        self._add_reports(columns, ts_ms, (0.0, duration_s, 0.0, 0.0, 0.0))
        return ScrapeResult(columns.batch(), False, (f"{self.target.url}: {reason}",))

    def removed(self, ts_ms: int) -> ScrapeResult:
        """The target is no longer scraped: its series end, and what was reported of it."""
        columns = _Columns()
        columns.add_stale(self._tracked, ts_ms, self._series)
        if self._reported:
            columns.add_stale(frozenset(self._report), ts_ms, self._report)
        self._exposed = self._tracked = frozenset()
        return ScrapeResult(columns.batch(), False)

    def _labels(self, name: str, pairs: Pairs) -> Labels:
        return with_target_labels(name, pairs, self.target.identity)

    def _took(self, found: Exposition, ts_ms: int, duration_s: float) -> ScrapeResult:
        import numpy as np

        columns, ahead = _Columns(self._explained if self._is_as_before(found) else None), 0
        problems: list[str] = []
        ids, values = found.series_ids, found.values
        times = np.full(len(ids), ts_ms, np.int64)
        if found.ts_ms is not None:
            own = found.ts_ms != NO_TIMESTAMP
            times[own] = found.ts_ms[own]
            future = times > ts_ms + AHEAD_MAX_MS
            hours = span_starts_ms(np.where(future, ts_ms, times), HOUR_MS)
            past = hours < np.unique(hours)[-HOURS_MAX:][0]
            ahead = int(future.sum())
            problems += self._left_out_problems(found, future, past)
            kept = ~(future | past)
            kept[kept] = ~self._told_before(ids[kept], times[kept], values[kept]) | ~own[kept]
            ids, values, times = ids[kept], values[kept], times[kept]
        columns.add(ids, times, values, found.series)
        added = self._compare(found, columns, ts_ms)
        lines = float(found.lines)
        self._add_reports(columns, ts_ms, (1.0, duration_s, lines, lines, float(added)))
        self._last_ms = ts_ms
        if found.repeated:
            problems.append(f"{self.target.url}: {found.repeated} samples stood there before")
        batch = columns.batch()
        self._explained = batch.series
        return ScrapeResult(batch, True, tuple(problems), found.repeated, ahead)

    def _is_as_before(self, found: Exposition) -> bool:
        """Whether it exposes the series of the scrape before, which worked, and no other."""
        before = self._previous
        return before is not None and before.series_ids is found.series_ids and bool(self._tracked)

    def _compare(self, found: Exposition, columns: _Columns, ts_ms: int) -> int:
        """Add what follows from the scrape before; the number of series that it did not have."""
        as_before, self._previous = self._is_as_before(found), found
        if as_before:
            return 0
        exposed = frozenset(found.series_ids.tolist())
        tracked = exposed
        if found.ts_ms is not None:
            tracked = frozenset(found.series_ids[found.ts_ms == NO_TIMESTAMP].tolist())
        gone = self._tracked - tracked
        columns.add_stale(gone, ts_ms, self._series)
        self._add_zeros(found, columns, ts_ms)
        added = len(exposed - self._exposed)
        self._note_ended(exposed, ts_ms)
        self._exposed, self._tracked, self._series = exposed, tracked, found.series
        return added

    def _note_ended(self, exposed: frozenset[int], ts_ms: int) -> None:
        ended = {one: ms for one, ms in self._ended.items() if ms > ts_ms - CREATED_AGE_MAX_MS}
        ended.update(dict.fromkeys(self._exposed - exposed, self._last_ms))
        self._ended = {one: ms for one, ms in ended.items() if one not in exposed}

    def _add_zeros(self, found: Exposition, columns: _Columns, ts_ms: int) -> None:
        """A sample of 0 where a series began to count since its last sample."""
        import numpy as np

        ids, times = [], []
        pairs = zip(found.created_ids.tolist(), found.created_ms.tolist(), strict=True)
        for one, created_ms in pairs:
            last_ms = self._last_ms if one in self._exposed else self._ended.get(one)
            earliest_ms = ts_ms - CREATED_AGE_MAX_MS if last_ms is None else last_ms
            if earliest_ms < created_ms < ts_ms:
                ids.append(one)
                times.append(created_ms)
        series = np.array(ids, np.int64)
        columns.add(series, np.array(times, np.int64), np.zeros(len(ids)), found.series)

    def _told_before(self, ids: Int64Array, times: Int64Array, values: FloatArray) -> BoolArray:
        """Which samples the scrape before told as well; what it tells now is remembered.

        A target may tell a sample with a time of its own for hours. It is stored once: each time it
        came, its hour would have to be rolled up anew.
        """
        import numpy as np

        told = list(zip(ids.tolist(), times.tolist(), values.view(np.int64).tolist(), strict=True))
        before, self._told = self._told, frozenset(told)
        return np.fromiter((one in before for one in told), np.bool_, len(told))

    def _left_out_problems(
        self, found: Exposition, future: BoolArray, past: BoolArray
    ) -> Iterator[str]:
        import numpy as np

        where = (
            (future, f"more than {AHEAD_MAX_MS // 60_000} minutes in the future"),
            (past, f"behind the newest {HOURS_MAX} hours of the scrape"),
        )
        for rows, text in where:
            if rows.any():
                first = int(np.argmax(rows))
                labels = found.series[int(found.series_ids[first])].labels
                yield (
                    f"{self.target.url}: {int(rows.sum())} samples lie {text} and were"
                    f" left out, of {metric_of(labels)} and maybe others"
                )

    def _add_reports(self, columns: _Columns, ts_ms: int, values: tuple[float, ...]) -> None:
        import numpy as np

        ids = np.fromiter(self._report, np.int64, len(self._report))
        columns.add(ids, np.full(len(ids), ts_ms, np.int64), np.array(values), self._report)
        self._reported = True


class _Columns:
    """Samples that are collected for one batch.

    Args:
        explained: says what each series is; None where each `add` has to.
    """

    def __init__(self, explained: Mapping[int, SeriesInfo] | None = None) -> None:
        self._explained = explained
        self._ids: list[Int64Array] = []
        self._times: list[Int64Array] = []
        self._values: list[FloatArray] = []
        self._series = SaidOfSeries()

    def add(
        self,
        ids: Int64Array,
        times: Int64Array,
        values: FloatArray,
        series: Mapping[int, SeriesInfo],
    ) -> None:
        self._ids.append(ids)
        self._times.append(times)
        self._values.append(values)
        if self._explained is None:
            self._series.update(series)

    def add_stale(self, ids: frozenset[int], ts_ms: int, series: Mapping[int, SeriesInfo]) -> None:
        import numpy as np

        marked = np.array(sorted(ids), np.int64)
        times = np.full(len(marked), ts_ms, np.int64)
        values = np.full(len(marked), stale_marker(), np.float64)
        self.add(marked, times, values, {one: series[one] for one in ids})

    def batch(self) -> SampleBatch:
        import numpy as np

        ids, times = np.concatenate(self._ids), np.concatenate(self._times)
        series = self._series if self._explained is None else self._explained
        return SampleBatch(ids, times, np.concatenate(self._values), series)


def _report_series(target: ScrapeTarget) -> dict[int, SeriesInfo]:
    """Series about the target itself, in the order of `REPORTS`."""
    found = {}
    for name, text in REPORTS:
        labels = labels_of(name, target.identity)
        info = SeriesInfo(labels, MetricType.GAUGE, "", text, target.interval_ms)
        found[series_id(labels)] = info
    return found
