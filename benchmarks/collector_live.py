"""A whole collector but its rules, over loopback: how much of its time a fleet of a size takes.

Usage: python benchmarks/collector_live.py [--targets N] [--minutes M]

Scrapes N targets with 205 series each every 15 s, from one process beside it, and commits them.
Prints each round: scrapes missed so far, samples stored, seconds of the commit, CPU of the process
as a share of one core. The first rounds meet every series for the first time; the last line is the
median of the second half, and its ratio to reading the bodies alone (see `collecting.py`).
"""

from __future__ import annotations

import argparse
import asyncio
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import uvloop
from scrape import body

from fleet.metrics.exposition.numbers import ExpositionFormat
from fleet.metrics.recent_samples import RecentSamples
from fleet.metrics.scraped_target import ScrapedTarget
from fleet.metrics.targets import make_target
from ops.metric_collection import COMMIT_S, MetricCollection
from resources.clock import SystemClock
from resources.metrics.metric_store import ObjectMetricStore
from resources.metrics.part_files import PartFiles
from resources.metrics.scrape import ScrapeLoop, now_ms
from resources.object_store.directory import DirectoryObjectStore

SHARDS = 4
READ_TARGETS = 200


async def follow(url: str, count: int, minutes: float, folder: Path) -> list[float]:
    """CPU of each round as a share of one core."""
    clock = SystemClock()
    objects = DirectoryObjectStore(folder)
    files = PartFiles(objects, root=folder)
    store = ObjectMetricStore(objects, files, shards=SHARDS, now=clock.now, writer="live")
    recent = RecentSamples(store, now_ms(clock))
    collection = MetricCollection(store, recent, clock, writer="live")
    scraping = ScrapeLoop(clock, collection.take)
    await scraping.replace(
        [
            make_target(url, job="t", instance=str(one), interval_s=15, timeout_s=15)
            for one in range(count)
        ]
    )
    ending, shares = asyncio.Event(), []
    loop = asyncio.create_task(scraping.run(ending))
    ends_s = time.monotonic() + minutes * 60
    while time.monotonic() < ends_s:
        began_s, cpu_s = time.monotonic(), time.process_time()
        await asyncio.sleep(COMMIT_S)
        await asyncio.to_thread(collection.round)
        share = (time.process_time() - cpu_s) / (time.monotonic() - began_s)
        facts = collection.facts(scraping.targets, scraping.missed)
        print(
            f"    missed {facts.scrapes_missed}, stored {facts.samples / 1e6:.2f} M, "
            f"round {facts.round_s:.1f} s, CPU {share:.2f}",
            flush=True,
        )
        shares.append(share)
    ending.set()
    await loop
    return shares


def read_share(count: int) -> float:
    """CPU of reading the bodies of all targets every 15 s, as a share of one core."""
    bodies = [body(seed, ExpositionFormat.TEXT, 10, 20) for seed in range(2)]
    states = [
        ScrapedTarget(make_target("http://127.0.0.1:9/", job="t", instance=str(one)))
        for one in range(READ_TARGETS)
    ]
    took = []
    for number in range(6):
        cpu_s = time.process_time()
        for state in states:
            at_ms = 1_800_000_000_000 + number * 15_000
            assert state.answered(bodies[number % 2], ExpositionFormat.TEXT, at_ms, 0.01).up
        took.append(time.process_time() - cpu_s)
    return statistics.median(took[1:]) / READ_TARGETS * count / COMMIT_S


def main() -> None:
    """Follow, then say what it took."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--targets", type=int, default=1000)
    parser.add_argument("--minutes", type=float, default=4.0)
    chosen = parser.parse_args()
    command = [sys.executable, str(Path(__file__).with_name("scrape.py")), "--serve"]
    with (
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as endpoint,
        tempfile.TemporaryDirectory() as name,
    ):
        try:
            assert endpoint.stdout is not None
            url = f"http://127.0.0.1:{int(endpoint.stdout.readline())}/metrics"
            shares = uvloop.run(follow(url, chosen.targets, chosen.minutes, Path(name)))
        finally:
            endpoint.terminate()
    steady, read = statistics.median(shares[len(shares) // 2 :]), read_share(chosen.targets)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(
        f"{chosen.targets} targets: {steady:.2f} of a core, {steady / read:.1f} x reading the "
        f"bodies alone ({read:.2f}); peak {peak:.2f} GiB"
    )


if __name__ == "__main__":
    main()
