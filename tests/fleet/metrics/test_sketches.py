"""Sketches: quantiles within 1 %, merges that do not depend on order."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.errors import InvalidInputError
from fleet.metrics.levels import Level
from fleet.metrics.sketches import (
    ACCURACY,
    SketchColumns,
    bin_values,
    bins_of,
    concat_sketches,
    merge_sketches,
    quantile,
    sketch,
)

VALUES = st.one_of(
    st.floats(-1e9, 1e9),
    st.floats(allow_nan=False, allow_subnormal=False),
    st.sampled_from([0.0, -0.0, math.inf, -math.inf, 1.0, 1e-300]),
)
SAMPLES = st.lists(st.tuples(st.integers(1, 2), st.integers(1, 5_000_000), VALUES), max_size=60)


def sketched(samples: list[tuple[int, int, float]], length_ms: int) -> SketchColumns:
    """Sketches of samples."""
    ids, ts_ms, values = zip(*samples, strict=True) if samples else ((), (), ())
    return sketch(
        np.array(ids, np.int64), np.array(ts_ms, np.int64), np.array(values, np.float64), length_ms
    )


def as_rows(columns: SketchColumns) -> list[tuple[int, int, list[int], list[int]]]:
    """Sketches as plain rows."""
    return [
        (
            int(columns.series_ids[i]),
            int(columns.ends_ms[i]),
            columns.bins[columns.offsets[i] : columns.offsets[i + 1]].tolist(),
            columns.counts[columns.offsets[i] : columns.offsets[i + 1]].tolist(),
        )
        for i in range(len(columns))
    ]


@given(st.lists(VALUES, min_size=1))
def test_a_bin_stands_for_its_values_within_one_percent(values: list[float]) -> None:
    """Sign, zero and infinity are exact; bins order as values do."""
    array = np.array(values)
    found = bin_values(bins_of(array))
    for value, near in zip(values, found.tolist(), strict=True):
        assert near == value or abs(near - value) <= (ACCURACY + 1e-9) * abs(value)
    ordered = bins_of(np.sort(array))
    assert (ordered[1:] >= ordered[:-1]).all()


@given(SAMPLES, st.randoms(use_true_random=False))
def test_merging_in_any_order_gives_what_the_samples_give(
    samples: list[tuple[int, int, float]], order: object
) -> None:
    """Exactly: the same bins and counts."""
    parts = [sketched(samples[i::3], Level.M5) for i in range(3)]
    order.shuffle(parts)  # type: ignore[attr-defined]  # Random
    merged = merge_sketches(concat_sketches(parts), Level.H1)
    assert as_rows(merged) == as_rows(sketched(samples, Level.H1))
    assert sum(merged.counts.tolist()) == len(samples)


@given(st.lists(st.floats(0.001, 1e6), min_size=1), st.floats(0, 1))
def test_a_quantile_is_within_one_percent_of_the_exact_one(values: list[float], q: float) -> None:
    """The exact one is interpolated as Prometheus does."""
    one = sketched([(1, 1, value) for value in values], Level.M5)
    exact = float(np.quantile(values, q))
    assert quantile(one.bins, one.counts, q) == pytest.approx(exact, rel=ACCURACY + 1e-6)


def test_nan_is_left_out_and_nothing_gives_nan() -> None:
    """A bucket of NaN alone has no sketch."""
    assert len(sketched([(1, 1, math.nan)], Level.M5)) == 0
    assert math.isnan(quantile(np.empty(0, np.int32), np.empty(0, np.int64), 0.5))
    assert len(concat_sketches([])) == 0
    with pytest.raises(InvalidInputError, match="q"):
        quantile(np.zeros(1, np.int32), np.ones(1, np.int64), 1.5)
