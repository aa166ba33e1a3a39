"""The collection of metrics about itself, as a scraper reads it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from fleet.metrics.exported.readings import ExportedFamily, Reading
from fleet.metrics.store_facts import StoreFacts


class RuleGroupFacts(NamedTuple):
    """How the evaluation of one group of rules goes, since the collector began."""

    evaluations: int
    failures: int


class CollectionFacts(NamedTuple):
    """What a collector has done since it began."""

    targets: int
    """That are scraped; the metric `up` says how each is."""
    samples: int
    """Committed."""
    samples_dropped: int
    """Not committed, because the store was away for longer than samples are held."""
    commits_failed: int
    scrapes_missed: int
    """Left out because the one before had not ended."""
    round_s: float
    """How long the last commit took, with the rules behind it."""
    alerts_pending: int
    alerts_firing: int
    deliveries_failed: int
    rule_groups: Mapping[str, RuleGroupFacts]


FAMILIES = (
    ExportedFamily(
        "stateroom_scrape_targets", "gauge", "Targets that the collector scrapes.", (), "1"
    ),
    ExportedFamily("stateroom_samples_total", "counter", "Samples that were stored.", (), "1"),
    ExportedFamily(
        "stateroom_samples_dropped_total",
        "counter",
        "Samples that were let go because the store was away for too long.",
        (),
        "1",
    ),
    ExportedFamily(
        "stateroom_metric_commits_failed_total",
        "counter",
        "Attempts to store samples that failed; the same samples are tried again.",
        (),
        "1",
    ),
    ExportedFamily(
        "stateroom_scrapes_missed_total",
        "counter",
        "Scrapes left out because the one before of the same target had not ended.",
        (),
        "1",
    ),
    ExportedFamily(
        "stateroom_collection_round_seconds",
        "gauge",
        "How long the last commit of samples took, with the rules behind it.",
        (),
        "1",
    ),
    ExportedFamily(
        "stateroom_alerts", "gauge", "Alerts that are pending or firing.", ("state",), "2"
    ),
    ExportedFamily(
        "stateroom_alert_delivery_failures_total",
        "counter",
        "Ticks in which alerts were not passed on.",
        (),
        "1",
    ),
    ExportedFamily(
        "stateroom_rule_evaluations_total",
        "counter",
        "Evaluations of a group of rules.",
        ("rule_group",),
        "groups of rules",
    ),
    ExportedFamily(
        "stateroom_rule_evaluation_failures_total",
        "counter",
        "Rules that could not be evaluated.",
        ("rule_group",),
        "groups of rules",
    ),
    ExportedFamily(
        "stateroom_rollup_lag_seconds",
        "gauge",
        "From the oldest partition that waits to be made to the first open hour.",
        ("level",),
        "4",
    ),
    ExportedFamily(
        "stateroom_rollup_dirty_partitions",
        "gauge",
        "Partitions that wait to be made, or made again because samples came late.",
        ("level",),
        "4",
    ),
    ExportedFamily(
        "stateroom_late_samples_total",
        "counter",
        "Samples that came after their hour had closed, since the store was made.",
        (),
        "1",
    ),
)


def collection_readings(facts: CollectionFacts) -> Iterator[Reading]:
    """What a collector did."""
    for name, value in (
        ("stateroom_scrape_targets", facts.targets),
        ("stateroom_samples_total", facts.samples),
        ("stateroom_samples_dropped_total", facts.samples_dropped),
        ("stateroom_metric_commits_failed_total", facts.commits_failed),
        ("stateroom_scrapes_missed_total", facts.scrapes_missed),
        ("stateroom_collection_round_seconds", facts.round_s),
        ("stateroom_alert_delivery_failures_total", facts.deliveries_failed),
    ):
        yield Reading(name, (), value)
    for state, value in (("pending", facts.alerts_pending), ("firing", facts.alerts_firing)):
        yield Reading("stateroom_alerts", (state,), value)
    for group, one in sorted(facts.rule_groups.items()):
        yield Reading("stateroom_rule_evaluations_total", (group,), one.evaluations)
        yield Reading("stateroom_rule_evaluation_failures_total", (group,), one.failures)


def store_readings(facts: StoreFacts) -> Iterator[Reading]:
    """How far the rollups are."""
    for level, one in facts.levels.items():
        yield Reading("stateroom_rollup_lag_seconds", (level.text,), one.lag_ms / 1000)
        yield Reading("stateroom_rollup_dirty_partitions", (level.text,), len(one.dirty))
    yield Reading("stateroom_late_samples_total", (), facts.counted.late)
