"""The collector: scrapes the fleet, commits samples, evaluates rules, serves the exporter.

It stands apart from Dagster, so that alerts of a Dagster that hangs are given all the same.

    python -m platform_defs.collector
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict
from typing import TYPE_CHECKING, NamedTuple

import uvloop

from fleet.errors import InvalidInputError, TransientError
from fleet.inventory import Node
from fleet.metrics.recent_samples import RecentSamples
from fleet.metrics.targets import ScrapeTarget, make_target, targets_of_nodes
from fleet.ports.clock import Clock
from fleet.ports.control_store import ControlStore
from ops.exporter import metric_sources
from ops.metric_collection import COMMIT_S, MetricCollection
from ops.rule_samples import RuleSamples
from platform_defs.alerting import open_alert_evaluator
from platform_defs.command.store_access import fleet_store
from platform_defs.exporting import open_exporter, serving
from platform_defs.settings import Settings, load_settings
from platform_defs.settings_metrics import declared_metrics, metric_policy_of
from resources.circuit_breakers import CircuitBreakers
from resources.clock import SystemClock
from resources.metrics.keeper import ObjectMetricKeeper
from resources.metrics.opening import open_metric_store
from resources.metrics.scrape import ScrapeLoop, now_ms
from resources.notifiers.resource import NotifierResource, build_notifier

if TYPE_CHECKING:
    from resources.metrics.metric_store import ObjectMetricStore

DISCOVERY_S = 5.0
"""Between two looks for nodes: a new one is scraped within this and its interval."""
AGENTS_JOB = "stateroom-agents"
PLATFORM_JOB = "stateroom"

_log = logging.getLogger("stateroom.collector")


class Collector(NamedTuple):
    """The parts of a collector, opened."""

    control: ControlStore
    collection: MetricCollection
    scraping: ScrapeLoop
    exporter: ScrapeTarget
    interval_s: float


def fleet_targets(
    nodes: Sequence[Node], exporter: ScrapeTarget, interval_s: float
) -> list[ScrapeTarget]:
    """What is scraped: both pages of every node that runs, and the exporter."""
    return [
        *targets_of_nodes(nodes, interval_s=interval_s, timeout_s=interval_s),
        *targets_of_nodes(
            nodes,
            job=AGENTS_JOB,
            path="/metrics/agents",
            interval_s=interval_s,
            timeout_s=interval_s,
        ),
        exporter,
    ]


@contextmanager
def open_collector(settings: Settings) -> Iterator[Collector]:
    """Everything that a collector of these settings needs, and the exporter, serving.

    Raises:
        StoreUnavailableError: there is no control store yet.
        InvalidDocumentError: a file of rules breaks a rule.
        AlreadyRunningError: the exporter's port is in use.
    """
    clock = SystemClock()
    interval_s = settings.metrics.scrape_interval_s
    writer = f"collector-{socket.gethostname()}-{os.getpid()}"
    store = open_metric_store(
        declared_metrics(settings.metrics),
        clock.now,
        writer=writer,
        settle_s=settings.metrics.settle_s,
    )
    collection = _collection(settings, store, writer, clock)
    scraping = ScrapeLoop(clock, collection.take)

    def facts() -> tuple[int, int]:
        return scraping.targets, scraping.missed

    with open_exporter(settings) as exporter, fleet_store(settings) as control:
        keeper = ObjectMetricKeeper(store, metric_policy_of(settings.metrics))
        exporter.add_sources(metric_sources(collection, keeper, facts))
        with serving(exporter, settings.exporter.host, settings.exporter.port) as served:
            _log.info("platform metrics at %s", served.url)
            target = make_target(
                served.url,
                job=PLATFORM_JOB,
                instance=settings.fleet.name,
                interval_s=interval_s,
                timeout_s=interval_s,
            )
            yield Collector(control, collection, scraping, target, interval_s)


def _collection(
    settings: Settings, store: ObjectMetricStore, writer: str, clock: Clock
) -> MetricCollection:
    """Samples in memory and in the store, and the rules on both."""
    receivers = NotifierResource(**asdict(settings.notify) | {"alertmanager_url": ""})
    recent = RecentSamples(store, now_ms(clock))
    collection = MetricCollection(store, recent, clock, writer=writer)
    collection.evaluator = open_alert_evaluator(
        settings,
        RuleSamples(store, writer, recent, recent.add),
        build_notifier(receivers),
        CircuitBreakers(clock),
        clock,
    )
    return collection


async def collect(collector: Collector, ending: asyncio.Event) -> None:
    """Scrape, commit and evaluate until `ending` is set; then commit what was taken last."""
    tasks = [
        asyncio.create_task(collector.scraping.run(ending)),
        asyncio.create_task(_discover(collector, ending)),
        asyncio.create_task(_rounds(collector, ending)),
    ]
    try:
        await asyncio.gather(*tasks)
    finally:
        ending.set()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.to_thread(collector.collection.commit)


async def _discover(collector: Collector, ending: asyncio.Event) -> None:
    known: frozenset[tuple[object, ...]] | None = None
    while not ending.is_set():
        try:
            nodes = await asyncio.to_thread(collector.control.nodes)
        except TransientError as error:
            _log.warning("nodes: %s; targets as before", error)
        else:
            places = frozenset((one.node_id, one.zone, one.phase, one.address) for one in nodes)
            if places != known:
                known = places
                await _retarget(collector, nodes)
        await _wait(ending, DISCOVERY_S)


async def _retarget(collector: Collector, nodes: Sequence[Node]) -> None:
    """Scrape these nodes from now on; called only when one of them has changed its place."""
    found = fleet_targets(nodes, collector.exporter, collector.interval_s)
    try:
        await collector.scraping.replace(found)
    except InvalidInputError as error:
        _log.error("targets: %s; as before", error)
    else:
        _log.info("%d targets", len(found))


async def _rounds(collector: Collector, ending: asyncio.Event) -> None:
    while not ending.is_set():
        await _wait(ending, COMMIT_S)
        await asyncio.to_thread(collector.collection.round)


async def _wait(ending: asyncio.Event, seconds: float) -> None:
    with suppress(TimeoutError):
        await asyncio.wait_for(ending.wait(), seconds)


async def run(settings: Settings) -> None:
    """Be the collector until SIGTERM or SIGINT."""
    ending = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ending.set)
    with open_collector(settings) as collector:
        await collect(collector, ending)


def main() -> None:
    """Run until asked to end; what goes wrong is in the log."""
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    uvloop.run(run(load_settings()))


if __name__ == "__main__":
    main()
