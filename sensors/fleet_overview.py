"""When the overview of the fleet is taken: once a minute, from what the collector has committed."""

from typing import Any

import dagster as dg

from assets.metrics import OVERVIEW
from fleet.errors import StateroomError
from fleet.metrics.overview import fleet_overview
from fleet.ports.clock import Clock
from fleet.ports.metric_store import MetricReader
from ops.evidence import number_evidence

SENSOR = "fleet_overview_sensor"
INTERVAL_S = 59
"""Below a minute, so that a pass of the daemon that comes a little early counts."""


def build_overview_sensor(*, running: bool) -> dg.SensorDefinition:
    """The sensor that shows the fleet's numbers as materializations, which plot.

    Args:
        running: whether it runs unless somebody stops it in the UI.
    """
    status = dg.DefaultSensorStatus.RUNNING if running else dg.DefaultSensorStatus.STOPPED

    @dg.sensor(
        name=SENSOR,
        minimum_interval_seconds=INTERVAL_S,
        default_status=status,
        description="Asks what the fleet does, and shows it on the page of `fleet_overview`.",
    )
    def fleet_overview_sensor(
        context: dg.SensorEvaluationContext,  # noqa: ARG001  Dagster wants it
        metric_store: dg.ResourceParam[MetricReader],
        clock: dg.ResourceParam[Clock],
    ) -> dg.SensorResult | dg.SkipReason:
        from fleet.promql.engine import PromqlEngine

        at_ms = int(clock.now().timestamp() * 1000)
        try:
            found = fleet_overview(PromqlEngine(metric_store), at_ms)
        except StateroomError as error:
            return dg.SkipReason(f"tried again at the next look: {error}")
        left_out = "\n".join(f"{name}: {why}" for name, why in found.left_out.items())
        if not found.numbers:
            nothing = "nothing was measured within the last five minutes"
            return dg.SkipReason(left_out or nothing)
        metadata: dict[str, Any] = {**number_evidence(found.numbers)}
        if left_out:
            metadata["left out"] = left_out
        event = dg.AssetMaterialization(OVERVIEW, metadata=metadata)
        return dg.SensorResult(asset_events=[event])

    return fleet_overview_sensor
