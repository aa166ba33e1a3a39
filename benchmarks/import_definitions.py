"""How long loading the definitions takes, beyond what importing Dagster takes.

Every run worker and every code server pays it. Each round starts a fresh interpreter; the
bytecode is warm.

    python benchmarks/import_definitions.py [--quick]
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

PROGRAM = """
import time
started_s = time.perf_counter(); cpu_s = time.process_time()
import {module}
print(time.perf_counter() - started_s, time.process_time() - cpu_s)
"""


def load(module: str) -> tuple[float, float]:
    """Seconds, and CPU seconds, to import a module in a fresh interpreter."""
    environ = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(module=module)],
        cwd=ROOT,
        env=environ,
        capture_output=True,
        text=True,
        check=True,
    )
    wall_s, cpu_s = done.stdout.split()[-2:]
    return float(wall_s), float(cpu_s)


def main() -> None:
    """Print medians and the ratio."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="three rounds instead of eleven")
    rounds = 3 if parser.parse_args().quick else 11
    modules = ("dagster", "platform_defs.definitions")
    for module in modules:
        load(module)
    taken = {module: [load(module) for _ in range(rounds)] for module in modules}
    medians = {
        module: [statistics.median(column) for column in zip(*rows, strict=True)]
        for module, rows in taken.items()
    }
    for module, (wall_s, cpu_s) in medians.items():
        print(f"import {module:<28} {wall_s:6.2f} s {cpu_s:6.2f} s CPU")
    peer, ours = (medians[module] for module in modules)
    print(f"ratio {'':<29} {ours[0] / peer[0]:6.2f}   {ours[1] / peer[1]:6.2f}")


if __name__ == "__main__":
    main()
