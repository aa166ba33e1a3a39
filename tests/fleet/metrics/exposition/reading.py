"""Expositions as plain tuples, and bodies made by Prometheus' own Python client."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import Any

from hypothesis import strategies as st
from prometheus_client import CollectorRegistry
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeHistogramMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
    StateSetMetricFamily,
    SummaryMetricFamily,
    UnknownMetricFamily,
)

from fleet.metrics.exposition.exposed import NO_TIMESTAMP, Exposition
from fleet.metrics.exposition.numbers import ExpositionFormat
from fleet.metrics.exposition.parser import ExpositionParser
from fleet.metrics.labels import METRIC_NAME

Row = tuple[str, tuple[tuple[str, str], ...], float | str, int | None]
"""Metric, other labels, value (NaN as text), milliseconds."""

TEXT, OPENMETRICS = ExpositionFormat.TEXT, ExpositionFormat.OPENMETRICS


def parsed(body: str | bytes, form: ExpositionFormat = TEXT) -> Exposition:
    """What a new parser reads."""
    return ExpositionParser(form).parse(body.encode() if isinstance(body, str) else body)


def rows(found: Exposition) -> list[Row]:
    """The samples in order."""
    times = [NO_TIMESTAMP] * len(found.values) if found.ts_ms is None else found.ts_ms.tolist()
    made = []
    for one, value, ts_ms in zip(
        found.series_ids.tolist(), found.values.tolist(), times, strict=True
    ):
        labels = dict(found.series[one].labels)
        name = labels.pop(METRIC_NAME)
        shown = "NaN" if math.isnan(value) else value
        made.append((name, tuple(labels.items()), shown, None if ts_ms == NO_TIMESTAMP else ts_ms))
    return made


def client_rows(families: Iterable[Metric], *, created: bool = True) -> list[Row]:
    """The samples of the client's parser, as `rows` shows them; without `_created` on request."""
    made: list[Row] = []
    for family in families:
        for sample in family.samples:
            if not created and sample.name == f"{family.name}_created":
                continue
            labels = tuple(sorted((name, value) for name, value in sample.labels.items() if value))
            value = "NaN" if math.isnan(sample.value) else float(sample.value)
            made.append((sample.name, labels, value, _ms(sample.timestamp)))
    return made


def _ms(timestamp: Any) -> int | None:
    return None if timestamp is None else round(float(timestamp) * 1000)


class Collected:
    """Families as a collector."""

    def __init__(self, families: list[Metric]) -> None:
        """Hold them."""
        self._families = families

    def collect(self) -> Iterator[Metric]:
        """All families."""
        return iter(self._families)


def registry_of(families: list[Metric]) -> CollectorRegistry:
    """A registry that holds just these."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(Collected(families))  # type: ignore[arg-type]
    return registry


_TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r"), max_size=8)
_NUMBERS = st.floats(width=64) | st.integers(-(10**6), 10**6).map(float)
_FINITE = st.floats(0, 1e12)
_TIMES = st.none() | st.integers(0, 2**31 * 8).map(lambda eighths: eighths / 8)


@st.composite
def families(draw: st.DrawFn) -> list[Metric]:
    """Families of all types, no two of one name, with labels of any text."""
    count = draw(st.integers(1, 5))
    return [
        draw(_family(f"m{number}_{draw(st.sampled_from(['x', 'a_b', 'q']))}"))
        for number in range(count)
    ]


@st.composite
def _family(draw: st.DrawFn, name: str) -> Metric:
    kind = draw(st.sampled_from(_KINDS))
    labels = draw(st.lists(st.sampled_from(["node", "path", "_x", "zz9"]), unique=True, max_size=3))
    family = kind(name, draw(_TEXTS), labels=labels)
    values = draw(st.lists(st.tuples(*[_TEXTS] * len(labels)), unique=True, min_size=1, max_size=3))
    for one in values:
        _ADDERS[kind](draw, family, list(one))
    return family


def _add_plain(draw: st.DrawFn, family: Any, labels: list[str]) -> None:
    family.add_metric(labels, draw(_NUMBERS), timestamp=draw(_TIMES))


def _add_counter(draw: st.DrawFn, family: Any, labels: list[str]) -> None:
    created = draw(st.none() | st.integers(0, 2**34).map(lambda eighths: eighths / 8))
    family.add_metric(labels, draw(_FINITE), created=created)


def _add_histogram(draw: st.DrawFn, family: Any, labels: list[str]) -> None:
    counts = sorted(draw(st.lists(st.integers(0, 99), min_size=3, max_size=3)))
    buckets = [("0.5", counts[0]), ("1.0", counts[1]), ("+Inf", counts[2])]
    if isinstance(family, GaugeHistogramMetricFamily):
        family.add_metric(labels, buckets, draw(_FINITE))
    else:
        family.add_metric(labels, buckets, draw(_FINITE))


def _add_summary(draw: st.DrawFn, family: Any, labels: list[str]) -> None:
    family.add_metric(labels, draw(st.integers(0, 99)), draw(_FINITE))


def _add_info(draw: st.DrawFn, family: Any, labels: list[str]) -> None:
    family.add_metric(labels, {"version": draw(_TEXTS)})


def _add_states(draw: st.DrawFn, family: Any, labels: list[str]) -> None:
    family.add_metric(labels, {"up": True, "down": draw(st.booleans())})


_ADDERS: dict[Any, Any] = {
    GaugeMetricFamily: _add_plain,
    UnknownMetricFamily: _add_plain,
    CounterMetricFamily: _add_counter,
    HistogramMetricFamily: _add_histogram,
    GaugeHistogramMetricFamily: _add_histogram,
    SummaryMetricFamily: _add_summary,
    InfoMetricFamily: _add_info,
    StateSetMetricFamily: _add_states,
}
_KINDS = list(_ADDERS)
