"""Takes and judges the inventory of a large fleet; compares with the bare reads and writes.

The fleet lies in a SQLite control store, seeded in batches: declarations, placements, one report
of every node. A round is one Dagster run (all regions, four tables, all checks) on an in-memory
Dagster instance, in a process of its own, so that the peak of memory is the run's. The peer does
the same input and output without Dagster, checks and totals: read nodes, GPUs, agents and states,
write the tables, read them back, with the cycle collector off.

    python benchmarks/inventory.py [--quick]
"""

from __future__ import annotations

import argparse
import gc
import logging
import multiprocessing
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import dagster as dg  # noqa: E402

from fleet.declaration import FleetDeclaration  # noqa: E402
from fleet.inventory import Agent, AgentStateInfo, Gpu, Node  # noqa: E402
from ops.inventory_jobs import INVENTORY_JOB, RANGE_END, RANGE_START  # noqa: E402
from platform_defs.build import Deployment, build_defs  # noqa: E402
from resources.clock import SystemClock  # noqa: E402
from resources.control_store.opening import open_control_store  # noqa: E402
from resources.lake.directory_store import DirectoryStore  # noqa: E402
from resources.lake.parquet_lake import ParquetLake  # noqa: E402
from resources.lake.records import from_table, to_table  # noqa: E402
from resources.reported_fleet import ReportedFleet  # noqa: E402
from tests.fakes.fleet import SeededFleet, declare_fleet  # noqa: E402

REGIONS = ("ap-southeast-2", "eu-central-1", "us-west-2")


def seed(folder: Path, nodes: int, agents_per_node: int) -> tuple[FleetDeclaration, str]:
    """A store with every node's report and every agent's state; takes a while."""
    url = f"sqlite:///{folder / 'control.db'}"
    declaration = declare_fleet(REGIONS, nodes // len(REGIONS), agents_per_node=agents_per_node)
    store = open_control_store(url, clock=SystemClock())
    try:
        fleet = SeededFleet(store, SystemClock(), declaration, agents_per_node)
        fleet.beat()
        fleet.write_states(b'{"seen": 1}')
    finally:
        store.close()
    return declaration, url


def take(declaration: FleetDeclaration, url: str, lake_path: str) -> dict[str, float]:
    """One run; seconds as a whole, of CPU and by step, and the peak of memory in MiB."""
    logging.disable(logging.INFO)
    deployment = Deployment(
        declaration=declaration, control_store_url=url, lake_path=lake_path, cluster="simulated"
    )
    job = build_defs(deployment).resolve_job_def(INVENTORY_JOB)
    tags = {RANGE_START: declaration.regions[0], RANGE_END: declaration.regions[-1]}
    with dg.DagsterInstance.ephemeral() as instance:
        cpu_s, started_s = time.process_time(), time.perf_counter()
        result = job.execute_in_process(instance=instance, tags=tags)
        took = {"run": time.perf_counter() - started_s, "cpu": time.process_time() - cpu_s}
    assert len(result.get_asset_materialization_events()) == 4 * len(declaration.regions)
    assert len(result.get_asset_check_evaluations()) == 9
    for event in result.all_events:
        if event.is_step_success and event.step_key is not None:
            took[f"  {event.step_key}"] = event.step_success_data.duration_ms / 1000
    return took | {"peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}


def move_rows(declaration: FleetDeclaration, url: str, lake_path: str) -> dict[str, float]:
    """The peer: reads, writes and reads back the same rows, and nothing else."""
    gc.disable()
    clock = SystemClock()
    cpu_s, started_s = time.process_time(), time.perf_counter()
    store = open_control_store(url, clock=clock)
    lake = ParquetLake(DirectoryStore(lake_path))
    try:
        fleet = ReportedFleet(store, clock)
        for region in declaration.regions:
            seen = fleet.snapshot(region)
            tables: list[tuple[str, Any, list[Any]]] = [
                ("nodes", Node, seen.nodes),
                ("gpus", Gpu, seen.gpus),
                ("agents", Agent, seen.agents),
                ("states", AgentStateInfo, store.state_infos(region)),
            ]
            for name, record, rows in tables:
                lake.write(name, region, to_table(rows, record), seen.observed_at)
                from_table(lake.read_latest(name, region), record)
    finally:
        store.close()
    took = {"run": time.perf_counter() - started_s, "cpu": time.process_time() - cpu_s}
    return took | {"peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}


def in_child(action: Callable[..., dict[str, float]], *args: object) -> dict[str, float]:
    """Run in a process of its own."""
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=spawn) as pool:
        return pool.submit(action, *args).result()


def median(rounds: list[dict[str, float]], key: str) -> float:
    """The median of one figure."""
    return statistics.median(each[key] for each in rounds)


def main() -> None:
    """Print medians, the ratio to the peer, and the peak of resident memory."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a tenth of the fleet, two rounds")
    quick = parser.parse_args().quick
    nodes, rounds = (1_002, 2) if quick else (10_002, 5)
    with tempfile.TemporaryDirectory(prefix="inventory-") as name:
        folder = Path(name)
        declaration, url = seed(folder, nodes, 10)
        runs, peers = [], []
        for number in range(rounds):
            peers.append(in_child(move_rows, declaration, url, f"{name}/peer-{number}"))
            runs.append(in_child(take, declaration, url, f"{name}/lake"))
    print(f"{len(declaration.nodes)} nodes, {10 * len(declaration.nodes)} agents, 3 regions")
    print("medians                                 seconds  CPU seconds  peak MiB")
    for label, taken in (("materialize and judge", runs), ("bare reads and writes", peers)):
        figures = [median(taken, key) for key in ("run", "cpu", "peak_mib")]
        print(f"  {label:<38} {figures[0]:6.2f} {figures[1]:12.2f} {figures[2]:9.0f}")
    ratios = [median(runs, key) / median(peers, key) for key in ("run", "cpu", "peak_mib")]
    print(f"  {'ratio':<38} {ratios[0]:6.2f} {ratios[1]:12.2f} {ratios[2]:9.2f}")
    for step in (key for key in runs[0] if key.startswith("  ")):
        print(f"  {step:<38} {median(runs, step):6.2f}")


if __name__ == "__main__":
    main()
