"""Series that are hard to answer, made the same every time, and what the oracle is asked of them.

Samples lie off the borders of windows: Prometheus 2 counts a sample at a window's start, 3 does
not. What happens exactly there is tested apart. Times are whole quarters of a second, which the
seconds of OpenMetrics hold exactly.
"""

from __future__ import annotations

import math
import random
import struct
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from fleet.metrics.labels import Labels, labels_of, labels_text
from fleet.metrics.samples import stale_marker

START_MS = 1_704_067_200_000
"""2024-01-01 00:00 UTC: a border of every level."""
MINUTE_MS, HOUR_MS = 60_000, 3_600_000
SHORT_MS, LONG_MS = 7 * HOUR_MS, 50 * HOUR_MS

Points = list[tuple[int, float]]


def _times(every_s: int, until_ms: int, offset_ms: int = 7250, start_ms: int = 0) -> list[int]:
    return list(range(START_MS + start_ms + offset_ms, START_MS + until_ms, every_s * 1000))


def _counter(times: list[int], rng: random.Random, start: float = 0.0) -> Points:
    value, points = start, []
    for ts in times:
        value += rng.randrange(0, 9)
        points.append((ts, value))
    return points


def _with_resets(points: Points, at_ms: list[int]) -> Points:
    """The counter begins again with the first sample after each of some moments."""
    found, base, waiting = [], 0.0, sorted(START_MS + at for at in at_ms)
    before = 0.0
    for ts, value in points:
        while waiting and ts > waiting[0]:
            waiting.pop(0)
            base = before
        found.append((ts, value - base))
        before = value
    return found


def _restarting(times: list[int], rng: random.Random, at_ms: list[int]) -> Points:
    """Seconds counted to three decimals, from 0 after each restart: their sums round."""
    value, points, waiting = 0.0, [], sorted(START_MS + at for at in at_ms)
    for ts in times:
        if waiting and ts > waiting[0]:
            waiting.pop(0)
            value = 0.0
        value = round(value + rng.uniform(0, 2), 3)
        points.append((ts, value))
    return points


def _without(points: Points, start_ms: int, end_ms: int) -> Points:
    return [(ts, v) for ts, v in points if not START_MS + start_ms < ts <= START_MS + end_ms]


def _from_zero(points: Points) -> Points:
    return [(ts, value - points[0][1]) for ts, value in points]


def _gauge(times: list[int], rng: random.Random) -> Points:
    value, points = 50.0, []
    for ts in times:
        value += rng.uniform(-2, 2)
        points.append((ts, round(value, 3)))
    return points


_RESTARTS_MS = [
    *(HOUR_MS + 20_000 * n for n in range(3)),  # several in a minute: only samples tell them apart
    *(2 * HOUR_MS + 70_000 * n for n in range(4)),  # several in five
    *(4 * HOUR_MS + 7 * MINUTE_MS * n for n in range(6)),  # several in an hour
]


def families() -> dict[str, Points]:
    """Samples by the name of what is hard about them."""
    rng = random.Random(20240101)
    short = _times(15, SHORT_MS)
    jittered = [ts + 250 * rng.randrange(-12, 12) for ts in short]
    jittered = [ts + 250 if ts % MINUTE_MS == 0 else ts for ts in jittered]
    long = _times(60, LONG_MS)
    border = [30 * MINUTE_MS, HOUR_MS, 2 * HOUR_MS]
    found = {
        "plain": _counter(short, rng),
        "jittered": _counter(jittered, rng),
        "reset_after_border": _with_resets(_counter(short, rng), border),
        "reset_before_border": _with_resets(_counter(short, rng), [at - 9000 for at in border]),
        "double_reset": _with_resets(
            _counter(short, rng), [HOUR_MS - 20_000, HOUR_MS + 1000, HOUR_MS + 16_000, 2 * HOUR_MS]
        ),
        "gap_sample": _without(_counter(short, rng), HOUR_MS, HOUR_MS + 8000),
        "gap_40m": _without(_counter(short, rng), HOUR_MS + 1000, HOUR_MS + 40 * MINUTE_MS),
        "late_zero": _from_zero(_counter(_times(15, SHORT_MS, start_ms=2 * HOUR_MS), rng)),
        "late_three": _counter(_times(15, SHORT_MS, start_ms=2 * HOUR_MS + 120_000), rng, 3.0),
        "early_end": _counter(_times(15, 3 * HOUR_MS + 100_000), rng),
        "huge": _counter(short, rng, 2.0**52),
        "gauge": _gauge(short, rng),
        "constant": [(ts, 42.5) for ts in short],
        "nan": [
            (ts, math.nan if n % 7 == 3 else v) for n, (ts, v) in enumerate(_gauge(short, rng))
        ],
        "all_nan": [(ts, math.nan) for ts in _times(60, HOUR_MS)],
        "inf": [
            (ts, {40: math.inf, 400: -math.inf, 800: math.inf, 810: -math.inf}.get(n, v))
            for n, (ts, v) in enumerate(_gauge(short, rng))
        ],
        "sparse": _counter(_times(7 * 60, SHORT_MS), rng),
        "single": [(START_MS + HOUR_MS + 33_250, 7.0)],
        "long_plain": _counter(long, rng),
        "long_resets": _with_resets(
            _counter(long, rng), [5 * HOUR_MS, 24 * HOUR_MS, 24 * HOUR_MS + 61_000, 47 * HOUR_MS]
        ),
        "long_gauge": _gauge(long, rng),
        "restarts": _restarting(short, random.Random(6), _RESTARTS_MS),
        "long_restarts": _restarting(
            long, random.Random(7), [at * HOUR_MS + 90_000 for at in (3, 9, 15, 16, 30, 31, 45)]
        ),
    }
    assert all(ts % MINUTE_MS for points in found.values() for ts, _ in points)
    return found


