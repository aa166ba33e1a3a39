"""Serves the platform's metrics over HTTP, as Prometheus text or OpenMetrics, whichever is asked.

prometheus_client renders and serves; what it renders comes from `ops.exporter` alone.
"""

from __future__ import annotations

import errno
import signal
import socket
import threading
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

from dagster import DagsterInstance
from prometheus_client import CollectorRegistry, generate_latest, start_http_server
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    Metric,
    UntypedMetricFamily,
)

from fleet.errors import AlreadyRunningError, PermanentError
from fleet.heartbeats import HeartbeatPolicy
from fleet.metrics.exported.collection import store_readings
from fleet.metrics.exported.readings import ExportedFamily, Reading
from fleet.metrics.exported.table import BY_NAME, grouped
from fleet.ports.metric_keeper import MetricKeeper
from ops.exporter import (
    Exporter,
    Source,
    dagster_sources,
    lake_sources,
    store_sources,
    vector_sources,
)
from platform_defs.command.metric_access import found_metric_store
from platform_defs.command.store_access import fleet_store
from platform_defs.declared_vectors import declared_vectors
from platform_defs.settings import Settings
from platform_defs.settings_metrics import metric_policy_of
from resources.clock import SystemClock
from resources.lake.directory_store import DirectoryStore
from resources.lake.parquet_lake import ParquetLake

_KINDS = {
    "gauge": GaugeMetricFamily,
    "counter": CounterMetricFamily,
    "untyped": UntypedMetricFamily,  # counters under names that lack `_total`
}


class Serving(NamedTuple):
    """A running exporter."""

    url: str
    """Of its page."""


class _Collector:
    """Gives prometheus_client the readings of this moment."""

    def __init__(self, exporter: Exporter) -> None:
        self._exporter = exporter

    def collect(self) -> Iterable[Metric]:
        for name, readings in grouped(self._exporter.readings()).items():
            yield _family(BY_NAME[name], readings)


def _family(family: ExportedFamily, readings: Iterable[Reading]) -> Metric:
    made: Any = _KINDS[family.type](family.name, family.help, labels=family.labels)
    for reading in readings:
        made.add_metric(reading.labels, reading.value)
    assert isinstance(made, Metric)
    return made


@contextmanager
def open_exporter(settings: Settings) -> Iterator[Exporter]:
    """The exporter of a fleet that has been started at least once.

    Raises:
        StoreUnavailableError: there is no control store yet, or it cannot be reached.
    """
    clock = SystemClock()
    since = clock.now()
    with ExitStack() as stack:
        store = stack.enter_context(fleet_store(settings))
        heartbeats = HeartbeatPolicy(settings.node.heartbeat_late_s, settings.node.heartbeat_lost_s)
        sources = (
            store_sources(store, since, heartbeats)
            | lake_sources(ParquetLake(DirectoryStore(settings.lake.path)))
            | vector_sources(store, declared_vectors(settings))
            | {"rollups": _rollups(settings)}
        )
        home = Path(settings.dagster_home)
        if (home / "dagster.yaml").is_file():
            instance = stack.enter_context(DagsterInstance.from_config(str(home)))
            sources |= dagster_sources(instance, since)
        yield Exporter(sources, clock)


def _rollups(settings: Settings) -> Source:
    """How far the metric store is rolled up; nothing before there is one."""
    keepers: list[MetricKeeper] = []

    def rollups(now: datetime) -> Iterator[Reading]:
        del now
        if not keepers:
            found = found_metric_store(settings)
            if found is None:
                return
            from resources.metrics.keeper import ObjectMetricKeeper

            keepers.append(ObjectMetricKeeper(found, metric_policy_of(settings.metrics)))
        yield from store_readings(keepers[0].facts())

    return rollups


def page(exporter: Exporter) -> str:
    """The page as Prometheus text, of this moment."""
    return generate_latest(_registry(exporter)).decode()


def _registry(exporter: Exporter) -> CollectorRegistry:
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Collector(exporter))
    return registry


def wait_for_end() -> None:
    """Return when this process is asked to end (SIGTERM); Ctrl-C raises KeyboardInterrupt."""
    ended = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: ended.set())
    ended.wait()


@contextmanager
def serving(exporter: Exporter, host: str, port: int) -> Iterator[Serving]:
    """Serve until the block is left.

    Raises:
        AlreadyRunningError: something listens on that port.
        PermanentError: the address is none of this machine's.
    """
    try:
        port = port or _free_port(host)
        server, thread = start_http_server(port, host, _registry(exporter))
    except OSError as error:
        raise _refused(host, port, error) from error
    try:
        shown = f"[{host}]" if ":" in host else host
        yield Serving(f"http://{shown}:{port}/metrics")
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _refused(host: str, port: int, error: OSError) -> PermanentError:
    if error.errno == errno.EADDRINUSE:
        return AlreadyRunningError(
            f"port {port} of {host} is in use",
            hint="Stop what listens there, or set exporter.port (0 takes any free one).",
        )
    return PermanentError(
        f"cannot listen on {host} port {port}: {error.strerror}",
        hint="exporter.host is to be an address of this machine.",
    )


def _free_port(host: str) -> int:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])
