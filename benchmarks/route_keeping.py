"""What one look of the route keeper costs, over 1,000 and over 100,000 endpoints.

    python benchmarks/route_keeping.py [--quick]

The registry is a control store on SQLite, the router the embedded table, both in a temporary
folder. Three looks are timed: one at which nothing has changed, one after 1 % of all endpoints have
moved, one that gives every table anew. Beside them stands the bare read of all endpoints in the
same run. Medians of several rounds; real and CPU time, because the machine may be busy.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "sdk")]

from fleet.leases import LEADER_LEASE  # noqa: E402
from fleet.ports.control_store import ControlStore  # noqa: E402
from fleet.routes_upkeep import UpkeepPolicy  # noqa: E402
from fleet.services import Endpoint  # noqa: E402
from fleet.traffic_declaration import (  # noqa: E402
    RouterDeclaration,
    RouterKind,
    TrafficDeclaration,
)
from ops.failover_watch import LeaderStanding  # noqa: E402
from ops.route_keeping import RouteKeeper  # noqa: E402
from resources.clock import SystemClock  # noqa: E402
from resources.control_store.opening import open_control_store  # noqa: E402

SERVICES = 20
BATCH = 5000


def endpoints(count: int, epoch: int = 1, every: int = 1) -> list[Endpoint]:
    """All agents, or every n-th of them, spread over the services."""
    return [
        Endpoint(
            f"service-{number % SERVICES}",
            f"agent-{number:06d}",
            f"node-{number // 10:05d}",
            "eu",
            f"10.{number // 65536}.{number // 256 % 256}.{number % 256}",
            8000,
            epoch,
        )
        for number in range(0, count, every)
    ]


def register(store: ControlStore, found: list[Endpoint]) -> None:
    """In transactions of some size."""
    for start in range(0, len(found), BATCH):
        store.register_endpoints(found[start : start + BATCH])


def timed(action: Callable[[], object]) -> tuple[float, float]:
    """Real and CPU seconds."""
    real_s, cpu_s = time.perf_counter(), time.process_time()
    action()
    return time.perf_counter() - real_s, time.process_time() - cpu_s


def median(rows: list[tuple[float, float]]) -> tuple[float, float]:
    """Of each column."""
    return statistics.median(row[0] for row in rows), statistics.median(row[1] for row in rows)


def measure(count: int, rounds: int, folder: Path) -> None:
    """One size."""
    store = open_control_store(f"sqlite:///{folder}/control.db", clock=SystemClock())
    table = RouterDeclaration(name="table", kind=RouterKind.EMBEDDED, folder=str(folder / "routes"))
    declaration = TrafficDeclaration((table,))
    policy = UpkeepPolicy(interval_s=0.001, verify_s=86_400.0)
    keeper = RouteKeeper(declaration, SystemClock(), policy, wait_s=60.0)
    try:
        register(store, endpoints(count))
        term = store.acquire_lease(LEADER_LEASE, "benchmark", 3600.0).term
        standing = LeaderStanding(term, trusted=True)
        names = store.services()
        first, calm, moved, bare = [], [], [], []

        def look() -> None:
            keeper._lasted_s = 0.0  # noqa: SLF001 - no rest between two looks
            time.sleep(2 * policy.interval_s)
            kept = keeper.look(store, standing)
            assert not kept.idle, kept.idle

        for epoch in range(2, rounds + 2):
            for hand in keeper._opened():  # noqa: SLF001 - as after a change of term
                hand.forget()
            first.append(timed(look))
            calm.append(timed(look))
            register(store, endpoints(count, epoch, every=100))
            moved.append(timed(look))
            bare.append(timed(lambda: store.read_services(names)))
    finally:
        keeper.close()
        store.close()
    floor_s, _ = median(bare)
    for name, rows in (
        ("bare read of all endpoints", bare),
        ("look, nothing has changed", calm),
        ("look, 1 % have moved", moved),
        ("look, every table anew", first),
    ):
        real_s, cpu_s = median(rows)
        print(
            f"{count:>7} endpoints  {name:<28} {real_s * 1e3:8.1f} ms  "
            f"(CPU {cpu_s * 1e3:7.1f} ms)  x{real_s / floor_s:.2f} of the bare read"
        )


def main() -> None:
    """Run both sizes."""
    parser = argparse.ArgumentParser(description="Cost of one look of the route keeper.")
    parser.add_argument("--quick", action="store_true", help="fewer rounds")
    quick = parser.parse_args().quick
    for count in (1_000, 100_000):
        with tempfile.TemporaryDirectory() as folder:
            measure(count, 3 if quick else 7, Path(folder))


if __name__ == "__main__":
    main()
