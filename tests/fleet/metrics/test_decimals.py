"""Values as integers: nothing is ever lost by it."""

from __future__ import annotations

import math
import struct

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from fleet.metrics.decimals import RAW, from_decimals, to_decimals, to_shared_decimals
from fleet.metrics.samples import stale_marker

BITS = st.integers(0, 2**64 - 1).map(lambda bits: struct.unpack("<d", struct.pack("<Q", bits))[0])
TAME = st.one_of(
    st.integers(-(10**6), 10**6).map(float),
    st.integers(-(10**6), 10**6).map(lambda n: n / 100),
    st.sampled_from([-0.0, math.nan, math.inf, -math.inf, 2.0**53, 2.0**53 + 2, 1e-9, 0.1 + 0.2]),
    st.just(None),
)


def laid_out(series: list[list[float | None]]) -> tuple[np.ndarray, np.ndarray]:  # type: ignore[type-arg]
    """Values of series one after another, None as the stale marker, and where each begins."""
    marker = np.array([stale_marker()])
    columns = [
        np.concatenate([marker if one is None else np.array([one]) for one in each])
        for each in series
    ]
    lengths = np.array([len(each) for each in columns], np.int64)
    values = np.concatenate(columns) if columns else np.empty(0)
    return values, np.cumsum(lengths) - lengths


@given(st.lists(st.lists(st.one_of(TAME, BITS), min_size=1, max_size=6), max_size=6))
def test_every_bit_comes_back(series: list[list[float | None]]) -> None:
    """Also payloads of NaN, the sign of zero and numbers beyond 2^53."""
    values, starts = laid_out(series)
    found = from_decimals(*to_decimals(values, starts))
    assert found.view(np.uint64).tolist() == values.view(np.uint64).tolist()


@given(st.lists(st.lists(st.tuples(TAME, TAME), min_size=1, max_size=5), max_size=5))
def test_columns_that_share_an_exponent_come_back(
    series: list[list[tuple[float | None, float | None]]],
) -> None:
    """One exponent fits all columns of a series, or none is taken."""
    columns = []
    starts = np.empty(0, np.int64)
    for which in range(2):
        values, starts = laid_out([[pair[which] for pair in each] for each in series])
        columns.append(values)
    coded = to_shared_decimals((columns[0], columns[1]), starts)
    for values, one in zip(columns, coded, strict=True):
        assert from_decimals(*one).view(np.uint64).tolist() == values.view(np.uint64).tolist()
    assert coded[0].exponents.tolist() == coded[1].exponents.tolist()


def test_counters_and_gauges_become_small_integers() -> None:
    """A series has the smallest exponent that fits all its values; a marker does not spoil it."""
    values, starts = laid_out([[5.0, 7.0, None], [0.25, 1.5], [math.pi, 1.0], [-0.0, 3.0]])
    whole, exponents = to_decimals(values, starts)
    assert exponents.tolist() == [0, 0, 0, 2, 2, RAW, RAW, 0, 0]
    assert whole[[0, 1, 3, 4, 8]].tolist() == [5, 7, 25, 150, 3]
