"""GPUs under the names of NVIDIA's dcgm-exporter, so that dashboards made for it work here.

Source: dcgm-exporter, etc/default-counters.csv (d5e5f51): names, units and labels. Memory is in
MiB, energy in mJ, as there.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator

from fleet.gpu_leases import GpuFallbacks, GpuLease
from fleet.gpus import GpuVerdict
from fleet.inventory import Gpu, GpuState
from fleet.metrics.exported.readings import ExportedFamily, Reading

LABELS = ("gpu", "UUID", "modelName", "Hostname", "region")
_MIB = 1024 * 1024


def _mib(size_bytes: int | None) -> float | None:
    return None if size_bytes is None else size_bytes / _MIB


def _free(gpu: Gpu) -> float | None:
    if gpu.memory_total_bytes is None or gpu.memory_used_bytes is None:
        return None
    return _mib(gpu.memory_total_bytes - gpu.memory_used_bytes - (gpu.memory_reserved_bytes or 0))


_METRICS: tuple[tuple[str, str, str, Callable[[Gpu], float | None]], ...] = (
    (
        "DCGM_FI_DEV_GPU_UTIL",
        "gauge",
        "Share of time in which a kernel ran, in percent.",
        lambda gpu: gpu.utilization_percent,
    ),
    (
        "DCGM_FI_DEV_FB_USED",
        "gauge",
        "Memory in use, in MiB.",
        lambda gpu: _mib(gpu.memory_used_bytes),
    ),
    ("DCGM_FI_DEV_FB_FREE", "gauge", "Memory that is free, in MiB.", _free),
    (
        "DCGM_FI_DEV_FB_RESERVED",
        "gauge",
        "Memory that the driver keeps, in MiB.",
        lambda gpu: _mib(gpu.memory_reserved_bytes),
    ),
    (
        "DCGM_FI_DEV_GPU_TEMP",
        "gauge",
        "Temperature of the chip, in degrees Celsius.",
        lambda gpu: gpu.temperature_c,
    ),
    ("DCGM_FI_DEV_POWER_USAGE", "gauge", "Power drawn, in W.", lambda gpu: gpu.power_w),
    (
        "DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION",
        "untyped",
        "Energy used since the driver was loaded, in mJ.",
        lambda gpu: gpu.energy_mj,
    ),
    (
        "DCGM_FI_DEV_XID_ERRORS",
        "gauge",
        "Value of the last Xid error, 0 for none since watching began.",
        lambda gpu: 0 if gpu.xid_last is None and gpu.observed_at else gpu.xid_last,
    ),
    (
        "DCGM_FI_DEV_ECC_DBE_VOL_TOTAL",
        "untyped",
        "Uncorrected memory errors since the driver was loaded.",
        lambda gpu: gpu.ecc_uncorrected_volatile,
    ),
    (
        "DCGM_FI_DEV_ECC_SBE_VOL_TOTAL",
        "untyped",
        "Corrected memory errors since the driver was loaded.",
        lambda gpu: gpu.ecc_corrected_volatile,
    ),
    (
        "DCGM_FI_DEV_UNCORRECTABLE_REMAPPED_ROWS",
        "untyped",
        "Memory rows replaced because of uncorrected errors.",
        lambda gpu: gpu.rows_remapped_uncorrected,
    ),
    (
        "DCGM_FI_DEV_ROW_REMAP_FAILURE",
        "gauge",
        "1 when no spare row was left.",
        lambda gpu: gpu.row_remap_failed,
    ),
    (
        "stateroom_gpu_lost",
        "gauge",
        "1 when the driver answers that it has lost this GPU.",
        lambda gpu: gpu.lost,
    ),
)

FAMILIES = (
    *(
        ExportedFamily(name, kind, text, LABELS, "GPUs and MIG instances")
        for name, kind, text, _ in _METRICS
    ),
    ExportedFamily(
        "stateroom_gpus",
        "gauge",
        "GPUs and MIG instances by state, as the inventory judges them; missing ones are lost.",
        ("region", "state"),
        "regions x 5",
    ),
    ExportedFamily(
        "stateroom_gpu_leased_bytes",
        "gauge",
        "Memory of a GPU that is leased to builds of vector indexes; no sample without a lease.",
        ("UUID", "node"),
        "GPUs that builds use",
    ),
    ExportedFamily(
        "stateroom_gpu_fallbacks_total",
        "counter",
        "Pieces of work that a machine's GPUs failed at and its processor did, by reason.",
        ("node", "reason"),
        "machines with GPUs x 3",
    ),
)


def gpu_state_readings(verdicts: Iterable[GpuVerdict]) -> Iterator[Reading]:
    """How many GPUs of each region are in each state; also those in which none is."""
    counts: dict[str, Counter[GpuState]] = {}
    for one in verdicts:
        counts.setdefault(one.region, Counter())[one.state] += 1
    for region, found in sorted(counts.items()):
        for state in GpuState:
            yield Reading("stateroom_gpus", (region, state), float(found[state]))


def gpu_readings(gpus: Iterable[Gpu]) -> Iterator[Reading]:
    """Each GPU as its node last saw it; what the driver did not say has no sample."""
    for gpu in gpus:
        labels = (str(gpu.device_index), gpu.gpu_uuid, gpu.model or "", gpu.node_id, gpu.region)
        for name, _, _, read in _METRICS:
            value = read(gpu)
            if value is not None:
                yield Reading(name, labels, float(value))


def gpu_lease_readings(
    leases: Iterable[GpuLease], fallbacks: Iterable[GpuFallbacks]
) -> Iterator[Reading]:
    """What is leased of each GPU, and what fell back so far."""
    leased: Counter[tuple[str, str]] = Counter()
    for one in leases:
        leased[one.gpu_uuid, one.node_id] += one.memory_bytes
    for labels, size_bytes in sorted(leased.items()):
        yield Reading("stateroom_gpu_leased_bytes", labels, float(size_bytes))
    for node_id, reason, count in fallbacks:
        yield Reading("stateroom_gpu_fallbacks_total", (node_id, reason), float(count))
