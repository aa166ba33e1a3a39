"""Recorded days through the scaler: seconds, cost and late work, against a static fleet.

Run as `python benchmarks/rescaling_replay.py [--quick] [--data DIR]`. DIR holds the published
traces `gentd26/` (Alibaba, cluster-trace-v2026-GenAI) and `azure_llm/` (Azure LLM inference, 2023);
default STATEROOM_TRACES, else `shared/data` in or beside the repository. Without them a day is
made up, and said to be.

The peer is a static fleet sized for the peak of the load; beside it stands the smallest static
fleet that keeps all waits below the limit, which nobody knows before the day is over. The raw limit
of cost is one replica for each started unit of load, without any foresight or start time. Azure's
traces are of one hour: a day is that hour 24 times.
"""

from __future__ import annotations

import argparse
import math
import os
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from _traces import find_traces

from fleet.rescaling.load_trace import LoadTrace, sampled_trace
from fleet.rescaling.policy import Panic, WorkloadScaling
from fleet.rescaling.reading_behavior import DEFAULT_DOWN, DEFAULT_UP
from fleet.rescaling.replay import (
    Replayed,
    ServiceModel,
    peak_replicas,
    replay,
    replay_static,
    smallest_static,
)
from fleet.rescaling.spec import AutoscalerSpec, Behavior, MetricKind, MetricSpec, TargetType
from resources.load_traces import read_load_trace

