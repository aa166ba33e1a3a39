"""A controller as a process of its own: what the sensors run, and the runs that they ask for.

`python -m tests.chaos.controller STATE_DIR NAME REGIONS`. Both sensors' loops run in threads, as
Dagster's daemon runs them, with a cursor that survives the process. Each order is carried out once
per run key, by the steps of `failover_job`, in a thread: whoever kills this process kills its runs
at whatever step they are. A defect (any error that is not one of the platform's) goes to
`STATE_DIR/faults`, which the test wants empty.
"""

from __future__ import annotations

import logging
import sys
import threading
import time
import traceback
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from fleet.errors import StateroomError, TransientError
from fleet.failover.profiles import EMBEDDED
from fleet.failover_declaration import FailoverDeclaration
from fleet.failover_order import FailoverOrder, OrderKind
from fleet.ports.control_store import ControlStore
from ops.failover import run_ports
from ops.failover_jobs import failover_request
from ops.failover_run import carry_out
from ops.failover_watch import FailoverWatch
from ops.outcomes import RETRIES_MAX, RETRY_DELAY_S
from platform_defs.build_failover import build_watch
from resources.clock import SystemClock
from resources.control_store.opening import open_control_store
from resources.local.local_cluster import LocalCluster
from resources.notifiers.log import LogNotifier
from sensors.failover import watch

PASS_S = 0.5
"""Between two ticks of a sensor; Dagster's daemon makes it up to 5 s, an idle one."""

SENSORS = {
    "nodes": (OrderKind.NODE,),
    "regions": (OrderKind.REGION, OrderKind.FAIL_BACK),
}

_log = logging.getLogger("chaos.controller")


class Controller:
    """Everything of one controller process."""

    def __init__(self, state_dir: Path, name: str, regions: list[str]) -> None:
        """Open the store; nothing is decided yet."""
        self.state_dir, self.name, self.url = state_dir, name, f"sqlite:///{state_dir}/control.db"
        self.clock = SystemClock()
        declaration = FailoverDeclaration(
            EMBEDDED, {one: tuple(two for two in regions if two != one) for one in regions}
        )
        self.ready_timeout_s = 30.0
        self.watch: FailoverWatch = build_watch(declaration, self.url, LogNotifier(), state_dir)
        self.pool = ThreadPoolExecutor(8, thread_name_prefix="run")
        self.asked: set[str] = set()

    def sense(self, name: str) -> None:
        """One sensor, for ever."""
        cursor_path = self.state_dir / f"{self.name}-{name}.cursor"
        while True:
            cursor = cursor_path.read_text() if cursor_path.exists() else None
            try:
                orders, watched = watch(self.watch, self.clock, SENSORS[name], cursor, _log.info)
            except StateroomError as error:
                _log.warning("nothing can be decided: %s", error)
                time.sleep(PASS_S)
                continue
            except Exception:  # noqa: BLE001 - a defect: the test must see it, chaos goes on
                self.tell_fault()
                time.sleep(PASS_S)
                continue
            for order in orders:
                self.launch(order)
            part = cursor_path.with_suffix(".part")
            part.write_text(watched.state)
            part.replace(cursor_path)
            time.sleep(PASS_S)

    def launch(self, order: FailoverOrder) -> None:
        """Run an order, unless a run of its key was asked for before."""
        key = failover_request(order).run_key
        assert key
        if key not in self.asked:
            self.asked.add(key)
            self.pool.submit(self.run, order)

    def run(self, order: FailoverOrder) -> None:
        """Every step, with the retries of an op."""
        store: ControlStore = open_control_store(self.url, clock=self.clock)
        try:
            for attempt in range(RETRIES_MAX + 1):
                try:
                    cluster = LocalCluster(store, self.state_dir, self.clock)
                    ports = run_ports(store, cluster, self.clock)
                    result = carry_out(ports, order, self.ready_timeout_s)
                except TransientError as error:
                    _log.warning("run of %s, try %d: %s", order.incident_id, attempt, error)
                    time.sleep(RETRY_DELAY_S * 2**attempt)
                else:
                    _log.info("run of %s: %s", order.incident_id, result)
                    return
        except StateroomError as error:
            _log.warning("run of %s failed: %s: %s", order.incident_id, type(error), error)
        except Exception:  # noqa: BLE001 - as above
            self.tell_fault()
        finally:
            store.close()

    def tell_fault(self) -> None:
        """Keep a traceback for the test."""
        _log.exception("a defect")
        with (self.state_dir / "faults").open("a") as file:
            file.write(traceback.format_exc())


def main(state_dir: Path, name: str, regions: list[str]) -> None:
    """Run until killed."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    controller = Controller(state_dir, name, regions)
    threads = [
        threading.Thread(target=controller.sense, args=(one,), daemon=True) for one in SENSORS
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], sys.argv[3].split(","))
