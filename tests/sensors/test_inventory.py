"""The inventory is requested once for each change, at once, and never twice for none."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

import dagster as dg
import pytest

from fleet.errors import NodeUnavailableError
from fleet.inventory_watch import PollPolicy
from ops.inventory_jobs import RANGE_END, RANGE_START
from sensors.inventory import INTERVAL_S, build_fleet_change_sensor, build_inventory_schedule
from tests.assets.inventory_runs import InventoryRuns, materialized, open_runs, red


@pytest.fixture
def runs() -> Iterator[InventoryRuns]:
    """A small fleet on fakes, whose nodes go on reporting while a tick pauses."""
    with dg.DagsterInstance.ephemeral() as instance, open_runs(instance, None) as made:
        made.clock.on_pause = made.fleet.beat
        yield made


class Ticker:
    """Ticks the sensor as the daemon does: the cursor of a tick is given to the next."""

    def __init__(self, runs: InventoryRuns) -> None:
        """Begin without a cursor."""
        self.runs, self.cursor = runs, None
        self.sensor = build_fleet_change_sensor()

    def tick(self) -> dg.SensorExecutionData:
        """One evaluation."""
        runs = self.runs
        resources = {
            "cluster": runs.cluster,
            "clock": runs.clock,
            "fleet_declaration": runs.fleet.declaration,
        }
        with dg.build_sensor_context(
            instance=runs.instance, definitions=runs.defs, cursor=self.cursor, resources=resources
        ) as context:
            data = self.sensor.evaluate_tick(context)
        self.cursor = data.cursor or self.cursor
        return data


def spans(data: dg.SensorExecutionData) -> list[tuple[str, str]]:
    """First and last region of each request."""
    return [(each.tags[RANGE_START], each.tags[RANGE_END]) for each in data.run_requests or ()]


def test_a_killed_node_requests_one_run_that_turns_its_check_red(runs: InventoryRuns) -> None:
    """From silence to the red check: the request is carried out as the daemon would."""
    ticker = Ticker(runs)
    assert spans(ticker.tick()) == [("eu", "us")]
    runs.clock.advance(3.0)
    runs.fleet.beat()
    assert ticker.tick().skip_message == "no change in 2 regions"
    runs.clock.on_pause = lambda: runs.fleet.beat("us-1")
    runs.clock.pause(5.0)
    (request,) = ticker.tick().run_requests or ()
    assert "us: 2 ready, 4 agents running -> 1 ready, 1 late" in request.tags["stateroom/reason"]
    job = runs.defs.resolve_job_def("inventory_job")
    result = job.execute_in_process(instance=runs.instance, tags=dict(request.tags))
    assert len(materialized(result)) == 8
    assert red(result) == {"every_node_heartbeat_is_recent": "WARN"}
    assert not ticker.tick().run_requests


def test_a_node_that_falls_silent_during_a_tick_is_seen_by_that_tick(runs: InventoryRuns) -> None:
    """The request is made within a pause of the moment at which the node became late."""
    ticker = Ticker(runs)
    ticker.tick()
    runs.clock.advance(4.0)
    runs.fleet.beat("us-1")
    runs.clock.on_pause = lambda: runs.fleet.beat("us-1")
    began_s = runs.clock.monotonic_s()
    (request,) = ticker.tick().run_requests or ()
    assert "us: 2 ready, 4 agents running -> 1 ready, 1 late" in request.tags["stateroom/reason"]
    assert runs.clock.monotonic_s() - began_s == pytest.approx(1.0)


def test_a_tick_without_a_change_ends_before_the_daemon_passes_again(runs: InventoryRuns) -> None:
    """It uses its time and no more: the daemon leaves out a sensor that still runs."""
    ticker = Ticker(runs)
    ticker.tick()
    assert runs.clock.pauses == []
    looks = len(runs.cluster.looks)
    began_s = runs.clock.monotonic_s()
    assert ticker.tick().skip_message == "no change in 2 regions"
    took_s = runs.clock.monotonic_s() - began_s
    assert PollPolicy().span_s - PollPolicy().interval_s < took_s <= PollPolicy().span_s
    assert len(runs.cluster.looks) - looks == 2 * (len(runs.clock.pauses) + 1)


def test_a_tick_ends_at_once_when_its_process_is_asked_to(runs: InventoryRuns) -> None:
    """Otherwise `stateroom down` would wait for it."""
    ticker = Ticker(runs)
    ticker.tick()
    runs.clock.ending = True
    assert ticker.tick().skip_message == "no change in 2 regions"
    assert len(runs.clock.pauses) == 1


def test_a_run_that_leaves_the_queue_during_a_tick_is_followed_by_the_next(
    runs: InventoryRuns,
) -> None:
    """Whether it has seen the change cannot be known, so another is asked for at once."""
    job = runs.defs.resolve_job_def("inventory_job")
    queued = runs.instance.create_run_for_job(job, status=dg.DagsterRunStatus.NOT_STARTED)
    runs.clock.on_pause = lambda: runs.instance.delete_run(queued.run_id)
    assert spans(Ticker(runs).tick()) == [("eu", "us")]
    assert len(runs.clock.pauses) == 1


def test_keys_of_requests_never_repeat_even_when_the_cursor_is_lost(runs: InventoryRuns) -> None:
    """Dagster drops a request whose key it has seen: a reset cursor must not meet an old key."""
    keys = set()
    for _ in range(3):
        data = Ticker(runs).tick()
        keys.update(each.run_key for each in data.run_requests or ())
        runs.clock.advance(1.0)
    assert len(keys) == 3


def test_a_queued_run_is_waited_for_and_the_change_is_not_forgotten(runs: InventoryRuns) -> None:
    """It will see the change anyway; when it is gone, the change is still news."""
    ticker = Ticker(runs)
    job = runs.defs.resolve_job_def("inventory_job")
    queued = runs.instance.create_run_for_job(job, status=dg.DagsterRunStatus.NOT_STARTED)
    skipped = ticker.tick()
    assert skipped.skip_message is not None
    assert skipped.skip_message.startswith("an inventory is queued already")
    runs.instance.delete_run(queued.run_id)
    assert spans(ticker.tick()) == [("eu", "us")]


def test_an_unreadable_region_splits_the_run_so_that_the_others_are_seen(
    runs: InventoryRuns,
) -> None:
    """One run for each region while one fails, one for all when it has recovered."""
    ticker = Ticker(runs)
    ticker.tick()
    runs.cluster.errors["eu"] = NodeUnavailableError("no answer")
    assert spans(ticker.tick()) == [("eu", "eu"), ("us", "us")]
    assert not ticker.tick().run_requests
    runs.cluster.errors.clear()
    assert spans(ticker.tick()) == [("eu", "us")]


def test_a_damaged_cursor_costs_one_run_and_no_error(runs: InventoryRuns) -> None:
    """Whatever stands there is replaced."""
    ticker = Ticker(runs)
    ticker.cursor = "not a cursor"
    assert spans(ticker.tick()) == [("eu", "us")]
    assert not ticker.tick().run_requests


def test_the_schedule_requests_all_regions_with_the_tick_as_key(runs: InventoryRuns) -> None:
    """One run for each tick, also when the tick is evaluated twice."""
    schedule = build_inventory_schedule()
    at = datetime(2026, 3, 1, 12, 2, tzinfo=UTC)
    resources = {
        "cluster": runs.cluster,
        "clock": runs.clock,
        "fleet_declaration": runs.fleet.declaration,
    }
    keys = []
    for _ in range(2):
        with dg.build_schedule_context(scheduled_execution_time=at, resources=resources) as context:
            data = schedule.evaluate_tick(context)
        (request,) = data.run_requests
        assert (request.tags[RANGE_START], request.tags[RANGE_END]) == ("eu", "us")
        keys.append(request.run_key)
        runs.clock.advance(1.0)
    assert keys[0] == keys[1]


def test_sensor_and_schedules_run_without_being_switched_on(runs: InventoryRuns) -> None:
    """A fresh instance takes inventories by itself, at every pass of the sensor daemon."""
    repository = runs.defs.get_repository_def()
    for sensor in repository.sensor_defs:
        assert sensor.default_status == dg.DefaultSensorStatus.RUNNING
    (watch,) = (one for one in repository.sensor_defs if one.name == "fleet_change_sensor")
    assert (watch.minimum_interval_seconds or 99) <= INTERVAL_S < 5
    assert {"inventory_schedule", "snapshot_schedule"} <= {
        one.name for one in repository.schedule_defs
    }
    running = dg.DefaultScheduleStatus.RUNNING
    resting = {one.name for one in repository.schedule_defs if one.default_status != running}
    # this fleet has no objectives, scales nothing, and asks nobody for prices
    assert resting == {
        "error_budgets_schedule",
        "price_quotes_schedule",
        "rescaling_report_schedule",
    }
