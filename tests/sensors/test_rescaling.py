"""Rescaling in a live code location: a tick, the run that it asks for, the report, its checks."""

from __future__ import annotations

from pathlib import Path

import dagster as dg
import pytest

from assets.scaling_checks import CLAIMS, judge_rescaling
from fleet.declaration import FleetDeclaration
from fleet.heartbeats import HeartbeatPolicy
from fleet.placement.quotas import NetworkLimits, ResourceQuota
from fleet.ports.notifier import Alert
from fleet.rescaling.tables import SCALING_DECISIONS, ScalingDecisionRow
from ops.backup_rows import read_rows
from ops.rescaling_jobs import RESCALE_JOB
from ops.rescaling_watch import RescalingWatch
from platform_defs.build import Deployment, build_defs
from platform_defs.build_rescaling import REPORT_JOB
from resources.reported_fleet import ReportedFleet
from sensors.rescaling import RESCALE_SENSOR
from tests.fakes.lake import InMemoryLake
from tests.ops.scaling_world import ScalingWorld


class Told:
    """Keeps what people are told."""

    def __init__(self) -> None:
        """Nothing yet."""
        self.alerts: list[Alert] = []

    def notify(self, alert: Alert) -> None:
        """Keep it."""
        self.alerts.append(alert)


class Location:
    """A code location over a small fleet, ticked as the daemon would."""

    def __init__(self, instance: dg.DagsterInstance) -> None:
        """Nothing has run."""
        self.instance, self.world, self.told = instance, ScalingWorld(), Told()
        world = self.world
        self.watch = RescalingWatch(
            lambda: world.store, lambda: world.metrics, world.declaration, world.clock, self.told
        )
        self.lake = InMemoryLake()
        deployment = Deployment(
            declaration=FleetDeclaration(
                ("eu",), tuple(world.nodes), HeartbeatPolicy(5.0, 10.0), ()
            ),
            control_store_url="sqlite:///unused",
            lake_path="unused",
            rescaling=world.declaration,
        )
        self.overrides = {
            "control_store": world.store,
            "lake": self.lake,
            "clock": world.clock,
            "cluster": ReportedFleet(world.store, world.clock),
            "rescaling_watch": self.watch,
            "metric_store": world.series,
        }
        self.defs = build_defs(deployment, **self.overrides)

    def tick(self) -> dg.SensorResult | dg.SkipReason:
        """One pass of the sensor."""
        sensor = self.defs.get_repository_def().get_sensor_def(RESCALE_SENSOR)
        with dg.build_sensor_context(
            instance=self.instance,
            definitions=self.defs,
            resources={"rescaling_watch": self.watch},
        ) as context:
            found = sensor(context)
        assert isinstance(found, dg.SensorResult | dg.SkipReason)
        return found

    def carry_out(self, request: dg.RunRequest) -> dg.ExecuteInProcessResult:
        """The run that was asked for; nodes report while it waits."""
        self.world.clock.on_pause = self.world.beat
        return self.run(RESCALE_JOB, request.run_config)

    def run(self, job: str, run_config: object = None) -> dg.ExecuteInProcessResult:
        """A run of one job."""
        return self.defs.resolve_job_def(job).execute_in_process(
            instance=self.instance,
            run_config=run_config,  # type: ignore[arg-type]
            raise_on_error=False,
        )


@pytest.fixture
def location(tmp_path: Path) -> Location:
    """A location with an instance of its own."""
    return Location(dg.DagsterInstance.ephemeral(tempdir=str(tmp_path)))


def test_load_rises_a_run_is_asked_for_agents_multiply_and_the_asset_shows_it(
    location: Location,
) -> None:
    """From the tick to the plot: request, run, observation, report, checks."""
    world = location.world
    world.queue(45)
    found = location.tick()
    assert isinstance(found, dg.SensorResult)
    (request,) = found.run_requests or ()
    assert request.tags["stateroom/reason"] == "chat in eu: 2 to 5"
    (observed,) = found.asset_events
    plotted = {name: entry.value for name, entry in observed.metadata.items()}
    assert plotted["chat eu: replicas"] == 2
    assert plotted["chat eu: desired"] == 5
    assert plotted["chat eu: load, % of target"] == 225.0
    assert plotted["chat eu: max"] == 6
    assert location.carry_out(request).success
    assert len(world.wanted()) == 5
    world.pass_time(15)
    world.queue(45)
    quiet = location.tick()
    assert isinstance(quiet, dg.SensorResult)
    assert not quiet.run_requests
    assert location.run(REPORT_JOB).success
    rows = read_rows(location.lake, SCALING_DECISIONS, ScalingDecisionRow)
    assert [row.verdict for row in rows] == ["scale-up", "unchanged"]
    verdicts = judge_rescaling(world.store, world.declaration, world.clock)
    assert all(one.passed for one in verdicts.values()), verdicts
    records = location.instance.event_log_storage.get_latest_asset_check_execution_by_key(
        [dg.AssetCheckKey(dg.AssetKey(SCALING_DECISIONS), name) for name in CLAIMS]
    )
    assert len(records) == len(CLAIMS)


