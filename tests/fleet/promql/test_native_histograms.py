"""Native histograms in queries: as Prometheus 2.42 answers, from samples and from records."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest

from fleet.errors import InvalidInputError
from fleet.metrics.labels import labels_of
from fleet.metrics.levels import Level
from fleet.promql.engine import PromqlEngine
from fleet.promql.nothing import explain_nothing
from fleet.promql.semantics import PROMETHEUS_2
from tests.fakes.metric_reader import InMemoryMetricReader
from tests.fleet.metrics.plain_histograms import NativeHistogram, upper_bound
from tests.fleet.metrics.test_native_histograms import observe
from tests.fleet.promql.native_data import (
    COUNT,
    START_MS,
    STEP_MS,
    native_asks,
    native_series,
)
from tests.fleet.promql.oracle import (
    NATIVE_FROZEN,
    Rows,
    answered,
    asked,
    differences,
    freeze,
    frozen,
)
from tests.servers import remote_write
from tests.servers.prometheus import PrometheusServer, prometheus_programs, running_prometheus

__all__ = ["prometheus_programs"]

TOLERANCE = 1e-9
COUNTED = tuple(
    f"histogram_{part}({function}" for part in ("sum", "count") for function in ("rate", "increase")
)
"""Equal to the bit: what counters have counted, not interpolated."""
RULES_OF_RECORDS = PROMETHEUS_2._replace(left_closed=False)


@pytest.fixture(scope="module")
def reader() -> InMemoryMetricReader:
    """All families, nothing rolled up."""
    reader = InMemoryMetricReader()
    for labels, points in native_series():
        reader.add_histograms(labels, points)
    return reader


@contextmanager
def loaded_with_histograms() -> Iterator[PrometheusServer]:
    """A real server that holds them; written in order of time, as it takes histograms."""
    with running_prometheus(flags=("--enable-feature=native-histograms",)) as server:
        for first in range(0, COUNT, 40):
            start = START_MS + STEP_MS * first
            span = range(start, start + 40 * STEP_MS)
            series = [
                (dict(labels), [(ts, one) for ts, one in points if ts in span])
                for labels, points in native_series()
            ]
            remote_write.write(server, [one for one in series if one[1]])
        yield server


def test_histograms_give_the_answers_of_prometheus(reader: InMemoryMetricReader) -> None:
    """Quantiles, counts, sums and fractions of every family, from raw samples."""
    engine, answers = PromqlEngine(reader, semantics=PROMETHEUS_2), frozen(NATIVE_FROZEN)
    assert sum(map(bool, answers.values())) > 0.95 * len(answers)
    for ask in native_asks():
        ours, answer = answered(engine, ask)
        assert answer.exact
        assert not differences(ours, answers[ask.key], TOLERANCE), ask.query
        if ask.query.startswith(COUNTED):
            assert not differences(ours, answers[ask.key]), ask.query


def test_records_of_histograms_give_the_answers_of_prometheus(
    reader: InMemoryMetricReader,
) -> None:
    """The same from rollups, without a raw sample left."""
    rolled_up = InMemoryMetricReader(
        levels=set(Level), raw_from_ms=2**62, series=reader.series, points=reader.points,
        histogram_points=reader.histogram_points,
    )  # fmt: skip
    engine, answers = PromqlEngine(rolled_up, semantics=RULES_OF_RECORDS), frozen(NATIVE_FROZEN)
    levels = set()
    for ask in native_asks():
        if "[" not in ask.query:
            continue
        ours, answer = answered(engine, ask)
        levels |= {use.level for use in answer.uses}
        assert answer.exact
        assert not differences(ours, answers[ask.key], TOLERANCE), ask.query
        if ask.query.startswith(COUNTED):
            assert not differences(ours, answers[ask.key]), ask.query
    assert levels == {Level.M1, Level.M5, Level.H1}


@pytest.mark.long
@pytest.mark.usefixtures("prometheus_programs")
def test_the_frozen_answers_about_histograms_are_what_prometheus_says() -> None:
    """The copy is checked wherever Prometheus is installed; delete it to have it made anew."""
    with loaded_with_histograms() as server:
        said = {ask.key: asked(server, ask) for ask in native_asks()}
    if not NATIVE_FROZEN.exists():
        freeze(said, NATIVE_FROZEN)
    kept = frozen(NATIVE_FROZEN)
    assert kept.keys() == said.keys()
    for key, rows in said.items():
        assert not differences(kept[key], rows), key


def plain_quantile(one: NativeHistogram, q: float) -> float:
    """The quantile as Prometheus 3 has it, bucket by bucket."""
    sides = [(-upper_bound(i, one.schema), -upper_bound(i - 1, one.schema), count)
             for i, count in one.negative.items()]  # fmt: skip
    sides += [(upper_bound(i - 1, one.schema), upper_bound(i, one.schema), count)
              for i, count in one.positive.items()]  # fmt: skip
    if one.zero_count:
        low = 0.0 if one.positive and not one.negative else -one.zero_threshold
        high = 0.0 if one.negative and not one.positive else one.zero_threshold
        sides.append((low, high, one.zero_count))
    rank, below = q * one.observations, 0.0
    for low, high, count in sorted(sides):
        if below + count >= rank:
            share = (rank - below) / count
            if low <= 0 <= high:
                return low + (high - low) * share
            if low > 0:
                return float(low * (high / low) ** share)
            return -float(-low * (high / low) ** share)
        below += count
    raise AssertionError(rank)


def test_quantiles_of_prometheus_3_are_even_in_the_logarithm() -> None:
    """Within a bucket of values above or below 0; in the zero bucket as in 2.42."""
    one = observe([0.0001, 0.0, 0.4, 0.7, 3.0, 3.1, 9.0, -2.0, -77.0, -0.3], 1)
    reader = InMemoryMetricReader()
    reader.add_histograms(labels_of("h", {}), [(1000, one)])
    engine = PromqlEngine(reader)
    for q in np.linspace(0.03, 0.99, 23).tolist():
        found = engine.answer(f"histogram_quantile({q}, h)", 2000).values[0, 0]
        assert math.isclose(found, plain_quantile(one, q), rel_tol=1e-9), q
    share = engine.answer(f"histogram_fraction(-Inf, {plain_quantile(one, 0.8)}, h)", 2000)
    assert math.isclose(share.values[0, 0], 0.8, rel_tol=1e-9)


def test_numbers_and_histograms_of_one_series_are_told_apart() -> None:
    """A window of both has no rate, an instant takes the later one, counts add up."""
    reader = InMemoryMetricReader()
    labels = labels_of("h", {})
    reader.add(labels, [(10_000, 7.0), (20_000, 8.0), (50_000, 9.0)])
    reader.add_histograms(labels, [(30_000, observe([1.0], 0)), (40_000, observe([1.0, 2.0], 0))])
    engine = PromqlEngine(reader)

    def value(query: str, at_ms: int) -> list[float]:
        return engine.answer(query, at_ms).values[:, 0].tolist()

    assert value("rate(h[10s])", 20_000) == []
    assert value("rate(h[15s])", 20_000) == [0.1]
    assert value("rate(h[30s])", 40_000) == []
    assert value("histogram_count(increase(h[15s]))", 40_000) == [1.5]
    assert value("histogram_count(h)", 45_000) == [2.0]
    assert value("h", 50_000) == [9.0]
    assert value("histogram_count(h)", 50_000) == []
    assert value("count_over_time(h[50s])", 50_000) == [5.0]
    assert value("timestamp(h)", 45_000) == [40.0]


def test_what_takes_no_histogram_says_so_and_what_does() -> None:
    """Nothing is left out in silence: functions, operators and the query itself refuse by name."""
    reader = InMemoryMetricReader()
    reader.add_histograms(labels_of("h", {}), [(1000, observe([1.0], 0))])
    engine = PromqlEngine(reader)
    for query in (
        "h", "rate(h[1m])", "abs(h)", "h > 1", "h + h", "1 / h", "-h", "max(h)", "topk(1, h)",
        "max_over_time(h[1m])", "quantile_over_time(0.5, h[1m])", "irate(h[1m])", "sort(h)",
    ):  # fmt: skip
        points = [(1000, observe([1.0], 0)), (1500, observe([1.0, 2.0], 0))]
        reader.add_histograms(labels_of("h", {}), points)
        with pytest.raises(InvalidInputError, match="native histograms") as caught:
            engine.answer(query, 2000)
        assert "histogram_quantile" in (caught.value.hint or "")


@pytest.fixture(scope="module")
def two_pods() -> PromqlEngine:
    """Histograms of two pods in schemas of their own, and a weight for each."""
    reader = InMemoryMetricReader()
    for pod, values, schema, weight in (("a", [1.0, 2.0, 4.0], 2, 2.0), ("b", [2.0], 0, 5.0)):
        labels = labels_of("h", {"pod": pod})
        reader.add_histograms(labels, [(1000, observe(values, schema))])
        reader.add(labels_of("w", {"pod": pod}), [(1000, weight)])
    return PromqlEngine(reader)


@pytest.mark.parametrize(
    ("query", "wanted"),
    [
        ('histogram_count(h{pod="a"} + ignoring (pod) h{pod="b"})', [4.0]),
        ('histogram_sum(h{pod="a"} + ignoring (pod) h{pod="b"})', [9.0]),
        ('histogram_fraction(1, 2, h{pod="a"} + ignoring (pod) h{pod="b"})', [0.5]),
        ('histogram_count(h{pod="a"} - ignoring (pod) h{pod="b"})', [2.0]),
        ('histogram_sum(h{pod="b"} - ignoring (pod) h{pod="a"})', [-5.0]),
        ("histogram_count(h - h)", [0.0, 0.0]),
        ("histogram_count(-h)", [-3.0, -1.0]),
        ("histogram_sum(h * on (pod) w)", [14.0, 10.0]),
        ("histogram_sum(w * on (pod) h)", [14.0, 10.0]),
        ("histogram_count(h / on (pod) w)", [1.5, 0.2]),
        ("histogram_count(h == h)", [3.0, 1.0]),
        ("count(h != h)", []),
        ('count(h{pod="a"} != ignoring (pod) h{pod="b"})', [1.0]),
        ('h{pod="a"} == bool ignoring (pod) h{pod="b"}', [0.0]),
        ("h != bool h", [0.0, 0.0]),
        ('histogram_count(h and h{pod="a"})', [3.0]),
        ('histogram_count(h unless h{pod="a"})', [1.0]),
        ('histogram_count(h{pod="b"} or h)', [1.0, 3.0]),
        ('histogram_count(w{pod="a"} or h)', [1.0]),
        ('count({__name__=~"w|h", pod="a"} and w)', [2.0]),
    ],
)
def test_histograms_meet_each_other_and_numbers(
    two_pods: PromqlEngine, query: str, wanted: list[float]
) -> None:
    """Sums, differences, scaling and choices between vectors, as Prometheus 3 has them."""
    found = two_pods.answer(query, 2000).values[:, 0].tolist()
    assert sorted(found) == sorted(wanted)


@pytest.mark.parametrize(
    "query",
    [
        *("h + on (pod) w", "w - on (pod) h", "h * h", "w / on (pod) h"),
        *("h > h", "h ^ on (pod) w", "h == on (pod) w"),
    ],
)
def test_operators_that_histograms_do_not_know_are_refused(
    two_pods: PromqlEngine, query: str
) -> None:
    """Prometheus leaves such pairs out; here the expression is named."""
    with pytest.raises(InvalidInputError, match="native histograms") as caught:
        two_pods.answer(f"count({query})", 2000)
    assert "histogram_quantile" in (caught.value.hint or "")


def test_averages_scaling_and_labels_keep_histograms() -> None:
    """Of two series with another one in a schema of its own."""
    reader = InMemoryMetricReader()
    for pod, values in (("a", [1.0, 2.0, 4.0]), ("b", [2.0])):
        one = observe(values, 2 if pod == "a" else 0)
        reader.add_histograms(labels_of("h", {"pod": pod}), [(1000, one)])
    engine = PromqlEngine(reader)
    for query, wanted in (
        ("histogram_count(avg(h))", [2.0]),
        ("histogram_avg(sum(h))", [2.25]),
        ("histogram_count(sum(h * 2))", [8.0]),
        ("histogram_sum(sum(3 * h / 6))", [4.5]),
        ('histogram_count(sum by (x) (label_replace(h, "x", "$1", "pod", "(a)")))', [3.0, 1.0]),
        ("count(h)", [2.0]),
        ("histogram_quantile(NaN, sum(h)) or vector(1)", [math.nan]),
        ("histogram_quantile(2, sum(h))", [math.inf]),
        ("absent(h)", []),
    ):  # fmt: skip
        found = engine.answer(query, 2000).values[:, 0].tolist()
        assert np.array_equal(sorted(found), sorted(wanted), equal_nan=True), (query, found)


def test_sums_averages_and_changes_over_time_are_those_of_the_samples() -> None:
    """Asked of raw samples, also where rollups are built; without them the question is refused."""
    seen = [[1.0], [1.0], [1.0, 2.0], [4.0], [4.0]]
    points = [
        (START_MS + 60_000 * at + 1000, observe(some, 2 - at % 2)) for at, some in enumerate(seen)
    ]
    built = InMemoryMetricReader(levels=set(Level))
    gone = InMemoryMetricReader(levels=set(Level), raw_from_ms=2**62)
    for reader in (plain := InMemoryMetricReader(), built, gone):
        reader.add_histograms(labels_of("h", {}), points)
    for query, wanted in (
        ("histogram_count(sum_over_time(h[5m]))", 6.0),
        ("histogram_sum(sum_over_time(h[5m]))", 13.0),
        ("histogram_count(avg_over_time(h[5m]))", 1.2),
        ("histogram_quantile(1, sum_over_time(h[2m]))", 4.0),
        ("changes(h[5m])", 4.0),  # resolutions alternate
    ):
        for reader in (plain, built):
            answer = PromqlEngine(reader).answer(query, START_MS + 300_000)
            assert answer.values[:, 0].tolist() == [pytest.approx(wanted)], query
            assert any(use.level is None for use in answer.uses)
            assert answer.exact
        with pytest.raises(InvalidInputError, match="native histograms that retention has kept"):
            PromqlEngine(gone).answer(query, START_MS + 300_000)


def test_why_nothing_is_found_knows_of_histograms() -> None:
    """There are some at that time, or the nearest are named."""
    reader = InMemoryMetricReader()
    reader.add_histograms(labels_of("h", {}), [(60_000, observe([1.0], 0))])
    assert explain_nothing(reader, "histogram_count(h) > 5", 0, 100_000) == []
    (sentence,) = explain_nothing(reader, "histogram_count(h)", 100_000, 200_000)
    assert "the last sample before is at 1970-01-01T00:01:00Z" in sentence


def test_classic_and_native_histograms_are_answered_together(reader: InMemoryMetricReader) -> None:
    """One query over a metric that some export classic and some native."""
    mixed = InMemoryMetricReader()
    for bound, count in (("1", 1.0), ("2", 3.0), ("+Inf", 4.0)):
        mixed.add(labels_of("h", {"pod": "classic", "le": bound}), [(1000, count)])
    mixed.add_histograms(labels_of("h", {"pod": "native"}), [(1000, observe([1.0, 2.0], 0))])
    answer = PromqlEngine(mixed, semantics=PROMETHEUS_2).answer("histogram_quantile(0.5, h)", 2000)
    rows: Rows = {labels: {0: v} for labels, v in zip(answer.labels, answer.values[:, 0].tolist(),
                                                    strict=True)}  # fmt: skip
    assert rows == {(("pod", "classic"),): {0: 1.5}, (("pod", "native"),): {0: 1.0}}
