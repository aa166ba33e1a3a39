"""Answers against those of a real Prometheus 2.42, from raw samples and from merged records."""

from __future__ import annotations

import math
from collections.abc import Iterator
from fractions import Fraction
from itertools import groupby

import pytest

from fleet.metrics.levels import Level
from fleet.promql.engine import PromqlEngine
from fleet.promql.semantics import PROMETHEUS_2
from tests.fakes.metric_reader import InMemoryMetricReader
from tests.fleet.promql.oracle import (
    Rows,
    answered,
    asked,
    close,
    differences,
    freeze,
    frozen,
    loaded_prometheus,
)
from tests.fleet.promql.oracle_data import (
    START_MS,
    WINDOWS,
    Ask,
    aligned_asks,
    all_series,
    cancelling,
    openmetrics,
    raw_asks,
)
from tests.servers.prometheus import prometheus_programs

__all__ = ["prometheus_programs"]

FRACTIONAL = {"gauge", "long_gauge", "nan", "inf", "cancel", "restarts", "long_restarts"}
"""Families whose values before resets do not add up exactly; all others are whole numbers."""
EXACT = ("rate", "increase", "delta", "resets", "changes", "count_over_time", "last_over_time",
         "min_over_time", "max_over_time", "present_over_time", "irate", "idelta",
         "histogram_quantile", "quantile_over_time", "m{", "timestamp", "absent",
         "topk")  # fmt: skip
COUNTED = ("rate", "increase")
"""While samples are kept all families are exact, from whatever level: values before resets are
added in the order of Prometheus."""
TOLERANCE = 1e-9
RULES_OF_RECORDS = PROMETHEUS_2._replace(left_closed=False)
"""Those of 2.42 but for windows closed on the left, which records cannot be."""


@pytest.fixture(scope="module")
def reader() -> InMemoryMetricReader:
    """All families, nothing rolled up."""
    reader = InMemoryMetricReader()
    for labels, points in all_series():
        reader.add(labels, points)
    return reader


@pytest.fixture(scope="module")
def rolled_up(reader: InMemoryMetricReader) -> InMemoryMetricReader:
    """The same, with every level; raw samples are gone."""
    return InMemoryMetricReader(
        levels=set(Level), raw_from_ms=2**62, series=reader.series, points=reader.points
    )


@pytest.fixture(scope="module")
def kept(reader: InMemoryMetricReader) -> InMemoryMetricReader:
    """The same, with every level and all raw samples."""
    return InMemoryMetricReader(levels=set(Level), series=reader.series, points=reader.points)


@pytest.fixture(scope="module")
def answers() -> dict[str, Rows]:
    """What Prometheus said."""
    return frozen()


def _wrong_in_prometheus(ask: Ask) -> set[str]:
    """Families in which 2.42 itself is off, by the function; tested apart."""
    if ask.query.startswith("avg_over_time"):
        return {"cancel"}
    return {"huge"} if ask.query.startswith(("deriv", "predict_linear", "std")) else set()


def compare_with_oracle(ours: Rows, theirs: Rows, ask: Ask, counted: tuple[str, ...] = ()) -> None:
    """Equal bits where the function is exact, else close; without the families named."""
    left_out = _wrong_in_prometheus(ask)
    ours, theirs = (
        {row: v for row, v in rows.items() if dict(row).get("family") not in left_out}
        for rows in (ours, theirs)
    )
    assert theirs, "the oracle says nothing to this"
    assert not differences(ours, theirs, TOLERANCE)
    if counted and ask.query.startswith(counted):
        assert not differences(ours, theirs)
    if ask.query.startswith(EXACT):
        whole = [
            {row: v for row, v in rows.items() if dict(row).get("family") not in FRACTIONAL}
            for rows in (ours, theirs)
        ]
        assert not differences(*whole)


def _ids(asks: Iterator[Ask]) -> list[tuple[str, list[Ask]]]:
    """Queries by function: one test each."""
    key = lambda ask: ask.query.split("(")[0].split("{")[0].split(" ")[0]  # noqa: E731
    return [(name, list(some)) for name, some in groupby(sorted(asks, key=key), key)]


@pytest.mark.parametrize(
    ("function", "asks"), _ids(iter([*(ask for _, ask in aligned_asks()), *raw_asks()]))
)
def test_raw_samples_give_the_answers_of_prometheus(
    function: str, asks: list[Ask], reader: InMemoryMetricReader, answers: dict[str, Rows]
) -> None:
    """Every function, window and family; windows here are closed on the left, as in 2.42."""
    engine = PromqlEngine(reader, semantics=PROMETHEUS_2)
    for ask in asks:
        ours, answer = answered(engine, ask)
        assert answer.exact
        assert {use.level for use in answer.uses} <= {None}
        compare_with_oracle(ours, answers[ask.key], ask, COUNTED)


