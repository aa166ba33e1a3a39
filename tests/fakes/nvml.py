# ruff: noqa: D102, N802 - methods are functions of NVML, named and described by NVML
"""A machine full of GPUs that break on demand, behind the functions of the `pynvml` module.

Constants, structures and error classes are those of the real module, its functions are not: one
that the fake lacks is an AttributeError, exactly as with an old binding, and can never reach a
driver.
"""

from __future__ import annotations

import threading
from collections import Counter
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from types import SimpleNamespace
from typing import Any

import pynvml

GIB = 1024**3
HANG_MAX_S = 20.0
"""A hanging call ends by itself after this long, so that no test can hang."""


@dataclass(eq=False)
class FakeMig:
    """A MIG instance."""

    uuid: str
    name: str = "NVIDIA H200 MIG 1g.18gb"
    memory_total: int = 16 * GIB
    memory_used: int = GIB
    faults: dict[str, int] = field(default_factory=dict)
    calls_until_lost: int | None = None


@dataclass(eq=False)
class FakeGpu:
    """A healthy GPU; `faults` maps a function's name to the NVML error number it raises."""

    uuid: str
    name: str = "NVIDIA H200"
    memory_total: int = 141 * GIB
    memory_used: int = 7 * GIB
    memory_reserved: int = GIB
    utilization: int = 42
    temperature: int = 41
    power_mw: int = 123_456
    energy_mj: int = 9_000_000
    clock_reasons: int = 0x4
    ecc_uncorrected: int = 3
    ecc_corrected: int = 5
    remapped_rows: tuple[int, int, int, int] = (1, 2, 0, 0)
    retired_pages: tuple[int, ...] = (1, 2)
    retired_pending: int = 0
    pcie_width: int = 16
    pcie_width_max: int = 16
    recovery_action: int = 0
    field_return: int = 0
    migs: list[FakeMig | None] = field(default_factory=list)
    faults: dict[str, int] = field(default_factory=dict)
    calls_until_lost: int | None = None
    """After this many calls about it every further one says GPU_IS_LOST."""


