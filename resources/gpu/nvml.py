"""Reads the GPUs of this machine through NVML; never raises, never hangs, never says 0 for unknown.

Every call into the driver runs on one thread with a deadline. A read that misses it reports the
known GPUs without readings and names the call that hangs; when the hanging call does return, the
next read hands out its (late) result with the time at which it was taken. Imports neither Dagster
nor NVML: `pynvml` is loaded with the first read, or handed in.

NVML keeps the GPUs open until `close`: a GPU cannot be reset (`nvidia-smi -r`) while its node's
supervisor runs.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from fleet.inventory import Gpu
from fleet.ports.gpu import GpuReading
from resources.gpu.deadline import DriverStuckError, DriverThread
from resources.gpu.readings import (
    DRIVER_NOT_LOADED,
    UNINITIALIZED,
    DeviceCalls,
    Place,
    error_code,
    read_gpu,
    read_identity,
    read_mig_instances,
    whole,
)
from resources.gpu.xid_watcher import XidWatcher

READ_TIMEOUT_S = 1.0
"""Longest wait of one read: below the lease TTL (5 s), so that heartbeats go on."""

BOOT_ID_PATH = Path("/proc/sys/kernel/random/boot_id")

ABSENT_ADVICE: dict[int, str] = {
    4: (
        "no permission to talk to the driver: give this user access to /dev/nvidiactl and "
        "/dev/nvidia*, or the container its devices"
    ),
    9: "the driver is installed but not loaded: run `modprobe nvidia`, then look at `dmesg`",
    12: (
        "no NVIDIA driver is installed (libnvidia-ml.so.1 was not found): install one, or start "
        "the container with the NVIDIA runtime"
    ),
    18: (
        "the driver's library and kernel module have different versions, as after an upgrade: "
        "restart this machine"
    ),
    999: "the driver does not start: look at `dmesg` for NVRM messages, then restart this machine",
}
"""NVML error number of a failed start -> what it means and what to do."""


def read_boot_id(path: Path = BOOT_ID_PATH) -> str | None:
    """The kernel's boot id; None where there is none (not Linux)."""
    try:
        return path.read_text(encoding="ascii").strip() or None
    except (OSError, ValueError):
        return None


def explain_absence(error: Exception) -> str:
    """Say in one line why no driver answers, and what the operator does about it."""
    if isinstance(error, ImportError):
        return f"the Python package nvidia-ml-py is not installed ({error}): install it"
    if isinstance(error, AttributeError):
        return (
            f"the module `pynvml` is not the one of nvidia-ml-py ({error}): uninstall `pynvml` "
            "and `nvidia-ml-py3`, then install nvidia-ml-py again"
        )
    code = error_code(error)
    advice = ABSENT_ADVICE.get(code) if code is not None else None
    if advice is not None:
        return f"{type(error).__name__}: {advice}"
    return f"{type(error).__name__}: {error}"


