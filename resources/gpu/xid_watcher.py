"""Remembers the Xid errors that the driver announces, on a thread of its own.

NVML has no call for "the last Xid": it only hands out events to whoever waits for them. Watching
begins with the probe, so an Xid from before is not seen (the recovery action shows its effect).
Needs no root; where events are not supported (WSL, some virtual GPUs), `denied` says so.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, NamedTuple

from resources.gpu.readings import TIMEOUT, error_code

WAIT_MS = 500
"""How long one wait lasts; also how long ending the thread may take."""

XIDS_KEPT = 64
"""Distinct numbers kept per GPU; the catalogue has about 170."""


class SeenXids(NamedTuple):
    """What was announced for one GPU."""

    xids: tuple[int, ...]
    last: int
    at: datetime


def _now() -> datetime:
    return datetime.now(UTC)


class XidWatcher:
    """Waits for Xid events of registered GPUs; one daemon thread, however many GPUs."""

    def __init__(self, nvml: Any, now: Callable[[], datetime] = _now) -> None:
        """Prepare an event set; the thread starts with the first registered GPU.

        Args:
            nvml: the `pynvml` module, or an object like it, already initialised.
            now: clock for the time of an event.
        """
        self._nvml = nvml
        self._now = now
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._event_set: Any = None
        self._thread: threading.Thread | None = None
        self._registered: dict[str, bool] = {}
        self._seen: dict[str, SeenXids] = {}

    def register(self, gpu_uuid: str, handle: Any) -> bool:
        """Watch one GPU; False when the driver refuses (asked once per GPU, then remembered)."""
        if gpu_uuid not in self._registered:
            self._registered[gpu_uuid] = self._try_register(handle)
        return self._registered[gpu_uuid]

    def seen(self, gpu_uuid: str) -> SeenXids | None:
        """What was announced for this GPU since watching began; None for nothing."""
        with self._lock:
            return self._seen.get(gpu_uuid)

    def forget(self, gpu_uuid: str) -> None:
        """Drop what was announced: the driver or GPU has begun anew."""
        with self._lock:
            self._seen.pop(gpu_uuid, None)

    def close(self) -> bool:
        """End the thread; False when it hangs in the driver (NVML must then stay open)."""
        self._stopping.set()
        if self._thread is None:
            return True
        self._thread.join(timeout=4 * WAIT_MS / 1000)
        return not self._thread.is_alive()

    def _try_register(self, handle: Any) -> bool:
        nvml = self._nvml
        try:
            if self._event_set is None:
                self._event_set = nvml.nvmlEventSetCreate()
            wanted = nvml.nvmlEventTypeXidCriticalError
            nvml.nvmlDeviceRegisterEvents(handle, wanted, self._event_set)
        except Exception:  # noqa: BLE001 - the probe lists the refusal in `denied`
            return False
        if self._thread is None:
            self._thread = threading.Thread(target=self._watch, name="xid-watcher", daemon=True)
            self._thread.start()
        return True

    def _watch(self) -> None:
        while not self._stopping.is_set():
            try:
                event = self._nvml.nvmlEventSetWait_v2(self._event_set, WAIT_MS)
            except Exception as error:  # noqa: BLE001 - a lost GPU must not end the watch on others
                if error_code(error) != TIMEOUT:
                    self._stopping.wait(WAIT_MS / 1000)  # a wait that fails at once must not spin
                continue
            if event.eventType == self._nvml.nvmlEventTypeXidCriticalError:
                self._remember(int(event.eventData), self._owners(event.device))
        with suppress(Exception):  # nothing is left to free when the driver has gone
            self._nvml.nvmlEventSetFree(self._event_set)

    def _owners(self, handle: Any) -> list[str]:
        """The GPU of an event; all of them when the driver cannot say (it fell off the bus)."""
        try:
            return [str(self._nvml.nvmlDeviceGetUUID(handle))]
        except Exception:  # noqa: BLE001 - same rule as NVIDIA's device plugin: suspect all
            return list(self._registered)

    def _remember(self, code: int, gpu_uuids: list[str]) -> None:
        at = self._now()
        with self._lock:
            for gpu_uuid in gpu_uuids:
                before = self._seen.get(gpu_uuid)
                codes = before.xids if before else ()
                if code not in codes:
                    codes = (*codes, code)[-XIDS_KEPT:]
                self._seen[gpu_uuid] = SeenXids(codes, code, at)