def cancelling() -> Points:
    """Values of +-1e16 that cancel out; Prometheus' own average of them is wrong."""
    rng = random.Random(3)
    return [
        (ts, (1e16, 1.0 + rng.randrange(5), -1e16)[n % 3])
        for n, ts in enumerate(_times(15, SHORT_MS))
    ]


def stale_series() -> Points:
    """A series that ends by a marker, comes back, and ends again."""
    rng = random.Random(4)
    points = _counter(_times(15, SHORT_MS), rng)
    points = _without(points, 2 * HOUR_MS, 2 * HOUR_MS + 20 * MINUTE_MS)
    points = [point for point in points if point[0] < START_MS + 5 * HOUR_MS]
    marks = [START_MS + 2 * HOUR_MS + 4250, START_MS + 5 * HOUR_MS + 4250]
    return sorted([*points, *((ts, stale_marker()) for ts in marks)])


def buckets() -> Iterator[tuple[Labels, Points]]:
    """A classic histogram of two pods; the second starts again after three hours."""
    rng = random.Random(5)
    bounds = ("0.1", "0.5", "1", "5", "+Inf")
    for pod in ("a", "b"):
        counts = [0] * len(bounds)
        rows: dict[str, Points] = {bound: [] for bound in bounds}
        for ts in _times(30, SHORT_MS, offset_ms=7250 if pod == "a" else 11_500):
            if pod == "b" and START_MS + 3 * HOUR_MS < ts <= START_MS + 3 * HOUR_MS + 30_000:
                counts = [0] * len(bounds)
            for _ in range(rng.randrange(6)):
                first = rng.choice([0, 1, 1, 2, 2, 2, 3, 4])
                for place in range(first, len(bounds)):
                    counts[place] += 1
            for bound, count in zip(bounds, counts, strict=True):
                rows[bound].append((ts, float(count)))
        for bound, points in rows.items():
            yield labels_of("h_bucket", {"pod": pod, "le": bound}), points


def all_series() -> Iterator[tuple[Labels, Points]]:
    """Every series, stale markers among its samples."""
    for family, points in families().items():
        yield labels_of("m", {"family": family}), points
    yield labels_of("m", {"family": "cancel"}), cancelling()
    yield labels_of("m", {"family": "stale"}), stale_series()
    yield from buckets()


class Ask(NamedTuple):
    """One range query."""

    query: str
    start_ms: int
    end_ms: int
    step_ms: int

    @property
    def key(self) -> str:
        """Names it in the frozen answers."""
        return f"{self.query} {self.start_ms} {self.end_ms} {self.step_ms}"


RECORD_FUNCTIONS = (
    *("rate", "increase", "delta", "resets", "changes", "count_over_time", "sum_over_time"),
    *("avg_over_time", "min_over_time", "max_over_time", "last_over_time", "present_over_time"),
    *("stddev_over_time", "stdvar_over_time"),
)
"""Answered from records of any level."""
RAW_FUNCTIONS = ("irate({})", "idelta({})", "deriv({})", "predict_linear({}, 600)",
                 "quantile_over_time(0.9, {})", "quantile_over_time(0, {})")  # fmt: skip
