"""Whole expressions against Prometheus: operators, matching, aggregations, functions, errors."""

from __future__ import annotations

import json
import os
import random
import urllib.error
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleet.errors import InvalidInputError
from fleet.metrics.labels import Labels, labels_of
from fleet.promql.engine import PromqlEngine
from fleet.promql.semantics import PROMETHEUS_2
from tests.examples import examples
from tests.fakes.metric_reader import InMemoryMetricReader
from tests.fleet.promql.oracle import (
    Rows,
    differences,
    loaded_prometheus,
    packed,
    rows_of,
    rows_of_answer,
    thawed,
)
from tests.fleet.promql.oracle_data import START_MS, Points, as_openmetrics
from tests.servers.prometheus import PrometheusServer, prometheus_programs

__all__ = ["prometheus_programs"]

SPAN_MS = 40 * 60_000
TOLERANCE = 1e-9
EXAMPLES = int(os.environ.get("STATEROOM_PROMQL_EXAMPLES", "0")) or examples(300)
FROZEN = Path(__file__).parents[2] / "golden" / "promql_expressions.json"
FROZEN_EXAMPLES = 250
"""Expressions that are kept with their answers, for machines without Prometheus."""


def series() -> Iterator[tuple[Labels, Points]]:
    """Three metrics of several labels, with gaps, negative values and NaN; one histogram."""
    rng = random.Random(11)
    for metric in ("a", "b", "c"):
        for n in range(6):
            labels = {"job": f"j{n % 2}", "pod": f"p{n % 3}", "zone": "z" if n < 4 else ""}
            if metric == "c":
                labels = {"job": f"j{n % 2}", "team": f"t{n}"}
                if n > 1:
                    continue
            value, points = float(rng.randrange(20)), []
            for ts in range(START_MS + 1250 * (n + 1), START_MS + SPAN_MS, 15_000):
                value = rng.choice([value + rng.randrange(4), value, -1.5, float("nan"), 7.0])
                points.append((ts, value))
            gap = START_MS + rng.randrange(SPAN_MS // 2)
            points = [p for p in points if not gap < p[0] < gap + 420_000]
            yield labels_of(metric, labels), points
    for pod in ("p0", "p1"):
        counts = [0, 0, 0, 0]
        rows: dict[str, Points] = {le: [] for le in ("0.5", "1", "2.5", "+Inf")}
        for ts in range(START_MS + 3250, START_MS + SPAN_MS, 15_000):
            first = rng.randrange(4)
            counts = [count + (place >= first) for place, count in enumerate(counts)]
            for le, count in zip(rows, counts, strict=True):
                rows[le].append((ts, float(count)))
        for le, points in rows.items():
            yield labels_of("h_bucket", {"pod": pod, "le": le}), points


@pytest.fixture(scope="module")
def engine() -> PromqlEngine:
    """Ours, with the rules of 2.42."""
    reader = InMemoryMetricReader()
    for labels, points in series():
        reader.add(labels, points)
    return PromqlEngine(reader, semantics=PROMETHEUS_2, subquery_step_ms=1000)


@pytest.fixture(scope="module")
def server(prometheus_programs: None) -> Iterator[PrometheusServer]:
    """Theirs."""
    every = list(series())
    with loaded_prometheus(as_openmetrics(every), every) as server:
        yield server


selectors = st.sampled_from(
    ["a", "b", "c", 'a{job="j0"}', 'b{pod=~"p[01]"}', 'a{zone=""}', 'b{zone!=""}', "a offset 3m",
     'c{team!~"t0"}', "nothing", '{__name__=~"a|c"}', "b @ start()",
     f"a @ {START_MS / 1000 + 900:.3f}"]
)  # fmt: skip
windows = st.sampled_from(["2m", "5m", "7m30s"])
over_time = st.sampled_from(
    ["rate", "increase", "delta", "irate", "idelta", "resets", "changes", "avg_over_time",
     "min_over_time", "max_over_time", "sum_over_time", "count_over_time", "last_over_time",
     "stddev_over_time", "present_over_time", "absent_over_time", "deriv"]
)  # fmt: skip
range_selectors = st.sampled_from(["a", "b", "c", 'a{job="j0"}', "nothing", 'b{zone="z"}'])
of_windows = st.builds("{}({}[{}])".format, over_time, range_selectors, windows)
sub_queries = st.builds(
    "{}({}[{}:{}])".format,
    st.sampled_from(["max_over_time", "sum_over_time", "last_over_time", "delta"]),
    st.sampled_from(["a", "abs(b)", "sum by (job) (a)", "rate(b[2m])"]),
    windows,
    st.sampled_from(["", "30s", "70s"]),
)
scalars = st.sampled_from(["2", "-1.5", "0", "time()", "scalar(c)", "1 / 0", "(3 > bool 2)"])
groupings = st.sampled_from(
    ["", " by (job)", " by (pod, zone)", " without (pod)", " by ()", " without ()", " by (nope)"]
)
matchings = st.sampled_from(
    ["", " on (job)", " on (job, pod)", " ignoring (team)", " ignoring (pod, zone)",
     " on (job) group_left", " on (job) group_right", " on (job) group_left (team)",
     " ignoring (pod, zone, team) group_left (team)"]
)  # fmt: skip
set_matchings = st.sampled_from(["", " on (job)", " ignoring (pod)", " on ()"])


def _wider(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    """One operator, function or aggregation around smaller expressions.

    What jumps (comparisons, floor, division) is asked of rounded values that are not huge:
    Prometheus 2 averages in another order and has its own power, and a last bit must not decide.
    Nothing lies half way between multiples of 0.00137.
    """
    tame = st.builds("round(clamp({}, -1e6, 1e6), 0.00137)".format, inner)
    smooth = st.sampled_from(["abs", "absent", "sort", "-", "timestamp", "sort_desc"])
    jumping = st.sampled_from(
        ["ceil", "floor", "sqrt", "sgn", "ln", "hour(timestamp", "day_of_year(timestamp"]
    )
    aggregation = st.sampled_from(
        ["sum", "avg", "min", "max", "count", "group", "stddev", "stdvar", "quantile(0.3,"]
    )
    steady = st.sampled_from(["+", "-", "*", "and", "or", "unless"])
    steep = st.sampled_from(["/", "%", "^", "==", "!=", ">", "<", ">=", "<=", "== bool", "< bool"])
    call = lambda name, of: f"{name}({of})" + ")" * name.count("(")  # noqa: E731
    infix = lambda op, how, other, left, right: (  # noqa: E731
        f"({left}) {op}{other if op in {'and', 'or', 'unless'} else how} ({right})"
    )
    return st.one_of(
        st.builds(call, smooth, inner),
        st.builds(call, jumping, tame),
        st.builds(
            lambda op, group, of: f"{op} {of}){group}" if "(" in op else f"{op}{group} ({of})",
            aggregation,
            groupings,
            inner,
        ),
        st.builds(infix, steady, matchings, set_matchings, inner, inner),
        st.builds(infix, steep, matchings, set_matchings, tame, tame),
        st.builds("({}) {} {}".format, inner, st.sampled_from(["+", "-", "*"]), scalars),
        st.builds("({}) {} {}".format, tame, steep, scalars),
        st.builds("{} {} ({})".format, scalars, steep, tame),
        st.builds('count_values{} ("value", {})'.format, groupings, tame),
        st.builds("clamp({}, {}, 5)".format, inner, scalars),
        st.builds('label_replace({}, "pod", "$1-x", "job", "(j)(.*)")'.format, inner),
        st.builds('label_join({}, "both", "/", "job", "nope", "pod")'.format, inner),
        st.builds("histogram_quantile({}, {})".format, scalars, tame),
    )


histograms = st.builds(
    "histogram_quantile({}, {})".format,
    st.sampled_from(["0.5", "0.99", "-1", "2", "0"]),
    st.sampled_from(
        ["rate(h_bucket[5m])", "sum by (le) (rate(h_bucket[2m]))", "h_bucket", 'h_bucket{le!="1"}',
         'h_bucket{le!="+Inf"}', "-h_bucket"]
    ),
)  # fmt: skip
expressions = st.recursive(
    st.one_of(selectors, of_windows, sub_queries, histograms), _wider, max_leaves=4
)
moments = st.integers(60_001, SPAN_MS + 300_000).map(lambda at: START_MS + at - at % 7)


LENGTH_MS, STEP_MS = 400_000, 177_003


def said(server: PrometheusServer, query: str, at: int, end: int, step: int) -> Rows | str:
    """The server's answer to a range query; why it refuses where it does."""
    parameters = {"query": query, "start": at / 1000, "end": end / 1000, "step": step / 1000}
    try:
        found = server.get("/api/v1/query_range", {k: str(v) for k, v in parameters.items()})
    except urllib.error.HTTPError as error:
        return str(json.load(error)["error"])
    return rows_of(found["result"])


def ours_to(engine: PromqlEngine, query: str, at: int, end: int, step: int) -> Rows | str:
    """Our answer; why we refuse where we do."""
    try:
        return rows_of_answer(engine.range(query, at, end, step))
    except InvalidInputError as error:
        return str(error)


def test_every_expression_is_answered_as_prometheus_answers_it(
    engine: PromqlEngine, server: PrometheusServer
) -> None:
    """Any expression over three steps: the same rows and values, or a refusal by both."""

    @given(query=expressions, at=moments)
    @settings(max_examples=EXAMPLES)
    def check(query: str, at: int) -> None:
        theirs = said(server, query, at, at + LENGTH_MS, STEP_MS)
        _compare(query, ours_to(engine, query, at, at + LENGTH_MS, STEP_MS), theirs)

    check()


def _compare(query: str, ours: Rows | str, theirs: Rows | str) -> None:
    if isinstance(theirs, str) or isinstance(ours, str):
        assert isinstance(theirs, str), f"{query}: only we refuse: {ours}"
        assert isinstance(ours, str), f"{query}: only Prometheus refuses: {theirs}"
        return
    assert not differences(ours, theirs, TOLERANCE, TOLERANCE), query


def test_frozen_expressions_are_answered_as_prometheus_did(engine: PromqlEngine) -> None:
    """A few hundred of them, kept with their answers, also where no Prometheus is installed."""
    kept = json.loads(FROZEN.read_text())
    assert len(kept) == FROZEN_EXAMPLES
    assert sum(isinstance(one["answer"], list) and bool(one["answer"]) for one in kept) > 100
    for one in kept:
        at, said = one["at"], one["answer"]
        theirs = said if isinstance(said, str) else thawed(said)
        ours = ours_to(engine, one["query"], at, at + LENGTH_MS, STEP_MS)
        _compare(one["query"], ours, theirs)


def test_the_frozen_expressions_are_what_prometheus_says(server: PrometheusServer) -> None:
    """The copy is checked wherever Prometheus is installed; delete it to have it made anew."""
    if not FROZEN.exists():
        FROZEN.write_text(_frozen_anew(server))
    for one in json.loads(FROZEN.read_text()):
        said_now = said(server, one["query"], one["at"], one["at"] + LENGTH_MS, STEP_MS)
        if isinstance(said_now, str):
            assert isinstance(one["answer"], str), one["query"]
        else:
            assert not differences(thawed(one["answer"]), said_now), one["query"]


def _frozen_anew(server: PrometheusServer) -> str:
    """Expressions that Hypothesis finds, one a line with its answer; few that find nothing."""
    chosen: dict[str, dict[str, object]] = {}
    empty = 0

    @given(query=expressions, at=moments)
    @settings(max_examples=20 * FROZEN_EXAMPLES, derandomize=True, database=None)
    def collect(query: str, at: int) -> None:
        nonlocal empty
        if len(chosen) == FROZEN_EXAMPLES or query in chosen:
            return
        answer = said(server, query, at, at + LENGTH_MS, STEP_MS)
        empty += not answer
        if answer or empty < 10:
            rows = answer if isinstance(answer, str) else packed(answer)
            chosen[query] = {"query": query, "at": at, "answer": rows}

    collect()
    return "[\n" + ",\n".join(json.dumps(one) for one in chosen.values()) + "\n]\n"
