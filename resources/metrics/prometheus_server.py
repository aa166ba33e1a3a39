"""A Prometheus server as a source: raw samples of any range, in pieces that fit.

Two protocols give raw samples with their own times: remote read, and an instant query of a range
selector. Remote read also gives stale markers and costs a fraction (benchmarks/scrape.py), so it is
asked first; where a server has none (VictoriaMetrics, Thanos Query), the query is used, and series
end without a marker. `query_range` is never used: it resamples.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from fleet.errors import InvalidInputError
from fleet.metrics.labels import METRIC_NAME, Matcher, matchers_text
from fleet.metrics.levels import HOUR_MS
from fleet.ports.metric_source import SourcePiece
from resources.metrics.pieces import content_name
from resources.metrics.prometheus_api import PrometheusApi, TooMuchAskedError, seconds_text
from resources.metrics.prometheus_asking import EVERYTHING, Asker, ReadProtocol
from resources.metrics.prometheus_batches import MALFORMED, AnswerReader
from resources.metrics.prometheus_questions import Place, Question, parts_of_metric

PIECE_SAMPLES = 500_000
"""Samples that a piece should have: 9 MB of an answer, 12 MB of columns."""
PIECE_METRICS = 200
"""Metrics of one piece, so that a question stays short."""
SPACING_MS = 15_000
"""Distance of samples that is assumed until denser ones are seen."""


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
        self._window_ms = window_ms
        self._piece_samples = piece_samples
        self._reader = AnswerReader(api, interval_ms)
        self._asker = Asker(api, matchers, protocol, self._reader)
        self._spacing_ms = float(interval_ms or SPACING_MS)

    @property
    def protocol(self) -> ReadProtocol:
        """How samples are asked for; AUTO until the first answer has shown it."""
        return self._asker.protocol

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
        self._reader.begin()
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
            found = self._asker.ask(question)
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
                for row in self._reader.rows(answer.data)
            }
        except MALFORMED as error:
            raise self._api.broken(f"counts that are none, {error!r}") from error
