"""What NVML says of one device, call by call: a failed call costs its own reading and no other.

NVML is handed in as an object with the functions of the `pynvml` module, so that a fake can stand
in for a machine full of broken GPUs.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any, NamedTuple, TypeVar

from fleet.gpus import CLOCK_CALL
from fleet.inventory import Gpu

T = TypeVar("T")

# Error numbers of NVML's ABI (nvml.h, nvmlReturn_t); they never change, bindings' names do.
UNINITIALIZED = 1
NOT_FOUND = 6
DRIVER_NOT_LOADED = 9
TIMEOUT = 10
GPU_IS_LOST = 15
RESET_REQUIRED = 16

RECOVERY_FIELD = "NVML_FI_DEV_GET_GPU_RECOVERY_ACTION"
RECOVERY_FIELD_ID = 230
RECOVERY_NAMES = (
    "none",
    "gpu_reset",
    "node_reboot",
    "drain_p2p",
    "drain_and_reset",
    "recover_imex_domain",
    "bus_reset",
    "system_reboot",
)
"""By value of nvmlDeviceGpuRecoveryAction_t, NVML 13."""

CLOCK_REASONS = {
    0x001: "gpu_idle",
    0x002: "applications_clocks_setting",
    0x004: "sw_power_cap",
    0x008: "hw_slowdown",
    0x010: "sync_boost",
    0x020: "sw_thermal_slowdown",
    0x040: "hw_thermal_slowdown",
    0x080: "hw_power_brake_slowdown",
    0x100: "display_clock_setting",
    0x200: "board_limit",
    0x400: "reliability",
}
"""Bits of nvmlClocksEventReasons; an unknown bit becomes `bit_0x...`."""

_NO_VALUE = frozenset({0xFFFFFFFF, 0xFFFFFFFFFFFFFFFF})
"""What NVML writes where it has no value (NVML_VALUE_NOT_AVAILABLE)."""


class Place(NamedTuple):
    """Where and when a device is read."""

    node_id: str
    region: str
    now: datetime
    boot_id: str | None
    driver_version: str | None


class Memory(NamedTuple):
    """Bytes; `reserved` is None where the driver counts it as used."""

    total: int
    used: int
    reserved: int | None


def error_code(error: Exception) -> int | None:
    """NVML's number of an error; None when the error is not NVML's."""
    value = getattr(error, "value", None)
    return value if isinstance(value, int) else None


def whole(value: Any) -> int:
    """Return a number of NVML as an int.

    Raises:
        ValueError: it is NVML's mark for "no value", negative, or no number.
    """
    number = int(getattr(value, "value", value))
    if number < 0 or number in _NO_VALUE:
        raise ValueError(f"NVML gave no value: {number}")
    return number


def clock_reasons(bits: int) -> tuple[str, ...]:
    """Names of the set bits, lowest first; empty when the clocks are free."""
    return tuple(
        CLOCK_REASONS.get(1 << shift, f"bit_{1 << shift:#x}")
        for shift in range(bits.bit_length())
        if bits >> shift & 1
    )


class DeviceCalls:
    """Calls about one device; remembers which of them failed and whether the device is gone."""

    def __init__(self, on_call: Callable[[str], None]) -> None:
        """`on_call` hears each call's name before it is made, to name one that hangs."""
        self.on_call = on_call
        self.denied: list[str] = []
        self.lost = False
        self.reset_required = False

    def ask(self, name: str, call: Callable[[], T]) -> T | None:
        """Return what `call` returns; None, with its name in `denied`, when it fails.

        Once the driver has said that the device is lost, nothing more is asked of it.
        """
        if self.lost:
            self.denied.append(name)
            return None
        self.on_call(name)
        try:
            return call()
        except Exception as error:  # noqa: BLE001 - bindings raise NVMLError, AttributeError, OSError
            self.denied.append(name)
            self.lost = error_code(error) == GPU_IS_LOST
            self.reset_required |= error_code(error) == RESET_REQUIRED
            return None


def first_that_works(*calls: Callable[[], T]) -> T:
    """Return the first call's value that succeeds; the error of the last when none does.

    A lost device is reported at once: an older function would only say so again, or hang.
    """
    for call in calls[:-1]:
        try:
            return call()
        except Exception as error:
            if error_code(error) in {GPU_IS_LOST, RESET_REQUIRED}:
                raise
    return calls[-1]()


def _memory(nvml: Any, handle: Any) -> Memory:
    def version_2() -> Memory:
        found = nvml.nvmlDeviceGetMemoryInfo(handle, version=nvml.nvmlMemory_v2)
        return Memory(whole(found.total), whole(found.used), whole(found.reserved))

    def version_1() -> Memory:
        found = nvml.nvmlDeviceGetMemoryInfo(handle)
        return Memory(whole(found.total), whole(found.used), None)

    return first_that_works(version_2, version_1)


