"""Metrics in Dagster: what a run makes, what the sensor asks for, what checks say."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import dagster as dg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from assets.metric_checks import CLAIMS
from fleet.errors import LakeUnavailableError
from fleet.metrics.levels import DAY_MS, HOUR_MS, Level
from fleet.metrics.rollup_plan import MetricPolicy
from fleet.metrics.store_facts import MetricsDeclaration, StoreFacts
from ops.metrics import DAYS_JOB, HOURS_JOB, RETENTION_JOB, partition_key, partition_start_ms
from platform_defs.build_metrics import build_metrics
from resources.metrics.keeper import ObjectMetricKeeper
from resources.metrics.opening import open_metric_store
from sensors.metrics import (
    AGAIN_S,
    EVIDENCE_S,
    HOURS_MAX,
    build_rollup_sensor,
    plan_requests,
    read_cursor,
    select_asked,
)
from tests.resources.metrics.metric_stores import (
    NOON_MS,
    TEN_MS,
    batch,
    half_past_noon,
    steady,
)

FIRST_DAY = "2026-02-01"
DAY_START_MS = NOON_MS // DAY_MS * DAY_MS


class MetricRuns:
    """A store in a folder behind the real definitions."""

    def __init__(self, folder: Path, instance: dg.DagsterInstance) -> None:
        """An empty store at half past noon."""
        self.clock = half_past_noon()
        self.instance = instance
        declaration = MetricsDeclaration(str(folder), shards=2, first_day=FIRST_DAY)
        self.store = open_metric_store(declaration, self.clock.now)
        self.keeper = ObjectMetricKeeper(self.store, MetricPolicy(keep_raw_days=2, keep_1m_days=3))
        self.definitions = build_metrics(declaration, "25 * * * *")
        self.resources = {"metric_keeper": self.keeper, "clock": self.clock}
        self.defs = dg.Definitions(
            assets=self.definitions.assets,
            asset_checks=self.definitions.checks,
            jobs=self.definitions.jobs,
            sensors=self.definitions.sensors,
            schedules=self.definitions.schedules,
            resources=self.resources,
            executor=dg.in_process_executor,
        )

    def run(self, job: str, partition: str | None = None) -> dg.ExecuteInProcessResult:
        """Execute a job here."""
        return self.defs.resolve_job_def(job).execute_in_process(
            instance=self.instance, partition_key=partition, raise_on_error=False
        )

    def tick(self, cursor: str | None = None) -> dg.SensorResult | dg.SkipReason:
        """One look of the sensor."""
        sensor = build_rollup_sensor(self.definitions.jobs[:2], FIRST_DAY, running=True)
        context = dg.build_sensor_context(
            instance=self.instance, cursor=cursor, resources=self.resources
        )
        found = sensor(context)
        assert isinstance(found, dg.SensorResult | dg.SkipReason)
        return found

    def run_all(self) -> list[str]:
        """Tick and run until nothing is asked for; the partitions made, in order."""
        made = []
        for _ in range(10):
            found = self.tick()
            requests = found.run_requests if isinstance(found, dg.SensorResult) else []
            for request in requests or []:
                assert request.job_name
                assert self.run(request.job_name, request.partition_key).success
                made.append(f"{request.job_name} {request.partition_key}")
            if not requests:
                return made
            self.clock.advance(AGAIN_S)
        raise AssertionError("the sensor never came to an end")


@pytest.fixture
def runs(tmp_path: Path, instance: dg.DagsterInstance) -> MetricRuns:
    """Metrics in a folder."""
    return MetricRuns(tmp_path / "metrics", instance)


def metadata_of(runs: MetricRuns, asset: str) -> dict[str, object]:
    """Metadata of the newest materialization."""
    event = runs.instance.get_latest_materialization_event(dg.AssetKey(asset))
    assert event is not None
    assert event.asset_materialization is not None
    return {name: value.value for name, value in event.asset_materialization.metadata.items()}


def test_dirty_partitions_are_asked_for_newest_first_until_none_is_left(runs: MetricRuns) -> None:
    """Hours, then the day; afterwards every level covers what is closed."""
    runs.store.append(batch(steady(3, TEN_MS, 120)), "one")
    assert runs.run_all() == [
        f"{HOURS_JOB} 2026-03-01-11:00",
        f"{HOURS_JOB} 2026-03-01-10:00",
        f"{DAYS_JOB} 2026-03-01",
    ]
    assert runs.store.covers(Level.H1, TEN_MS, NOON_MS)
    assert metadata_of(runs, "rollup_1m")["dagster/row_count"] == 3 * 60
    assert metadata_of(runs, "rollup_1h")["dagster/row_count"] == 3 * 2
    assert metadata_of(runs, "rollup_1d")["shards_made"] == 0
    runs.store.append(batch([(1, TEN_MS + 7, 1.0)]), "late")
    assert runs.run_all() == [f"{HOURS_JOB} 2026-03-01-10:00", f"{DAYS_JOB} 2026-03-01"]
    runs.clock.advance(86_400)
    assert runs.run_all() == [f"{DAYS_JOB} 2026-03-01"]
    assert runs.store.covers(Level.D1, DAY_START_MS, DAY_START_MS + DAY_MS)


def test_a_partition_that_failed_is_asked_for_again(runs: MetricRuns, no_delays: None) -> None:
    """A damaged part fails the run and is named; restored, the next request succeeds."""
    part = runs.store.append(batch(steady(1, TEN_MS, 10)), "one").parts[0]
    data = runs.store.objects.get(part.key)
    runs.store.objects.delete([part.key])
    runs.store.objects.create(part.key, data[:-1])
    failed = runs.run(HOURS_JOB, "2026-03-01-10:00")
    assert not failed.success
    said = failed.failure_data_for_node("rollup_1m.make_rollup_1m_op")
    assert said is not None
    assert part.key in str(said.user_failure_data)
    runs.store.objects.delete([part.key])
    runs.store.objects.create(part.key, data)
    assert runs.run_all() == [f"{HOURS_JOB} 2026-03-01-10:00", f"{DAYS_JOB} 2026-03-01"]


def test_one_tick_asks_for_few_partitions_and_each_once_in_five_minutes(runs: MetricRuns) -> None:
    """A backlog is worked off newest first; what is older than the first day is left out."""
    start = NOON_MS - 30 * HOUR_MS
    runs.store.append(batch([(1, start + hour * HOUR_MS + 1, 1.0) for hour in range(30)]), "one")
    facts: StoreFacts = runs.keeper.facts()
    found = list(plan_requests(facts, 1000.0, FIRST_DAY))
    assert len(found) == HOURS_MAX
    assert found[0].partition_key == "2026-03-01-11:00"
    assert [one.run_key for one in found] == [
        one.run_key for one in plan_requests(facts, 1000.0 + AGAIN_S / 10, FIRST_DAY)
    ]
    assert found[0].run_key != next(plan_requests(facts, 1000.0 + AGAIN_S, FIRST_DAY)).run_key
    assert list(plan_requests(facts, 1000.0, "2026-03-02")) == []


@given(dirty=st.integers(0, 40), most=st.integers(2, 8), since=st.integers(0, 10**7))
def test_newest_partitions_that_cannot_be_made_keep_no_other_waiting(
    dirty: int, most: int, since: int
) -> None:
    """None is made: all are asked for within as many turns as there are; the newest each time."""
    keys = [str(number) for number in range(dirty)]
    asked = [select_asked(keys, most, since + turn) for turn in range(max(1, dirty))]
    assert set().union(*asked) == set(keys)
    for each in asked:
        assert len(each) == len(set(each)) == min(most, dirty)
        assert each[: most - max(1, most // 4)] == keys[: most - max(1, most // 4)]


def test_samples_are_told_of_once_a_minute(runs: MetricRuns) -> None:
    """The materialization carries counts; without a new commit there is none."""
    assert isinstance(runs.tick(), dg.SkipReason)
    runs.store.append(batch(steady(1, NOON_MS, 10)), "one")
    found = runs.tick()
    assert isinstance(found, dg.SensorResult)
    event = found.asset_events[0]
    assert event.metadata["dagster/row_count"].value == 40
    assert event.metadata["stored"].value == 40
    assert isinstance(runs.tick(found.cursor), dg.SkipReason)
    runs.store.append(batch(steady(1, NOON_MS, 11)), "two")
    assert isinstance(runs.tick(found.cursor), dg.SkipReason)
    runs.clock.advance(EVIDENCE_S)
    assert isinstance(runs.tick(found.cursor), dg.SensorResult)
    assert read_cursor("no json") == (0, 0.0)
    assert json.loads(found.cursor or "")[0] == 1


def test_a_store_that_does_not_answer_skips_the_tick(runs: MetricRuns) -> None:
    """The reason says why; the next look tries again."""

    class Away:
        def facts(self) -> StoreFacts:
            raise LakeUnavailableError("metric store: no answer")

    runs.resources = {"metric_keeper": Away(), "clock": runs.clock}
    found = runs.tick()
    assert isinstance(found, dg.SkipReason)
    assert "no answer" in (found.skip_message or "")


def test_retention_lets_go_what_is_built_and_judges_every_claim(runs: MetricRuns) -> None:
    """Raw samples stay as long as a rollup of them is missing; then they go."""
    runs.store.append(batch(steady(2, TEN_MS, 60)), "one")
    runs.clock.advance(10 * 86_400)
    assert runs.run(RETENTION_JOB).success
    assert runs.store.keeps_raw(TEN_MS, NOON_MS)
    assert "1m of 2026-03-01 is not built yet" in str(metadata_of(runs, "metric_retention"))
    runs.run_all()
    result = runs.run(RETENTION_JOB)
    assert result.success
    assert not runs.store.keeps_raw(TEN_MS, NOON_MS)
    said = {one.check_name: one.passed for one in result.get_asset_check_evaluations()}
    assert said.keys() == {name for claims in CLAIMS.values() for name in claims}
    assert {name for name, passed in said.items() if not passed} == {"most_samples_come_in_time"}


def test_damage_turns_the_check_red_and_is_made_anew(runs: MetricRuns) -> None:
    """A rollup's bytes are flipped: found, discarded, dirty, made again to the same bytes."""
    runs.store.append(batch(steady(2, TEN_MS, 60)), "one")
    runs.run_all()
    with runs.store.log.reading() as state:
        made = next(iter(state.rollups[Level.M5].values())).records
    assert made is not None
    data = runs.store.objects.get(made.key)
    runs.store.objects.delete([made.key])
    runs.store.objects.create(made.key, data[:40] + bytes([data[40] ^ 1]) + data[41:])
    found = {one.check_name: one for one in runs.run(RETENTION_JOB).get_asset_check_evaluations()}
    verdict = found["stored_bytes_are_what_was_committed"]
    assert (verdict.passed, verdict.severity) == (False, dg.AssetCheckSeverity.WARN)
    assert runs.run_all()[0] == f"{HOURS_JOB} 2026-03-01-10:00"
    with runs.store.log.reading() as state:
        again = {one.records.sha256 for one in state.rollups[Level.M5].values() if one.records}
    assert made.sha256 in again