FLEET = 100
"""Replicas of the fleet for the peak."""
LEAST = 0.1
"""Minimum, as a share of it."""
SHARES = (0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
"""Target load of a replica, as a share of what it serves."""
WINDOWS_S = (300, 900, 1800)
"""Before replicas are removed."""
SAVED_MIN = 0.2


class _Point(NamedTuple):
    share: float
    window_s: int
    run: Replayed


def main() -> None:
    """Replay every trace at every target."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="two targets, one window, one round")
    parser.add_argument("--data", type=Path, help="folder of the traces")
    parser.add_argument("--start-s", type=float, default=30.0, help="a start takes")
    parser.add_argument("--wait-max-s", type=float, default=30.0, help="longest wait not late")
    arguments = parser.parse_args()
    load = os.getloadavg()[0]
    print(f"load of the machine: {load:.1f} on {os.cpu_count()} cores; CPU times count")
    for trace in _traces(arguments.data):
        _measure(trace, arguments)


def _traces(given: Path | None) -> list[LoadTrace]:
    """The published days; a made-up one where they are not there."""
    folder, azure = [
        find_traces(one) if given is None else given / one for one in ("gentd26", "azure_llm")
    ]
    if folder is None or azure is None:
        print("no traces: a made-up day stands in, its figures prove nothing")
        return [_made_up()]
    gentd26 = folder / "qps.csv.gz"
    found = [
        replace(
            read_load_trace(gentd26, where={"request_type": "Generative Requests"}),
            name="gentd26, generative requests/s",
        )
    ]
    for name in ("conv", "code"):
        path = azure / f"AzureLLMInferenceTrace_{name}.csv.gz"
        hour = read_load_trace(path, count="tokens")
        found.append(replace(hour.repeated(24), name=f"azure_llm {name}, tokens/s, hour x 24"))
    found.insert(1, _together(found[1], found[2]))
    return found


def _together(conv: LoadTrace, code: LoadTrace) -> LoadTrace:
    """Both services on one fleet, from the later of their starts."""
    shift = round((code.start - conv.start).total_seconds() / conv.step_s)
    steps = len(conv.load) // 24
    hour = [
        conv.load[index] + code.load[index - shift]
        for index in range(max(shift, 0), min(steps, len(code.load) // 24 + shift))
    ]
    whole = LoadTrace("azure_llm, tokens/s, hour x 24", code.start, conv.step_s, hour)
    return whole.repeated(24)


def _made_up() -> LoadTrace:
    samples = {
        60.0 * minute: 5 + 4 * math.sin(minute / 1440 * 2 * math.pi) + minute % 7 * 0.1
        for minute in range(1440)
    }
    return sampled_trace("made up", samples)


def _measure(trace: LoadTrace, arguments: argparse.Namespace) -> None:
    capacity = trace.peak / FLEET
    model = ServiceModel(capacity, start_s=arguments.start_s, wait_max_s=arguments.wait_max_s)
    peak = replay_static(trace, model, peak_replicas(trace, model), "static peak")
    least = replay_static(trace, model, smallest_static(trace, model), "smallest static")
    ideal = sum(math.ceil(load / capacity - 1e-9) for load in trace.load) * trace.step_s / 3600
    mean = sum(trace.load) / len(trace.load)
    shape = f"{len(trace.load)} steps of {trace.step_s} s, mean / peak {mean / trace.peak:.2f}"
    print(f"\n-- {trace.name}: {shape}")
    print(
        f"   start {model.start_s:g} s; metrics of {model.metric_window_s:g} s,"
        f" {model.metric_delay_s:g} s old; late above {model.wait_max_s:g} s"
    )
    print(
        f"   static peak fleet {peak.cost:.0f} replica hours = 1; smallest static one without late"
        f" work {least.cost / peak.cost:.2f}; raw limit {ideal / peak.cost:.2f}"
    )
    points = _curve(trace, model, peak, quick=arguments.quick)
    _print_best(points, peak, least)
    _print_speed(trace, model, rounds=1 if arguments.quick else 5)


def _curve(trace: LoadTrace, model: ServiceModel, peak: Replayed, *, quick: bool) -> list[_Point]:
    """Print the trade-off, a line for each target and window."""
    points = []
    print(
        "   target  window  cost  saved   short s   late s   late %  longest wait  changes  flaps"
    )
    for window_s in WINDOWS_S[:1] if quick else WINDOWS_S:
        for share in SHARES[1::2] if quick else SHARES:
            run = replay(_wish(model, share, window_s), trace, model)
            points.append(_Point(share, window_s, run))
            late = 100 * run.late / run.offered
            ratio = run.cost / peak.cost
            print(
                f"   {share:6.0%}  {window_s:5} s  {ratio:4.2f}  {1 - ratio:5.0%}  {run.short_s:8}"
                f" {run.violated_s:8} {late:8.3f}  {run.wait_s:10.1f} s  {run.changes:7}"
                f" {run.flaps:6}"
            )
    return points


def _wish(model: ServiceModel, share: float, window_s: int) -> WorkloadScaling:
    """An autoscaler on the load itself, with a panic window."""
    target = max(1, round(share * model.replica_capacity * 1000))
    metric = MetricSpec(MetricKind.EXTERNAL, "load", TargetType.AVERAGE_VALUE, target)
    behavior = Behavior(DEFAULT_UP, replace(DEFAULT_DOWN, stabilization_window_s=window_s))
    spec = AutoscalerSpec("load", (metric,), round(LEAST * FLEET), FLEET, behavior)
    return WorkloadScaling("load", spec, panic=Panic())


def _print_best(points: Sequence[_Point], peak: Replayed, least: Replayed) -> None:
    """The cheapest without more late work than the peak fleet."""
    strict = [one for one in points if not one.run.short_s]
    if strict:
        best = min(strict, key=lambda one: one.run.cost)
        print(
            f"   without a second of shortage: target {best.share:.0%}, window {best.window_s} s:"
            f" saves {1 - best.run.cost / peak.cost:.0%} of the peak fleet"
        )
    else:
        print("   without a second of shortage: no target")
    kept = [one for one in points if one.run.violated_s <= peak.violated_s]
    if not kept:
        print("   no target keeps the waits: starts are slower than this load rises")
        return
    best = min(kept, key=lambda one: one.run.cost)
    saved = 1 - best.run.cost / peak.cost
    verdict = "reached" if saved >= SAVED_MIN else "NOT reached"
    print(
        f"   best without more late work: target {best.share:.0%}, window {best.window_s} s: saves"
        f" {saved:.0%} of the peak fleet ({SAVED_MIN:.0%}: {verdict}); costs"
        f" {best.run.cost / least.cost:.2f} of the smallest static one"
    )


def _print_speed(trace: LoadTrace, model: ServiceModel, rounds: int) -> None:
    """Seconds of one replay; a pass over the load that only divides is the raw limit."""
    wish = _wish(model, 0.6, 300)
    walls, cpus, raws = [], [], []
    for _ in range(rounds):
        wall, cpu = time.perf_counter(), time.process_time()
        replay(wish, trace, model)
        walls.append(time.perf_counter() - wall)
        cpus.append(time.process_time() - cpu)
        cpu = time.process_time()
        replay_static(trace, model, FLEET, "")
        raws.append(time.process_time() - cpu)
    wall_s, cpu_s, raw_s = map(statistics.median, (walls, cpus, raws))
    each_us = cpu_s / len(trace.load) * 1e6
    print(
        f"   one replay: {wall_s:.2f} s, {cpu_s:.2f} s of CPU, {each_us:.0f} us a reconcile;"
        f" a fleet of one size: {raw_s * 1000:.1f} ms, {cpu_s / raw_s:.0f} times less"
    )


if __name__ == "__main__":
    main()
