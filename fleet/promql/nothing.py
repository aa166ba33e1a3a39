"""Why a query has no answer: an unknown metric, labels that none has, a time without data."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

import numpy as np
import promql_parser as pp

from fleet.errors import TooLargeError
from fleet.metrics.labels import METRIC_NAME, Matcher, MatchKind
from fleet.metrics.levels import DAY_MS
from fleet.ports.metric_store import CodedLabels, MetricReader
from fleet.promql.parsing import matchers_of, parse, walked

if TYPE_CHECKING:
    from fleet.metrics.samples import Int64Array

SEARCHED_MS = 90 * DAY_MS
"""How far before and after the asked time data are looked for."""
FIRST_STEP_MS = DAY_MS
SERIES_SEARCHED = 3
"""Series whose samples are looked for: enough to say where data are."""


def explain_nothing(reader: MetricReader, query: str, start_ms: int, end_ms: int) -> list[str]:
    """One sentence for each selector of a query that finds nothing in a range of time.

    Args:
        reader: the store.
        query: PromQL that has parsed before.
        start_ms: begin of the time that was asked for.
        end_ms: its end.

    Returns:
        Sentences in the order of the selectors; none where every selector has series with samples
        there (then the expression itself leaves nothing).
    """
    selectors = [node for node in walked(parse(query)) if isinstance(node, pp.VectorSelector)]
    found = (_explained(reader, selector, start_ms, end_ms) for selector in selectors)
    return list(dict.fromkeys(sentence for sentence in found if sentence))


def _explained(reader: MetricReader, selector: Any, start_ms: int, end_ms: int) -> str:
    matchers, text = matchers_of(selector), selector.prettify()
    named = tuple(matcher for matcher in matchers if matcher.name == METRIC_NAME)
    span = start_ms - SEARCHED_MS, end_ms + SEARCHED_MS
    if named and not len(reader.select(named, *span).ids):
        return _unknown_metric(reader, named[0].value, span)
    ids = reader.select(matchers, *span).ids
    if not len(ids):
        return _unmatched(reader, matchers, named, text, span)
    if len(_times(reader, ids, start_ms, end_ms)):
        return ""
    count = "1 series" if len(ids) == 1 else f"{len(ids)} series"
    before = _nearest(reader, ids, start_ms, -1)
    after = _nearest(reader, ids, end_ms, 1)
    where = [
        *([f"the last sample before is at {_moment(before)}"] if before is not None else []),
        *([f"the first after is at {_moment(after)}"] if after is not None else []),
    ]
    days = SEARCHED_MS // DAY_MS
    said = " and ".join(where) or f"none within {days} days of it either"
    return f"{text}: {count}, but no samples at that time; {said}"


def _unknown_metric(reader: MetricReader, name: str, span: tuple[int, int]) -> str:
    near = get_close_matches(name, _values(reader, (), METRIC_NAME, span), n=3)
    meant = f"; near are {', '.join(near)}" if near else ""
    return f"no metric {name}{meant}"


def _unmatched(
    reader: MetricReader,
    matchers: Sequence[Matcher],
    named: tuple[Matcher, ...],
    text: str,
    span: tuple[int, int],
) -> str:
    """Which of the conditions leaves nothing, and what values there are."""
    for matcher in matchers:
        if matcher in named or len(reader.select((*named, matcher), *span).ids):
            continue
        values = _values(reader, named, matcher.name, span)
        if not values:
            return f"{text}: no series of it has a label {matcher.name}"
        near = get_close_matches(matcher.value, values, n=1) or values[:1]
        more = f" (and {len(values) - 1} more)" if len(values) > 1 else ""
        wanted = f"{matcher.name}{matcher.kind}{matcher.value!r}"
        return f"{text}: none has {wanted}; there is {near[0]!r}{more}"
    return f"{text}: no series has all of these labels together"


def _values(
    reader: MetricReader, named: tuple[Matcher, ...], label: str, span: tuple[int, int]
) -> list[str]:
    """Values of a label, in order; none where there are too many series to look at."""
    some = named or (Matcher(METRIC_NAME, MatchKind.REGEX, ".+"),)
    try:
        infos = reader.select(some, *span).infos
    except TooLargeError:
        return []
    if isinstance(infos, CodedLabels):
        codes, texts = infos.label_column(label)
        return sorted({texts[code] for code in np.unique(codes).tolist()} - {""})
    return sorted({value for info in infos for name, value in info.labels if name == label})


def _nearest(reader: MetricReader, ids: Int64Array, from_ms: int, direction: int) -> int | None:
    """Time of the nearest sample before or after a moment; wider and wider spans are read."""
    done, width = 0, FIRST_STEP_MS
    while done < SEARCHED_MS:
        edges = sorted((from_ms + direction * done, from_ms + direction * (done + width)))
        times = _times(reader, ids, edges[0], edges[1])
        if len(times):
            return int(np.min(times) if direction > 0 else np.max(times))
        done, width = done + width, 2 * width
    return None


def _times(reader: MetricReader, ids: Int64Array, start_ms: int, end_ms: int) -> Int64Array:
    """Times of the samples and native histograms of some of the series."""
    some = ids[:SERIES_SEARCHED]
    numbers = reader.samples(some, start_ms, end_ms).ts_ms
    return np.concatenate([numbers, reader.histograms(some, start_ms, end_ms).ts_ms])


def _moment(at_ms: int) -> str:
    text = datetime.fromtimestamp(at_ms / 1000, UTC).isoformat(timespec="seconds")
    return text.replace("+00:00", "Z")
