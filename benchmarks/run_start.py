"""How long a run takes from its request to the start of its first op, and where the time goes.

`python benchmarks/run_start.py [--quick] [--runs N]`. Three code servers one after another, each
with a Dagster instance, a daemon and runs of its own, all real processes:

* bare: one op in an empty file, Dagster's own server, queue and launcher. The raw limit.
* cold: our definitions, Dagster's own server, queue and launcher.
* ours: our definitions as `stateroom up` serves them; `failover_job` past the queue, and
  `prune_run_history_job` through it.

A request is what the sensor daemon does with a tick that asks for a run: execution plan from the
code server, the run's row, submission. All other times are those of Dagster's own event log.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import dagster as dg
from dagster._core.definitions.selector import JobSubsetSelector
from dagster._core.instance.ref import InstanceRef
from dagster._core.workspace.context import WorkspaceProcessContext
from dagster._core.workspace.load_target import GrpcServerTarget

from fleet.failover_order import FailoverOrder, OrderKind
from ops.failover_jobs import FAILOVER_JOB, failover_config
from platform_defs.dagster_processes import (
    LOCATION,
    ROOT,
    code_server_listens,
    code_server_spec,
    code_socket,
    daemon_spec,
    write_instance,
    write_workspace,
)
from platform_defs.processes import ManagedProcess
from platform_defs.settings import load_settings
from platform_defs.settings_records import Settings
from platform_defs.state_folder import StateFolder
from sensors.upkeep import RUN_HISTORY_JOB

SETTINGS = """\
[fleet]
name = "run-start"
[web]
port = 0
[backup]
enabled = false
[regions.us-west-2]
nodes = 1
"""

BARE = """\
import dagster as dg


@dg.op
def first_op():
    return 1


@dg.job(executor_def=dg.in_process_executor)
def bare_job():
    first_op()


defs = dg.Definitions(jobs=[bare_job])
"""

DAGSTERS_OWN = """\
telemetry: {enabled: false}
run_coordinator:
  module: dagster._core.run_coordinator
  class: QueuedRunCoordinator
  config: {dequeue_interval_seconds: 1, dequeue_use_threads: true, dequeue_num_workers: 4}