def test_a_pass_in_between_looks_at_nothing_and_keeps_the_lease(location: Location) -> None:
    """The next look is due after 15 seconds, or when somebody orders."""
    world = location.world
    world.queue(20)
    assert isinstance(location.tick(), dg.SensorResult)
    for _ in range(2):
        world.pass_time(5)
        found = location.tick()
        assert isinstance(found, dg.SkipReason)
        assert "due in" in (found.skip_message or "")
    assert len(world.metrics.asked) == 1


def test_people_are_told_once_that_metrics_are_gone_and_once_that_they_are_back(
    location: Location,
) -> None:
    """Not at the first look without an answer: a scrape may come late."""
    world = location.world
    world.metrics.is_down = True
    for _ in range(4):
        location.tick()
        world.pass_time(15)
    assert [one.severity for one in location.told.alerts] == ["error"]
    assert "connection refused" in location.told.alerts[0].text
    world.metrics.is_down = False
    for _ in range(2):
        world.queue(20)
        location.tick()
        world.pass_time(15)
    assert [one.severity for one in location.told.alerts] == ["error", "resolved"]


def test_the_claims_turn_red(location: Location) -> None:
    """Blind, flapping, outside of limits and quota, no place, and a standing that is damaged."""
    world = location.world
    controller = world.controller()
    for depth in (45, 1, 45, 1, 45, 1, 45):
        world.queue(depth)
        world.carry_out(controller.look())
        world.pass_time(61)
    world.metrics.is_down = True
    controller.look()
    (newest, *_) = world.store.scaling_decisions(limit=1)
    outside = newest._replace(
        decision_id=0, workload="other", desired=99, verdict="scale-up", region="us"
    )
    term = world.store.packed_standings()[0].term  # type: ignore[union-attr]
    world.store.keep_scaling([], [outside], term=term)
    agent = world.store.scaled_agents(["chat"])[0].declaration
    world.clock.advance(200)
    world.store.declare_agents([agent._replace(agent_id="eu-chat-9")])
    world.store.declare_network_limits([NetworkLimits("net", ResourceQuota(agents=1))])
    world.store.damage_standing(("chat", "eu"), state_json="{")
    verdicts = judge_rescaling(world.store, world.declaration, world.clock)
    assert [name for name, one in verdicts.items() if one.passed] == []
    (damaged,) = verdicts["no_standing_is_damaged"].offenders
    assert (damaged.subject, damaged.region) == ("chat", "eu")
    assert "stateroom scaling forget chat --region eu" in damaged.detail


def test_a_damaged_standing_is_seen_in_the_observation_and_fails_its_check(
    location: Location,
) -> None:
    """The tick goes on, says why in its reasons, and the report's run has a failed check."""
    world = location.world
    world.queue(20)
    location.tick()
    world.store.damage_standing(("chat", "eu"), state_json="{")
    world.pass_time(15)
    world.queue(45)
    found = location.tick()
    assert isinstance(found, dg.SensorResult)
    assert not found.run_requests
    (observed,) = found.asset_events
    reasons = observed.metadata["reasons"]
    assert isinstance(reasons, dg.TableMetadataValue)
    assert "stateroom scaling forget chat --region eu" in str(reasons.records[0].data["reason"])
    assert location.run(REPORT_JOB).success, "a check that blocks nothing"
    key = dg.AssetCheckKey(dg.AssetKey(SCALING_DECISIONS), "no_standing_is_damaged")
    storage = location.instance.event_log_storage
    record = storage.get_latest_asset_check_execution_by_key([key])[key]
    evaluation = record.event.dagster_event.asset_check_evaluation_data  # type: ignore[union-attr]
    assert not evaluation.passed
