"""Runs a job of the platform in this process, against the instance that the UI shows.

So a backup that a person starts is a run like any other: with its log, its materializations and
its evidence. It works with `stateroom up` running or not.
"""

from __future__ import annotations

import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import fleet.errors
from fleet.errors import PermanentError, StateroomError
from platform_defs.settings import Settings
from platform_defs.state_folder import StateFolder

if TYPE_CHECKING:
    import dagster as dg

STARTED_BY = "stateroom/started-by"


class JobRunner:
    """One instance and one set of definitions, for as many runs as a command makes.

    Args:
        instance: of DAGSTER_HOME.
        defs: with the resources of this command.
    """

    def __init__(self, instance: dg.DagsterInstance, defs: dg.Definitions) -> None:
        """Nothing runs yet."""
        self._instance = instance
        self._defs = defs
        self.run_ids: list[str] = []
        """Of the runs so far."""

    def run(
        self,
        job: str,
        declared: Sequence[str],
        due: Collection[str],
        *,
        reason: str,
        config: Mapping[str, Any] | None = None,
    ) -> list[StateroomError]:
        """Run a job over some partitions, as few runs as neighbours allow.

        Args:
            job: its name.
            declared: all partitions, in their order.
            due: those to take.
            reason: shown with each run.
            config: run config; None for the job's own.

        Returns:
            What went wrong in the runs that failed; the others have done their work.
        """
        from ops.backup_jobs import REASON_MAX_CHARS, job_config, partition_runs
        from ops.inventory_jobs import RANGE_END, RANGE_START

        quiet = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
        failed = []
        for first, last in partition_runs(declared, due):
            tags = {
                RANGE_START: first,
                RANGE_END: last,
                STARTED_BY: "command",
                "stateroom/reason": reason[:REASON_MAX_CHARS],
            }
            wanted = job_config(job) if config is None else config
            result = self._execute(job, {**wanted, **quiet}, tags)
            self.run_ids.append(result.run_id)
            if not result.success:
                failed.append(run_error(result))
        return failed

    def _execute(
        self, job: str, config: dict[str, Any], tags: dict[str, str]
    ) -> dg.ExecuteInProcessResult:
        from dagster import DagsterExecutionInterruptedError

        found = self._defs.resolve_job_def(job)
        try:
            return found.execute_in_process(
                run_config=config, instance=self._instance, tags=tags, raise_on_error=False
            )
        except DagsterExecutionInterruptedError as error:
            raise KeyboardInterrupt from error


@contextmanager
def job_runner(settings: Settings, **resources: Any) -> Iterator[JobRunner]:
    """A runner on the instance of these settings; resources take the place of the platform's.

    Raises:
        NotFoundError: no dagster.yaml is found to set the instance up with.
    """
    from platform_defs.build import build_defs, deployment_of

    with instance_of(settings) as instance:
        yield JobRunner(instance, build_defs(deployment_of(settings), **resources))


@contextmanager
def instance_of(settings: Settings) -> Iterator[dg.DagsterInstance]:
    """The Dagster instance that the UI shows; made when `stateroom up` has not made it yet."""
    import dagster as dg
    from dagster._core.instance.ref import InstanceRef

    from platform_defs.bootstrap import apply_pool_limits, pool_limits
    from platform_defs.dagster_processes import write_instance

    is_new = not (settings.dagster_home / "dagster.yaml").is_file()
    if is_new:
        StateFolder(settings.fleet.state_dir).prepare()
        write_instance(settings)
    with dg.DagsterInstance.from_ref(InstanceRef.from_dir(str(settings.dagster_home))) as instance:
        if is_new:
            apply_pool_limits(instance, pool_limits(settings))
        yield instance


def run_error(result: dg.ExecuteInProcessResult) -> StateroomError:
    """Why a run failed, as the error that its op raised: same kind, same words, same hint."""
    page = f"Run {result.run_id} in the UI has the log."
    for event in result.all_events:
        if not event.is_step_failure:
            continue
        data = event.step_failure_data
        told = data.user_failure_data
        if told is None:
            said = (data.error.message if data.error else "no reason given").strip()
            return PermanentError(f"{event.step_key} failed: {said}", hint=page)
        metadata = {name: value.value for name, value in told.metadata.items()}
        kind = getattr(fleet.errors, str(metadata.get("error", "")), PermanentError)
        # Errors with more than a message cannot be built again from one; their kind is kept.
        kind = kind if kind.__init__ is StateroomError.__init__ else PermanentError
        hint = str(metadata.get("hint", "none"))
        return kind(str(told.description), hint=page if hint == "none" else hint)
    return PermanentError(f"run {result.run_id} ended without a result", hint=page)


def raise_failures(failed: Sequence[StateroomError]) -> None:
    """Raise what went wrong; with several, all but the last are printed first."""
    import click

    for error in failed[:-1]:
        click.echo(f"stateroom: {error}", err=True)
    sys.stdout.flush()
    if failed:
        raise failed[-1]