class NvmlGpuProbe:
    """A `fleet.ports.GpuProbe` over NVML; one instance per process, made after forking."""

    def __init__(
        self,
        nvml: Any = None,
        *,
        read_timeout_s: float = READ_TIMEOUT_S,
        watch_xids: bool = True,
        boot_id: Callable[[], str | None] = read_boot_id,
        monotonic_s: Callable[[], float] = time.monotonic,
        utc_now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """Touch nothing yet; the driver is opened by the first read.

        Args:
            nvml: an object with the functions of `pynvml`; None: import that module.
            read_timeout_s: longest wait of one read.
            watch_xids: run the thread that waits for Xid errors.
            boot_id: gives the kernel's boot id.
            monotonic_s: clock for durations.
            utc_now: clock for the times of Xid errors.
        """
        self._injected = nvml
        self._nvml: Any = None
        self._read_timeout_s = read_timeout_s
        self._watch_xids = watch_xids
        self._boot_id = boot_id
        self._utc_now = utc_now
        self._thread = DriverThread("gpu-driver", monotonic_s)
        self._watcher: XidWatcher | None = None
        self._calling = "the driver"
        self._known: tuple[Gpu, ...] = ()
        self._count = 0

    def read(self, node_id: str, region: str, now: datetime) -> GpuReading:
        """Read all GPUs; see `fleet.ports.GpuProbe`.

        Returns within the time limit. While a driver call hangs, the GPUs known so far come
        without readings, and `absent_reason` names the call. A result that came too late is handed
        out by the next read, with its own `observed_at`.
        """
        try:
            reading: GpuReading | None = self._thread.collect_late()
            if reading is None:
                reading = self._thread.call(
                    partial(self._read, node_id, region, now), self._read_timeout_s
                )
        except DriverStuckError as error:
            reason = f"{error} in {self._calling}: look at `dmesg` for NVRM messages"
            return self._without_readings(node_id, region, now, reason)
        except Exception as error:  # noqa: BLE001 - the port's promise: it never raises
            reason = f"{type(error).__name__}: {error}"
            return self._without_readings(node_id, region, now, reason)
        return reading

    def close(self) -> None:
        """Stop the threads and let go of the driver; in bounded time, also when it hangs."""
        watcher, self._watcher = self._watcher, None
        watcher_ended = watcher is None or watcher.close()
        if watcher_ended:
            try:
                self._thread.call(self._shutdown, self._read_timeout_s)
            except DriverStuckError:
                self._calling = "nvmlShutdown"  # the process takes the hanging thread with it
        self._thread.close(self._read_timeout_s)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    # Everything below runs on the driver thread, except `_without_readings`.

    def _on_call(self, name: str) -> None:
        self._calling = name

    def _open(self) -> None:
        if self._nvml is not None:
            return
        nvml = self._injected
        if nvml is None:
            import pynvml as nvml  # type: ignore[no-redef]
        self._on_call("nvmlInit")
        nvml.nvmlInit()
        self._nvml = nvml
        self._watcher = XidWatcher(nvml, self._utc_now) if self._watch_xids else None

    def _shutdown(self) -> None:
        nvml, self._nvml = self._nvml, None
        if nvml is None:
            return
        self._on_call("nvmlShutdown")
        with suppress(Exception):  # closing a driver that has gone is closing enough
            nvml.nvmlShutdown()

    def _read(self, node_id: str, region: str, now: datetime) -> GpuReading:
        try:
            self._open()
        except Exception as error:  # noqa: BLE001 - becomes the reason
            return self._without_readings(node_id, region, now, explain_absence(error))
        system = DeviceCalls(self._on_call)
        nvml = self._nvml
        version = system.ask(
            "nvmlSystemGetDriverVersion", lambda: str(nvml.nvmlSystemGetDriverVersion())
        )
        self._on_call("nvmlDeviceGetCount")
        try:
            count = whole(nvml.nvmlDeviceGetCount())
        except Exception as error:  # noqa: BLE001 - becomes the reason
            if error_code(error) in {UNINITIALIZED, DRIVER_NOT_LOADED}:
                self._reopen_next_time()
            reason = f"nvmlDeviceGetCount: {explain_absence(error)}"
            return self._without_readings(node_id, region, now, reason)
        place = Place(node_id, region, now, self._boot_id(), version)
        gpus = self._read_devices(count, place)
        self._known, self._count = tuple(gpus), count
        return GpuReading(gpus, version, "")

    def _reopen_next_time(self) -> None:
        watcher, self._watcher = self._watcher, None
        if watcher is None or watcher.close():
            self._shutdown()
        self._nvml = None

    def _read_devices(self, count: int, place: Place) -> list[Gpu]:
        read: dict[int, list[Gpu]] = {}
        unnamed: dict[int, DeviceCalls] = {}
        for index in range(count):
            calls = DeviceCalls(self._on_call)
            handle = calls.ask(
                "nvmlDeviceGetHandleByIndex",
                partial(self._nvml.nvmlDeviceGetHandleByIndex, index),
            )
            uuid, model = (
                (None, None) if handle is None else read_identity(self._nvml, handle, calls)
            )
            if uuid is None:
                unnamed[index] = calls
                continue
            known = Gpu(uuid, place.node_id, place.region, index, model)
            read[index] = self._read_device(handle, known, calls, place)
        named = {gpu.gpu_uuid for gpus in read.values() for gpu in gpus}
        for index, calls in unnamed.items():
            read[index] = self._read_unnamed(index, count, named, calls, place)
        return [gpu for index in sorted(read) for gpu in read[index]]

    def _read_device(self, handle: Any, known: Gpu, calls: DeviceCalls, place: Place) -> list[Gpu]:
        watched = self._watcher is not None and self._watcher.register(known.gpu_uuid, handle)
        if self._watcher is not None and not watched:
            calls.denied.append("nvmlDeviceRegisterEvents")
        gpu = read_gpu(self._nvml, handle, known, calls, place)
        children = read_mig_instances(self._nvml, handle, gpu, calls)
        gpu = gpu._replace(lost=calls.lost, denied=tuple(calls.denied))
        if gpu.lost:
            children = self._children_of(gpu.gpu_uuid, place)
        return [self._with_xids(gpu), *children]

    def _with_xids(self, gpu: Gpu) -> Gpu:
        if self._watcher is None:
            return gpu
        if any(one.gpu_uuid == gpu.gpu_uuid and _began_anew(one, gpu) for one in self._known):
            self._watcher.forget(gpu.gpu_uuid)
        seen = self._watcher.seen(gpu.gpu_uuid)
        if seen is None:
            return gpu
        return gpu._replace(xid_last=seen.last, xids=seen.xids, xid_at=seen.at)

    def _read_unnamed(
        self, index: int, count: int, named: set[str], calls: DeviceCalls, place: Place
    ) -> list[Gpu]:
        """A device that does not even say its UUID: take the one known at this index before.

        Indices hold for as long as the number of devices does; otherwise, and where another device
        has that UUID now, it is named after its place.
        """
        before = next(
            (
                gpu
                for gpu in self._known
                if gpu.parent_uuid is None and gpu.device_index == index and count == self._count
            ),
            None,
        )
        if before is None or before.gpu_uuid in named:
            uuid, model = f"{place.node_id}:gpu-{index}", None
        else:
            uuid, model = before.gpu_uuid, before.model
        bare = Gpu(uuid, place.node_id, place.region, index, model)
        gpu = bare._replace(
            driver_version=place.driver_version,
            boot_id=place.boot_id,
            lost=calls.lost,
            denied=tuple(calls.denied),
            observed_at=place.now,
        )
        return [self._with_xids(gpu), *self._children_of(uuid, place)]

    def _children_of(self, parent_uuid: str, place: Place) -> list[Gpu]:
        """MIG instances seen before on a GPU that cannot be asked any more."""
        return [
            _bare(gpu, ("nvmlDeviceGetMigDeviceHandleByIndex",), place.now)
            for gpu in self._known
            if gpu.parent_uuid == parent_uuid
        ]

    def _without_readings(
        self, node_id: str, region: str, now: datetime, reason: str
    ) -> GpuReading:
        gpus = [
            _bare(gpu, (reason,), now)._replace(node_id=node_id, region=region)
            for gpu in self._known
        ]
        return GpuReading(gpus, None, reason)


def _began_anew(before: Gpu, after: Gpu) -> bool:
    """The energy counter went back: driver or GPU began anew, old errors are over."""
    return (
        before.energy_mj is not None
        and after.energy_mj is not None
        and after.energy_mj < before.energy_mj
    )


def _bare(gpu: Gpu, denied: tuple[str, ...], now: datetime) -> Gpu:
    """The identity of a GPU without any reading."""
    return Gpu(
        gpu_uuid=gpu.gpu_uuid,
        node_id=gpu.node_id,
        region=gpu.region,
        device_index=gpu.device_index,
        model=gpu.model,
        driver_version=gpu.driver_version,
        boot_id=gpu.boot_id,
        mig_profile=gpu.mig_profile,
        parent_uuid=gpu.parent_uuid,
        denied=denied,
        observed_at=now,
    )
