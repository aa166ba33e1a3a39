"""Work that a device fails at is done by the processor: tried, counted, kept in words.

A device that runs out of memory is asked once more with half of it; one that fails again, or is
lost, is taken over from. Nothing is lost and nothing is of lesser quality, only later.
"""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from typing import TypeVar

from fleet.errors import InvalidInputError, PermanentError, StateroomError
from fleet.ports.gpu_lease_store import GpuLeaseStore

LOG = logging.getLogger(__name__)

SHARES = (1.0, 0.5)
"""Parts of the memory with which a piece of work is tried on a device, before the processor is."""

_MEMORY_WORDS = ("out of memory", "cudaerrormemoryallocation", "cublas_status_alloc_failed")
_LOST_WORDS = ("device-side", "unspecified launch failure", "is lost", "unavailable", "no cuda")

Answer = TypeVar("Answer")


def classify_failure(error: Exception) -> str:
    """`memory`, `lost` or `other`: why a device failed, in one word for a metric."""
    text = f"{type(error).__name__}: {error}".casefold()
    full = "outofmemory" in text or any(word in text for word in _MEMORY_WORDS)
    if full or isinstance(error, MemoryError):
        return "memory"
    return "lost" if any(word in text for word in _LOST_WORDS) else "other"


class DeviceGuard:
    """Runs work on a device, and on the processor where that fails; one piece at a time.

    Args:
        free: gives back what the device holds of its memory; never raises.
    """

    def __init__(self, free: Callable[[], None]) -> None:
        """Nothing has failed yet."""
        self._free = free
        self._lock = threading.Lock()
        self.is_lost = False
        """The device failed for another reason than memory: it is not asked any more."""
        self.fallbacks: Counter[str] = Counter()
        """Reason -> how often the processor took over: `stateroom_gpu_fallbacks_total`."""
        self.last_failure = ""
        """Of the device, in words; empty when there was none."""

    @property
    def fallen(self) -> str:
        """What the processor took over, in words; empty when nothing."""
        if not self.fallbacks:
            return ""
        counted = ", ".join(f"{reason} {count}" for reason, count in sorted(self.fallbacks.items()))
        return f"fell back to the processor ({counted}): {self.last_failure}"

    def run(
        self,
        on_device: Callable[[float], Answer],
        on_processor: Callable[[], Answer],
        shares: tuple[float, ...] = SHARES,
    ) -> Answer:
        """Try the device with one share of its memory after another, then the processor.

        Args:
            on_device: does it with a share of the memory that it may take.
            on_processor: does it without the device.
            shares: to be tried, in order.

        Raises:
            InvalidInputError, PermanentError: as the work raises them: they are no failure of the
                device.
        """
        if self.is_lost:
            return on_processor()
        with self._lock:
            reason = "memory"
            for share in shares:
                try:
                    return on_device(share)
                except (InvalidInputError, PermanentError):
                    raise
                except (RuntimeError, MemoryError, StateroomError) as error:
                    self.last_failure = f"{type(error).__name__}: {error}"
                    reason = classify_failure(error)
                # Only here, when the error is gone, does nothing hold the failed work's memory.
                self._free()
                if reason != "memory":
                    break
            self.fallbacks[reason] += 1
            self.is_lost = reason != "memory"
        return on_processor()


def count_fallbacks(leases: GpuLeaseStore, node_id: str, counts: Mapping[str, int]) -> None:
    """Add to the store's counts; a store that fails now must not undo the work, so it is told.

    Args:
        leases: the control store.
        node_id: machine of the device.
        counts: by reason.
    """
    if not counts:
        return
    try:
        leases.count_gpu_fallbacks(node_id, counts)
    except StateroomError as error:
        LOG.warning("GPU: %s not in stateroom_gpu_fallbacks_total: %s", dict(counts), error)
