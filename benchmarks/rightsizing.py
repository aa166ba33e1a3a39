"""Right-sizing back-tested on a recorded fleet, and what advice for a large one costs.

`python benchmarks/rightsizing.py [--quick] [--traces FOLDER]`. With the trace `gentd26` (one day of
a production serving fleet, 143 GPU pods) advice is made from the first half of the day, pod by pod,
and judged on the second: readings above the advised amount, and what would have lain idle. Beside
it two peers judged alike: what a pod was given (a whole GPU; the fleet's largest memory), and the
highest reading of the first half. Without the trace only the costs are measured, on made-up load:
all agents in columns, against the same histograms one sample at a time, and against one bare pass
of NumPy over the same columns. Medians of several rounds.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from _traces import find_traces

from fleet.rightsizing.advice import Usage, judge_cpu, judge_memory
from fleet.rightsizing.backtest import BackTest, back_test
from fleet.rightsizing.buckets import CPU_BUCKETS
from fleet.rightsizing.histograms import DecayingHistograms
from fleet.rightsizing.records import Allocation, RightsizingPolicy

ROUNDS = 5
SAMPLE_MIN = 57 / 60
POLICY = RightsizingPolicy(confidence_min_days=0.25)
GIB = 2**30


class Trace(NamedTuple):
    """Readings of pods, in columns."""

    pods: np.ndarray
    values: np.ndarray
    times_ms: np.ndarray


def read_trace(path: Path, scale: float) -> Trace:
    """One file of the trace, in order of time; pods are numbered as they occur."""
    numbers: dict[str, int] = {}
    rows: list[tuple[int, float, float]] = []
    with gzip.open(path, "rt") as lines:
        for row in csv.DictReader(lines):
            pod = numbers.setdefault(row["container_ip"], len(numbers))
            rows.append((pod, float(row["value"]) * scale, float(row["timestamp_anon"]) * 1000))
    pods, values, times = (np.array(column) for column in zip(*rows, strict=True))
    order = np.argsort(times, kind="stable")
    return Trace(pods[order].astype(np.int64), values[order], times[order].astype(np.int64))


def halves(trace: Trace) -> tuple[Usage, Trace]:
    """The first half of the day as usage (a pod is a workload), and the second."""
    middle = (int(trace.times_ms.min()) + int(trace.times_ms.max())) // 2
    first = trace.times_ms <= middle
    older = Trace(*(column[first] for column in trace))
    newer = Trace(*(column[~first] for column in trace))
    return Usage(older.pods, older.pods, older.values, older.times_ms), newer


def show(name: str, unit: str, found: BackTest, pods: int, scale: float) -> None:
    """One line of the report."""
    mean = found.allocated / found.samples / scale
    violated = f"{found.violation_ratio:7.2%} of readings, {found.workloads_violated:3d} of {pods}"
    print(
        f"  {name:<34} {mean:8.3f} {unit} a pod   violations {violated} pods   "
        f"idle {found.waste_ratio:6.1%}"
    )


def report(title: str, trace: Trace, given: float, unit: str, scale: float, kind: str) -> None:
    """Advice from the first half of the day, judged on the second, beside its peers."""
    older, newer = halves(trace)
    pods = int(trace.pods.max()) + 1
    sizes = [Allocation("gentd26", str(pod), 1, 1000, int(given)) for pod in range(pods)]
    if kind == "duty":
        judged = judge_cpu(older, sizes, SAMPLE_MIN, POLICY)
        target, upper = judged.estimate.target / 1000, judged.estimate.upper / 1000
    else:
        judged = judge_memory(older, sizes, SAMPLE_MIN, POLICY)
        target, upper = judged.estimate.target * 1.0, judged.estimate.upper * 1.0
    seen = judged.samples > 0
    known = seen[newer.pods]
    pod_ids, values = newer.pods[known], newer.values[known]
    highest = np.zeros(pods)
    np.maximum.at(highest, older.agents, older.values)
    print(f"{title}: {len(trace.values)} readings of {pods} pods, {len(values)} judged")
    tests = {
        "given": np.full(pods, given),
        "highest reading of the first half": highest,
        "advice: target (p90 + 15 %)": np.minimum(target, given),
        "advice: upper bound": np.minimum(upper, given),
    }
    for name, amounts in tests.items():
        show(name, unit, back_test(pod_ids, values, amounts), pods, scale)
    before = back_test(pod_ids, values, tests["given"])
    after = back_test(pod_ids, values, tests["advice: target (p90 + 15 %)"])
    print(f"  advised of given: {after.allocated / before.allocated:.2f} x\n")


def median_s(work: Callable[[], object], rounds: int) -> float:
    """Median of the CPU time that some work takes: it has one thread, and others run beside it."""
    taken = []
    for _ in range(rounds):
        begun = time.process_time()
        work()
        taken.append(time.process_time() - begun)
    return statistics.median(taken)


def one_by_one(usage: Usage, count: int) -> dict[int, list[float]]:
    """The same sums without columns: what a loop over samples costs."""
    starts = CPU_BUCKETS.starts.tolist()
    found: dict[int, list[float]] = {}
    half = POLICY.half_life_s * 1000
    for row, value, at in zip(
        usage.workloads[:count].tolist(),
        usage.values[:count].tolist(),
        usage.times_ms[:count].tolist(),
        strict=True,
    ):
        weights = found.setdefault(row, [0.0] * len(starts))
        bucket = next(n for n in range(len(starts) - 1, -1, -1) if starts[n] <= value)
        weights[bucket] += 0.1 * 2.0 ** (at % (100 * half) / half)
    return found


def measure(agents: int, workloads: int, hours: int, rounds: int) -> None:
    """Advice on CPU for a large fleet, against a loop and a bare pass."""
    dice = np.random.default_rng(1)
    readings = agents * hours
    agent = np.tile(np.arange(agents, dtype=np.int64), hours)
    usage = Usage(
        agent % workloads,
        agent,
        dice.gamma(2.0, 0.05, readings),
        1_767_225_600_000 + np.repeat(np.arange(hours, dtype=np.int64), agents) * 3_600_000,
    )
    sizes = [Allocation("net", f"w{n}", agents // workloads, 500, GIB) for n in range(workloads)]
    whole_s = median_s(lambda: judge_cpu(usage, sizes, 60, POLICY), rounds)
    bare_s = median_s(
        lambda: np.bincount(usage.workloads, weights=usage.values, minlength=workloads), rounds
    )
    filled = DecayingHistograms(workloads, CPU_BUCKETS, POLICY.half_life_s * 1000)
    filled.add(usage.workloads, usage.values, np.full(readings, 0.1), usage.times_ms)
    ask_s = median_s(lambda: filled.percentile(0.9), rounds)
    some = min(readings, 20_000)
    loop_s = median_s(lambda: one_by_one(usage, some), rounds) * readings / some
    print(f"advice on CPU: {agents} agents, {workloads} workloads, {hours} hourly readings each")
    print(f"  {whole_s:.3f} s of CPU, {readings / whole_s / 1e6:.1f} M readings/s")
    print(f"  a percentile of every workload {ask_s * 1000:.1f} ms")
    print(f"  {loop_s / whole_s:.0f} x quicker than a loop ({loop_s:.1f} s, from {some} readings)")
    print(f"  {whole_s / bare_s:.0f} x one bare pass over the same columns ({bare_s:.3f} s)")


def main() -> None:
    """Print the report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a tenth of the agents, fewer rounds")
    parser.add_argument("--traces", type=Path, help="folder of gentd26")
    options = parser.parse_args()
    traces = options.traces or find_traces("gentd26")
    if traces is None:
        print("back-test: left out, no trace (--traces, $STATEROOM_TRACES, shared/data/gentd26)\n")
    else:
        duty = read_trace(traces / "pod_gpu_duty_cycle_anon.csv.gz", 0.01)
        report("GPU duty", duty, 1.0, "GPU", 1.0, "duty")
        memory = read_trace(traces / "pod_gpu_memory_used_bytes_anon.csv.gz", 1.0)
        given = float(memory.values.max())
        report("GPU memory", memory, given, "GiB", GIB, "memory")
    tenth = 10 if options.quick else 1
    measure(100_000 // tenth, 5_000 // tenth, 192, 3 if options.quick else ROUNDS)


if __name__ == "__main__":
    main()
