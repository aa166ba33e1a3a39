"""Quantiles over time from sketches: within 1 %, said so, and only where samples would not do."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleet.metrics.labels import labels_of
from fleet.metrics.levels import DAY_MS, HOUR_MS, Level
from fleet.metrics.sketches import ACCURACY, merge_sketches, quantile, quantiles_of_runs, sketch
from fleet.promql.answer import Answer
from fleet.promql.engine import PromqlEngine
from resources.metrics.metric_store import ObjectMetricStore
from tests.fakes.metric_reader import InMemoryMetricReader
from tests.resources.metrics.metric_stores import batch, half_past_noon, make_all, metric_store

T = 1_704_067_200_000
SOURCE = random.Random(4)
POINTS = [(T + 60_000 * at + 7, round(SOURCE.lognormvariate(1, 2), 3)) for at in range(3 * 1440)]


def reader(*, raw_from_ms: int = 0) -> InMemoryMetricReader:
    """Three days of a gauge that is sketched, and of one that is not."""
    found = InMemoryMetricReader(levels=set(Level), raw_from_ms=raw_from_ms)
    for name in ("yes", "no"):
        labels = labels_of("load", {"sketched": name})
        found.add(labels, POINTS)
        (identity,) = (one for one, info in found.series.items() if info.labels == labels)
        found.series[identity] = found.series[identity]._replace(sketched=name == "yes")
    return found


def exactly(q: float, start_ms: int, end_ms: int) -> float:
    """The quantile of the samples."""
    return float(np.quantile([value for ts, value in POINTS if start_ms < ts <= end_ms], q))


def asked(found: InMemoryMetricReader, query: str, at_ms: int) -> tuple[dict[str, float], Answer]:
    """Values by whether the series is sketched."""
    answer = PromqlEngine(found).answer(query, at_ms)
    names = [dict(labels)["sketched"] for labels in answer.labels]
    return dict(zip(names, answer.values[:, 0].tolist(), strict=True)), answer


def test_short_windows_of_samples_that_are_kept_are_exact() -> None:
    """Whether a series is sketched or not, raw samples answer."""
    at = T + 2 * DAY_MS
    values, answer = asked(reader(), "quantile_over_time(0.9, load[1h])", at)
    wanted = exactly(0.9, at - HOUR_MS, at)
    assert values == pytest.approx({"yes": wanted, "no": wanted}, rel=1e-12)
    assert answer.exact
    assert {use.level for use in answer.uses} == {None}


@pytest.mark.parametrize("q", [0.01, 0.5, 0.99])
def test_windows_of_a_day_and_longer_are_answered_from_sketches(q: float) -> None:
    """Within 1 %, and the answer says so; series without a sketch stay exact."""
    at = T + 2 * DAY_MS
    values, answer = asked(reader(), f"quantile_over_time({q}, load[1d])", at)
    wanted = exactly(q, at - DAY_MS, at)
    assert values["no"] == pytest.approx(wanted, rel=1e-12)
    assert values["yes"] != values["no"]
    assert values["yes"] == pytest.approx(wanted, rel=ACCURACY)
    assert {(use.level, use.reason == "")
            for use in answer.uses} == {(Level.D1, False), (None, True)}  # fmt: skip
    assert not answer.exact
    assert "within 1 %" in answer.warnings[0]


def test_sketches_answer_where_retention_has_removed_the_samples() -> None:
    """Any window on borders of five minutes; what has no sketch says what is left."""
    at = T + 2 * DAY_MS
    gone = reader(raw_from_ms=T + 3 * DAY_MS)
    for window, length, level in (("1h", HOUR_MS, Level.M5), ("90m", 90 * 60_000, Level.M5)):
        values, answer = asked(gone, f"quantile_over_time(0.7, load[{window}])", at)
        assert values.keys() == {"yes"}
        assert values["yes"] == pytest.approx(exactly(0.7, at - length, at), rel=ACCURACY)
        assert {use.level for use in answer.uses} == {level, None}
        assert "within 1 %" in " ".join(answer.warnings)
        assert "what is left of them answers" in " ".join(answer.warnings)
    moved = PromqlEngine(gone).answer('quantile_over_time(0.7, load{sketched="yes"}[1h])', at + 999)
    assert "moved back" in moved.warnings[0]
    assert moved.values[0, 0] == values_at(gone, at)


def values_at(found: InMemoryMetricReader, at: int) -> float:
    """The 0.7-quantile of the hour before."""
    return asked(found, "quantile_over_time(0.7, load[1h])", at)[0]["yes"]


@settings(max_examples=50, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(1, 100), st.floats(-1e6, 1e6) | st.just(math.inf)), min_size=1,
        max_size=40,
    ),
    st.floats(-0.2, 1.2) | st.just(math.nan),
)  # fmt: skip
def test_runs_of_sketches_are_one_sketch(points: list[tuple[int, float]], q: float) -> None:
    """Whatever is merged, and in overlapping runs, the quantile is that of all samples' sketch."""
    ts_ms = np.array([ts for ts, _ in points], np.int64)
    values = np.array([value for _, value in points])
    short = sketch(np.zeros(len(points), np.int64), ts_ms, values, 10)
    whole = merge_sketches(short, 100)
    low, high = np.array([0, 0]), np.array([1, len(short)])
    found = quantiles_of_runs(short, low, high, np.full(2, q))
    first = short.bins[: short.offsets[1]], short.counts[: short.offsets[1]]
    for value, one in zip(found, (first, (whole.bins, whole.counts)), strict=True):
        if 0 <= q <= 1:
            assert np.array_equal(value, quantile(*one, q), equal_nan=True)
        else:
            wanted = math.nan if math.isnan(q) else math.copysign(math.inf, q)
            assert np.array_equal(value, wanted, equal_nan=True)


def test_a_store_answers_from_its_sketches() -> None:
    """From 5m rollups up to days, over the port; the catalogue says which series have any."""
    clock = half_past_noon()
    store: ObjectMetricStore = metric_store(clock=clock)
    rows = [(node, T + 60_000 * at + 1, value) for node in (1, 2)
            for at, (_, value) in enumerate(POINTS[:2880])]  # fmt: skip
    store.append(batch([row for row in rows if row[0] == 1], sketched=True), "one")
    store.append(batch([row for row in rows if row[0] == 2]), "two")
    make_all(store)
    answer = PromqlEngine(store).answer("quantile_over_time(0.9, cpu[2d])", T + 2 * DAY_MS)
    wanted = float(np.quantile([value for _, value in POINTS[:2880]], 0.9))
    plain, sketched = sorted(answer.values[:, 0].tolist(), key=lambda value: abs(value - wanted))
    assert plain == pytest.approx(wanted, rel=1e-12)
    assert sketched != plain
    assert sketched == pytest.approx(wanted, rel=ACCURACY)
    assert {use.level for use in answer.uses} == {Level.D1, None}
