"""Counters of decimals that begin anew several times in a bucket: to the bit, or said not to be."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleet.metrics.labels import labels_of
from fleet.metrics.levels import HOUR_MS, MINUTE_MS, Level
from fleet.promql.answer import Answer
from fleet.promql.engine import PromqlEngine
from fleet.promql.plan import ROUNDED
from tests.examples import examples
from tests.fakes.metric_reader import InMemoryMetricReader, Point
from tests.fleet.metrics.plain_histograms import NativeHistogram

T = 1_704_067_200_000
"""A full hour."""
STEP_MS = 5000


def series_of(values: list[float]) -> list[Point]:
    """A sample each 5 seconds, off the borders of windows."""
    return [(T + STEP_MS * n + 7000, value) for n, value in enumerate(values)]


def engine_of(
    points: dict[str, list[Point]], levels: set[Level], raw_from_ms: int = 0
) -> PromqlEngine:
    """An engine over counters, by pod."""
    reader = InMemoryMetricReader(levels=levels, raw_from_ms=raw_from_ms)
    for pod, one in points.items():
        reader.add_metric("m", one, pod=pod)
    return PromqlEngine(reader)


def bits(answer: Answer) -> list[list[int]]:
    """Values by row and step, bit by bit; absent ones as 0."""
    order = np.argsort([str(labels) for labels in answer.labels])
    found = np.where(answer.present, answer.values, 0.0)[order]
    return found.view(np.int64).tolist() if len(found) else []


values = st.one_of(
    st.sampled_from([0.1, 0.2, 0.7, 1e15, 3.0, 2.0**52]),
    st.integers(0, 5000).map(lambda each: each / 1000),
    st.integers(0, 9).map(float),
)
counters = st.lists(values, min_size=1, max_size=260)


@settings(max_examples=examples(100))
@given(one=counters, other=counters, kept_from=st.integers(0, 25), window=st.sampled_from([5, 60]))
def test_what_calls_itself_exact_is_equal_to_the_bit(
    one: list[float], other: list[float], kept_from: int, window: int
) -> None:
    """To what raw samples of all time answer, whatever retention has left of them."""
    points = {"a": series_of(one), "b": series_of(other)}
    step = window * MINUTE_MS
    ask = (f"increase(m[{window}m])", T + step, T + HOUR_MS + step, step)
    truth = engine_of(points, set()).range(*ask)
    answer = engine_of(points, set(Level), T + kept_from * MINUTE_MS).range(*ask)
    assert truth.exact
    assert answer.labels == truth.labels
    largest = max(*one, *other)
    assert np.allclose(answer.values, truth.values, rtol=1e-9, atol=1e-12 * largest, equal_nan=True)
    if answer.exact:
        assert bits(answer) == bits(truth)
    else:
        assert all("last bits may differ; nothing finer is left" in one for one in answer.warnings)
        assert kept_from > 0


def restarts(every: int, count: int = 720, grows: float = 0.1) -> list[float]:
    """A counter that grows by a tenth and begins anew after so many samples."""
    return [grows * (n % every + 1) for n in range(count)]


def test_only_counters_that_round_are_read_again_and_no_finer_than_needed() -> None:
    """Twice an hour: 5m; each two minutes: 1m; each 15 seconds: samples; whole ones: never."""
    points = {
        "twice": series_of(restarts(300)),
        "often": series_of(restarts(27)),
        "always": series_of(restarts(3)),
        "steady": series_of([0.1 * n for n in range(720)]),
        "once": series_of(restarts(400)),
        "whole": series_of(restarts(3, grows=1.0)),
    }
    ask = ("increase(m[1h])", T + HOUR_MS, T + HOUR_MS, HOUR_MS)
    answer = engine_of(points, set(Level)).range(*ask)
    assert [(use.level_text, use.series) for use in answer.uses] == [
        ("1h", 6), ("5m", 3), ("1m", 2), ("raw", 1),
    ]  # fmt: skip
    assert answer.exact
    assert bits(answer) == bits(engine_of(points, set()).range(*ask))


def test_where_nothing_finer_is_left_the_answer_says_that_its_last_bits_may_differ() -> None:
    """Samples are gone: what 5m can say is said to the bit, the rest is told, and very near."""
    points = {"twice": series_of(restarts(300)), "always": series_of(restarts(3))}
    ask = ("rate(m[1h])", T + HOUR_MS, T + HOUR_MS, HOUR_MS)
    answer = engine_of(points, set(Level), raw_from_ms=2**62).range(*ask)
    assert not answer.exact
    assert answer.warnings == (f"m: {ROUNDED}; nothing finer is left",)
    assert [(use.level_text, use.series, bool(use.reason)) for use in answer.uses] == [
        ("1h", 2, False), ("5m", 2, False), ("1m", 1, False), ("1m", 1, True),
    ]  # fmt: skip


def test_steps_whose_samples_are_kept_are_exact_beside_those_whose_are_not() -> None:
    """Each step says for itself: retention has taken the first hour only."""
    points = {"always": series_of(restarts(3, count=1440))}
    ask = ("increase(m[1h])", T + HOUR_MS, T + 2 * HOUR_MS, HOUR_MS)
    answer = engine_of(points, set(Level), raw_from_ms=T + HOUR_MS).range(*ask)
    last = answer.uses[-2:]
    assert [(use.level_text, use.end_ms, bool(use.reason)) for use in last] == [
        ("1m", T + HOUR_MS, True), ("raw", T + 2 * HOUR_MS, False),
    ]  # fmt: skip
    truth = engine_of(points, set()).range(*ask)
    assert [row[1] for row in bits(answer)] == [row[1] for row in bits(truth)]


def test_too_many_counters_to_read_again_are_said_and_not_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What four reads do not hold stays as the level has it; what they hold is exact."""
    monkeypatch.setattr("fleet.promql.window_reading.RECORDS_AT_ONCE", 12)
    ask = ("increase(m[1h])", T + HOUR_MS, T + HOUR_MS, HOUR_MS)
    few = {pod: series_of(restarts(300)) for pod in "abcd"}
    answer = engine_of(few, set(Level)).range(*ask)
    assert answer.exact
    assert bits(answer) == bits(engine_of(few, set()).range(*ask))
    answer = engine_of(few | {"e": few["a"]}, set(Level)).range(*ask)
    assert [use.level_text for use in answer.uses] == ["1h", "1h"]
    assert "too many series to read them anew" in answer.warnings[0]


