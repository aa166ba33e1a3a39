"""What a collector costs for each sample of a fleet that stays as it is: what limits its size.

Usage: python benchmarks/collecting.py [--targets N] [--samples N] [--rounds N]

Prints, in CPU seconds of this process (medians of the rounds behind the second), for a round of all
targets:
(a) reading the bodies: parsed, with the labels of their target;
(b) holding what they gave: put together, named, given to the memory that rules look at;
(c) storing it: one commit;
and how many series one core can follow at an interval of 15 s, beside what (a) alone would allow:
the bodies have to be read whatever is done with them.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import sys
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from fleet.metrics.exposition.numbers import ExpositionFormat
from fleet.metrics.recent_samples import RecentSamples
from fleet.metrics.samples import SampleBatch
from fleet.metrics.scraped_target import ScrapedTarget
from fleet.metrics.targets import make_target
from fleet.ports.metric_store import RawCommit
from ops.metric_collection import COMMIT_S, MetricCollection
from resources.metrics.metric_store import ObjectMetricStore
from resources.metrics.part_files import PartFiles
from resources.object_store.directory import DirectoryObjectStore

BEGAN = datetime(2026, 3, 1, 0, 0, 10, tzinfo=UTC)
SHARDS = 4
SERIES_A_FAMILY = 20


class SteppedClock:
    """A clock that is moved by hand."""

    def __init__(self) -> None:
        """At the beginning."""
        self.moment = BEGAN

    def now(self) -> datetime:
        """Its time."""
        return self.moment

    def now_ms(self) -> int:
        """Milliseconds since 1970."""
        return int(self.moment.timestamp() * 1000)


class TimedStore:
    """A store whose appends are timed."""

    def __init__(self, store: ObjectMetricStore) -> None:
        """Nothing stored yet."""
        self._store = store
        self.cpu_s = 0.0

    def append(self, batch: SampleBatch, batch_id: str) -> RawCommit:
        """See the port."""
        started = time.process_time()
        done = self._store.append(batch, batch_id)
        self.cpu_s = time.process_time() - started
        return done

    def __getattr__(self, name: str) -> object:
        """All else as it is."""
        return getattr(self._store, name)


def bodies(samples: int) -> list[bytes]:
    """Two bodies of the same series with other values."""
    found = []
    for round_number in range(2):
        lines = []
        for family in range(samples // SERIES_A_FAMILY):
            lines.append(f"# HELP agent_things_{family} Things of kind {family}.")
            lines.append(f"# TYPE agent_things_{family} counter")
            for one in range(SERIES_A_FAMILY):
                labels = f'workload="chat-{one}",region="eu-central-1",le="0.{one}"'
                value = 1000 + family * 7 + one * 3 + round_number
                lines.append(f"agent_things_{family}_total{{{labels}}} {value}")
        found.append(("\n".join(lines) + "\n").encode())
    return found


def measure(targets: int, samples: int, rounds: int) -> None:
    """Follow a fleet for some rounds."""
    clock, texts = SteppedClock(), bodies(samples)
    states = [
        ScrapedTarget(
            make_target("http://127.0.0.1:9/metrics", job="t", instance=f"node-{one:05d}")
        )
        for one in range(targets)
    ]
    steps: dict[str, list[float]] = {"(a) reading": [], "(b) holding": [], "(c) storing": []}
    series = 0
    with tempfile.TemporaryDirectory() as name:
        objects = DirectoryObjectStore(Path(name))
        store = TimedStore(
            ObjectMetricStore(
                objects,
                PartFiles(objects, root=Path(name)),
                shards=SHARDS,
                now=clock.now,
                writer="w",
            )
        )
        recent = RecentSamples(store, clock.now_ms())  # type: ignore[arg-type]
        collection = MetricCollection(store, recent, clock, writer="w")  # type: ignore[arg-type]
        for number in range(rounds + 2):
            clock.moment += timedelta(seconds=COMMIT_S)
            begun = time.process_time()
            for state in states:
                body = texts[number % 2]
                result = state.answered(body, ExpositionFormat.TEXT, clock.now_ms(), 0.01)
                assert result.up
                collection.take(result)
            read_s = time.process_time() - begun
            begun = time.process_time()
            collection.commit()
            commit_s = time.process_time() - begun
            series = series or len(recent)
            took = (read_s, commit_s - store.cpu_s, store.cpu_s)
            print(f"    round {number}: " + ", ".join(f"{one:.2f} s" for one in took), flush=True)
            for values, one in zip(steps.values(), took, strict=True):
                values.append(one)
        facts = collection.facts(targets, 0)
        assert facts.samples == series * (rounds + 2)
        assert facts.samples_dropped == 0
    medians = {step: statistics.median(values[2:]) for step, values in steps.items()}
    whole = sum(medians.values())
    print(f"{targets} targets, {series} series:")
    for step, one in medians.items():
        print(f"{step}: {one:.2f} s a round, {one / series * 1e6:.2f} us a sample")
    read_s = medians["(a) reading"]
    print(
        f"one core follows {series * COMMIT_S / whole / 1e6:.2f} M series each {COMMIT_S:g} s; "
        f"with reading alone {series * COMMIT_S / read_s / 1e6:.2f} M: "
        f"{whole / read_s:.1f} times the CPU"
    )
    print(f"peak {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.2f} GiB")


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--targets", type=int, default=1000)
    parser.add_argument("--samples", type=int, default=340)
    parser.add_argument("--rounds", type=int, default=5)
    chosen = parser.parse_args()
    measure(chosen.targets, chosen.samples, chosen.rounds)


if __name__ == "__main__":
    main()
