"""A Prometheus server as a source: raw samples of any range, in pieces that fit.

Two protocols give raw samples with their own times: remote read, and an instant query of a range
selector. Remote read also gives stale markers and costs a fraction (benchmarks/scrape.py), so it is
asked first; where a server has none (VictoriaMetrics, Thanos Query), the query is used, and series
end without a marker. `query_range` is never used: it resamples.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from enum import StrEnum
from typing import TYPE_CHECKING, Any, NamedTuple

from fleet.errors import InvalidInputError, NotFoundError
from fleet.metrics.exposition.families import Family, family_of
from fleet.metrics.exposition.numbers import normalize_nan
from fleet.metrics.histogram_columns import HistogramSamples, concat_samples, take_samples
from fleet.metrics.labels import (
    METRIC_NAME,
    Matcher,
    MatchKind,
    labels_of,
    matchers_text,
    series_id,
)
from fleet.metrics.levels import HOUR_MS
from fleet.metrics.samples import SampleBatch, SeriesInfo
from fleet.ports.metric_source import SourcePiece
from resources.metrics.pieces import content_name
from resources.metrics.prometheus_answers import Problems, family, identified
from resources.metrics.prometheus_api import (
    ApiAnswer,
    PrometheusApi,
    TooMuchAskedError,
    seconds_text,
)
from resources.metrics.prometheus_questions import Place, Question, parts_of_metric
from resources.metrics.query_histograms import (
    QueriedHistograms,
    read_histograms,
    without_external,
)
from resources.metrics.remote_read import (
    BrokenAnswerError,
    ReadSeries,
    decode_labels,
    decode_response,
    encode_request,
    unpack,
)

if TYPE_CHECKING:
    from fleet.metrics.samples import Int64Array

PIECE_SAMPLES = 500_000
"""Samples that a piece should have: 9 MB of an answer, 12 MB of columns."""
PIECE_METRICS = 200
"""Metrics of one piece, so that a question stays short."""
SPACING_MS = 15_000
"""Distance of samples that is assumed until denser ones are seen."""
EVERYTHING = (Matcher(METRIC_NAME, MatchKind.REGEX, ".+"),)

_SECONDS_MAX = 2.0**43
"""Beyond it a time in seconds is exact to less than a millisecond no longer."""
_MALFORMED = (ValueError, TypeError, KeyError, IndexError, OverflowError)
"""What reading JSON of another shape raises."""


class ReadProtocol(StrEnum):
    """How samples are asked for."""

    AUTO = "auto"
    """Remote read where the server has it."""
    REMOTE_READ = "remote_read"
    QUERY = "query"


class _Found(NamedTuple):
    """What the answer to a question holds."""

    batch: SampleBatch
    problems: tuple[str, ...]


class PrometheusSource:
    """Raw samples of a server that speaks Prometheus' HTTP API; safe to be read again at any place.

    A server's `external_labels` are part of the series by remote read, as they are of what it sends
    to others, and are not by query.

    Args:
        api: the server.
        matchers: which series; all when left out.
        protocol: how samples are asked for.
        window_ms: a piece lies within one window of time.
        piece_samples: samples that a piece should have; it may have more where the server counts
            late.
        interval_ms: distance of samples as the server's configuration means it, when it is known.
    """

    def __init__(
        self,
        api: PrometheusApi,
        matchers: Sequence[Matcher] = EVERYTHING,
        *,
        protocol: ReadProtocol = ReadProtocol.AUTO,
        window_ms: int = HOUR_MS,
        piece_samples: int = PIECE_SAMPLES,
        interval_ms: int | None = None,
    ) -> None:
        """Nothing is asked before the first read.

        Raises:
            InvalidInputError: no matcher, or a size that is not positive.
        """
        if not matchers:
            raise InvalidInputError("matchers", (), "at least one matcher")
        for field, size in (("window_ms", window_ms), ("piece_samples", piece_samples)):
            if size < 1:
                raise InvalidInputError(field, size, "1 or more")
        self._api = api
        self._matchers = tuple(matchers)
        self.protocol = protocol
        """How samples are asked for; AUTO until the first answer has shown it."""
        self._window_ms = window_ms
        self._piece_samples = piece_samples
        self._interval_ms = interval_ms
        self._spacing_ms = float(interval_ms or SPACING_MS)
        self._families: dict[str, Family] | None = None
        self._known: dict[bytes, int] = {}
        self._series: dict[int, SeriesInfo] = {}

    def read(self, start_ms: int, end_ms: int, resume: str = "") -> Iterator[SourcePiece]:
        """Pieces by window, and in it by metric; see `MetricSource.read`.

        Names of pieces come from their content: what arrived late makes another piece.

        Raises:
            SourceUnavailableError: no answer, a broken one, 429, or 5xx.
            TooLargeError: one metric has too many samples in a second.
            InvalidInputError: `resume` is no place.
            PermanentError: the server refuses.
        """
        place = Place.parse(resume) if resume else Place(start_ms, 0)
        if self._families is None:
            self._families = self._read_families()
        while place.from_ms < end_ms:
            to_ms = min(place.to_ms or place.from_ms + self._window_ms, end_ms)
            window = place._replace(to_ms=to_ms)
            yield from self._window(window)
            place = Place(to_ms, 0)

    def _window(self, window: Place) -> Iterator[SourcePiece]:
        names, remarks = self._names(window)
        for question in self._questions(names, self._counts(window), window):
            for piece in self._pieces(question):
                yield piece._replace(problems=piece.problems + remarks)
                remarks = ()

    def _pieces(self, question: Question) -> Iterator[SourcePiece]:
        """The answer in one piece, or in as many as the server wants."""
        try:
            found = self._ask(question)
        except TooMuchAskedError:
            for half in question.halves():
                yield from self._pieces(half)
            return
        if len(found.batch):
            span_ms = question.end_ms - question.start_ms
            spacing_ms = span_ms * len(found.batch.series) / len(found.batch)
            self._spacing_ms = min(self._spacing_ms, max(1.0, spacing_ms))
        if len(found.batch) or found.problems:
            name = content_name("prometheus", found.batch)
            yield SourcePiece(found.batch, name, question.behind().text(), found.problems)

    def _questions(
        self, names: Sequence[str], counts: Mapping[str, int], window: Place
    ) -> Iterator[Question]:
        """Metrics in order, as many together as a piece should have; large ones alone, in parts."""
        if window.within_ms:
            parts = self._parts_of(window.after, counts)
            yield from parts_of_metric(window.after, window.within_ms, window, parts)
        group: list[str] = []
        size = 0
        for name in names:
            count = counts.get(name, 1)
            if group and (size + count > self._piece_samples or len(group) >= PIECE_METRICS):
                yield Question(group, window.from_ms, window.to_ms, window)
                group, size = [], 0
            if count > self._piece_samples:
                yield from parts_of_metric(
                    name, window.from_ms, window, self._parts_of(name, counts)
                )
            else:
                group.append(name)
                size += count
        if group:
            yield Question(group, window.from_ms, window.to_ms, window)

    def _parts_of(self, name: str, counts: Mapping[str, int]) -> int:
        return max(1, -(-counts.get(name, 1) // self._piece_samples))

    # -- asking ------------------------------------------------------------------------------------

    def _names(self, window: Place) -> tuple[list[str], tuple[str, ...]]:
        """Metrics behind the place that may have samples in the window, by name."""
        parameters = {
            "match[]": matchers_text(self._matchers),
            "start": seconds_text(window.from_ms),
            "end": seconds_text(window.to_ms),
        }
        answer = self._api.list(f"/api/v1/label/{METRIC_NAME}/values", parameters)
        if not isinstance(answer.data, list):
            raise self._api.broken("label values that are no list")
        names = sorted(str(name) for name in answer.data)
        return [name for name in names if name > window.after], answer.warnings

    def _counts(self, window: Place) -> dict[str, int]:
        """How many samples each metric may have in the window; what is not counted is missing.

        Series are counted by the server (counting samples would drop their names), and multiplied
        by the densest samples seen so far.
        """
        span_ms = window.to_ms - window.from_ms
        selector = f"{matchers_text(self._matchers)}[{span_ms}ms]"
        question = f"count by ({METRIC_NAME}) (last_over_time({selector}))"
        parameters = {"query": question, "time": seconds_text(window.to_ms)}
        try:
            answer = self._api.get("/api/v1/query", parameters)
        except TooMuchAskedError:
            return {}  # questions that are too large are divided when the server refuses them
        each = max(1.0, span_ms / self._spacing_ms)
        try:
            return {
                str(row["metric"].get(METRIC_NAME, "")): int(float(row["value"][1]) * each)
                for row in self._rows(answer.data)
            }
        except _MALFORMED as error:
            raise self._api.broken(f"counts that are none, {error!r}") from error

    def _ask(self, question: Question) -> _Found:
        if self.protocol is not ReadProtocol.QUERY:
            try:
                found = self._ask_remote_read(question)
            except NotFoundError:
                if self.protocol is ReadProtocol.REMOTE_READ:
                    raise
                self.protocol = ReadProtocol.QUERY
            else:
                self.protocol = ReadProtocol.REMOTE_READ
                return found
        return self._ask_query(question)

    def _selection(self, names: Sequence[str]) -> list[Matcher]:
        pattern = "|".join(re.escape(name).replace("\\:", ":") for name in names)
        kept = [one for one in self._matchers if one not in EVERYTHING]
        return [Matcher(METRIC_NAME, MatchKind.REGEX, pattern), *kept]

    def _ask_remote_read(self, question: Question) -> _Found:
        matchers = self._selection(question.names)
        request = encode_request(matchers, question.start_ms + 1, question.end_ms)
        try:
            body = unpack(self._api.remote_read(request), self._api.answer_max_bytes)
            read = decode_response(body)
            return self._found(read, self._left_out(read, question))
        except OverflowError as error:
            raise TooMuchAskedError(str(error)) from error
        except BrokenAnswerError as error:
            raise self._api.broken(str(error)) from error

    def _left_out(self, read: ReadSeries, question: Question) -> QueriedHistograms | None:
        """Native histograms of series that remote read names without any sample.

        Versions before 2.43 do so; such series are asked for by query, one at a time: of several in
        one answer 2.42 gives wrong ones behind a float histogram. None where no series is silent.
        """
        import numpy as np

        told = np.concatenate([read.place, read.histograms.series_ids])
        silent = np.setdiff1d(np.arange(len(read.labels)), told).tolist()
        if not silent:
            return None
        labels = [dict(decode_labels(read.labels[place])) for place in silent]
        names = sorted({one.get(METRIC_NAME, "") for one in labels})
        known = self._series_of(question._replace(names=names))
        rows, places = [], []
        for one, meant in zip(known, without_external(labels, known), strict=True):
            if meant >= 0:
                chosen = [Matcher(name, MatchKind.EQUAL, value) for name, value in one.items()]
                answered = self._rows(self._queried(question, chosen).data)
                rows += answered
                places += [silent[meant]] * len(answered)
        found = self._histograms(rows, question.start_ms)
        ids = np.array(places, np.int64)[found.samples.series_ids]
        return found._replace(samples=replace(found.samples, series_ids=ids))

    def _histograms(self, rows: Sequence[dict[str, Any]], start_ms: int) -> QueriedHistograms:
        try:
            found = read_histograms(rows)
        except _MALFORMED as error:
            raise self._api.broken(f"histograms that are none, {error!r}") from error
        return found._replace(samples=take_samples(found.samples, found.samples.ts_ms > start_ms))

    def _series_of(self, question: Question) -> list[dict[str, str]]:
        """Labels of each series by these names that has samples in the time asked for."""
        span_ms = question.end_ms - question.start_ms
        selector = f"{matchers_text(self._selection(question.names))}[{span_ms}ms]"
        parameters = {"query": f"last_over_time({selector})", "time": seconds_text(question.end_ms)}
        return [
            row["metric"] for row in self._rows(self._api.get("/api/v1/query", parameters).data)
        ]

    def _ask_query(self, question: Question) -> _Found:
        answer = self._queried(question, self._selection(question.names))
        found = self._matrix(self._rows(answer.data), question.start_ms)
        return found._replace(problems=found.problems + answer.warnings)

    def _queried(self, question: Question, selection: Sequence[Matcher]) -> ApiAnswer:
        span_ms = question.end_ms - question.start_ms
        selector = matchers_text(selection)
        parameters = {"query": f"{selector}[{span_ms}ms]", "time": seconds_text(question.end_ms)}
        return self._api.get("/api/v1/query", parameters)

    def _rows(self, data: Any) -> list[dict[str, Any]]:
        rows = data.get("result") if isinstance(data, dict) else None
        if not isinstance(rows, list) or not all(
            isinstance(row, dict) and isinstance(row.get("metric"), dict) for row in rows
        ):
            raise self._api.broken("a result that is no list of series")
        return rows

    # -- reading answers ---------------------------------------------------------------------------

    def _found(self, read: ReadSeries, queried: QueriedHistograms | None) -> _Found:
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
        return _Found(batch, problems.sentences(custom))

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

    def _matrix(self, rows: Sequence[dict[str, Any]], start_ms: int) -> _Found:
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
        except _MALFORMED as error:
            raise self._api.broken(f"samples that are none, {error!r}") from error
        seconds = np.array(times, np.float64)
        if not (np.abs(seconds) < _SECONDS_MAX).all():
            raise self._api.broken("samples at times that are none")
        normalize_nan(read)
        ts_ms = np.rint(seconds * 1000).astype(np.int64)
        columns = np.repeat(np.array(ids, np.int64), counts)
        kept = (columns >= 0) & (ts_ms > start_ms)
        queried = self._histograms(rows, start_ms)
        histograms = identified(queried.samples, np.array(ids, np.int64))
        batch = self._batch(columns[kept], ts_ms[kept], read[kept], histograms)
        return _Found(batch, problems.sentences(queried.custom))

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
        except (*_MALFORMED, AttributeError) as error:
            raise self._api.broken(f"metadata that are none, {error!r}") from error
