"""Takes and judges the inventory of a large fleet; compares with the bare reads and writes.

The fleet lies in a SQLite control store, seeded in batches: declarations, placements, one report
of every node. A round is one Dagster run in this process (all regions, four tables, all checks) on
an in-memory Dagster instance. The peer does the same input and output without Dagster, checks and
totals: read nodes, GPUs, agents and states, write the tables, read them back.

    python benchmarks/inventory.py [--quick]
"""

from __future__ import annotations

import argparse
import logging
import resource
import statistics
import sys
import tempfile
import time
from pathlib import Path

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
    declaration = declare_fleet(REGIONS, nodes // len(REGIONS))
    store = open_control_store(url, clock=SystemClock())
    try:
        fleet = SeededFleet(store, SystemClock(), declaration, agents_per_node)
        fleet.beat()
        fleet.write_states(b'{"seen": 1}')
    finally:
        store.close()
    return declaration, url


def take(defs: dg.Definitions, regions: tuple[str, ...]) -> dict[str, float]:
    """One run; seconds as a whole and by step."""
    job = defs.resolve_job_def(INVENTORY_JOB)
    tags = {RANGE_START: regions[0], RANGE_END: regions[-1]}
    with dg.DagsterInstance.ephemeral() as instance:
        started_s = time.perf_counter()
        result = job.execute_in_process(instance=instance, tags=tags)
        took = {"run": time.perf_counter() - started_s}
    assert len(result.get_asset_materialization_events()) == 4 * len(regions)
    assert len(result.get_asset_check_evaluations()) == 9
    for event in result.all_events:
        if event.is_step_success and event.step_key is not None:
            took[event.step_key] = event.step_success_data.duration_ms / 1000
    return took


def move_rows(url: str, folder: Path, regions: tuple[str, ...]) -> float:
    """The peer: seconds to read, write and read back the same rows, and nothing else."""
    clock = SystemClock()
    started_s = time.perf_counter()
    store = open_control_store(url, clock=clock)
    lake = ParquetLake(DirectoryStore(str(folder)))
    try:
        fleet = ReportedFleet(store, clock)
        for region in regions:
            seen = fleet.snapshot(region)
            tables = [
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
    return time.perf_counter() - started_s


def main() -> None:
    """Print medians, the ratio to the peer, and the peak of resident memory."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a tenth of the fleet, two rounds")
    quick = parser.parse_args().quick
    nodes, rounds = (1_002, 2) if quick else (10_002, 5)
    logging.disable(logging.INFO)
    with tempfile.TemporaryDirectory(prefix="inventory-") as name:
        folder = Path(name)
        declaration, url = seed(folder, nodes, 10)
        deployment = Deployment(
            declaration=declaration, control_store_url=url, lake_path=str(folder / "lake")
        )
        defs = build_defs(deployment)
        before_mib = peak_mib()
        runs, peers = [], []
        for number in range(rounds):
            peers.append(move_rows(url, folder / f"peer-{number}", REGIONS))
            runs.append(take(defs, REGIONS))
        run_s = statistics.median(took["run"] for took in runs)
        peer_s = statistics.median(peers)
        print(f"{len(declaration.nodes)} nodes, {10 * len(declaration.nodes)} agents, 3 regions")
        print(f"  materialize 4 tables and judge 9 claims: {run_s:6.2f} s")
        print(f"  bare reads and writes of these rows:     {peer_s:6.2f} s")
        print(f"  ratio:                                   {run_s / peer_s:6.2f}")
        for step in runs[0]:
            if step != "run":
                print(f"    {step:<40} {statistics.median(t[step] for t in runs):6.2f} s")
        print(f"  peak resident memory: {peak_mib():.0f} MiB ({before_mib:.0f} MiB after seeding)")


def peak_mib() -> float:
    """Peak resident memory of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main()
