"""How fast samples become records, and how fast a day of them is read, against DuckDB's own scan.

Usage: python benchmarks/metrics.py [--quick | --full] [--folder DIR]

Prints, each with the ratio to DuckDB scanning the same files in the same run (medians, in turn):
(a) raw samples to 5m records, read and write included, and the memory of the process that does it;
(b) the same through the store: 1m from samples, 5m from 1m, 1h from 5m;
(c) bytes of a sample and of a record at each level;
(d) choosing one metric's series among all, and reading one day of their 1h records;
(e) `append` of a batch of one scrape;
(f) native histograms of 20 buckets, encoded and rolled up to 5m, beside the same observations as 22
classic series.
`--full` takes 100 M samples and 2 M series (15 minutes, 3 GB of disk), `--quick` 1 M and 40,000.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from _metric_data import SIZES
from _metric_days import measure_day
from _metric_histograms import measure_histograms
from _metric_rollups import measure_levels, measure_merge, measure_roll_up


def main() -> None:
    """Measure all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--full", action="store_true")
    parser.add_argument("--folder", type=Path)
    chosen = parser.parse_args()
    sizes = SIZES["quick" if chosen.quick else "full" if chosen.full else "normal"]
    with tempfile.TemporaryDirectory(dir=chosen.folder) as name:
        folder = Path(name)
        print(json.dumps(sizes._asdict()))
        measure_roll_up(folder, sizes)
        measure_merge(folder, sizes)
        measure_levels(folder, sizes)
        measure_day(folder, sizes)
        measure_histograms(sizes)


if __name__ == "__main__":
    main()
