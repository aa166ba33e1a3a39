"""An index with vectors beside it answers as one list of all of them does."""

from __future__ import annotations

import numpy as np
import pytest

from fleet.vectors.records import IndexDelta, Metric
from resources.vectors.delta_index import with_deltas
from tests.fleet.vectors.test_refresh import BASE
from tests.resources.vectors.test_faiss_backend import ASKED, BACKEND, BEST, DATA, SPECS

INSIDE = 600
BESIDE = len(DATA) - INSIDE
CASES = {
    "unit vectors beside codes": (Metric.COSINE, "lists", 1.0, 1e-3),
    "unit vectors beside exact ones": (Metric.COSINE, "flat", 1.0, 1e-6),
    "products too large for halves": (Metric.INNER_PRODUCT, "lists", 1e6, 1e-6),
    "distances too large for halves": (Metric.L2, "lists", 1e6, 1e-5),
}


@pytest.mark.parametrize("case", CASES)
def test_what_is_beside_is_compared_with_the_digits_that_it_needs(case: str) -> None:
    """All that is near is found, and scores beside have an error that changes no order of weight."""
    metric, name, factor, error = CASES[case]
    data, asked = DATA * np.float32(factor), ASKED * np.float32(factor)
    manifest = BASE._replace(
        model=BASE.model._replace(metric=metric),
        kind=SPECS[name].kind,
        rows=len(DATA),
        deltas=(IndexDelta("d", 1, 2, BESIDE, 0),),
    )
    index = BACKEND.build(SPECS[name], data[:INSIDE], metric, 7)
    searched = with_deltas(BACKEND, index, data[INSIDE:], manifest)
    some = np.arange(len(DATA)) % 3 != 0
    truth = BACKEND.exact(data, asked, len(DATA), metric)
    scores = np.empty_like(truth.scores)
    np.put_along_axis(scores, truth.rows, truth.scores, axis=1)
    for mask in (None, some):
        wanted = BACKEND.exact(data, asked, 10, metric, mask)
        answers = [searched.search(asked, 10, BEST[name], mask)]
        answers += [] if mask is None else [searched.scan(asked, 10, mask)]
        for found in answers:
            right = [
                len(set(one) & set(two)) for one, two in zip(found.rows, wanted.rows, strict=True)
            ]
            assert np.mean(right) > 9.5
            beside = found.rows >= INSIDE
            assert 0.2 < beside.mean() < 0.6
            true = np.take_along_axis(scores, found.rows, axis=1)[beside]
            slack = error * np.abs(scores).max()
            assert np.allclose(found.scores[beside], true, rtol=0.0, atol=slack)
    assert with_deltas(BACKEND, index, data[:0], manifest) is index
