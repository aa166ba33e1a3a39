"""The overview in Dagster: one look, one materialization whose numbers plot."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import dagster as dg

from fleet.errors import LakeUnavailableError, TooLargeError
from fleet.metrics.labels import labels_of
from sensors.fleet_overview import build_overview_sensor
from tests.fakes.clock import ManualClock
from tests.fakes.metric_reader import InMemoryMetricReader


class AwayReader(InMemoryMetricReader):
    """A store that does not answer."""

    def select(self, *_: Any) -> Any:
        """Fail."""
        raise LakeUnavailableError("the disk is gone")


class CrowdedReader(InMemoryMetricReader):
    """A store with more series of tasks' times than a query may choose."""

    def select(self, *asked: Any) -> Any:
        """Refuse them."""
        if "agent_response_seconds" in str(asked):
            raise TooLargeError("too many series")
        return super().select(*asked)


def look(reader: InMemoryMetricReader, clock: ManualClock) -> dg.SensorResult | dg.SkipReason:
    """One tick."""
    sensor = build_overview_sensor(running=True)
    resources = {"metric_store": reader, "clock": clock}
    with dg.build_sensor_context(resources=resources) as context:
        found = sensor(context)
    assert isinstance(found, dg.SensorResult | dg.SkipReason)
    return found


def test_a_look_is_a_materialization_with_numbers() -> None:
    """As Dagster plots them; nothing is asked to run."""
    clock, reader = ManualClock(), InMemoryMetricReader()
    at_ms = int(clock.now().timestamp() * 1000)
    reader.add(labels_of("stateroom_nodes", {"region": "eu", "state": "live"}), [(at_ms, 3.0)])
    found = look(reader, clock)
    assert isinstance(found, dg.SensorResult)
    assert not found.run_requests
    (event,) = found.asset_events
    assert isinstance(event, dg.AssetMaterialization)
    assert event.asset_key == dg.AssetKey("fleet_overview")
    assert {name: value.value for name, value in event.metadata.items()} == {
        "nodes live": 3.0,
        "nodes live in eu": 3.0,
    }
    clock.advance(timedelta(minutes=6).total_seconds())
    skipped = look(reader, clock)
    assert isinstance(skipped, dg.SkipReason)
    assert "nothing was measured" in str(skipped.skip_message)


def test_a_store_that_does_not_answer_skips_the_look() -> None:
    """With its own words."""
    skipped = look(AwayReader(), ManualClock())
    assert isinstance(skipped, dg.SkipReason)
    assert "the disk is gone" in str(skipped.skip_message)


def test_what_is_left_out_is_told_beside_the_numbers() -> None:
    """Or instead of them, where nothing else is known."""
    clock, reader = ManualClock(), CrowdedReader()
    skipped = look(reader, clock)
    assert isinstance(skipped, dg.SkipReason)
    assert "time of tasks p95, ms: too many series" in str(skipped.skip_message)
    at_ms = int(clock.now().timestamp() * 1000)
    reader.add(labels_of("up", {"instance": "a"}), [(at_ms, 0.0)])
    found = look(reader, clock)
    assert isinstance(found, dg.SensorResult)
    (event,) = found.asset_events
    assert event.metadata["targets down"].value == 1
    assert "too many series" in str(event.metadata["left out"].value)
