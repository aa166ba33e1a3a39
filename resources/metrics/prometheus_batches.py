"""Answers of a Prometheus server as batches of samples under identities of ours.

A reader remembers the series that it has met, so that labels are read once.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from fleet.errors import InvalidInputError, NotFoundError
from fleet.metrics.exposition.families import Family, family_of
from fleet.metrics.exposition.numbers import normalize_nan
from fleet.metrics.histogram_columns import HistogramSamples, concat_samples, take_samples
from fleet.metrics.labels import METRIC_NAME, labels_of, series_id
from fleet.metrics.samples import SampleBatch, SeriesInfo
from resources.metrics.prometheus_answers import Problems, family, identified
from resources.metrics.prometheus_api import PrometheusApi
from resources.metrics.query_histograms import QueriedHistograms, read_histograms
from resources.metrics.remote_read import ReadSeries, decode_labels

if TYPE_CHECKING:
    from fleet.metrics.samples import Int64Array

MALFORMED = (ValueError, TypeError, KeyError, IndexError, OverflowError)
"""What reading JSON of another shape raises."""
_SECONDS_MAX = 2.0**43
"""Beyond it a time in seconds is exact to less than a millisecond no longer."""


class Found(NamedTuple):
    """What the answer to a question holds."""

    batch: SampleBatch
    problems: tuple[str, ...]


class AnswerReader:
    """Reads answers of one server; not to be shared between threads.

    Args:
        api: the server, for its metadata and in errors.
        interval_ms: distance of samples as the server's configuration means it, when it is known.
    """

    def __init__(self, api: PrometheusApi, interval_ms: int | None) -> None:
        """No series is known yet."""
        self._api = api
        self._interval_ms = interval_ms
        self._families: dict[str, Family] | None = None
        self._known: dict[bytes, int] = {}
        self._series: dict[int, SeriesInfo] = {}

    def begin(self) -> None:
        """Learn types, units and help, once."""
        if self._families is None:
            self._families = self._read_families()

    def rows(self, data: Any) -> list[dict[str, Any]]:
        """The series of a query's answer.

        Raises:
            SourceUnavailableError: it is no list of series.
        """
        rows = data.get("result") if isinstance(data, dict) else None
        if not isinstance(rows, list) or not all(
            isinstance(row, dict) and isinstance(row.get("metric"), dict) for row in rows
        ):
            raise self._api.broken("a result that is no list of series")
        return rows

    def histograms(self, rows: Sequence[dict[str, Any]], start_ms: int) -> QueriedHistograms:
        """Native histograms of a query's rows, numbered as the rows are, after a start."""
        try:
            found = read_histograms(rows)
        except MALFORMED as error:
            raise self._api.broken(f"histograms that are none, {error!r}") from error
        return found._replace(samples=take_samples(found.samples, found.samples.ts_ms > start_ms))

    def remote_read(self, read: ReadSeries, queried: QueriedHistograms | None) -> Found:
        """Samples of remote read, by the identities of their series."""
        import numpy as np

        problems = Problems()
        ids = np.array([self._identity(one, problems) for one in read.labels], np.int64)
        columns: Int64Array = ids[read.place] if len(ids) else read.place
        kept = columns >= 0
        histograms, custom = read.histograms, read.custom
        if queried is not None:
            histograms = concat_samples([histograms, queried.samples])
            custom += queried.custom
        batch = self._batch(
            columns[kept], read.ts_ms[kept], read.values[kept], identified(histograms, ids)
        )
        return Found(batch, problems.sentences(custom))

    def query(self, rows: Sequence[dict[str, Any]], start_ms: int) -> Found:
        """Samples of a query; the one at the start is not asked for, Prometheus 2 gives it."""
        import numpy as np

        problems = Problems()
        ids, counts = [], []
        times: list[float] = []
        texts: list[str] = []
        try:
            for row in rows:
                values = row.get("values", ())
                ids.append(self._identity_of(dict(row["metric"]), problems))
                counts.append(len(values))
                times += [float(value[0]) for value in values]
                texts += [value[1] for value in values]
            read = np.array(list(map(float, texts)), np.float64)
        except MALFORMED as error:
            raise self._api.broken(f"samples that are none, {error!r}") from error
        seconds = np.array(times, np.float64)
        if not (np.abs(seconds) < _SECONDS_MAX).all():
            raise self._api.broken("samples at times that are none")
        normalize_nan(read)
        ts_ms = np.rint(seconds * 1000).astype(np.int64)
        columns = np.repeat(np.array(ids, np.int64), counts)
        kept = (columns >= 0) & (ts_ms > start_ms)
        queried = self.histograms(rows, start_ms)
        histograms = identified(queried.samples, np.array(ids, np.int64))
        batch = self._batch(columns[kept], ts_ms[kept], read[kept], histograms)
        return Found(batch, problems.sentences(queried.custom))

    def _identity(self, labels: bytes, problems: Problems) -> int:
        known = self._known.get(labels)
        if known is None:
            known = self._identity_of(dict(decode_labels(labels)), problems)
            if known >= 0:
                self._known[labels] = known
        return known

    def _identity_of(self, labels: dict[str, str], problems: Problems) -> int:
        """Identity of a series; -1, with the problem noted, where its labels break our rules."""
        name = labels.pop(METRIC_NAME, "")
        try:
            found = labels_of(name, labels)
        except InvalidInputError as error:
            problems.add(f"series of {name or 'no name'} left out, {error}")
            return -1
        identity = series_id(found)
        _, family = family_of(name, self._families or {}) or ("", Family())
        info = SeriesInfo(found, family.type, family.unit, family.help, self._interval_ms)
        if self._series.setdefault(identity, info).labels != found:
            problems.add(f"series of {name} left out, another one has its identity")
            return -1
        return identity

    def _batch(
        self,
        ids: Int64Array,
        ts_ms: Int64Array,
        values: Any,
        histograms: HistogramSamples | None = None,
    ) -> SampleBatch:
        """By series and time, so that the same samples always make the same piece."""
        import numpy as np

        order = np.lexsort((ts_ms, ids))
        every = ids if histograms is None else np.concatenate([ids, histograms.series_ids])
        series = {one: self._series[one] for one in np.unique(every).tolist()}
        return SampleBatch(ids[order], ts_ms[order], values[order], series, histograms)

    def _read_families(self) -> dict[str, Family]:
        """Types, units and help of all metrics; none where the server tells none."""
        try:
            answer = self._api.list("/api/v1/metadata", {})
        except NotFoundError:
            return {}
        if not isinstance(answer.data, dict):
            raise self._api.broken("metadata that are no table")
        try:
            return {name: family(rows[0]) for name, rows in answer.data.items() if rows}
        except (*MALFORMED, AttributeError) as error:
            raise self._api.broken(f"metadata that are none, {error!r}") from error
