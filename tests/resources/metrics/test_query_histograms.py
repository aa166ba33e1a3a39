"""Native histograms out of the query API: what was written is read, what is custom is not."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from resources.metrics.query_histograms import read_histograms, without_external
from tests.fleet.metrics.plain_histograms import NativeHistogram, one_by_one, upper_bound

INDICES = st.dictionaries(st.integers(-60, 60), st.integers(1, 9), max_size=5)
HISTOGRAMS = st.builds(
    NativeHistogram,
    st.integers(-4, 8),
    st.sampled_from([2.0**-128, 1e-9]),
    st.integers(0, 3),
    st.integers(100, 200),
    st.floats(-1e6, 1e6),
    INDICES,
    INDICES,
)


def document(one: NativeHistogram) -> dict[str, Any]:
    """As Prometheus writes it: bounds as texts, populated buckets only."""
    zero = one.zero_threshold
    found: list[tuple[int, float, float, float]] = []
    for index, count in one.negative.items():
        near, far = (upper_bound(at, one.schema) for at in (index - 1, index))
        found.append((1, -far, -near, count))
    if one.zero_count:
        found.append((3, -zero, zero, one.zero_count))
    for index, count in one.positive.items():
        near, far = (upper_bound(at, one.schema) for at in (index - 1, index))
        found.append((0, near, far, count))
    ordered = sorted(found, key=lambda bucket: bucket[1])
    buckets = [[kind, repr(low), repr(high), repr(n)] for kind, low, high, n in ordered]
    return {"count": repr(one.observations), "sum": repr(one.total), "buckets": buckets}


@settings(max_examples=150, deadline=None)
@given(st.lists(HISTOGRAMS, max_size=4))
def test_what_a_query_tells_is_read(several: list[NativeHistogram]) -> None:
    """All but what no bucket says: the resolution without buckets, the width of an empty zero."""
    rows = [
        {"metric": {}, "histograms": [[at + 0.5, document(one)]]} for at, one in enumerate(several)
    ]
    found = read_histograms(rows)
    wanted = [
        one._replace(
            schema=one.schema if one.positive or one.negative else 8,
            zero_threshold=one.zero_threshold if one.zero_count else 0.0,
        )
        for one in several
    ]
    assert one_by_one(found.samples.histograms) == wanted
    assert found.samples.ts_ms.tolist() == [1000 * at + 500 for at in range(len(several))]
    assert found.samples.series_ids.tolist() == list(range(len(several)))
    assert found.custom == 0


def test_the_buckets_at_the_ends_of_the_range_are_read() -> None:
    """Their bounds are cut off: the others, or the nearer bound, say what they are."""
    one = NativeHistogram(0, 0.0, 0, 9, 1.0, {3: 1, 1024: 2, 1025: 3}, {1025: 1})
    found = read_histograms([{"metric": {}, "histograms": [[1, document(one)]]}])
    assert one_by_one(found.samples.histograms) == [one]


def test_custom_bounds_are_counted_and_left_out() -> None:
    """Their ratio is that of no resolution."""
    wrong = {"count": "3", "sum": "4", "buckets": [[0, "1", "3", "3"]]}
    found = read_histograms([{"metric": {}, "histograms": [[1, wrong], [2, wrong]]}])
    assert (found.custom, len(found.samples)) == (2, 0)


def test_external_labels_are_no_part_of_a_query() -> None:
    """Rows are found by what both have; a row of another series belongs to none."""
    asked = [{"__name__": "h", "pod": str(at), "region": "eu"} for at in range(3)]
    told = [{"__name__": "h", "pod": "2"}, {"__name__": "h", "pod": "9"}]
    assert without_external(asked, told) == [2, -1]
