"""Metrics of GPUs."""

from __future__ import annotations

from collections.abc import Iterable

from fleet.metrics.metric_spec import COUNTER, GAUGE, Metric

DCGM = ("Hostname", "UUID", "device", "gpu", "modelName")


def gpus() -> Iterable[Metric]:
    """NVIDIA's names, and GPUs by state."""
    who, bound = "dcgm-exporter, or the node", "one per GPU"
    gauges = {
        "DCGM_FI_DEV_GPU_TEMP": ("degrees Celsius", "Temperature of the GPU."),
        "DCGM_FI_DEV_MEMORY_TEMP": ("degrees Celsius", "Temperature of its memory."),
        "DCGM_FI_DEV_POWER_USAGE": ("watts", "Power drawn."),
        "DCGM_FI_DEV_GPU_UTIL": ("percent", "Time in which a kernel ran."),
        "DCGM_FI_DEV_MEM_COPY_UTIL": ("percent", "Time in which memory was moved."),
        "DCGM_FI_DEV_SM_CLOCK": ("MHz", "Clock of the multiprocessors."),
        "DCGM_FI_DEV_MEM_CLOCK": ("MHz", "Clock of the memory."),
        "DCGM_FI_DEV_FB_FREE": ("MiB", "Memory that is free."),
        "DCGM_FI_DEV_FB_USED": ("MiB", "Memory in use."),
        "DCGM_FI_DEV_FB_RESERVED": ("MiB", "Memory that the driver keeps."),
        "DCGM_FI_DEV_XID_ERRORS": ("", "Number of the last Xid error; 0: none."),
        "DCGM_FI_DEV_ROW_REMAP_FAILURE": ("", "1 when a row could not be remapped."),
    }
    for name, (unit, text) in gauges.items():
        yield Metric(name, GAUGE, unit, DCGM, bound, who, text)
    counters = {
        "DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION": ("millijoules", "Energy since the driver loaded."),
        "DCGM_FI_DEV_ECC_DBE_VOL_TOTAL": ("", "Double-bit errors since the driver loaded."),
        "DCGM_FI_DEV_PCIE_REPLAY_COUNTER": ("", "Transfers that PCIe repeated."),
        "DCGM_FI_DEV_CORRECTABLE_REMAPPED_ROWS": ("", "Rows remapped for correctable errors."),
        "DCGM_FI_DEV_UNCORRECTABLE_REMAPPED_ROWS": ("", "Rows remapped for uncorrectable errors."),
        "DCGM_FI_DEV_NVLINK_BANDWIDTH_TOTAL": ("", "NVLink counters of all lanes."),
    }
    for name, (unit, text) in counters.items():
        yield Metric(name, COUNTER, unit, DCGM, bound, who, text)
    yield Metric(
        "stateroom_gpus",
        GAUGE,
        "",
        ("region", "state"),
        "regions x 5",
        "exporter",
        "GPUs by state of health: healthy, degraded, unknown, unhealthy, lost.",
    )
