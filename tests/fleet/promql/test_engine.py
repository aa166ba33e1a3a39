"""The engine's own promises: Prometheus 3's rules, limits, order, what it says it read."""

from __future__ import annotations

import math
import weakref
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from fleet.errors import InvalidInputError, TooLargeError
from fleet.metrics.levels import HOUR_MS, MINUTE_MS, Level
from fleet.metrics.samples import SampleBatch, stale_marker
from fleet.promql import window_reading
from fleet.promql.answer import Answer, AnswerKind
from fleet.promql.engine import PromqlEngine
from fleet.promql.nothing import explain_nothing
from fleet.promql.semantics import PROMETHEUS_2
from tests.fakes.metric_reader import InMemoryMetricReader, Point

T = 1_704_067_200_000
"""A full hour."""


def reader_of(**metrics: list[Point]) -> InMemoryMetricReader:
    """A store of metrics with one series each."""
    reader = InMemoryMetricReader()
    for metric, points in metrics.items():
        reader.add_metric(metric, points, pod="p")
    return reader


def every(seconds: int, values: list[float], start_ms: int = T) -> list[Point]:
    """Values at a fixed interval, the first an interval after the start."""
    return [(start_ms + 1000 * seconds * (n + 1), value) for n, value in enumerate(values)]


def the_value(answer: Answer) -> float:
    """The one value of an answer."""
    assert answer.values.shape == (1, 1), answer.labels
    return float(answer.values[0, 0])


def test_a_sample_at_the_start_of_a_window_counts_in_prometheus_2_only() -> None:
    """3.x: (start, end]. 2.x: [start, end], of which no rollup knows."""
    reader = reader_of(m=every(60, [1.0] * 10))
    reader.levels = set(Level)
    asked = "count_over_time(m[5m])"
    new, old = PromqlEngine(reader), PromqlEngine(reader, semantics=PROMETHEUS_2)
    assert the_value(new.answer(asked, T + 6 * MINUTE_MS)) == 5
    found = old.answer(asked, T + 6 * MINUTE_MS)
    assert the_value(found) == 6
    assert found.uses[0].level is None
    assert new.answer(asked, T + 10 * MINUTE_MS).uses[0].level is Level.M5


def test_instant_selectors_look_back_five_minutes_and_no_longer() -> None:
    """3.x leaves out what is exactly five minutes old; a stale marker ends the series."""
    reader = reader_of(m=[(T, 1.0)], gone=[(T, 1.0), (T + 60_000, stale_marker())])
    engine, old = PromqlEngine(reader), PromqlEngine(reader, semantics=PROMETHEUS_2)
    assert len(engine.instant("m", T + 299_999)) == 1
    assert len(engine.instant("m", T + 300_000)) == 0
    assert len(old.instant("m", T + 300_000)) == 1
    assert len(old.instant("m", T + 300_001)) == 0
    assert len(engine.instant("gone", T + 59_999)) == 1
    assert len(engine.instant("gone", T + 60_000)) == 0
    assert the_value(engine.answer("count_over_time(gone[5m])", T + 60_000)) == 1


def extrapolated(points: list[Point], start: int, end: int, *, zero_first: bool) -> Fraction:
    """Increase of a counter without resets, in exact arithmetic."""
    (first_ms, first), (last_ms, last) = points[0], points[-1]
    step, sampled = Fraction(last) - Fraction(first), Fraction(last_ms - first_ms)
    average = sampled / (len(points) - 1)
    to_start, to_end = Fraction(first_ms - start), Fraction(end - last_ms)
    zero = sampled * Fraction(first) / step if step > 0 and first >= 0 else None
    if zero_first and zero is not None:
        to_start = min(to_start, zero)
    to_start = to_start if to_start < average * Fraction(11, 10) else average / 2
    if not zero_first and zero is not None:
        to_start = min(to_start, zero)
    to_end = to_end if to_end < average * Fraction(11, 10) else average / 2
    return step * (sampled + to_start + to_end) / sampled


@pytest.mark.parametrize("values", [[1, 9, 17], [0, 4, 8], [100, 101, 103], [3, 30, 57]])
@pytest.mark.parametrize("start_s", [20, 130])
def test_extrapolation_follows_the_version(values: list[float], start_s: int) -> None:
    """The zero of a counter is looked at after the threshold in 3.x, before it in 2.x."""
    points = [(T + 1000 * start_s + 30_000 * n + 500, v) for n, v in enumerate(values)]
    reader, end = reader_of(m=points), T + 300_000
    for engine, zero_first in (
        (PromqlEngine(reader), False),
        (PromqlEngine(reader, semantics=PROMETHEUS_2), True),
    ):
        expected = extrapolated(points, T, end, zero_first=zero_first)
        assert math.isclose(
            the_value(engine.answer("increase(m[5m])", end)), float(expected), rel_tol=1e-14
        )