def _temperature(nvml: Any, handle: Any) -> float:
    sensor = nvml.NVML_TEMPERATURE_GPU
    return float(
        first_that_works(
            lambda: whole(nvml.nvmlDeviceGetTemperatureV(handle, sensor)),
            lambda: whole(nvml.nvmlDeviceGetTemperature(handle, sensor)),
        )
    )


def _clock_bits(nvml: Any, handle: Any) -> int:
    return first_that_works(
        lambda: whole(nvml.nvmlDeviceGetCurrentClocksEventReasons(handle)),
        lambda: whole(nvml.nvmlDeviceGetCurrentClocksThrottleReasons(handle)),
    )


def _ecc(nvml: Any, handle: Any, error_type: str) -> int:
    kind = getattr(nvml, f"NVML_MEMORY_ERROR_TYPE_{error_type}")
    return whole(nvml.nvmlDeviceGetTotalEccErrors(handle, kind, nvml.NVML_VOLATILE_ECC))


def _remapped_rows(nvml: Any, handle: Any) -> tuple[int, bool, bool]:
    _corrected, uncorrected, pending, failed = nvml.nvmlDeviceGetRemappedRows(handle)
    return whole(uncorrected), bool(whole(pending)), bool(whole(failed))


def _retired_pages(nvml: Any, handle: Any) -> int:
    causes = (
        nvml.NVML_PAGE_RETIREMENT_CAUSE_MULTIPLE_SINGLE_BIT_ECC_ERRORS,
        nvml.NVML_PAGE_RETIREMENT_CAUSE_DOUBLE_BIT_ECC_ERROR,
    )
    return sum(len(nvml.nvmlDeviceGetRetiredPages(handle, cause)) for cause in causes)


def _recovery_action(nvml: Any, handle: Any) -> str:
    (field,) = nvml.nvmlDeviceGetFieldValues(handle, [RECOVERY_FIELD_ID])
    if field.nvmlReturn != 0:
        raise nvml.NVMLError(field.nvmlReturn)
    value = whole(field.value.uiVal)
    return RECOVERY_NAMES[value] if value < len(RECOVERY_NAMES) else f"unknown_{value}"


def read_identity(nvml: Any, handle: Any, calls: DeviceCalls) -> tuple[str | None, str | None]:
    """UUID and model name, each None when refused."""
    uuid = calls.ask("nvmlDeviceGetUUID", lambda: _text(nvml.nvmlDeviceGetUUID(handle)))
    return uuid, calls.ask("nvmlDeviceGetName", lambda: _text(nvml.nvmlDeviceGetName(handle)))


def _text(value: str | bytes) -> str:
    text = value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
    if not text:
        raise ValueError("NVML gave an empty text")
    return text


def read_gpu(nvml: Any, handle: Any, known: Gpu, calls: DeviceCalls, place: Place) -> Gpu:
    """Read everything about one whole GPU.

    Args:
        nvml: the `pynvml` module, or an object like it.
        handle: the device's NVML handle.
        known: its identity (UUID, index, model).
        calls: bookkeeping, with what has failed so far.
        place: node, region and time.

    Returns:
        `known` with the readings; None for each that failed, with its call in `denied`.
    """
    ask = calls.ask
    memory = ask("nvmlDeviceGetMemoryInfo", lambda: _memory(nvml, handle))
    load = ask(
        "nvmlDeviceGetUtilizationRates",
        lambda: float(whole(nvml.nvmlDeviceGetUtilizationRates(handle).gpu)),
    )
    heat = ask("nvmlDeviceGetTemperature", lambda: _temperature(nvml, handle))
    power = ask(
        "nvmlDeviceGetPowerUsage", lambda: whole(nvml.nvmlDeviceGetPowerUsage(handle)) / 1000
    )
    energy = ask(
        "nvmlDeviceGetTotalEnergyConsumption",
        lambda: whole(nvml.nvmlDeviceGetTotalEnergyConsumption(handle)),
    )
    clocks = ask(CLOCK_CALL, lambda: _clock_bits(nvml, handle))
    uncorrected = ask(
        "nvmlDeviceGetTotalEccErrors(uncorrected)", lambda: _ecc(nvml, handle, "UNCORRECTED")
    )
    corrected = ask(
        "nvmlDeviceGetTotalEccErrors(corrected)", lambda: _ecc(nvml, handle, "CORRECTED")
    )
    rows = ask("nvmlDeviceGetRemappedRows", lambda: _remapped_rows(nvml, handle))
    pages = ask("nvmlDeviceGetRetiredPages", lambda: _retired_pages(nvml, handle))
    pages_pending = ask(
        "nvmlDeviceGetRetiredPagesPendingStatus",
        lambda: bool(whole(nvml.nvmlDeviceGetRetiredPagesPendingStatus(handle))),
    )
    width = ask(
        "nvmlDeviceGetCurrPcieLinkWidth",
        lambda: whole(nvml.nvmlDeviceGetCurrPcieLinkWidth(handle)),
    )
    width_max = ask(
        "nvmlDeviceGetMaxPcieLinkWidth", lambda: whole(nvml.nvmlDeviceGetMaxPcieLinkWidth(handle))
    )
    recovery = ask(RECOVERY_FIELD, lambda: _recovery_action(nvml, handle))
    if recovery in {None, "none"} and calls.reset_required:
        recovery = "gpu_reset"  # calls refused with RESET_REQUIRED say the same on older drivers
    return known._replace(
        memory_total_bytes=memory.total if memory else None,
        memory_used_bytes=memory.used if memory else None,
        memory_reserved_bytes=memory.reserved if memory else None,
        utilization_percent=load,
        temperature_c=heat,
        power_w=power,
        energy_mj=energy,
        throttle_reasons=() if clocks is None else clock_reasons(clocks),
        ecc_uncorrected_volatile=uncorrected,
        ecc_corrected_volatile=corrected,
        rows_remapped_uncorrected=rows[0] if rows else None,
        row_remap_pending=rows[1] if rows else None,
        row_remap_failed=rows[2] if rows else None,
        pages_retired=pages,
        pages_retired_pending=pages_pending,
        pcie_width=width,
        pcie_width_max=width_max,
        recovery_action=recovery,
        driver_version=place.driver_version,
        boot_id=place.boot_id,
        observed_at=place.now,
        lost=calls.lost,
        denied=tuple(calls.denied),
    )


