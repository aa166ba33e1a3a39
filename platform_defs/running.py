"""One run of `stateroom up`: starts everything in order, watches it, stops it in reverse.

Runs in the keeper (see `keeping.py`). What it starts is found again in the state folder, so the
next run continues with the same agents, epochs, states and Dagster history.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from typing import Protocol

from fleet.errors import PermanentError, StateroomError, TransientError
from platform_defs import dagster_processes as dagster
from platform_defs.backup_start import prepare_backups
from platform_defs.processes import ManagedProcess, ProcessSpec
from platform_defs.settings import Settings
from platform_defs.state_folder import StateFolder, UpRun
from platform_defs.stopping import StopAskedError, StopSwitch
from platform_defs.webserver_client import WebserverClient
from resources.local.linux_processes import child_pids, end_children, read_stat

Say = Callable[[str], None]

FIRST_JOB = "inventory_job"
RANGE_START, RANGE_END = "dagster/asset_partition_range_start", "dagster/asset_partition_range_end"
WATCH_INTERVAL_S = 0.5
PROGRESS_INTERVAL_S = 3.0
"""Between two lines that say what is waited for."""
ENDED = {"SUCCESS", "FAILURE", "CANCELED"}


class Nodes(Protocol):
    """What runs the nodes of this fleet."""

    def start(self) -> str:
        """Declare and start the nodes; returns what was started, in words."""
        ...

    def watch(self, say: Say) -> None:
        """Look after them; says what has changed. A killed node stays dead."""
        ...

    def stop(self) -> None:
        """Stop the nodes; returns when they are gone."""
        ...


class FleetRun:
    """Everything that one `stateroom up` has started."""

    def __init__(
        self,
        settings: Settings,
        folder: StateFolder,
        nodes: Nodes,
        *,
        ui_port: int | None,
        front_pid: int,
        timeout_s: float,
        say: Say,
    ) -> None:
        """Plan the run.

        Args:
            settings: of the fleet.
            folder: prepared and held.
            nodes: what runs the nodes.
            ui_port: where the UI listens; None: no Dagster at all.
            front_pid: the process that a person would signal.
            timeout_s: for each step until everything is ready.
            say: takes one line for the operator.
        """
        self._settings = settings
        self._folder = folder
        self._nodes = nodes
        self._ui_port = ui_port
        self._timeout_s = timeout_s
        self._say = say
        self._switch = StopSwitch()
        self._problem = ""
        self._processes: list[ManagedProcess] = []
        url = "" if ui_port is None else dagster.ui_url(settings, ui_port)
        self._up = UpRun(
            front_pid, datetime.now(UTC).isoformat(timespec="seconds"), url, ready=False
        )

    def run(self) -> None:
        """Start, watch until somebody asks to stop, stop everything whatever happens.

        Raises:
            StateroomError: something cannot be started, or keeps ending.
        """
        self._switch.listen()
        try:
            self._start()
            self._record(ready=True)
            while True:
                self._watch()
                self._switch.pause(WATCH_INTERVAL_S)
        except StopAskedError:
            self._say("stopping ...")
        finally:
            self._stop()

    def _record(self, *, ready: bool) -> None:
        pids = {process.spec.name: process.pid or 0 for process in self._processes}
        self._up = UpRun(
            self._up.pid, self._up.started_at, self._up.url, ready, self._problem, pids
        )
        self._folder.write_up(self._up)

    # Starting

    def _start(self) -> None:
        self._record(ready=False)
        if self._ui_port is not None:  # compiles and imports while the nodes start
            dagster.write_instance(self._settings)
            self._launch(dagster.code_server_spec(self._settings))
        self._say("starting nodes ..." if self._ui_port is None else "starting nodes and UI ...")
        self._say(self._nodes.start())
        # While the code server imports, so that the UI is not up a moment later for it.
        self._problem = prepare_backups(self._settings, self._say)
        if self._ui_port is None:
            self._launch_collector()
            self._say(f"fleet {self._settings.fleet.name} is up without a UI; Ctrl-C stops it")
            return
        self._await("code server", lambda: dagster.code_server_listens(self._settings))
        workspace = dagster.write_workspace(self._settings)
        self._launch(dagster.webserver_spec(self._settings, workspace, self._ui_port))
        client = WebserverClient(self._up.url)
        self._await("UI", lambda: _answers(client))
        self._say(f"UI at {self._up.url}")
        self._await_location(client)
        run_id = self._order_inventory(client)
        # Only now, so that what sensors order queues behind the inventory that is waited for.
        self._launch(dagster.daemon_spec(self._settings, workspace))
        self._launch_collector()
        self._record(ready=False)
        self._await_inventory(client, run_id)
        self._say(f"fleet {self._settings.fleet.name} is up: {self._up.url}  (Ctrl-C stops it)")

    def _launch(self, spec: ProcessSpec) -> None:
        process = ManagedProcess(spec)
        process.start()
        self._processes.append(process)

    def _launch_collector(self) -> None:
        if self._settings.metrics.collect:
            self._launch(dagster.collector_spec(self._settings))

    def _await(self, what: str, condition: Callable[[], bool]) -> None:
        """Wait for something that a watched process brings about."""
        told_s = time.monotonic()

        def holds() -> bool:
            nonlocal told_s
            if time.monotonic() - told_s > PROGRESS_INTERVAL_S:
                told_s = time.monotonic()
                self._say(f"waiting for {what} ...")
            for process in self._processes:
                code = process.exit_code()
                if code is not None and process.spec.vital:
                    raise PermanentError(
                        f"{process.spec.name} ended with {code} while starting:\n"
                        f"{process.log_tail()}",
                        hint=f"See {process.spec.log_path}",
                    )
            return condition()

        if not self._switch.wait_for(holds, self._timeout_s):
            raise TransientError(
                f"{what} is not ready after {self._timeout_s:g} s",
                hint=f"See the logs in {self._settings.log_dir}, or allow more: --timeout",
            )

    def _await_location(self, client: WebserverClient) -> None:
        problem: list[str] = []

        def loaded() -> bool:
            problem[:] = filter(None, [client.location_problem(dagster.LOCATION)])
            return not problem

        try:
            self._await("the code location", loaded)
        except TransientError as error:
            raise PermanentError(f"{error}: {problem}", hint=error.hint) from error

    def _order_inventory(self, client: WebserverClient) -> str:
        """Run the inventory over all regions, as an operator would from the UI; the run's id."""
        regions = sorted(region.name for region in self._settings.regions)
        tags = {RANGE_START: regions[0], RANGE_END: regions[-1], "stateroom/reason": "stateroom up"}
        return client.launch_job(dagster.LOCATION, FIRST_JOB, {}, tags)

    def _await_inventory(self, client: WebserverClient, run_id: str) -> None:
        status: list[str] = []

        def ended() -> bool:
            status[:] = [client.run_status(run_id)]
            return status[0] in ENDED

        self._await(f"run {run_id} of {FIRST_JOB}", ended)
        where = f"{self._up.url}/runs/{run_id}"
        if status[0] == "SUCCESS":
            self._say(f"assets materialized: {where}")
        else:  # the fleet stays up, because that is where the cause can be seen
            self._problem = f"the first run of {FIRST_JOB} ended with {status[0]}: {where}"
            self._say(self._problem)

    # Watching

    def _watch(self) -> None:
        before = {process.spec.name: process.pid for process in self._processes}
        for process in self._processes:
            process.watch(self._say)
        self._nodes.watch(self._say)
        self._reap_adopted()
        if before != {process.spec.name: process.pid for process in self._processes}:
            self._record(ready=True)

    def _reap_adopted(self) -> None:
        """Take the exit codes of orphans that became ours, such as agents of a killed node."""
        own = {process.pid for process in self._processes}
        for pid in child_pids(os.getpid()):
            stat = read_stat(pid)
            if pid not in own and stat is not None and stat.state == "Z":
                with suppress(ChildProcessError):
                    os.waitpid(pid, os.WNOHANG)

    # Stopping

    def _stop(self) -> None:
        """The daemon first (no new runs), then the UI, the code server with its runs, the nodes."""
        started_s = time.monotonic()
        for process in reversed(self._processes):
            process.ask_to_stop()
        for process in reversed(self._processes):
            process.stop()
        try:
            self._nodes.stop()
        except StateroomError as error:
            self._say(f"stopping nodes: {error}")
        left = end_children()
        ended = f"; ended {left} more processes" if left else ""
        self._say(f"stopped in {time.monotonic() - started_s:.1f} s{ended}")


def _answers(client: WebserverClient) -> bool:
    try:
        client.version()
    except TransientError:
        return False
    return True