def test_the_versions_differ_where_a_counter_begins_late_and_low() -> None:
    """Zero lies 25 s before a first sample that is 120 s late: 3.x goes back 15 s, 2.x 25 s."""
    points = [(T + 120_500 + 30_000 * n, 25.0 + 30 * n) for n in range(4)]
    reader, asked = reader_of(m=points), "increase(m[5m])"
    new = the_value(PromqlEngine(reader).answer(asked, T + 300_000))
    old = the_value(PromqlEngine(reader, semantics=PROMETHEUS_2).answer(asked, T + 300_000))
    assert math.isclose(old - new, 10.0)


def test_topk_lists_the_best_first_and_sort_orders_an_instant_answer() -> None:
    """NaN comes last in both."""
    reader = InMemoryMetricReader()
    for pod, value in {"a": 2.0, "b": math.nan, "c": 7.0, "d": -1.0}.items():
        reader.add_metric("m", [(T, value)], pod=pod)
    engine = PromqlEngine(reader)

    def pods(query: str) -> list[str]:
        return [dict(labels)["pod"] for labels in engine.instant(query, T).labels]

    assert pods("topk(3, m)") == ["c", "a", "d"]
    assert pods("bottomk(4, m)") == ["d", "a", "c", "b"]
    assert pods("sort(m)") == ["d", "a", "c", "b"]
    assert pods("sort_desc(m)") == ["c", "a", "d", "b"]
    assert pods("topk(0, m)") == []
    with pytest.raises(InvalidInputError, match="topk"):
        engine.instant("topk(NaN, m)", T)


def test_two_rows_that_become_equal_are_an_error_and_no_choice() -> None:
    """Names are dropped by functions; what then cannot be told apart is named."""
    reader = reader_of(a=[(T, 1.0)], b=[(T, 2.0)])
    engine = PromqlEngine(reader)
    with pytest.raises(InvalidInputError, match="differ in their labels"):
        engine.instant('abs({__name__=~"a|b"})', T)
    with pytest.raises(InvalidInputError, match="one series for each match"):
        engine.instant('a + on() {__name__=~"a|b"}', T)
    with pytest.raises(InvalidInputError, match="one series on each side"):
        engine.instant('{__name__=~"a|b"} + on(pod) a', T)


def test_scalars_and_texts_are_what_they_are() -> None:
    """A scalar is one element without labels; a text is no vector."""
    engine = PromqlEngine(InMemoryMetricReader())
    found = engine.instant("1 + 2 * 3", T)
    assert (list(found.labels), found.values.tolist(), found.at_ms) == ([()], [7.0], T)
    assert engine.answer("pi()", T).kind is AnswerKind.SCALAR
    assert engine.answer('"x"', T).text == "x"
    with pytest.raises(InvalidInputError, match="vector or a scalar"):
        engine.instant('"x"', T)
    with pytest.raises(InvalidInputError, match="only as the argument"):
        engine.answer("m[5m]", T)


def test_limits_are_named_before_the_work_is_done() -> None:
    """Too many steps, too many points, times that make no range."""
    reader = reader_of(m=every(60, [1.0] * 10))
    engine = PromqlEngine(reader, points_max=5)
    with pytest.raises(TooLargeError, match="11001 steps"):
        engine.range("m", T, T + 11_000, 1)
    with pytest.raises(TooLargeError, match="1 series at 6 steps are 6 points; at most 5"):
        engine.range("m", T, T + 5 * MINUTE_MS, MINUTE_MS)
    with pytest.raises(TooLargeError, match="3600 steps"):
        engine.answer("max_over_time(m[1h:1s])", T)
    with pytest.raises(InvalidInputError, match="step"):
        engine.range("m", T, T, 0)
    with pytest.raises(InvalidInputError, match="end"):
        engine.range("m", T, T - 1, 1)


def test_an_answer_of_too_many_elements_is_refused_however_few_are_asked_of_more() -> None:
    """What is added up or chosen from may be more than an answer can list."""
    reader = InMemoryMetricReader()
    for node in range(4):
        reader.add_metric("m", [(T, float(node))], node=str(node))
    engine = PromqlEngine(reader, rows_max=3)
    assert engine.instant("sum(m)", T).values.tolist() == [6.0]
    assert len(engine.instant("m > 0", T)) == 3
    with pytest.raises(TooLargeError, match="4 elements; at most 3"):
        engine.instant("m", T)


