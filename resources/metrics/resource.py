"""The metric store, and its upkeep, as Dagster resources."""

import dagster as dg

from fleet.ports.metric_keeper import MetricKeeper
from fleet.ports.metric_store import MetricStore


@dg.resource(
    required_resource_keys={"metrics_declaration", "metric_policy", "clock"},
    description="Raw samples, series and rollups; opened at the first use of a run or tick.",
)
def metric_store_resource(context: dg.InitResourceContext) -> MetricStore:
    """The declared store, by the run's own clock."""
    from resources.metrics.opening import open_metric_store

    resources = context.resources
    return open_metric_store(
        resources.metrics_declaration,
        resources.clock.now,
        writer="dagster",
        settle_s=resources.metric_policy.settle_s,
    )


@dg.resource(
    required_resource_keys={"metric_store", "metric_policy"},
    description="Makes rollups, merges parts, lets old ones go, verifies bytes.",
)
def metric_keeper_resource(context: dg.InitResourceContext) -> MetricKeeper:
    """Upkeep of the run's own store."""
    from resources.metrics.keeper import ObjectMetricKeeper

    return ObjectMetricKeeper(context.resources.metric_store, context.resources.metric_policy)
