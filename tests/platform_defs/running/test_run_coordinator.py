"""Runs of a failover start at once, whatever the queue holds; no failed launch loses one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import dagster as dg
import pytest
from dagster._core.instance.types import InstanceType
from dagster._core.launcher import LaunchRunContext, RunLauncher
from dagster._core.remote_origin import (
    GrpcServerCodeLocationOrigin,
    RemoteJobOrigin,
    RemoteRepositoryOrigin,
)
from dagster._core.run_coordinator import SubmitRunContext
from dagster._core.storage.event_log import InMemoryEventLogStorage
from dagster._core.storage.noop_compute_log_manager import NoOpComputeLogManager
from dagster._core.storage.root import TemporaryLocalArtifactStorage
from dagster._core.storage.runs import InMemoryRunStorage
from dagster._serdes import ConfigurableClassData

from ops.failover import build_failover_job
from ops.failover_jobs import FAILOVER_CLASS
from platform_defs.run_coordinator import UrgentRunCoordinator

STATUS = dg.DagsterRunStatus


class ScriptedLauncher(RunLauncher[dg.DagsterInstance]):
    """Remembers what it was asked to launch; fails as it is told."""

    def __init__(self) -> None:
        """Launch everything."""
        self.launched: list[tuple[str, dg.DagsterRunStatus]] = []
        self.starts = False
        self.error: BaseException | None = None
        super().__init__()

    def launch_run(self, context: LaunchRunContext) -> None:
        """Remember, start, fail."""
        run = context.dagster_run
        self.launched.append((run.run_id, run.status))
        if self.starts:
            begun = dg.DagsterEvent(dg.DagsterEventType.PIPELINE_START.value, run.job_name)
            self._instance.report_dagster_event(begun, run.run_id)
        if self.error is not None:
            raise self.error

    def terminate(self, run_id: str) -> bool:
        """Nothing runs."""
        return False


CONFIG = {"urgent": {"key": "stateroom/class", "value": "failover", "limit": 2}}


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    """With our coordinator and at most two urgent runs, in memory."""
    data = ConfigurableClassData("platform_defs.run_coordinator", "UrgentRunCoordinator", "{}")
    with dg.DagsterInstance(
        instance_type=InstanceType.EPHEMERAL,
        local_artifact_storage=TemporaryLocalArtifactStorage(),
        run_storage=InMemoryRunStorage(),
        event_storage=InMemoryEventLogStorage(),
        compute_log_manager=NoOpComputeLogManager(),
        run_coordinator=UrgentRunCoordinator.from_config_value(data, CONFIG),
        run_launcher=ScriptedLauncher(),
    ) as instance:
        yield instance


def launcher(instance: dg.DagsterInstance) -> ScriptedLauncher:
    """Its launcher."""
    assert isinstance(instance.run_launcher, ScriptedLauncher)
    return instance.run_launcher


@dg.op
def rest() -> None:
    """Nothing."""


@dg.job
def upkeep_job() -> None:
    """What queues."""
    rest()


@dg.job(tags=FAILOVER_CLASS)
def urgent_job() -> None:
    """What does not."""
    rest()


def submit(instance: dg.DagsterInstance, job: dg.JobDefinition) -> dg.DagsterRun:
    """A new run, handed in; as it is then."""
    return again(instance, create(instance, job))


def create(instance: dg.DagsterInstance, job: dg.JobDefinition) -> dg.DagsterRun:
    """A run as the sensor daemon makes it."""
    location = GrpcServerCodeLocationOrigin(
        host="localhost", port=None, socket="code-server", location_name="stateroom", use_ssl=False
    )
    origin = RemoteJobOrigin(RemoteRepositoryOrigin(location, "__repository__"), job.name)
    tags = dict(job.run_tags)
    return instance.create_run_for_job(job, tags=tags, remote_job_origin=origin)


def again(instance: dg.DagsterInstance, run: dg.DagsterRun) -> dg.DagsterRun:
    """The same, once more: what a daemon does that died while it submitted."""
    context: Any = SubmitRunContext(run, workspace=None)  # type: ignore[arg-type]
    return instance.run_coordinator.submit_run(context)


def test_a_failover_passes_the_queue_by_until_its_limit_and_others_queue(
    instance: dg.DagsterInstance,
) -> None:
    """The third urgent run queues; when one has ended the next starts at once again."""
    real = build_failover_job("failover_job", "The real one, by its tags.")
    assert real.run_tags.items() >= FAILOVER_CLASS.items()
    assert submit(instance, upkeep_job).status == STATUS.QUEUED
    runs = [submit(instance, urgent_job) for _ in range(3)]
    assert [run.status for run in runs] == [STATUS.STARTING, STATUS.STARTING, STATUS.QUEUED]
    instance.report_run_failed(runs[0])
    runs.append(submit(instance, urgent_job))
    urgent = [runs[0], runs[1], runs[3]]
    assert launcher(instance).launched == [(run.run_id, STATUS.STARTING) for run in urgent]


def test_a_run_that_could_not_be_launched_queues(instance: dg.DagsterInstance) -> None:
    """Its log says why, and the daemon launches it like any other."""
    launcher(instance).error = OSError("the code server is gone")
    run = submit(instance, urgent_job)
    assert run.status == STATUS.QUEUED
    said = [event for event in instance.all_logs(run.run_id) if "the run queues" in event.message]
    assert len(said) == 1
    data = said[0].get_dagster_event().engine_event_data
    assert data.error is not None
    assert "the code server is gone" in data.error.message


def test_a_run_that_has_begun_is_not_queued_again_though_the_answer_was_lost(
    instance: dg.DagsterInstance,
) -> None:
    """The code server may have started the worker and died before it said so."""
    launcher(instance).starts = True
    launcher(instance).error = TimeoutError("no answer")
    assert submit(instance, urgent_job).status == STATUS.STARTED


def test_a_daemon_that_dies_while_it_launches_does_not_launch_twice(
    instance: dg.DagsterInstance,
) -> None:
    """The run stays STARTING, which run monitoring ends; submitted again it is left alone."""
    launcher(instance).error = SystemExit(9)
    run = create(instance, urgent_job)
    with pytest.raises(SystemExit):
        again(instance, run)
    launcher(instance).error = None
    found = instance.get_run_by_id(run.run_id)
    assert found is not None
    assert again(instance, found).status == STATUS.STARTING
    assert len(launcher(instance).launched) == 1
