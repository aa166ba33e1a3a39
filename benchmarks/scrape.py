"""What sources of samples cost: parsing, a round of 1,000 targets, reading from a Prometheus.

Usage: python benchmarks/scrape.py [--quick]

Prints medians of several rounds; ratios are of CPU seconds of this process, which other load on the
machine does not change, seconds are by the clock on the wall:
(a) bodies of 4,000 samples parsed for the first time and again, in both formats, and the ratio to
    prometheus_client's parsers, which only parse: ours also computes identities and columns;
(b) one round of 1,000 targets with 200 samples each on loopback, first and again, and the ratio to
    a bare fetch of the same bytes over the same kept connections;
(c) raw samples of a Prometheus by remote read and by query, where `prometheus` is installed.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import uvloop
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics_of
from prometheus_client.parser import text_string_to_metric_families as text_of

from fleet.metrics.exposition.lines import remembered_series
from fleet.metrics.exposition.numbers import ExpositionFormat
from fleet.metrics.exposition.parser import ExpositionParser
from fleet.metrics.targets import endpoint_of, make_target
from resources.clock import SystemClock
from resources.metrics.prometheus_api import PrometheusApi
from resources.metrics.prometheus_asking import ReadProtocol
from resources.metrics.prometheus_server import PrometheusSource
from resources.metrics.scrape import ScrapeSource
from resources.metrics.scrape_connection import ScrapeConnection
from resources.metrics.scraper import FILES_SPARE, allow_open_files
from tests.servers.prometheus import running_prometheus
from tests.servers.remote_write import Series, write


def body(seed: int, form: ExpositionFormat, families: int, series: int) -> bytes:
    """A body as an exporter makes it; other values for each seed."""
    chance, lines = random.Random(seed), []
    openmetrics = form is ExpositionFormat.OPENMETRICS
    for family in range(families):
        name = f"app_requests_{family}"
        declared = name if openmetrics else f"{name}_total"
        lines.append(f"# HELP {declared} Requests of kind {family}.")
        lines.append(f"# TYPE {declared} counter")
        for one in range(series):
            labels = (
                f'node="node-{one:05d}",region="eu-central-1",code="{200 + one}",path="/v1/{one}"'
            )
            lines.append(f"{name}_total{{{labels}}} {chance.random() * 1e6:.3f}")
    if openmetrics:
        lines.append("# EOF")
    return ("\n".join(lines) + "\n").encode()


class Took(NamedTuple):
    """Medians of several calls."""

    wall_s: float
    cpu_s: float


def median(work: Callable[[int], object], rounds: int) -> Took:
    """Time of a call that is given the number of the round."""
    walls, cpus = [], []
    for number in range(rounds):
        wall_s, cpu_s = time.perf_counter(), time.process_time()
        work(number)
        walls.append(time.perf_counter() - wall_s)
        cpus.append(time.process_time() - cpu_s)
    return Took(statistics.median(walls), statistics.median(cpus))


def parsing(rounds: int) -> None:
    """(a)."""
    client = {ExpositionFormat.TEXT: text_of, ExpositionFormat.OPENMETRICS: openmetrics_of}
    print("(a) 4,000 samples: first time / again / prometheus_client")
    for form in ExpositionFormat:
        bodies = [body(seed, form, 200, 20) for seed in range(4)]
        size, samples = len(bodies[0]), 4000
        kept = ExpositionParser(form)
        kept.parse(bodies[0])
        peer = client[form]
        texts = [one.decode() for one in bodies]

        def parse_first(
            number: int, form: ExpositionFormat = form, of: list[bytes] = bodies
        ) -> None:
            remembered_series.cache_clear()
            ExpositionParser(form).parse(of[number % 4])

        first = median(parse_first, rounds)
        again = median(lambda n, k=kept, b=bodies: k.parse(b[n % 4]), rounds * 5)
        theirs = median(lambda n, p=peer, t=texts: [one.samples for one in p(t[n % 4])], rounds)
        figures = " / ".join(
            f"{samples / one.cpu_s / 1e6:.3f} M samples/s {size / one.cpu_s / 1e6:.0f} MB/s"
            for one in (first, again, theirs)
        )
        ratios = [theirs.cpu_s / one.cpu_s for one in (first, again)]
        print(f"    {form}: {figures}")
        print(f"    {form}: {ratios[0]:.1f} and {ratios[1]:.0f} times the client")


class _Endpoint(asyncio.Protocol):
    """Answers each request with the next of two bodies."""

    answers: tuple[bytes, ...] = ()

    def __init__(self) -> None:
        self._count = 0
        self._transport: asyncio.WriteTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        if data.endswith(b"\r\n\r\n") and self._transport is not None:
            self._count += 1
            self._transport.write(self.answers[self._count % 2])


async def _serve() -> None:
    bodies = [body(seed, ExpositionFormat.TEXT, 10, 20) for seed in range(2)]
    _Endpoint.answers = tuple(
        b"HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4\r\nContent-Length: "
        + str(len(one)).encode()
        + b"\r\n\r\n"
        + one
        for one in bodies
    )
    server = await asyncio.get_running_loop().create_server(_Endpoint, "127.0.0.1", 0, backlog=2048)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


def scraping(rounds: int, count: int) -> None:
    """(b)."""
    allow_open_files(count + FILES_SPARE)
    command = [sys.executable, __file__, "--serve"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as endpoint:
        try:
            assert endpoint.stdout is not None
            url = f"http://127.0.0.1:{int(endpoint.stdout.readline())}/metrics"
            _scrape_rounds(url, rounds, count)
        finally:
            endpoint.terminate()


def _scrape_rounds(url: str, rounds: int, count: int) -> None:
    targets = [make_target(url, job="t", instance=str(number)) for number in range(count)]
    with ScrapeSource(targets, SystemClock()) as source:
        first = median(lambda _: list(source.read(0, 0)), 1)
        samples = [0]

        def read_again(_: int) -> None:
            (piece,) = source.read(0, 0)
            assert not piece.problems
            samples[0] = len(piece.batch)

        again = median(read_again, rounds)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        connections = [ScrapeConnection(endpoint_of(url), 10.0) for _ in targets]

        async def fetch() -> None:
            await asyncio.gather(*(one.get() for one in connections))

        runner.run(fetch())
        bare = median(lambda _: runner.run(fetch()), rounds)
        for one in connections:
            one.close()
        runner.run(asyncio.sleep(0))
    print(f"(b) {count} targets, {samples[0]} samples with reports:")
    for name, took in (("first round", first), ("again", again), ("bare fetch", bare)):
        print(f"    {name}: {took.wall_s:.2f} s, {took.cpu_s:.2f} s of CPU")
    print(f"    again is {again.cpu_s / bare.cpu_s:.1f} times the bare fetch of the same bytes")


def from_prometheus(rounds: int, series: int) -> None:
    """(c)."""
    if shutil.which("prometheus") is None:
        print("(c) left out: prometheus is not installed")
        return
    end_ms = time.time_ns() // 1_000_000 // 60_000 * 60_000
    start_ms = end_ms - 3_600_000
    chance = random.Random(1)

    def samples() -> list[tuple[int, float]]:
        kinds = chance.random()
        times = range(start_ms, end_ms, 15_000)
        if kinds < 0.2:
            return [(ts, 0.0) for ts in times]
        return [(ts, round(chance.random() * 100, 2) * (chance.random() > 0.1)) for ts in times]

    with running_prometheus() as server:
        made: list[Series] = [
            ({"__name__": f"m{n % 50}", "node": f"n{n}", "region": "eu"}, samples())
            for n in range(series)
        ]
        for begin in range(0, series, 500):
            write(server, made[begin : begin + 500])
        count = series * 239  # the first one lies at the excluded start
        found = {}
        for protocol in (ReadProtocol.REMOTE_READ, ReadProtocol.QUERY):

            def read(_: int, protocol: ReadProtocol = protocol) -> None:
                source = PrometheusSource(PrometheusApi(server.url), protocol=protocol)
                batches = [piece.batch for piece in source.read(start_ms, end_ms)]
                assert sum(map(len, batches)) == count
                assert all(batch.ts_ms.dtype == np.int64 for batch in batches)

            found[protocol] = median(read, rounds)
    print(f"(c) {count} samples of {series} series out of a Prometheus:")
    for protocol, took in found.items():
        rate = count / took.cpu_s / 1e6
        print(f"    {protocol}: {took.wall_s:.2f} s, {took.cpu_s:.2f} s of CPU ({rate:.2f} M/s)")
    ratio = found[ReadProtocol.QUERY].cpu_s / found[ReadProtocol.REMOTE_READ].cpu_s
    print(f"    the query takes {ratio:.1f} times the CPU of remote read, here alone")


def main() -> None:
    """Run all three."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer rounds, less data")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        uvloop.run(_serve())
        return
    rounds = 3 if options.quick else 9
    parsing(rounds)
    scraping(rounds, 1000)
    from_prometheus(max(3, rounds // 2), 500 if options.quick else 2000)


if __name__ == "__main__":
    main()
