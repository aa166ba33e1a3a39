"""Which level answers: only where it covers, the coarsest there is, and never in silence else."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from fleet.metrics.levels import DAY_MS, HOUR_MS, MINUTE_MS, Level
from fleet.promql.plan import Need, plan_windows
from tests.fakes.metric_reader import InMemoryMetricReader


class Holes(InMemoryMetricReader):
    """A store in which some buckets of some levels are not built."""

    def __init__(self, holes: list[tuple[Level, int]], raw_from_ms: int = 0) -> None:
        """Take the holes as (level, start of a missing hour)."""
        super().__init__(levels=set(Level), raw_from_ms=raw_from_ms)
        self.holes = holes

    def covers(self, level: Level, start_ms: int, end_ms: int) -> bool:
        """Whether no hole of the level lies in the range."""
        return not any(
            one == level and at < end_ms and start_ms < at + HOUR_MS for one, at in self.holes
        )


class Windows(NamedTuple):
    """Windows of one query."""

    start_ms: int
    step_ms: int
    range_ms: int
    count: int


lengths = st.sampled_from([7_000, MINUTE_MS, 90_000, 5 * MINUTE_MS, HOUR_MS, 6 * HOUR_MS, DAY_MS])
windows = st.builds(
    Windows,
    st.integers(0, 500).map(lambda n: DAY_MS + n * 5 * MINUTE_MS) | st.integers(DAY_MS, 2 * DAY_MS),
    lengths,
    lengths,
    st.integers(1, 60),
)
holes = st.lists(
    st.tuples(st.sampled_from(Level), st.integers(0, 60).map(lambda n: n * HOUR_MS)), max_size=5
)


floors = st.integers(0, 3 * DAY_MS)


@given(windows=windows, holes=holes, raw_from=floors, need=st.sampled_from(Need))
def test_pieces_are_exact_where_they_say_so_and_cover_every_step(
    windows: Windows, holes: list[tuple[Level, int]], raw_from: int, need: Need
) -> None:
    """Every step has one piece; an exact one stands on a covering level, or on raw samples."""
    reader = Holes(holes, raw_from)
    ends = windows.start_ms + windows.step_ms * np.arange(windows.count, dtype=np.int64)
    starts = ends - windows.range_ms
    pieces = plan_windows(reader, starts, ends, need)
    assert [piece.first for piece in pieces] == [0, *(piece.stop for piece in pieces[:-1])]
    assert pieces[-1].stop == windows.count
    for piece in pieces:
        for step in range(piece.first, piece.stop):
            start, end = int(starts[step]), int(ends[step])
            if piece.level is None:
                assert reader.keeps_raw(start, end) or not piece.exact
            elif piece.exact:
                assert need in {Need.RECORD, Need.COUNTED}
                assert start % piece.level == 0
                assert end % piece.level == 0
                assert reader.covers(piece.level, start, end)
            elif need is Need.SKETCH:
                assert "within 1 %" in piece.reason
                assert piece.level >= Level.M5
                assert windows.range_ms >= DAY_MS or not reader.keeps_raw(
                    int(starts[piece.first]), int(ends[piece.stop - 1])
                )
                assert (not start % piece.level and not end % piece.level) or (
                    "retention" in piece.reason
                )
            else:
                assert "retention" in piece.reason


@given(windows=windows)
def test_where_all_is_built_the_coarsest_aligned_level_answers_everything(windows: Windows) -> None:
    """One piece: the coarsest level that divides begin, step and range, else raw samples."""
    ends = windows.start_ms + windows.step_ms * np.arange(windows.count, dtype=np.int64)
    pieces = plan_windows(Holes([]), ends - windows.range_ms, ends, Need.RECORD)
    fitting = [
        level
        for level in Level
        if not any(int(end) % level or int(end - windows.range_ms) % level for end in ends)
    ]
    assert [(piece.level, piece.exact) for piece in pieces] == [(max(fitting, default=None), True)]


def test_the_open_end_is_answered_by_what_is_built_there() -> None:
    """A day whose last two hours are not rolled up: 1h until then, raw samples after."""
    reader = Holes([(level, DAY_MS + at * HOUR_MS) for level in Level for at in (22, 23)])
    ends = DAY_MS + HOUR_MS * np.arange(1, 25, dtype=np.int64)
    pieces = plan_windows(reader, ends - HOUR_MS, ends, Need.RECORD)
    assert [(one.first, one.stop, one.level) for one in pieces] == [
        (0, 22, Level.H1),
        (22, 24, None),
    ]


def test_a_hole_is_answered_by_a_finer_level_and_only_the_hole() -> None:
    """The 1h level goes on behind an hour that is dirty in it; 5m answers that hour."""
    reader = Holes([(Level.H1, DAY_MS + 5 * HOUR_MS)])
    ends = DAY_MS + HOUR_MS * np.arange(1, 11, dtype=np.int64)
    pieces = plan_windows(reader, ends - HOUR_MS, ends, Need.RECORD)
    assert [(one.first, one.stop, one.level) for one in pieces] == [
        (0, 5, Level.H1),
        (5, 6, Level.M5),
        (6, 10, Level.H1),
    ]


def test_where_raw_samples_are_gone_the_answer_says_that_windows_were_moved() -> None:
    """Unaligned windows in a time without raw samples stand on 1m buckets, and are not exact."""
    reader = Holes([], raw_from_ms=3 * DAY_MS)
    ends = np.array([DAY_MS + 1234], np.int64)
    (piece,) = plan_windows(reader, ends - HOUR_MS, ends, Need.RECORD)
    assert (piece.level, piece.exact, piece.aligned) == (Level.M1, False, False)
    assert piece.reason == (
        "retention has removed raw samples; windows were moved back to the buckets of 1m"
    )
    (last,) = plan_windows(reader, ends - 300_000, ends, Need.LAST)
    assert "do not say when a series ended" in last.reason
    (samples,) = plan_windows(reader, ends - 300_000, ends, Need.SAMPLES)
    assert (samples.level, samples.exact) == (None, False)
