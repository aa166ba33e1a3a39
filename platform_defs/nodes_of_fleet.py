"""What runs the nodes, by `fleet.cluster`: a simulator process, or supervisors on this machine."""

from __future__ import annotations

import sys
import time

from fleet.errors import TransientError
from platform_defs.dagster_processes import own_process_spec
from platform_defs.processes import ManagedProcess
from platform_defs.running import Nodes, Say
from platform_defs.settings import Settings

SIMULATOR_READY_S = 60.0


def nodes_of(settings: Settings) -> Nodes:
    """The runner for these settings; nothing is started."""
    if settings.fleet.cluster == "simulated":
        return SimulatedNodes(settings)
    from platform_defs.local_nodes import LocalNodes

    return LocalNodes(settings)


class SimulatedNodes:
    """One process that simulates every node; its faults come through `fault_orders`."""

    def __init__(self, settings: Settings) -> None:
        """Describe; nothing is started."""
        argv = [sys.executable, "-m", "platform_defs.simulator"]
        self._settings = settings
        self._process = ManagedProcess(own_process_spec(settings, "simulator", argv))

    def start(self) -> str:
        """Start the simulator; returns when every node has reported once.

        Raises:
            TransientError: it has not got that far in time.
        """
        from resources.clock import SystemClock
        from resources.control_store.opening import open_control_store

        wanted = sum(len(region.node_ids) for region in self._settings.regions)
        store = open_control_store(self._settings.control_store.url, clock=SystemClock())
        try:
            self._process.start()
            end_s = time.monotonic() + SIMULATOR_READY_S
            while sum(counts.nodes_live for counts in store.fleet_counts()) < wanted:
                if self._process.exit_code() is not None or time.monotonic() > end_s:
                    raise TransientError(
                        f"the simulator does not report:\n{self._process.log_tail()}",
                        hint=f"See {self._process.spec.log_path}",
                    )
                time.sleep(0.1)
        finally:
            store.close()
        return f"{wanted} simulated nodes report (pid {self._process.pid})"

    def watch(self, say: Say) -> None:
        """Start the simulator again when it has ended."""
        self._process.watch(say)

    def stop(self) -> None:
        """End the simulator."""
        self._process.stop()