def test_an_answer_says_which_level_answered_each_selector() -> None:
    """Raw samples are gone before hour 3: what stands on rollups says exactly how."""
    reader = reader_of(m=every(30, [float(n) for n in range(600)]))
    reader.levels, reader.raw_from_ms = set(Level), T + 3 * HOUR_MS
    engine = PromqlEngine(reader)
    answer = engine.range("rate(m[1h]) + m", T + HOUR_MS, T + 4 * HOUR_MS, HOUR_MS)
    said = [(use.level_text, use.end_ms - T, bool(use.reason)) for use in answer.uses]
    hour = HOUR_MS
    assert said == [("1h", 4 * hour, False), ("1m", 3 * hour, True), ("raw", 4 * hour, False)]
    assert not answer.exact
    assert "do not say when a series ended" in answer.warnings[0]
    assert answer.present.all()


def test_windows_that_were_moved_are_said_and_are_those_of_the_buckets() -> None:
    """Without raw samples an unaligned moment is answered by the minute before it."""
    reader = reader_of(m=every(15, [float(n) for n in range(2000)]))
    reader.levels, reader.raw_from_ms = set(Level), 2**62
    engine, at = PromqlEngine(reader), T + 3 * HOUR_MS
    moved = engine.answer("increase(m[5m])", at + 12_345)
    aligned = engine.answer("increase(m[5m])", at)
    assert aligned.exact
    assert not moved.exact
    assert the_value(moved) == the_value(aligned)


def test_the_reader_is_asked_in_groups_that_fit_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many series are read in several calls, and answered as if in one."""
    reader = InMemoryMetricReader(levels={Level.M1, Level.M5})
    for pod in range(7):
        reader.add_metric("m", every(15, [float(n * pod) for n in range(100)]), pod=str(pod))
    engine = PromqlEngine(reader)
    queries = ("rate(m[5m])", "rate(m[1m5s])", "m", "quantile_over_time(0.5, m[5m])")
    whole = [engine.range(query, T + 600_000, T + 1_200_000, 300_000) for query in queries]
    monkeypatch.setattr("fleet.promql.window_reading.SAMPLES_AT_ONCE", 120)
    monkeypatch.setattr("fleet.promql.window_reading.RECORDS_AT_ONCE", 5)
    monkeypatch.setattr("fleet.promql.window_reading.GAP_MS", 1000)
    monkeypatch.setattr("fleet.metrics.answers.EXPANDED_MAX", 10)
    for query, before in zip(queries, whole, strict=True):
        after = engine.range(query, T + 600_000, T + 1_200_000, 300_000)
        assert before.labels == after.labels
        assert np.array_equal(before.values, after.values)
        assert np.array_equal(before.present, after.present)


def test_why_nothing_is_found_is_said_for_each_selector() -> None:
    """An unknown metric, a value that none has, a time without samples."""
    reader = reader_of(memory=every(60, [1.0] * 5), disk=every(60, [1.0]))
    reader.add_metric("memory", every(60, [1.0]), pod="q", zone="z")
    day = 24 * HOUR_MS

    def why(query: str, at: int = T + 60_000) -> list[str]:
        return explain_nothing(reader, query, at - 300_000, at)

    assert why("memory") == []
    assert why("memroy + disk") == ["no metric memroy; near are memory"]
    assert why('memory{pod="r"}') == [
        "memory{pod=\"r\"}: none has pod='r'; there is 'p' (and 1 more)"
    ]
    assert why('memory{pod="p",zone="z"}') == [
        'memory{pod="p",zone="z"}: no series has all of these labels together'
    ]
    assert why('disk{zone="z"}') == ['disk{zone="z"}: no series of it has a label zone']
    (late,) = why("disk", T + 3 * day)
    assert late.startswith("disk: 1 series, but no samples at that time; the last sample before")
    assert late.endswith("is at 2024-01-01T00:01:00Z")
    assert "the first after is at 2024-01-01T00:01:00Z" in why("disk", T - 3 * day)[0]


class WatchedReader(InMemoryMetricReader):
    """Tells how many batches of samples were alive when another was asked for."""

    def __init__(self) -> None:
        """Nothing was read."""
        super().__init__()
        self.read: list[weakref.ref[Any]] = []
        self.alive: list[int] = []

    def samples(self, ids: Any, start_ms: int, end_ms: int) -> SampleBatch:
        """Note what is still held."""
        self.alive.append(sum(one() is not None for one in self.read))
        found = super().samples(ids, start_ms, end_ms)
        self.read.append(weakref.ref(found.values))
        return found


def test_one_group_of_samples_is_let_go_before_the_next_is_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A group is as large as memory allows; two at once are not."""
    monkeypatch.setattr(window_reading, "SAMPLES_AT_ONCE", 1)
    reader = WatchedReader()
    for node in range(3):
        reader.add_metric("m", every(60, [float(node)] * 3), node=str(node))
    assert PromqlEngine(reader).instant("sum(m)", T + 180_000).values.tolist() == [3.0]
    assert reader.alive == [0, 0, 0]
