"""Asking a Prometheus server for the raw samples of a question, by remote read or by query."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from enum import StrEnum

from fleet.errors import NotFoundError
from fleet.metrics.labels import METRIC_NAME, Matcher, MatchKind, matchers_text
from resources.metrics.prometheus_api import (
    ApiAnswer,
    PrometheusApi,
    TooMuchAskedError,
    seconds_text,
)
from resources.metrics.prometheus_batches import AnswerReader, Found
from resources.metrics.prometheus_questions import Question
from resources.metrics.query_histograms import QueriedHistograms, without_external
from resources.metrics.remote_read import (
    BrokenAnswerError,
    ReadSeries,
    decode_labels,
    decode_response,
    encode_request,
    unpack,
)

EVERYTHING = (Matcher(METRIC_NAME, MatchKind.REGEX, ".+"),)


class ReadProtocol(StrEnum):
    """How samples are asked for."""

    AUTO = "auto"
    """Remote read where the server has it."""
    REMOTE_READ = "remote_read"
    QUERY = "query"


class Asker:
    """Asks one server.

    Args:
        api: the server.
        matchers: which series.
        protocol: how samples are asked for.
        reader: makes batches of its answers.
    """

    def __init__(
        self,
        api: PrometheusApi,
        matchers: Sequence[Matcher],
        protocol: ReadProtocol,
        reader: AnswerReader,
    ) -> None:
        """Nothing is asked yet."""
        self._api, self._matchers, self._reader = api, tuple(matchers), reader
        self.protocol = protocol
        """How samples are asked for; AUTO until the first answer has shown it."""

    def ask(self, question: Question) -> Found:
        """The answer to a question.

        Raises:
            TooMuchAskedError: the server finds it too large, or its answer is.
            NotFoundError: the server has no remote read, and nothing else may be asked.
            SourceUnavailableError: no answer, or a broken one.
        """
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

    def _ask_remote_read(self, question: Question) -> Found:
        matchers = self._selection(question.names)
        request = encode_request(matchers, question.start_ms + 1, question.end_ms)
        try:
            body = unpack(self._api.remote_read(request), self._api.answer_max_bytes)
            read = decode_response(body)
            return self._reader.remote_read(read, self._left_out(read, question))
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
                answered = self._reader.rows(self._queried(question, chosen).data)
                rows += answered
                places += [silent[meant]] * len(answered)
        found = self._reader.histograms(rows, question.start_ms)
        ids = np.array(places, np.int64)[found.samples.series_ids]
        return found._replace(samples=replace(found.samples, series_ids=ids))

    def _series_of(self, question: Question) -> list[dict[str, str]]:
        """Labels of each series by these names that has samples in the time asked for."""
        span_ms = question.end_ms - question.start_ms
        selector = f"{matchers_text(self._selection(question.names))}[{span_ms}ms]"
        parameters = {"query": f"last_over_time({selector})", "time": seconds_text(question.end_ms)}
        return [
            row["metric"]
            for row in self._reader.rows(self._api.get("/api/v1/query", parameters).data)
        ]

    def _ask_query(self, question: Question) -> Found:
        answer = self._queried(question, self._selection(question.names))
        found = self._reader.query(self._reader.rows(answer.data), question.start_ms)
        return found._replace(problems=found.problems + answer.warnings)

    def _queried(self, question: Question, selection: Sequence[Matcher]) -> ApiAnswer:
        span_ms = question.end_ms - question.start_ms
        selector = matchers_text(selection)
        parameters = {"query": f"{selector}[{span_ms}ms]", "time": seconds_text(question.end_ms)}
        return self._api.get("/api/v1/query", parameters)
