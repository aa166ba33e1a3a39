"""A real Prometheus scrapes the same endpoints: what it stores is what we hand on."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator

import pytest

from fleet.metrics.labels import METRIC_NAME
from fleet.metrics.samples import SampleBatch, is_stale
from fleet.metrics.targets import ScrapeTarget, make_target
from resources.clock import SystemClock
from resources.metrics.prometheus_api import PrometheusApi
from resources.metrics.prometheus_server import PrometheusSource
from resources.metrics.scrape import ScrapeSource
from tests.fleet.metrics.exposition.cases import CASES
from tests.fleet.metrics.exposition.reading import OPENMETRICS
from tests.servers.exposition import OPENMETRICS_TYPE, TEXT_TYPE, ExposingServer, exposing
from tests.servers.prometheus import PrometheusServer, running_prometheus

Stored = dict[str, set[tuple[tuple[tuple[str, str], ...], bytes]]]
"""Case -> labels and bits of every value that is there."""

PATIENCE_S = 90.0
TIMEOUT_S = 2
"""Of Prometheus' scrapes: on a busy machine some run into it, and tell nothing of the target."""


@pytest.fixture(scope="module")
def endpoints() -> Iterator[ExposingServer]:
    """Every case at a path of its own."""
    with exposing() as server:
        for number, case in enumerate(CASES):
            kind = OPENMETRICS_TYPE if case.form is OPENMETRICS else TEXT_TYPE
            server.expose(f"/{number}", case.body, kind)
        yield server


@pytest.fixture(scope="module")
def oracle(endpoints: ExposingServer, prometheus_programs: None) -> Iterator[PrometheusServer]:
    """A Prometheus that has scraped every case at least twice."""
    address = endpoints.url.removeprefix("http://")
    lines = [
        f"global: {{scrape_interval: {TIMEOUT_S}s, scrape_timeout: {TIMEOUT_S}s}}",
        "storage: {tsdb: {out_of_order_time_window: 5000d}}",
        "scrape_configs:",
        "- job_name: oracle",
        "  static_configs:",
    ]
    for number in range(len(CASES)):
        labels = f'{{__metrics_path__: "/{number}", case: "{number}"}}'
        lines.append(f'  - {{targets: ["{address}"], labels: {labels}}}')
    with running_prometheus(configuration="\n".join(lines) + "\n") as server:
        ends = time.monotonic() + PATIENCE_S
        while time.monotonic() < ends:
            found = server.get("/api/v1/query", {"query": "count_over_time(up[1m]) >= 2"})
            if len(found["result"]) == len(CASES):
                break
            time.sleep(0.2)
        else:
            pytest.fail("Prometheus has not scraped all cases")
        yield server


@pytest.fixture(scope="module")
def theirs(oracle: PrometheusServer) -> Stored:
    """What it has stored."""
    now_ms = time.time_ns() // 1_000_000
    source = PrometheusSource(PrometheusApi(oracle.url), window_ms=10**13, piece_samples=10**12)
    stored: Stored = defaultdict(set)
    for piece in source.read(1, now_ms + 3_600_000):
        collect(piece.batch, stored)
    return stored


@pytest.fixture(scope="module")
def ours(endpoints: ExposingServer) -> Stored:
    """What one scrape of ours gives."""
    stored: Stored = defaultdict(set)
    with ScrapeSource(targets(endpoints), SystemClock()) as source:
        for piece in source.read(0, 0):
            collect(piece.batch, stored)
    return stored


def targets(endpoints: ExposingServer) -> list[ScrapeTarget]:
    """All cases, with the labels that Prometheus gives them."""
    return [
        make_target(f"{endpoints.url}/{number}", job="oracle", labels={"case": str(number)})
        for number in range(len(CASES))
    ]


def collect(batch: SampleBatch, stored: Stored) -> None:
    """Add the samples of a batch, without stale markers, what differs each time, and timeouts."""
    stale = is_stale(batch.values).tolist()
    rows = zip(batch.series_ids.tolist(), batch.ts_ms.tolist(), batch.values, stale, strict=True)
    found, timed_out = [], set()
    for one, ts_ms, value, is_marker in rows:
        labels = dict(batch.series[one].labels)
        case = labels.pop("case", "")
        if labels[METRIC_NAME] == "scrape_duration_seconds" and value >= 0.95 * TIMEOUT_S:
            timed_out.add((case, ts_ms))
        if labels[METRIC_NAME] in VARYING or is_marker or not case:
            continue
        found.append((case, ts_ms, tuple(labels.items()), value.tobytes()))
    for case, ts_ms, named, value in found:
        if (case, ts_ms) not in timed_out:
            stored[case].add((named, value))


VARYING = {"scrape_duration_seconds", "scrape_series_added"}
COUNTS = {"scrape_samples_scraped", "scrape_samples_post_metric_relabeling"}


@pytest.mark.parametrize(
    "number",
    [pytest.param(number, id=case.name) for number, case in enumerate(CASES) if not case.differs],
)
def test_prometheus_stores_the_same(theirs: Stored, ours: Stored, number: int) -> None:
    """Series with all labels, bits of values, `up` and the counts of what was exposed."""
    found, expected = ours[str(number)], theirs[str(number)]
    if CASES[number].line is not None:  # it counts lines before the wrong one; we keep none
        found = {row for row in found if dict(row[0])[METRIC_NAME] not in COUNTS}
        expected = {row for row in expected if dict(row[0])[METRIC_NAME] not in COUNTS}
    assert found == expected