run_launcher: {module: dagster, class: DefaultRunLauncher}
"""

PHASES = ("create", "queue", "process", "definitions", "first op", "all")


class Job(NamedTuple):
    """What is run."""

    name: str
    config: dict[str, Any]


ORDER = FailoverOrder(OrderKind.NODE, "us-west-2-1", "node-us-west-2-1-1", 1, 1, "a benchmark")
FAILOVER = Job(FAILOVER_JOB, failover_config(ORDER))
QUEUED = Job(RUN_HISTORY_JOB, {})


@contextmanager
def served(
    settings: Settings, own_server: list[str] | None
) -> Iterator[tuple[dg.DagsterInstance, WorkspaceProcessContext]]:
    """A code server and a daemon on an instance of their own, until the block ends.

    Args:
        settings: where everything lies.
        own_server: arguments of `dagster api grpc`; None for our server on our dagster.yaml.
    """
    StateFolder(settings.fleet.state_dir).prepare()
    server = code_server_spec(settings)
    write_instance(settings)
    if own_server is not None:
        (settings.dagster_home / "dagster.yaml").write_text(DAGSTERS_OWN, encoding="utf-8")
        grpc = [str(Path(sys.executable).parent / "dagster"), "api", "grpc", *own_server]
        grpc += ["--socket", str(code_socket(settings)), "--location-name", LOCATION]
        server = replace(server, argv=grpc)
    with dg.DagsterInstance.from_ref(InstanceRef.from_dir(str(settings.dagster_home))) as instance:
        processes = [ManagedProcess(server)]
        processes[0].start()
        try:
            while not code_server_listens(settings):
                if processes[0].exit_code() is not None:
                    raise SystemExit(processes[0].log_tail())
                time.sleep(0.1)
            processes.append(ManagedProcess(daemon_spec(settings, write_workspace(settings))))
            processes[1].start()
            target = GrpcServerTarget(
                host="localhost",
                port=None,
                socket=str(code_socket(settings)),
                location_name=LOCATION,
            )
            with WorkspaceProcessContext(instance, target) as workspace:
                time.sleep(8)  # the daemon has imported, and the warm parent too
                yield instance, workspace
        finally:
            for process in reversed(processes):
                process.stop()


def request(instance: dg.DagsterInstance, workspace: WorkspaceProcessContext, job: Job) -> str:
    """Ask for a run as the sensor daemon does; returns its id."""
    context = workspace.create_request_context()
    location = context.get_code_location(LOCATION)
    found = location.get_job(JobSubsetSelector(LOCATION, "__repository__", job.name, None))
    plan = location.get_execution_plan(found, job.config, None, None, instance)
    run = instance.create_run(
        job_name=job.name,
        run_id=None,
        run_config=job.config,
        status=dg.DagsterRunStatus.NOT_STARTED,
        tags=dict(found.run_tags or {}),
        root_run_id=None,
        parent_run_id=None,
        step_keys_to_execute=None,
        execution_plan_snapshot=plan.execution_plan_snapshot,
        job_snapshot=found.job_snapshot,
        parent_job_snapshot=found.parent_job_snapshot,
        asset_selection=None,
        asset_check_selection=None,
        resolved_op_selection=found.resolved_op_selection,
        op_selection=None,
        remote_job_origin=found.get_remote_origin(),
        job_code_origin=found.get_python_origin(),
        asset_graph=location.get_repository("__repository__").asset_graph,
    )
    instance.submit_run(run.run_id, context)
    return run.run_id


def started(
    instance: dg.DagsterInstance, workspace: WorkspaceProcessContext, job: Job
) -> dict[str, float]:
    """Seconds of each phase of one run, which is waited for until it has ended."""
    asked_at = time.time()
    run_id = request(instance, workspace, job)
    end_s = time.monotonic() + 120
    while (run := instance.get_run_by_id(run_id)) is None or not run.is_finished:
        if time.monotonic() > end_s:
            raise SystemExit(f"run {run_id} has not ended: {run}")
        time.sleep(0.05)
    at: dict[str, float] = {}
    for event in instance.all_logs(run_id):
        kind = event.dagster_event_type
        if kind is not None:
            at.setdefault(kind.value, event.timestamp)
        if "Started process for run" in event.message:
            at.setdefault("process", event.timestamp)
    marks = [
        asked_at,
        at.get("PIPELINE_ENQUEUED", at["PIPELINE_STARTING"]),
        at["PIPELINE_STARTING"],
        at["process"],
        at["PIPELINE_START"],
        at["STEP_START"],
    ]
    taken = [later - earlier for earlier, later in pairwise(marks)]
    return dict(zip(PHASES, [*taken, marks[-1] - asked_at], strict=True))


def medians(
    instance: dg.DagsterInstance, workspace: WorkspaceProcessContext, job: Job, runs: int
) -> dict[str, float]:
    """Median of each phase, and the worst of all of it."""
    rounds = []
    for number in range(runs):
        rounds.append(started(instance, workspace, job))
        time.sleep(0.37 + 0.11 * (number % 7))  # not in step with the queue
    found = {name: statistics.median(one[name] for one in rounds) for name in PHASES}
    return found | {"worst": max(one["all"] for one in rounds)}


def measure(folder: Path, runs: int) -> dict[str, dict[str, float]]:
    """Phases by what was run."""
    found: dict[str, dict[str, float]] = {}
    bare = folder / "bare_definitions.py"
    bare.write_text(BARE, encoding="utf-8")
    module = ["-m", "platform_defs.definitions"]
    cases: list[tuple[str, list[str] | None, dict[str, Job]]] = [
        ("bare", ["-f", str(bare)], {"bare": Job("bare_job", {})}),
        ("cold", module, {"cold": FAILOVER}),
        ("ours", None, {"ours, failover": FAILOVER, "ours, queued": QUEUED}),
    ]
    for name, own_server, jobs in cases:
        place = folder / name
        place.mkdir()
        config = place / "stateroom.toml"
        config.write_text(SETTINGS, encoding="utf-8")
        os.environ["STATEROOM_CONFIG"] = str(config)
        with served(load_settings(config), own_server) as (instance, workspace):
            for what, job in jobs.items():
                found[what] = medians(instance, workspace, job, runs)
    return found


def main() -> None:
    """Print the phases and the ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="three runs of each")
    parser.add_argument("--runs", type=int, default=15)
    options = parser.parse_args()
    os.environ["PYTHONPATH"] = f"{ROOT}:{ROOT / 'sdk'}"
    with tempfile.TemporaryDirectory(prefix="sr-") as name:
        found = measure(Path(name), 3 if options.quick else options.runs)
    columns = (*PHASES, "worst")
    print(f"{'median s':<16}" + "".join(f"{one:>13}" for one in columns) + f"{'of bare':>10}")
    for what, phases in found.items():
        ratio = phases["all"] / found["bare"]["all"]
        print(
            f"{what:<16}" + "".join(f"{phases[one]:>13.2f}" for one in columns) + f"{ratio:>10.2f}"
        )
    print(f"load {os.getloadavg()[0]:.1f}, {os.cpu_count()} processors")


if __name__ == "__main__":
    main()