class FakeNvml:
    """Stands in for the `pynvml` module; a handle is the `FakeGpu` itself."""

    def __init__(self, gpus: list[FakeGpu], *, init_error: int | None = None) -> None:
        """Begin with these GPUs; `init_error` is what nvmlInit raises."""
        self.gpus = gpus
        self.init_error = init_error
        self.system_faults: dict[str, int] = {}
        self.raises: dict[str, BaseException] = {}
        """Function -> an exception that is not NVML's (a broken binding)."""
        self.hanging: dict[str, threading.Event] = {}
        self.calls: Counter[str] = Counter()
        self.threads: set[str] = set()
        """Names of the threads that called; only the driver's and the watcher's may."""
        self.is_open = False
        self.events: SimpleQueue[tuple[FakeGpu | None, int]] = SimpleQueue()
        self.wait_error: int | None = None

    def __getattr__(self, name: str) -> Any:
        """Constants, structures and errors of the real module; never its functions."""
        value = getattr(pynvml, name)
        if callable(value) and name.startswith("nvml"):
            raise AttributeError(f"the fake has no {name}")
        return value

    def hang(self, name: str) -> threading.Event:
        """Let calls of this function hang until the returned event is set."""
        self.hanging[name] = threading.Event()
        return self.hanging[name]

    def _enter(self, name: str, device: FakeGpu | FakeMig | None = None) -> None:
        self.calls[name] += 1
        self.threads.add(threading.current_thread().name)
        if name in self.hanging:
            self.hanging[name].wait(HANG_MAX_S)
        if name in self.raises:
            raise self.raises[name]
        if name in self.system_faults:
            raise pynvml.NVMLError(self.system_faults[name])
        if name != "nvmlInit" and not self.is_open:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_UNINITIALIZED)
        if device is None:
            return
        if device.calls_until_lost is not None:
            device.calls_until_lost -= 1
            if device.calls_until_lost < 0:
                raise pynvml.NVMLError(pynvml.NVML_ERROR_GPU_IS_LOST)
        if name in device.faults:
            raise pynvml.NVMLError(device.faults[name])

    # System

    def nvmlInit(self) -> None:
        self._enter("nvmlInit")
        if self.init_error is not None:
            raise pynvml.NVMLError(self.init_error)
        self.is_open = True

    def nvmlShutdown(self) -> None:
        self._enter("nvmlShutdown")
        self.is_open = False

    def nvmlSystemGetDriverVersion(self) -> str:
        self._enter("nvmlSystemGetDriverVersion")
        return "580.65.06"

    def nvmlDeviceGetCount(self) -> int:
        self._enter("nvmlDeviceGetCount")
        return len(self.gpus)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> FakeGpu:
        gpu = self.gpus[index]
        self._enter("nvmlDeviceGetHandleByIndex", gpu)
        return gpu

    # Devices

    def nvmlDeviceGetUUID(self, handle: FakeGpu | FakeMig) -> str:
        self._enter("nvmlDeviceGetUUID", handle)
        return handle.uuid

    def nvmlDeviceGetName(self, handle: FakeGpu | FakeMig) -> str:
        self._enter("nvmlDeviceGetName", handle)
        return handle.name

    def nvmlDeviceGetMemoryInfo(self, handle: Any, version: int | None = None) -> Any:
        if version:
            self._enter("nvmlDeviceGetMemoryInfo_v2", handle)
        self._enter("nvmlDeviceGetMemoryInfo", handle)
        reserved = getattr(handle, "memory_reserved", 0)
        used = handle.memory_used if version else handle.memory_used + reserved
        return SimpleNamespace(total=handle.memory_total, used=used, reserved=reserved)

    def nvmlDeviceGetUtilizationRates(self, handle: FakeGpu) -> Any:
        self._enter("nvmlDeviceGetUtilizationRates", handle)
        return SimpleNamespace(gpu=handle.utilization, memory=1)

    def nvmlDeviceGetTemperatureV(self, handle: FakeGpu, sensor: int) -> int:
        self._enter("nvmlDeviceGetTemperatureV", handle)
        return handle.temperature

    def nvmlDeviceGetTemperature(self, handle: FakeGpu, sensor: int) -> int:
        self._enter("nvmlDeviceGetTemperature", handle)
        return handle.temperature

    def nvmlDeviceGetPowerUsage(self, handle: FakeGpu) -> int:
        self._enter("nvmlDeviceGetPowerUsage", handle)
        return handle.power_mw

    def nvmlDeviceGetTotalEnergyConsumption(self, handle: FakeGpu) -> int:
        self._enter("nvmlDeviceGetTotalEnergyConsumption", handle)
        return handle.energy_mj

    def nvmlDeviceGetCurrentClocksEventReasons(self, handle: FakeGpu) -> int:
        self._enter("nvmlDeviceGetCurrentClocksEventReasons", handle)
        return handle.clock_reasons

    def nvmlDeviceGetCurrentClocksThrottleReasons(self, handle: FakeGpu) -> int:
        self._enter("nvmlDeviceGetCurrentClocksThrottleReasons", handle)
        return handle.clock_reasons

    def nvmlDeviceGetTotalEccErrors(self, handle: FakeGpu, kind: int, counter: int) -> int:
        self._enter("nvmlDeviceGetTotalEccErrors", handle)
        assert counter == pynvml.NVML_VOLATILE_ECC
        uncorrected = kind == pynvml.NVML_MEMORY_ERROR_TYPE_UNCORRECTED
        return handle.ecc_uncorrected if uncorrected else handle.ecc_corrected

    def nvmlDeviceGetRemappedRows(self, handle: FakeGpu) -> tuple[int, int, int, int]:
        self._enter("nvmlDeviceGetRemappedRows", handle)
        return handle.remapped_rows

    def nvmlDeviceGetRetiredPages(self, handle: FakeGpu, cause: int) -> list[int]:
        self._enter("nvmlDeviceGetRetiredPages", handle)
        return [0x1000] * handle.retired_pages[cause]

    def nvmlDeviceGetRetiredPagesPendingStatus(self, handle: FakeGpu) -> int:
        self._enter("nvmlDeviceGetRetiredPagesPendingStatus", handle)
        return handle.retired_pending

    def nvmlDeviceGetCurrPcieLinkWidth(self, handle: FakeGpu) -> int:
        self._enter("nvmlDeviceGetCurrPcieLinkWidth", handle)
        return handle.pcie_width

    def nvmlDeviceGetMaxPcieLinkWidth(self, handle: FakeGpu) -> int:
        self._enter("nvmlDeviceGetMaxPcieLinkWidth", handle)
        return handle.pcie_width_max

    def nvmlDeviceGetFieldValues(self, handle: FakeGpu, fields: list[int]) -> list[Any]:
        self._enter("nvmlDeviceGetFieldValues", handle)
        assert fields == [pynvml.NVML_FI_DEV_GET_GPU_RECOVERY_ACTION]
        value = SimpleNamespace(uiVal=handle.recovery_action)
        return [SimpleNamespace(nvmlReturn=handle.field_return, value=value)]

    # MIG

    def nvmlDeviceGetMigMode(self, handle: FakeGpu) -> list[int]:
        self._enter("nvmlDeviceGetMigMode", handle)
        return [int(bool(handle.migs)), int(bool(handle.migs))]

    def nvmlDeviceGetMaxMigDeviceCount(self, handle: FakeGpu) -> int:
        self._enter("nvmlDeviceGetMaxMigDeviceCount", handle)
        return 7

    def nvmlDeviceGetMigDeviceHandleByIndex(self, handle: FakeGpu, index: int) -> FakeMig:
        self._enter("nvmlDeviceGetMigDeviceHandleByIndex", handle)
        mig = handle.migs[index] if index < len(handle.migs) else None
        if mig is None:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_FOUND)
        return mig

    # Events

    def nvmlEventSetCreate(self) -> object:
        self._enter("nvmlEventSetCreate")
        return self.events

    def nvmlDeviceRegisterEvents(self, handle: FakeGpu, types: int, event_set: Any) -> None:
        self._enter("nvmlDeviceRegisterEvents", handle)

    def nvmlEventSetWait_v2(self, event_set: Any, timeout_ms: int) -> Any:
        self.calls["nvmlEventSetWait_v2"] += 1
        if self.wait_error is not None:
            raise pynvml.NVMLError(self.wait_error)
        try:
            gpu, code = self.events.get(timeout=timeout_ms / 1000)
        except Empty:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_TIMEOUT) from None
        kind = pynvml.nvmlEventTypeXidCriticalError
        return SimpleNamespace(device=gpu, eventType=kind, eventData=code)

    def nvmlEventSetFree(self, event_set: Any) -> None:
        self.calls["nvmlEventSetFree"] += 1
