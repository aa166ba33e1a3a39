"""Native histograms for the oracle: what servers expose, and what goes wrong with them."""

from __future__ import annotations

import math
import random
from collections.abc import Callable

from fleet.metrics.labels import Labels, labels_of
from fleet.metrics.samples import stale_marker
from tests.fleet.metrics.plain_histograms import (
    NativeHistogram,
    add,
    reduce_resolution,
    widen_zero,
)
from tests.fleet.metrics.test_native_histograms import observe
from tests.fleet.promql.oracle_data import START_MS, Ask

STEP_MS = 15_000
COUNT = 320
"""Samples of a series: 80 minutes."""
JITTER_MS = 3
"""Samples never lie on the border of a window, which 2.42 counts on both sides."""
ENDED = NativeHistogram(0, 0.0, 0, 0, stale_marker(), {}, {})
EMPTY = NativeHistogram(3, 0.001, 0, 0, 0.0, {}, {})

Points = list[tuple[int, NativeHistogram]]
Change = Callable[[int, NativeHistogram], NativeHistogram | None]
"""What becomes of the counter at a sample; None leaves the sample out."""


def _grown(seed: int, values: Callable[[random.Random], float], change: Change) -> Points:
    """A counter that grows by some observations at each sample; a change of it lasts."""
    source, now, points = random.Random(seed), EMPTY, []
    for at in range(COUNT):
        seen = [values(source) for _ in range(source.randrange(4))]
        more = observe(seen, now.schema, now.zero_threshold)
        if now.zero_threshold == more.zero_threshold:
            now = add(now, more)
        after = change(at, now)
        if after is not None:
            now = after if after is not ENDED else now
            points.append((START_MS + STEP_MS * at + JITTER_MS, after))
    return points


def _positive(source: random.Random) -> float:
    return source.lognormvariate(0, 1.5)


def _both(source: random.Random) -> float:
    return source.choice((source.gauss(0, 3), 0.0, source.gauss(5, 1)))


def _reset(at: int, now: NativeHistogram) -> NativeHistogram:
    return EMPTY._replace(schema=now.schema) if at in {100, 101, 230} else now


def _restart(at: int, now: NativeHistogram) -> NativeHistogram:
    """Never empty: 2.42 takes an empty float histogram for one of integers."""
    return observe([1.0], now.schema) if at in {0, 100, 101, 230} else now


def _coarser(at: int, now: NativeHistogram) -> NativeHistogram:
    return reduce_resolution(now, {150: 1, 270: -1}.get(at, now.schema))


def _finer(at: int, now: NativeHistogram) -> NativeHistogram:
    return EMPTY._replace(schema=4) if at == 170 else now


def _wider(at: int, now: NativeHistogram) -> NativeHistogram:
    return widen_zero(now, 0.5) if at == 200 else now


def _gaps(at: int, now: NativeHistogram) -> NativeHistogram | None:
    return None if 90 <= at < 200 or at % 7 == 3 else now


def _ends(at: int, now: NativeHistogram) -> NativeHistogram | None:
    return ENDED if at == 120 else None if 120 < at < 180 else now


def _nan(at: int, now: NativeHistogram) -> NativeHistogram:
    if at != 210:
        return now
    return now._replace(observations=now.observations + 2, total=math.nan)


def _same(_: int, now: NativeHistogram) -> NativeHistogram:
    return now


def _halved(points: Points) -> Points:
    """As a recording rule makes them: counts with fractions."""
    return [
        (ts, one._replace(
            zero_count=one.zero_count / 2.0, observations=one.observations / 2, total=one.total / 2,
            positive={index: count / 2 for index, count in one.positive.items()},
            negative={index: count / 2 for index, count in one.negative.items()},
        ))
        for ts, one in points
    ]  # fmt: skip


def native_series() -> list[tuple[Labels, Points]]:
    """Every family, and two pods of one pool."""
    families: dict[str, Points] = {
        "steady": _grown(1, _positive, _same),
        "reset": _grown(2, _positive, _reset),
        "coarser": _grown(3, _positive, _coarser),
        "finer": _grown(4, _positive, _finer),
        "signed": _grown(5, _both, _same),
        "signed_reset": _grown(6, _both, _reset),
        "negative": _grown(7, lambda source: -_positive(source), _same),
        "wider": _grown(8, _both, _wider),
        "gaps": _grown(9, _positive, _gaps),
        "ends": _grown(10, _positive, _ends),
        "nan": _grown(11, _positive, _nan),
        "fractions": _halved(_grown(12, _both, _restart)),
        "late": _grown(13, _positive, _same)[250:],
    }
    found = [(labels_of("h", {"family": name}), points) for name, points in families.items()]
    for pod, change in ((1, _reset), (2, _coarser), (3, _gaps)):
        labels = labels_of("h", {"family": "pool", "pod": str(pod)})
        found.append((labels, _grown(20 + pod, _positive, change)))
    return found


WINDOWS = {"1m": 60_000, "5m": 300_000, "1h": 3_600_000}
SHORT = {"reset", "signed", "fractions"}
"""Families of which short windows are asked, too."""
QUANTILES = ("0", "0.5", "0.9", "1")


def native_asks() -> list[Ask]:
    """Range queries with steps and windows on the buckets of a level.

    Windows are asked of one family at a time: behind a series of float histograms, 2.42 takes the
    last of them for every other one.
    """
    asks = []
    for labels, points in native_series():
        named = ", ".join(f'{name}="{value}"' for name, value in labels if name != "__name__")
        for text, length in WINDOWS.items():
            if text == "1m" and dict(labels)["family"] not in SHORT:
                continue
            h, step = f"h{{{named}}}[{text}]", max(length, 240_000)
            start = START_MS + max(length, 300_000)
            queries = [
                *(f"histogram_quantile({q}, rate({h}))" for q in QUANTILES),
                f"histogram_count(increase({h}))",
                f"histogram_sum(rate({h}))",
                f"histogram_count(delta({h}))",
                f"histogram_fraction(-1, 1.3, rate({h}))",
            ]
            end = points[-1][0] + 600_000
            asks += [Ask(query, start, end, step // 60_000 * 60_000) for query in queries]
    start, end = START_MS, START_MS + COUNT * STEP_MS + 600_000
    for query in (
        "histogram_count(h)",
        "histogram_sum(h)",
        "histogram_quantile(0.5, h)",
        # of `signed` 2.42 says otherwise after a reset: it keeps empty buckets of the whole chunk
        'histogram_fraction(0, 2, h{family=~"steady|coarser|pool"})',
        'histogram_quantile(0.9, sum by (family) (h{family=~"reset|coarser|pool|gaps|ends|late"}))',
        "histogram_sum(sum(h))",
        "count(h)",
        'absent(h{family="ends"})',
        'histogram_sum(h{family="steady"} + ignoring (family) h{family="coarser"})',
        'histogram_quantile(0.9, h{family="coarser"} + ignoring (family) h{family="negative"})',
        'histogram_count(h{family=~"steady|reset|gaps"} and h{family=~"reset|gaps"})',
        'histogram_count(h{family=~"steady|ends"} unless h{family="ends"})',
        'histogram_sum(h{family="ends"} or h{family=~"ends|late"})',
    ):
        asks.append(Ask(query, start, end, 97_000))
    pool = 'rate(h{family="pool"}[5m])'
    for query in (
        f"histogram_quantile(0.9, sum by (family) ({pool}))",
        f"histogram_sum(sum without (pod) ({pool}))",
    ):
        asks.append(Ask(query, START_MS + 300_000, end, 300_000))
    return asks
