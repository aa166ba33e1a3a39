"""The vectorised histograms answer as the Vertical Pod Autoscaler's do, sample by sample."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleet.errors import InvalidInputError
from fleet.rightsizing.buckets import CPU_BUCKETS, MEMORY_BUCKETS, Buckets
from fleet.rightsizing.histograms import DecayingHistograms
from fleet.rightsizing.memory_peaks import Kills, daily_peaks, raise_for_kills
from tests.examples import examples
from tests.fleet.rightsizing.vpa_twin import DAY_MS, TwinBuckets, TwinHistogram, twin_peaks

START_MS = 1_767_225_600_000 + 17 * 3_600_000 + 123
HALF_LIFE_MS = DAY_MS
TWIN_CPU = TwinBuckets(1000.0, 0.001, 1.05)
SHARES = (0.01, 0.1, 0.5, 0.9, 0.95, 1.0)


def test_buckets_are_those_of_the_source() -> None:
    """176 of memory and of the former CPU scheme, 223 of the present one; starts and ends meet."""
    assert Buckets(1000.0, 0.01).count == MEMORY_BUCKETS.count == 176
    assert CPU_BUCKETS.count == TWIN_CPU.count == 223
    assert CPU_BUCKETS.starts[0] == 0
    assert MEMORY_BUCKETS.starts[1] == pytest.approx(1e7)
    assert MEMORY_BUCKETS.starts[-1] >= 1e12 > MEMORY_BUCKETS.starts[-2]
    assert [CPU_BUCKETS.starts[n] for n in range(223)] == pytest.approx(
        [TWIN_CPU.start(n) for n in range(223)], rel=1e-12
    )


@given(st.lists(st.floats(0, 5000).filter(TWIN_CPU.clear), min_size=1, max_size=20))
def test_a_value_falls_into_the_bucket_that_the_source_finds(values: list[float]) -> None:
    """Also below the first bucket and beyond the last."""
    found = CPU_BUCKETS.find(np.array(values)).tolist()
    assert found == [TWIN_CPU.find(value) for value in values]


@st.composite
def histories(draw: st.DrawFn, span_half_lives: int = 90) -> list[tuple[int, float, float, int]]:
    """(row, value, weight, time) of up to three rows, in order of time."""
    samples = draw(
        st.lists(
            st.tuples(
                st.integers(0, 2),
                st.floats(0, 50).filter(TWIN_CPU.clear),
                st.floats(0.1, 4),
                st.integers(0, span_half_lives * HALF_LIFE_MS),
            ),
            max_size=30,
        )
    )
    return sorted(samples, key=lambda one: one[3])


def filled(
    samples: list[tuple[int, float, float, int]], cut: int
) -> tuple[DecayingHistograms, list[TwinHistogram]]:
    """Both kinds with the same samples; the vectorised one takes them in two calls."""
    ours = DecayingHistograms(3, CPU_BUCKETS, HALF_LIFE_MS)
    twins = [TwinHistogram(TWIN_CPU, HALF_LIFE_MS) for _ in range(3)]
    for row, value, weight, age_ms in samples:
        twins[row].add(value, weight, START_MS + age_ms)
    for part in (samples[:cut], samples[cut:]):
        ours.add(
            np.array([one[0] for one in part], np.int64),
            np.array([one[1] for one in part], np.float64),
            np.array([one[2] for one in part], np.float64),
            np.array([START_MS + one[3] for one in part], np.int64),
        )
    return ours, twins


@settings(max_examples=examples(60))
@given(histories(), st.integers(0, 30))
def test_percentiles_are_those_of_the_source_to_the_bit(
    samples: list[tuple[int, float, float, int]], cut: int
) -> None:
    """Oracle: the scalar histogram, on every row at once, however the samples are divided."""
    ours, twins = filled(samples, cut)
    for share in SHARES:
        theirs = [twin.percentile(share) for twin in twins]
        assert ours.percentile(share).tolist() == pytest.approx(theirs, rel=1e-12, abs=0)


@settings(max_examples=examples(30))
@given(histories(span_half_lives=400))
def test_over_hundreds_of_half_lives_only_the_newest_count(
    samples: list[tuple[int, float, float, int]],
) -> None:
    """The reference moves without overflow; the median is the newest weighty sample's bucket."""
    ours, _ = filled(samples, len(samples))
    assert np.isfinite(ours.weights).all()
    assert np.isfinite(ours.totals).all()
    for row in range(3):
        own = [one for one in samples if one[0] == row]
        lonely = own and (len(own) < 2 or own[-1][3] - own[-2][3] > 20 * HALF_LIFE_MS)
        if lonely:
            bucket = TWIN_CPU.find(own[-1][1])
            end = TWIN_CPU.start(min(bucket + 1, TWIN_CPU.count - 1))
            assert ours.percentile(0.5)[row] == pytest.approx(end)


