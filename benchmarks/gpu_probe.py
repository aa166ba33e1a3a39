"""How long one reading of the GPUs takes, against one bare NVML call in the same run.

Runs anywhere: `PYTHONPATH=. python3 benchmarks/gpu_probe.py [--quick] [--json]`, with the standard
library and nvidia-ml-py. Eight fake GPUs measure our own overhead; the real ones, where there are
any, the driver's part, call by call. The verdict on a fleet of 80,000 GPUs is timed as well.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import pynvml

from fleet.gpu_fleet import check_gpus
from fleet.inventory import Gpu
from resources.gpu.nvml import NvmlGpuProbe
from tests.fakes.nvml import FakeGpu, FakeNvml

PATIENT_S = 60.0


def median_us(work: Callable[[], object], rounds: int) -> float:
    """Median duration of `work` in microseconds, after one round to warm up."""
    work()
    durations = []
    for _ in range(rounds):
        began = time.perf_counter()
        work()
        durations.append(time.perf_counter() - began)
    return statistics.median(durations) * 1e6


def read_once(probe: NvmlGpuProbe) -> object:
    """One reading."""
    return probe.read("node-1", "here", datetime.now(UTC))


def measure_fake(rounds: int) -> dict[str, Any]:
    """Eight GPUs of the fake: what our code costs."""
    fake = FakeNvml([FakeGpu(f"GPU-{index}") for index in range(8)])
    with NvmlGpuProbe(fake, read_timeout_s=PATIENT_S, watch_xids=False) as probe:
        read_us = median_us(lambda: read_once(probe), rounds)
    fake.is_open = True
    call_us = median_us(lambda: fake.nvmlDeviceGetMemoryInfo(fake.gpus[0]), rounds)
    return {
        "gpus": 8,
        "read_us": round(read_us, 1),
        "bare_call_us": round(call_us, 2),
        "read_in_bare_calls": round(read_us / call_us, 1),
    }


class TimedNvml:
    """The real module, with the time of each function added up."""

    def __init__(self) -> None:
        """Nothing measured yet."""
        self.total_s: defaultdict[str, float] = defaultdict(float)
        self.calls: Counter[str] = Counter()

    def __getattr__(self, name: str) -> Any:
        """The module's attribute; functions of NVML are timed."""
        value = getattr(pynvml, name)
        if not (callable(value) and name.startswith("nvml")):
            return value

        def timed(*args: Any, **keywords: Any) -> Any:
            began = time.perf_counter()
            try:
                return value(*args, **keywords)
            finally:
                self.total_s[name] += time.perf_counter() - began
                self.calls[name] += 1

        return timed


def measure_real(rounds: int) -> dict[str, Any]:
    """The GPUs of this machine; only the reason when there are none."""
    began = time.perf_counter()
    with NvmlGpuProbe(read_timeout_s=PATIENT_S) as probe:
        reading = probe.read("node-1", "here", datetime.now(UTC))
        first_s = time.perf_counter() - began
        if reading.absent_reason or not reading.gpus:
            return {"gpus": 0, "absent_reason": reading.absent_reason or "the driver has no GPU"}
        read_us = median_us(lambda: read_once(probe), rounds)
        handle = pynvml.nvmlDeviceGetHandleByIndex(0)
        call_us = median_us(lambda: pynvml.nvmlDeviceGetMemoryInfo(handle), rounds)
        later = probe.read("node-1", "here", datetime.now(UTC))
    timed = TimedNvml()
    with NvmlGpuProbe(timed, read_timeout_s=PATIENT_S, watch_xids=False) as probe:
        for _ in range(rounds):
            read_once(probe)
    slowest = sorted(timed.total_s, key=lambda name: -timed.total_s[name] / timed.calls[name])
    verdict = check_gpus(later.gpus, previous={gpu.gpu_uuid: [gpu] for gpu in reading.gpus})
    return {
        "gpus": len(reading.gpus),
        "driver_version": reading.driver_version,
        "first_read_ms": round(first_s * 1e3, 1),
        "read_us": round(read_us, 1),
        "bare_call_us": round(call_us, 2),
        "read_in_bare_calls": round(read_us / call_us, 1),
        "us_per_call": {
            name: round(timed.total_s[name] / timed.calls[name] * 1e6, 1) for name in slowest
        },
        "records": [gpu._asdict() for gpu in later.gpus],
        "verdict": verdict.reason,
        "reasons": [one.reasons for one in verdict.verdicts],
    }


def measure_fleet(gpu_count: int, rounds: int) -> dict[str, Any]:
    """Judging a whole fleet with two earlier records each, against building its records."""
    at = datetime(2026, 1, 1, tzinfo=UTC)

    def records(seconds: int) -> list[Gpu]:
        when = at + timedelta(seconds=seconds)
        return [
            Gpu(
                gpu_uuid=f"GPU-{index}",
                node_id=f"node-{index // 8}",
                region="r",
                device_index=index % 8,
                temperature_c=40.0,
                ecc_corrected_volatile=0,
                recovery_action="none",
                energy_mj=seconds,
                observed_at=when,
            )
            for index in range(gpu_count)
        ]

    build_us = median_us(lambda: records(30), rounds)
    newest, older, oldest = records(30), records(15), records(0)
    previous = {
        first.gpu_uuid: [first, second] for first, second in zip(oldest, older, strict=True)
    }
    judge_us = median_us(lambda: check_gpus(newest, previous=previous), rounds)
    return {
        "gpus": gpu_count,
        "judge_us_per_gpu": round(judge_us / gpu_count, 2),
        "build_us_per_gpu": round(build_us / gpu_count, 2),
        "judge_in_builds": round(judge_us / build_us, 1),
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer rounds")
    parser.add_argument("--json", action="store_true", help="one JSON object, with all readings")
    options = parser.parse_args()
    rounds = 20 if options.quick else 200
    results = {
        "fake": measure_fake(rounds),
        "real": measure_real(rounds),
        "fleet": measure_fleet(8_000 if options.quick else 80_000, 3),
    }
    if options.json:
        print(json.dumps(results, default=str, indent=2))
        return
    for name, result in results.items():
        shown = {key: value for key, value in result.items() if not isinstance(value, list | dict)}
        print(f"{name}: " + ", ".join(f"{key} {value}" for key, value in shown.items()))


if __name__ == "__main__":
    main()