@pytest.mark.parametrize(("function", "asks"), _ids(ask for _, ask in aligned_asks()))
def test_merged_records_give_the_answers_of_prometheus(
    function: str, asks: list[Ask], rolled_up: InMemoryMetricReader, answers: dict[str, Rows]
) -> None:
    """The same from 1m records merged up, without a raw sample left, by the expected level."""
    engine = PromqlEngine(rolled_up, semantics=RULES_OF_RECORDS)
    levels = {ask.key: level for level, ask in aligned_asks()}
    for ask in asks:
        ours, answer = answered(engine, ask)
        first, *others = answer.uses
        assert {use.level_text for use in answer.uses if not use.reason} >= {levels[ask.key]}
        assert (first.level_text, first.reason) == (levels[ask.key], "")
        if ask.query.startswith(COUNTED):
            # families whose decimals round are told from the others
            assert all("last bits may differ" in warning for warning in answer.warnings)
            assert {use.level for use in others if use.reason} <= set(Level)
        else:
            assert answer.exact
            assert not others
        compare_with_oracle(ours, answers[ask.key], ask)


@pytest.mark.parametrize("function", COUNTED)
def test_counters_are_equal_to_the_bit_from_any_level_while_samples_are_kept(
    function: str, kept: InMemoryMetricReader, answers: dict[str, Rows]
) -> None:
    """Whatever they hold, however often they began anew; only what rounds is read again."""
    engine = PromqlEngine(kept, semantics=RULES_OF_RECORDS)
    read: set[str] = set()
    for level, ask in aligned_asks():
        if not ask.query.startswith(function):
            continue
        ours, answer = answered(engine, ask)
        assert answer.exact
        first, *others = answer.uses
        assert first.level_text == level
        assert all(use.series < first.series for use in others)
        read |= {use.level_text for use in others}
        compare_with_oracle(ours, answers[ask.key], ask, COUNTED)
    assert read >= {"5m", "1m", "raw"}


def test_averages_that_cancel_are_right_where_prometheus_is_not(
    reader: InMemoryMetricReader, answers: dict[str, Rows]
) -> None:
    """Averages of +-1e16 equal the exact fraction; those of 2.42 do not."""
    start, end, step = WINDOWS["1h"]
    ask = Ask("avg_over_time(m[1h])", START_MS + start, START_MS + end, step)
    row = (("family", "cancel"),)
    ours = answered(PromqlEngine(reader, semantics=PROMETHEUS_2), ask)[0][row]
    theirs = answers[ask.key][row]
    wrong = 0
    for time, value in ours.items():
        values = [Fraction(v) for ts, v in cancelling() if time - 3_600_000 <= ts <= time]
        exact = float(sum(values) / len(values))
        assert math.isclose(value, exact, rel_tol=TOLERANCE)
        wrong += not close(theirs[time], exact, 0.01)
    assert wrong, "2.42 was wrong here; if it is not, the exception above can go"


def test_spread_and_slope_of_huge_values_are_those_of_exact_arithmetic(
    reader: InMemoryMetricReader,
) -> None:
    """Around 2^52 the sums of Prometheus lose them; differences keep them."""
    at = START_MS + 2 * 3_600_000
    points = next(p for labels, p in all_series() if dict(labels).get("family") == "huge")
    some = [(Fraction(t, 1000), Fraction(v)) for t, v in points if at - 300_000 < t <= at]
    x, y = (sum(part) / len(some) for part in zip(*some, strict=True))
    exact = {
        "deriv": sum((a - x) * (b - y) for a, b in some) / sum((a - x) ** 2 for a, _ in some),
        "stdvar_over_time": sum((b - y) ** 2 for _, b in some) / len(some),
    }
    for function, expected in exact.items():
        answer = PromqlEngine(reader).answer(f'{function}(m{{family="huge"}}[5m])', at)
        assert math.isclose(answer.values[0, 0], float(expected), rel_tol=TOLERANCE)


@pytest.mark.usefixtures("prometheus_programs")
def test_the_frozen_answers_are_what_prometheus_says() -> None:
    """The copy is checked wherever Prometheus is installed; delete it to have it made anew."""
    asks = [*(ask for _, ask in aligned_asks()), *raw_asks()]
    series = list(all_series())
    with loaded_prometheus(openmetrics(), series) as server:
        said = {ask.key: asked(server, ask) for ask in asks}
    try:
        kept = frozen()
    except FileNotFoundError:
        freeze(said)
        kept = frozen()
    assert kept.keys() == said.keys()
    for key, rows in said.items():
        assert not differences(kept[key], rows), key