def test_functions_that_do_not_ask_for_resets_read_nothing_again() -> None:
    """Only rate and increase add up what came before them."""
    engine = engine_of({"always": series_of(restarts(3))}, set(Level), raw_from_ms=2**62)
    for function in ("delta", "resets", "changes", "sum_over_time", "max_over_time"):
        answer = engine.answer(f"{function}(m[1h])", T + HOUR_MS)
        assert answer.exact
        assert [use.level_text for use in answer.uses] == ["1h"]


def histograms_of(totals: list[float]) -> list[tuple[int, NativeHistogram]]:
    """Histograms with so many observations in one bucket; fewer than before is a reset."""
    return [
        (T + STEP_MS * n + 7000, NativeHistogram(0, 0.001, 0, count, total, {1: count}, {}))
        for n, total in enumerate(totals)
        for count in [int(total * 1000) + 1]
    ]


def engine_of_histograms(
    points: dict[str, list[float]], levels: set[Level], raw_from_ms: int = 0
) -> PromqlEngine:
    """An engine over native histograms, by pod."""
    reader = InMemoryMetricReader(levels=levels, raw_from_ms=raw_from_ms)
    for pod, one in points.items():
        reader.add_histograms(labels_of("m", {"pod": pod}), histograms_of(one))
    return PromqlEngine(reader)


sums = st.lists(st.integers(0, 5000).map(lambda each: each / 1000), min_size=1, max_size=120)


@settings(max_examples=examples(60))
@given(one=sums, other=sums, kept_from=st.integers(0, 12))
def test_native_histograms_that_call_themselves_exact_are_equal_to_the_bit(
    one: list[float], other: list[float], kept_from: int
) -> None:
    """Their sums of observations, whatever retention has left of the samples."""
    points = {"a": one, "b": other}
    step = 5 * MINUTE_MS
    ask = ("histogram_sum(increase(m[5m]))", T + step, T + 3 * step, step)
    truth = engine_of_histograms(points, set()).range(*ask)
    answer = engine_of_histograms(points, set(Level), T + kept_from * MINUTE_MS).range(*ask)
    assert answer.labels == truth.labels
    assert np.allclose(answer.values, truth.values, rtol=1e-9, atol=1e-9)
    if answer.exact:
        assert bits(answer) == bits(truth)
    else:
        assert all("last bits may differ; nothing finer is left" in one for one in answer.warnings)
        assert kept_from > 0


def test_only_histograms_that_round_are_read_again() -> None:
    """One that began anew once stays with the level; which levels answered is told."""
    points = {
        "often": restarts(27),
        "once": restarts(400),
        "always": restarts(3),
    }
    ask = ("histogram_sum(increase(m[1h]))", T + HOUR_MS, T + HOUR_MS, HOUR_MS)
    answer = engine_of_histograms(points, set(Level)).range(*ask)
    told = [(use.level_text, use.series) for use in answer.uses]
    assert told == [("1h", 3), ("5m", 2), ("1m", 2), ("raw", 1)]
    assert answer.exact
    assert bits(answer) == bits(engine_of_histograms(points, set()).range(*ask))
    gone = engine_of_histograms(points, set(Level), raw_from_ms=2**62).range(*ask)
    assert gone.warnings == (f"m: {ROUNDED}; nothing finer is left",)
    assert np.allclose(np.sort(gone.values, axis=0), np.sort(answer.values, axis=0), rtol=1e-9)
