"""Runs of a failover start at once; all others queue.

The queue looks once a second, and starts nothing while its limit of runs is reached: a failover
would wait for a backup to end. Its runs are few (the blast radius bounds them), so a bounded number
goes past the queue. What exceeds that number queues like any other, in front by its priority.

    run_coordinator:
      module: platform_defs.run_coordinator
      class: UrgentRunCoordinator
      config:
        urgent: {key: stateroom/class, value: failover, limit: 4}
        dequeue_interval_seconds: 1
"""

import sys
import threading
from collections.abc import Mapping
from typing import Any, NamedTuple, Self

import dagster as dg
from dagster._core.events import DagsterEventType, EngineEventData
from dagster._core.launcher import LaunchRunContext
from dagster._core.run_coordinator import SubmitRunContext
from dagster._core.storage.dagster_run import ACTIVE_RUN_STATUSES
from dagster._serdes import ConfigurableClassData
from dagster._utils.error import serializable_error_info_from_exc_info


class UrgentRuns(NamedTuple):
    """Which runs pass the queue by."""

    key: str
    """Tag."""
    value: str
    """Its value."""
    limit: int
    """How many of them may run before the next ones queue."""


class UrgentRunCoordinator(dg.QueuedRunCoordinator):
    """Launches urgent runs when they are submitted; queues the others."""

    urgent: UrgentRuns | None = None
    _starting = threading.Lock()
    """Held from the count to the row that the next count sees."""

    @classmethod
    def config_type(cls) -> Any:
        """The queue's options, and `urgent`."""
        urgent = {"key": str, "value": str, "limit": int}
        queue: Any = super().config_type()
        return {**queue, "urgent": dg.Field(urgent, is_required=True)}

    @classmethod
    def from_config_value(
        cls, inst_data: ConfigurableClassData, config_value: Mapping[str, Any]
    ) -> Self:
        """Made by Dagster from dagster.yaml."""
        made = super().from_config_value(inst_data, config_value)
        made.urgent = UrgentRuns(**config_value["urgent"])
        return made

    def submit_run(self, context: SubmitRunContext) -> dg.DagsterRun:
        """Launch an urgent run, or queue it.

        A process that dies in here leaves the run NOT_STARTED, which the next tick submits again,
        or STARTING, which run monitoring ends: both as with the queue.

        Returns:
            The run as it is now.
        """
        run = context.dagster_run
        if run.status is not dg.DagsterRunStatus.NOT_STARTED or not self._starts_now(run):
            return super().submit_run(context)
        try:
            self._instance.run_launcher.launch_run(
                LaunchRunContext(self._reloaded(run), context.workspace)
            )
        except Exception:  # noqa: BLE001 - whatever it is, the queue tries again and reports
            self._queue_after_failure(run)
        return self._reloaded(run)

    def _starts_now(self, run: dg.DagsterRun) -> bool:
        """Whether it is urgent and there is room; then it counts as starting from here on."""
        urgent = self.urgent
        if urgent is None or run.tags.get(urgent.key) != urgent.value:
            return False
        active = dg.RunsFilter(statuses=ACTIVE_RUN_STATUSES, tags={urgent.key: urgent.value})
        with self._starting:
            if self._instance.get_runs_count(active) >= urgent.limit:
                return False
            starting = dg.DagsterEvent(DagsterEventType.PIPELINE_STARTING.value, run.job_name)
            self._instance.report_dagster_event(starting, run.run_id)
        return True

    def _queue_after_failure(self, run: dg.DagsterRun) -> None:
        """Queue a run that could not be launched; one that has begun nevertheless is left alone."""
        error = serializable_error_info_from_exc_info(sys.exc_info())
        found = self._reloaded(run)
        if found.status is not dg.DagsterRunStatus.STARTING:
            return
        self._instance.report_engine_event(
            "The launch at once has failed; the run queues.",
            found,
            EngineEventData.engine_error(error),
        )
        self._instance.report_dagster_event(dg.DagsterEvent.job_enqueue(found), run.run_id)

    def _reloaded(self, run: dg.DagsterRun) -> dg.DagsterRun:
        found = self._instance.get_run_by_id(run.run_id)
        if found is None:
            raise dg.DagsterInvariantViolationError(
                f"run {run.run_id} was deleted while it was submitted"
            )
        return found