def test_a_half_life_halves_a_weight() -> None:
    """Source: TestDecayingHistogramPercentiles: weights 1, 2, 3, 4, an hour apart each."""
    hour = 3_600_000
    ours = DecayingHistograms(1, CPU_BUCKETS, hour)
    rows = np.zeros(4, np.int64)
    values = np.array([1.0, 2.0, 3.0, 4.0])
    ours.add(rows, values, values, START_MS + np.arange(4) * hour)
    for share, value in ((0.0, 1), (0.02, 1), (0.03, 2), (0.1, 2), (0.11, 3), (0.34, 3), (0.36, 4)):
        assert ours.percentile(share)[0] == pytest.approx(value, rel=0.06), share


@pytest.mark.parametrize("wrong", [-1.0, float("nan"), float("inf")])
def test_what_is_no_reading_is_refused_and_nothing_is_added(wrong: float) -> None:
    """A negative reading would make a weight vanish into the first bucket."""
    ours = DecayingHistograms(1, CPU_BUCKETS, HALF_LIFE_MS)
    rows, times = np.zeros(2, np.int64), np.full(2, START_MS)
    with pytest.raises(InvalidInputError, match="finite, and 0 or more"):
        ours.add(rows, np.array([1.0, wrong]), np.ones(2), times)
    assert ours.totals.tolist() == [0.0]
    with pytest.raises(InvalidInputError, match=r"buckets\.first"):
        Buckets(10.0, 0.0)


@settings(max_examples=examples(40))
@given(
    st.lists(
        st.tuples(st.integers(0, 2), st.integers(0, 4 * DAY_MS), st.integers(1, 2**40).map(float)),
        min_size=1,
        max_size=25,
    )
)
def test_each_agent_has_one_peak_a_day_of_its_own(samples: list[tuple[int, int, float]]) -> None:
    """Oracle: the container's window of the source, which begins with its first sample."""
    agents, ages, used = (np.array(column) for column in zip(*samples, strict=True))
    found = daily_peaks(agents.astype(np.int64), used, START_MS + ages.astype(np.int64))
    expected = []
    for agent in range(3):
        own = sorted((START_MS + age, value) for one, age, value in samples if one == agent)
        expected += [(agent, at, value) for at, value in twin_peaks(own)]
    ours = list(
        zip(found.agents.tolist(), found.times_ms.tolist(), found.bytes.tolist(), strict=True)
    )
    assert ours == expected


MIB = 1024 * 1024


@pytest.mark.parametrize(
    ("limit", "peak", "expected"),
    [
        (200 * MIB, 150 * MIB, 300 * MIB),
        (200 * MIB, 250 * MIB, 350 * MIB),
        (1000 * MIB, 900 * MIB, 1200 * MIB),
    ],
)
def test_a_kill_counts_as_what_would_have_been_enough(limit: int, peak: int, expected: int) -> None:
    """The larger of limit and peak, and 100 MiB or a fifth more, whichever is more."""
    one = np.array([3], np.int64)
    peaks = daily_peaks(one, np.array([float(peak)]), np.array([START_MS]))
    kills = Kills(one, np.array([float(limit)]), np.array([START_MS + 60_000]))
    raised = raise_for_kills(peaks, kills, 1.2, 100 * MIB)
    assert raised.bytes.tolist() == [float(expected)]
    assert raised.times_ms.tolist() == peaks.times_ms.tolist()


def test_a_kill_on_a_day_without_a_peak_stands_alone() -> None:
    """And never lowers what was seen."""
    one = np.array([0], np.int64)
    peaks = daily_peaks(one, np.array([5e9]), np.array([START_MS]))
    late = Kills(one, np.array([1e9]), np.array([START_MS + 5 * DAY_MS]))
    raised = raise_for_kills(peaks, late, 1.2, 100 * MIB)
    assert raised.bytes.tolist() == [5e9, float(int(1.2e9))]
