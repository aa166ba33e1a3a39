"""Forgets old runs of the orchestrator, so that its own storage stays bounded."""

from collections.abc import Sequence

import dagster as dg

from fleet.ports.clock import Clock
from fleet.run_history import RunHistoryPolicy, plan_run_pruning
from ops.outcomes import outcomes
from resources.run_history import RunHistory


def build_prune_run_history_op(checks: Sequence[dg.AssetCheckKey]) -> dg.OpDefinition:
    """The op that forgets old runs.

    Args:
        checks: every check of the code location; runs with the newest result of one stay.
    """

    @dg.op(
        name="prune_run_history_op",
        out=dg.Out(dg.Nothing),
        description="Delete runs that are older than the policy keeps, but never the newest of "
        "anything; then remove files that no run owns.",
    )
    def prune_run_history_op(
        context: dg.AssetExecutionContext,
        run_history_policy: dg.ResourceParam[RunHistoryPolicy],
        clock: dg.ResourceParam[Clock],
    ) -> None:
        """Plan, forget, record; a crash leaves the rest for the next run."""
        history = RunHistory(context.instance)
        with outcomes(context.op_execution_context.retry_number):
            runs = history.finished(limit=4 * run_history_policy.runs_max)
            plan = plan_run_pruning(runs, history.newest(checks), run_history_policy, clock.now())
            forgotten = history.forget(run.run_id for run in plan)
            swept = history.sweep_files()
        context.add_asset_metadata(
            {
                "runs_forgotten": forgotten,
                "files_swept": swept,
                "runs_left": context.instance.get_runs_count(),
                "keep_days": run_history_policy.keep_days,
            }
        )

    return prune_run_history_op
