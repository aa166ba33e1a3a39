"""Arrow columns through their buffers: what Arrow's own conversions give, slice by slice."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from resources.vectors.arrow_buffers import (
    fractions,
    number_array,
    true_rows,
    value_array,
    whole_numbers,
)

NUMBERS = [5, -1, 2**62, 0, 7]


def chunked(values: list[Any], kind: pa.DataType, *cuts: int) -> pa.ChunkedArray[Any]:
    """The values in chunks that are slices of longer arrays."""
    whole = pa.array([values[0], *values, values[-1]], kind)
    edges = [0, *cuts, len(values)]
    chunks = [whole.slice(a + 1, b - a) for a, b in pairwise(edges)]
    return pa.chunked_array(chunks, kind)


@pytest.mark.parametrize("cuts", [(), (2,), (1, 1, 4), (0, 5)])
def test_numbers_and_truths_are_those_of_the_column(cuts: tuple[int, ...]) -> None:
    """Whole, in slices and with empty chunks; null is not true."""
    assert whole_numbers(chunked(NUMBERS, pa.int64(), *cuts)).tolist() == NUMBERS
    truths = [True, None, False, True, None]
    mask = true_rows(chunked(truths, pa.bool_(), *cuts))
    assert mask.tolist() == [one is True for one in truths]
    floats = chunked([1.5, -2.0, 0.0, 3.25, 4.0], pa.float32(), *cuts).chunk(0)
    assert fractions(floats).tolist() == floats.to_pylist()


def test_no_row_is_no_number() -> None:
    """A column without a chunk, an array without an element."""
    assert whole_numbers(pa.chunked_array([], pa.int64())).tolist() == []
    assert true_rows(pa.chunked_array([], pa.bool_())).tolist() == []
    assert fractions(pa.array([], pa.float32())).shape == (0,)


def test_values_become_the_arrays_that_arrow_would_make() -> None:
    """Texts of any script, moments before and after 1970, row numbers."""
    texts = ["", "a", "Größe", "火", "\U0001f600", "a\0b"]
    assert value_array(texts, pa.string()).equals(pa.array(texts, pa.string()))
    kind = pa.timestamp("us", "UTC")
    moments = [datetime(1969, 12, 31, 23, tzinfo=UTC), datetime(2026, 11, 22, 1, 2, 3, 4, UTC)]
    assert value_array(moments, kind).equals(pa.array(moments, kind))
    assert number_array(np.array(NUMBERS)[::-1]).to_pylist() == NUMBERS[::-1]