def test_what_waits_for_long_turns_a_check_red(runs: MetricRuns) -> None:
    """Nobody made the partition: hours later the claim fails and names it."""
    runs.store.append(batch(steady(1, TEN_MS, 10)), "one")
    runs.clock.advance(5 * 3600)
    found = {
        one.asset_key.to_user_string(): one.passed
        for one in runs.run(RETENTION_JOB).get_asset_check_evaluations()
        if one.check_name == "nothing_waits_to_be_made"
    }
    assert found == {"rollup_1m": False, "rollup_5m": True, "rollup_1h": True, "rollup_1d": True}


def test_the_day_that_is_not_over_can_be_asked_for(runs: MetricRuns) -> None:
    """Its 1h records are made after each hour; a key that Dagster does not know fails the tick."""
    now_ms = int(datetime.now(UTC).timestamp() * 1000)
    graph = runs.defs.resolve_asset_graph()
    for level, start in ((Level.M1, now_ms - HOUR_MS), (Level.H1, now_ms), (Level.D1, now_ms)):
        key = partition_key(level, start // level.partition_ms * level.partition_ms)
        partitions = graph.get(dg.AssetKey(level.asset)).partitions_def
        assert partitions is not None
        assert partitions.has_partition_key(key), (level, key)


def test_partition_keys_are_what_dagster_calls_them() -> None:
    """Both ways, for hours and days."""
    for level, key in ((Level.M1, "2026-03-01-10:00"), (Level.D1, "2026-03-01")):
        assert partition_key(level, partition_start_ms(level, key)) == key
    assert partition_start_ms(Level.M5, "2026-03-01-10:00") == TEN_MS
