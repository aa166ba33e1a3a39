"""On a machine with a GPU: the probe agrees with NVML asked directly. Skips elsewhere."""

import importlib.util
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from fleet.gpu_fleet import check_gpus
from fleet.gpus import CLOCK_CALL, has_reading
from fleet.inventory import Gpu
from fleet.ports.gpu import GpuReading
from resources.gpu.devices import GpuDevices
from resources.gpu.nvml import NvmlGpuProbe

pytestmark = pytest.mark.gpu


@pytest.fixture(scope="module")
def reading() -> Iterator[tuple[GpuReading, GpuReading]]:
    """Two readings of this machine, or a skip with the probe's own reason."""
    with NvmlGpuProbe(read_timeout_s=60.0) as probe:
        first = probe.read("node-1", "here", datetime.now(UTC))
        if first.absent_reason or not first.gpus:
            pytest.skip(first.absent_reason or "the driver has no GPU")
        yield first, probe.read("node-1", "here", datetime.now(UTC))


def test_the_probe_agrees_with_nvml(reading: tuple[GpuReading, GpuReading]) -> None:
    """Count, UUIDs, total memory and driver are those that NVML gives directly."""
    import pynvml

    pynvml.nvmlInit()
    try:
        handles = [
            pynvml.nvmlDeviceGetHandleByIndex(index) for index in range(pynvml.nvmlDeviceGetCount())
        ]
        direct = {
            pynvml.nvmlDeviceGetUUID(handle): pynvml.nvmlDeviceGetMemoryInfo(handle).total
            for handle in handles
        }
        version = pynvml.nvmlSystemGetDriverVersion()
    finally:
        pynvml.nvmlShutdown()
    whole = [gpu for gpu in reading[0].gpus if gpu.parent_uuid is None]
    assert {gpu.gpu_uuid: gpu.memory_total_bytes for gpu in whole} == direct
    assert reading[0].driver_version == version


def test_readings_are_plausible_and_counters_do_not_go_back(
    reading: tuple[GpuReading, GpuReading],
) -> None:
    """What is not denied lies within physical limits, and energy only grows."""
    for before, after in zip(reading[0].gpus, reading[1].gpus, strict=True):
        assert before.gpu_uuid == after.gpu_uuid
        if after.parent_uuid is not None:
            continue
        assert has_reading(after)
        assert CLOCK_CALL in after.denied or isinstance(after.throttle_reasons, tuple)
        _assert_plausible(after)
        if before.energy_mj is not None and after.energy_mj is not None:
            assert after.energy_mj >= before.energy_mj


def _assert_plausible(gpu: Gpu) -> None:
    limits = {
        "temperature_c": (1, 130),
        "power_w": (1, 3000),
        "utilization_percent": (0, 100),
        "pcie_width": (1, 32),
        "memory_used_bytes": (0, gpu.memory_total_bytes or 0),
    }
    for name, (low, high) in limits.items():
        value = getattr(gpu, name)
        assert value is None or low <= value <= high, (name, value)


def test_every_gpu_gets_a_verdict(reading: tuple[GpuReading, GpuReading]) -> None:
    """A machine that runs these tests can judge itself."""
    verdict = check_gpus(reading[1].gpus, previous={g.gpu_uuid: [g] for g in reading[0].gpus})
    assert len(verdict.verdicts) == len(reading[1].gpus)
    assert sum(verdict.counts.values()) == len(reading[1].gpus)


def test_a_gpu_machine_with_torch_computes_on_it(
    reading: tuple[GpuReading, GpuReading],
) -> None:
    """The resource finds the same device that torch does."""
    if importlib.util.find_spec("torch") is None:
        pytest.skip("torch is not installed")
    devices = GpuDevices("require")
    devices.check()
    assert devices.backend in {"torch", "faiss"}
    assert devices.findings["nvml"].gpus >= 1
