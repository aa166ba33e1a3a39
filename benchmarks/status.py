"""How long `stateroom status` takes as a whole process, next to a bare interpreter and raw SQL.

    python benchmarks/status.py [--quick]

Prints medians of several rounds, interleaved so that other load hits all alike. The budget for
10,000 nodes and 100,000 agents is 0.5 s.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "sdk")]

RAW_SQL = """
import sqlite3, sys
connection = sqlite3.connect(f"file:{sys.argv[1]}?mode=ro", uri=True)
print(connection.execute("SELECT region, count(*) FROM placements GROUP BY region").fetchall())
print(connection.execute(
    "SELECT region, count(*), sum(agents_running), min(received_at) FROM nodes"
    " JOIN node_reports USING (node_id) GROUP BY region").fetchall())
"""


def fill(folder: Path, nodes: int, agents: int) -> Path:
    """Settings and a store with a synthetic fleet; returns the store's file."""
    from platform_defs.settings import load_settings
    from resources.clock import SystemClock
    from resources.control_store.opening import open_control_store
    from resources.simulated.clock import VirtualClock
    from resources.simulated.cluster import SimulatedCluster
    from resources.simulated.synthetic import synthetic_fleet

    path = folder / "stateroom.toml"
    path.write_text("[regions.us-west-2]\nnodes = 1\n[networks.net]\n", encoding="utf-8")
    settings = load_settings(path, {})
    settings.fleet.state_dir.mkdir()
    fleet = synthetic_fleet(nodes, agents)
    clock = SystemClock()
    cluster = SimulatedCluster(
        *fleet, clock=VirtualClock(clock.now()), lease_ttl_s=3600.0, heartbeat_lost_s=3600.0
    )
    store = open_control_store(settings.control_store.url, clock=clock)
    try:
        cluster.seed_store(store)
    finally:
        store.close()
    judge_backups(settings.lake.path)
    return settings.fleet.state_dir / "control.db"


def judge_backups(lake_path: Path) -> None:
    """Recovery objectives of two networks in three regions, as a running fleet has them."""
    from fleet.backup_declaration import PLATFORM_NETWORK
    from fleet.backup_tables import OBJECTIVES, RecoveryObjective
    from resources.lake.directory_store import DirectoryStore
    from resources.lake.parquet_lake import ParquetLake
    from resources.lake.records import to_table

    lake, now = ParquetLake(DirectoryStore(str(lake_path))), datetime.now(UTC)
    numbers = (60.0, 120.0, "01M7YJN8G5B86SPTSD1V88YNV9", now, 60.0, None, *[60.0] * 5)
    for region in ("us-west-2", "eu-central-1", "ap-southeast-2"):
        rows = [
            RecoveryObjective(region, one, now, *numbers, (), now, now)
            for one in ("net", PLATFORM_NETWORK)
        ]
        lake.write(OBJECTIVES, region, to_table(rows, RecoveryObjective), now)


def measure(argv: list[str], environ: dict[str, str]) -> float:
    """Seconds of one process, from start to end."""
    started_s = time.perf_counter()
    subprocess.run(argv, env=environ, check=False, stdout=subprocess.DEVNULL)
    return time.perf_counter() - started_s


def main() -> None:
    """Fill, warm up, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a tenth of the size, fewer rounds")
    quick = parser.parse_args().quick
    nodes, agents, rounds = (1000, 10_000, 5) if quick else (10_000, 100_000, 15)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        started_s = time.perf_counter()
        database = fill(folder, nodes, agents)
        print(f"{nodes} nodes, {agents} agents; filled in {time.perf_counter() - started_s:.1f} s")
        environ = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
        environ |= {
            "STATEROOM_CONFIG": str(folder / "stateroom.toml"),
            "PYTHONPATH": str(ROOT),
        }
        command = [sys.executable, "-m", "platform_defs.command.main"]
        cases = {
            "python -c pass": [sys.executable, "-c", "pass"],
            "python + raw SQL": [sys.executable, "-c", RAW_SQL, str(database)],
            "stateroom --help": [*command, "--help"],
            "stateroom config validate": [*command, "config", "validate"],
            "stateroom status": [*command, "status"],
            "stateroom status --json": [*command, "status", "--json"],
        }
        times: dict[str, list[float]] = {case: [] for case in cases}
        for index in range(rounds + 1):
            for case, argv in cases.items():
                taken_s = measure(argv, environ)
                if index:  # the first round warms the caches
                    times[case].append(taken_s)
    medians = {case: statistics.median(values) for case, values in times.items()}
    bare = medians["python + raw SQL"]
    for case, median in medians.items():
        low, high = min(times[case]), max(times[case])
        spread = f"({1000 * low:.0f} to {1000 * high:.0f})"
        print(f"{case:28}{1000 * median:7.0f} ms {spread:15} {median / bare:5.1f} x raw SQL")


if __name__ == "__main__":
    main()