PLAIN_QUERIES = (
    *("clamp_min(m, 5)", "clamp_max(m, 100)", "m * scalar(m{family='plain'})", "vector(time())"),
    *("minute(timestamp(m))", "month()", "year()", "hour()", "day_of_month()", "day_of_week()"),
    *("days_in_month(vector(1709210000))", "day_of_year(vector(1735603200))", "minute(vector(-1))"),
    *("month(vector(-86401))", "year(vector(-86401))", "day_of_week(vector(-86401))"),
    *("sin(m)", "cos(m)", "tan(m)", "atan(m)", "asinh(m)", "deg(m)", "rad(m)", "exp(-abs(m))"),
    *("log2(m)", "log10(m)", "ln(m)", "tanh(m)", "sinh(m % 3)", "cosh(m % 3)", "acosh(m)"),
    *("asin(m % 1)", "acos(m % 1)", "atanh(m % 1)", "pi()", "topk(3, m)", "quantile(0.25, m)"),
    *("group by (family) (m)", "avg without (family) (h_bucket)", "round(m, 5)", "sgn(m - 50)"),
    'label_replace(m, "family", "$2.${1}$$", "family", "(?P<first>[a-z]+)_(.*)")',
    'label_replace(m, "to", "$first-$nope", "family", "(?P<first>[a-z]+)_?.*")',
    'label_join(m, "to", "-", "family", "nope", "family")',
    'absent(m{family="nope", pod=~"a"})',
    'absent(m{family="nope", family="neither"})',
    "m{family=~'gap.*'} and on () vector(1) unless m{family='gap_40m'}",
)
WINDOWS = {
    "5m": (15 * MINUTE_MS, SHORT_MS, 35 * MINUTE_MS),
    "15m": (30 * MINUTE_MS, SHORT_MS, 45 * MINUTE_MS),
    "1h": (HOUR_MS, 8 * HOUR_MS, HOUR_MS),
    "6h": (6 * HOUR_MS, 12 * HOUR_MS, 2 * HOUR_MS),
    "1d": (24 * HOUR_MS, 50 * HOUR_MS, 13 * HOUR_MS),
}
"""Window: from, to, step, all multiples of a level."""
LEVEL_OF = {"5m": "5m", "15m": "5m", "1h": "1h", "6h": "1h", "1d": "1h"}
"""The level that answers each of them where all are built."""


def _ask(query: str, times: tuple[int, int, int]) -> Ask:
    start, end, step = times
    return Ask(query, START_MS + start, START_MS + end, step)


def aligned_asks() -> Iterator[tuple[str, Ask]]:
    """Queries that levels may answer, with the name of the level that should."""
    for window, times in WINDOWS.items():
        for function in RECORD_FUNCTIONS:
            yield LEVEL_OF[window], _ask(f"{function}(m[{window}])", times)
        for q in ("0.5", "0.9", "0.99"):
            rate = f"sum by (le) (rate(h_bucket[{window}]))"
            yield LEVEL_OF[window], _ask(f"histogram_quantile({q}, {rate})", times)
    two_days = (24 * HOUR_MS, 48 * HOUR_MS, 24 * HOUR_MS)
    for function in ("increase", "stddev_over_time", "max_over_time"):
        yield "1d", _ask(f"{function}(m[1d])", two_days)
        yield "1d", _ask(f"{function}(m[1d] offset 1d)", (two_days[0] * 2, *two_days[1:]))


def raw_asks() -> Iterator[Ask]:
    """Queries that only raw samples answer: what they need, or where their windows lie."""
    odd = (HOUR_MS + 1234, SHORT_MS, 37 * MINUTE_MS + 1)
    for function in RECORD_FUNCTIONS:
        yield _ask(f"{function}(m[5m])", odd)
        yield _ask(f"{function}(m[17m3s] offset 90s)", odd)
    for function in RAW_FUNCTIONS:
        yield _ask(function.format("m[5m]"), odd)
        yield _ask(function.format("m[1h]"), WINDOWS["1h"])
    around = (2 * HOUR_MS - 30_000, 2 * HOUR_MS + 30 * MINUTE_MS, 97_000)
    yield _ask("m", around)
    yield _ask("m offset 1h", odd)
    yield _ask("timestamp(m)", around)
    yield _ask('m{family="stale"} @ end()', around)
    yield _ask("max_over_time(rate(m[5m])[30m:1m])", odd)
    yield _ask("sum_over_time((m % 7)[20m:90s] offset 7m)", odd)
    yield _ask('absent_over_time(m{family="stale"}[5m])', around)
    for query in PLAIN_QUERIES:
        yield _ask(query, odd)


def openmetrics() -> str:
    """All samples but stale markers, as promtool reads them."""
    return as_openmetrics(all_series())


def as_openmetrics(series: Iterable[tuple[Labels, Points]]) -> str:
    """Samples but stale markers as promtool reads them; series of a metric stand together."""
    lines, metric = [], ""
    marker = struct.pack("<d", stale_marker())
    for labels, points in series:
        name = dict(labels)["__name__"]
        if name != metric:
            lines.append(f"# TYPE {name} unknown")
            metric = name
        text = labels_text(labels)
        lines.extend(
            f"{text} {number_text(value)} {ts / 1000:.3f}"
            for ts, value in points
            if struct.pack("<d", value) != marker
        )
    return "\n".join([*lines, "# EOF", ""])


def number_text(value: float) -> str:
    """A value as Prometheus reads it."""
    return repr(value).replace("nan", "NaN").replace("inf", "Inf")