def read_mig_instances(nvml: Any, handle: Any, parent: Gpu, calls: DeviceCalls) -> list[Gpu]:
    """The MIG instances of one GPU; empty when MIG is off or not supported.

    NVML gives an instance its own UUID, name and memory; load, temperature, power and faults
    belong to the whole GPU.

    Args:
        nvml: the `pynvml` module, or an object like it.
        handle: of the whole GPU.
        parent: its record.
        calls: bookkeeping of the whole GPU.
    """
    if calls.lost or not _has_mig(nvml, handle, calls):
        return []
    slots = calls.ask(
        "nvmlDeviceGetMaxMigDeviceCount",
        lambda: whole(nvml.nvmlDeviceGetMaxMigDeviceCount(handle)),
    )
    found = []
    for slot in range(slots or 0):
        child = _mig_handle(nvml, handle, slot, calls)
        if child is None:
            continue
        instance = _read_mig(nvml, child, parent, DeviceCalls(calls.on_call))
        if instance is None:
            calls.denied.append(f"nvmlDeviceGetUUID(instance {slot})")
        else:
            found.append(instance)
    return found


def _has_mig(nvml: Any, handle: Any, calls: DeviceCalls) -> bool:
    calls.on_call("nvmlDeviceGetMigMode")
    try:
        mode = nvml.nvmlDeviceGetMigMode(handle)
        return bool(mode[0] == nvml.NVML_DEVICE_MIG_ENABLE)
    except Exception as error:  # noqa: BLE001 - most GPUs have no MIG: that is no failed reading
        calls.lost |= error_code(error) == GPU_IS_LOST
        return False


def _mig_handle(nvml: Any, handle: Any, slot: int, calls: DeviceCalls) -> Any | None:
    def get() -> Any | None:
        try:
            return nvml.nvmlDeviceGetMigDeviceHandleByIndex(handle, slot)
        except Exception as error:
            if error_code(error) == NOT_FOUND:
                return None  # an empty slot
            raise

    return calls.ask(f"nvmlDeviceGetMigDeviceHandleByIndex({slot})", get)


def _read_mig(nvml: Any, handle: Any, parent: Gpu, calls: DeviceCalls) -> Gpu | None:
    uuid, name = read_identity(nvml, handle, calls)
    if uuid is None:
        return None  # without its key it is no item; the whole GPU's record stays
    memory = calls.ask("nvmlDeviceGetMemoryInfo", lambda: _memory(nvml, handle))
    model, _, profile = (name or "").partition(" MIG ")
    return Gpu(
        gpu_uuid=uuid,
        node_id=parent.node_id,
        region=parent.region,
        device_index=parent.device_index,
        model=model or parent.model,
        memory_total_bytes=memory.total if memory else None,
        memory_used_bytes=memory.used if memory else None,
        memory_reserved_bytes=memory.reserved if memory else None,
        driver_version=parent.driver_version,
        boot_id=parent.boot_id,
        mig_profile=profile or None,
        parent_uuid=parent.gpu_uuid,
        lost=calls.lost,
        denied=tuple(calls.denied),
        observed_at=parent.observed_at,
    )
