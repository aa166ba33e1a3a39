"""What all sources of samples keep to: scrapes, a Prometheus by both protocols, files, the fake."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from fleet.metrics.csv_layout import CsvLayout
from fleet.metrics.labels import METRIC_NAME, labels_of, labels_text, series_id
from fleet.metrics.samples import SampleBatch, SeriesInfo
from fleet.metrics.scraped_target import REPORTS
from fleet.metrics.targets import make_target
from fleet.ports.metric_source import MetricSource, SourcePiece
from resources.clock import SystemClock
from resources.metrics.csv_import import CsvSource
from resources.metrics.prometheus_api import PrometheusApi
from resources.metrics.prometheus_asking import ReadProtocol
from resources.metrics.prometheus_server import PrometheusSource
from resources.metrics.scrape import ScrapeSource
from tests.fakes.metric_source import InMemoryMetricSource
from tests.servers.exposition import exposing
from tests.servers.prometheus import prometheus_programs, running_prometheus
from tests.servers.remote_write import write

__all__ = ["prometheus_programs"]

START = (time.time_ns() // 1_000_000 - 10 * 3_600_000) // 60_000 * 60_000
END = START + 600_000
SAMPLES = {
    f"n{number}": [(START + 1000 * step + number, float(step % 3)) for step in range(-5, 610, 7)]
    for number in range(6)
}
"""Node -> its samples; some lie outside of the range, on both sides."""


class Sources(NamedTuple):
    """Sources of the same samples."""

    open: Callable[[], MetricSource]
    """Another one on the same samples, that knows of no other."""
    present: bool = False
    """It has the last sample of each series only, now; and each reading is another one."""


def _in_memory(stack: ExitStack, request: pytest.FixtureRequest) -> Sources:
    del stack, request
    series = {node: labels_of("load", {"node": node}) for node in SAMPLES}
    rows = [(series_id(series[node]), *one) for node, many in SAMPLES.items() for one in many]
    ids, times, values = zip(*rows, strict=True)
    infos = {series_id(labels): SeriesInfo(labels) for labels in series.values()}
    batch = SampleBatch(np.array(ids), np.array(times), np.array(values), infos)
    return Sources(lambda: InMemoryMetricSource(batch, 50))


def _csv(stack: ExitStack, request: pytest.FixtureRequest) -> Sources:
    del stack
    folder: Path = request.getfixturevalue("tmp_path")
    for node, many in SAMPLES.items():
        lines = "".join(f"{node},{ts_ms},{value}\n" for ts_ms, value in many)
        (folder / f"{node}.csv").write_text("node,timestamp,value\n" + lines)
    columns = (("node", "node"),)
    layouts = [CsvLayout(f"{n}.csv", "load", columns, time_unit="ms") for n in SAMPLES]
    return Sources(lambda: CsvSource(folder, layouts, piece_rows=40))


def _prometheus(protocol: ReadProtocol) -> Callable[[ExitStack, pytest.FixtureRequest], Sources]:
    def opened(stack: ExitStack, request: pytest.FixtureRequest) -> Sources:
        request.getfixturevalue("prometheus_programs")
        server = stack.enter_context(running_prometheus())
        write(server, [({METRIC_NAME: "load", "node": n}, many) for n, many in SAMPLES.items()])

        def source() -> PrometheusSource:
            api = PrometheusApi(server.url)
            return PrometheusSource(
                api, protocol=protocol, window_ms=200_000, piece_samples=100, interval_ms=7000
            )

        return Sources(source)

    return opened


def _scrape(stack: ExitStack, request: pytest.FixtureRequest) -> Sources:
    del request
    server = stack.enter_context(exposing())
    for node, many in SAMPLES.items():
        server.expose(f"/{node}", f'load{{node="{node}"}} {many[-1][1]}\n')
    targets = [make_target(f"{server.url}/{n}", job="t", instance=n) for n in SAMPLES]

    def source() -> ScrapeSource:
        return stack.enter_context(ScrapeSource(targets, SystemClock()))

    return Sources(source, present=True)


KINDS = {
    "memory": _in_memory,
    "csv": _csv,
    "remote_read": _prometheus(ReadProtocol.REMOTE_READ),
    "query": _prometheus(ReadProtocol.QUERY),
    "scrape": _scrape,
}


@pytest.fixture(params=KINDS)
def sources(request: pytest.FixtureRequest) -> Iterator[Sources]:
    """Each kind of source in turn."""
    with ExitStack() as stack:
        yield KINDS[request.param](stack, request)


Rows = dict[str, list[tuple[int, float]]]


def rows(pieces: list[SourcePiece]) -> Rows:
    """Node to its samples by time, of the metric that all have."""
    found: Rows = {}
    for piece in pieces:
        batch = piece.batch
        columns = (batch.series_ids.tolist(), batch.ts_ms.tolist(), batch.values.tolist())
        for one, ts_ms, value in zip(*columns, strict=True):
            labels = dict(batch.series[one].labels)
            if labels[METRIC_NAME] == "load":
                found.setdefault(labels["node"], []).append((ts_ms, value))
    return {node: sorted(many) for node, many in found.items()}


def expected() -> Rows:
    """All samples in (START, END]."""
    return {n: [one for one in many if START < one[0] <= END] for n, many in SAMPLES.items()}


def test_all_samples_of_the_range_come_once(sources: Sources) -> None:
    """The start is excluded, the end included; a source of the present has the last ones."""
    pieces = list(sources.open().read(START, END))
    if sources.present:
        assert len(pieces) == 1
        values = {node: [value for _, value in many] for node, many in rows(pieces).items()}
        assert values == {node: [many[-1][1]] for node, many in SAMPLES.items()}
    else:
        assert len(pieces) > 3
        assert rows(pieces) == expected()


def test_columns_fit_and_every_identity_is_that_of_its_labels(sources: Sources) -> None:
    """Any writer would compute the same."""
    for piece in sources.open().read(START, END):
        batch = piece.batch
        assert batch.series_ids.dtype == batch.ts_ms.dtype == np.int64
        assert batch.values.dtype == np.float64
        assert len(batch.series_ids) == len(batch.ts_ms) == len(batch.values) > 0
        for one in np.unique(batch.series_ids).tolist():
            labels = batch.series[one].labels
            assert one == series_id(labels), labels_text(labels)
            assert list(labels) == sorted(labels)
        assert piece.problems == ()


def test_reading_goes_on_behind_any_piece(sources: Sources) -> None:
    """In another process too: nothing but `resume` is known there."""
    pieces = list(sources.open().read(START, END))
    for number, piece in enumerate(pieces):
        rest = list(sources.open().read(START, END, piece.resume))
        assert rows([*pieces[: number + 1], *rest]) == rows(pieces)
    assert list(sources.open().read(START, END, pieces[-1].resume)) == []


def test_pieces_are_named_for_good(sources: Sources) -> None:
    """No two of one reading are named alike; the same piece has the same name again."""
    first, second = (list(sources.open().read(START, END)) for _ in range(2))
    names = [piece.batch_id for piece in first]
    assert len(set(names)) == len(names)
    if not sources.present:
        assert [piece.batch_id for piece in second] == names
        assert [rows([piece]) for piece in second] == [rows([piece]) for piece in first]


def test_a_range_without_samples_has_no_piece(sources: Sources) -> None:
    """But for a source of the present, which looks at no range."""
    pieces = list(sources.open().read(END + 3_600_000, END + 3_700_000))
    assert len(pieces) == (1 if sources.present else 0)


def test_what_is_reported_of_a_scrape_is_part_of_it(sources: Sources) -> None:
    """Only scrapes report on themselves."""
    names = {
        dict(info.labels)[METRIC_NAME]
        for piece in sources.open().read(START, END)
        for info in piece.batch.series.values()
    }
    assert names == ({"load", *(name for name, _ in REPORTS)} if sources.present else {"load"})
