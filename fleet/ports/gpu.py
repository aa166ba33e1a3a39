"""Reading the GPUs of a machine."""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple, Protocol

from fleet.inventory import Gpu


class GpuReading(NamedTuple):
    """What a probe found: the GPUs, or the reason why there are none to see."""

    gpus: list[Gpu]
    driver_version: str | None
    absent_reason: str
    """Empty when a driver answered."""


class GpuProbe(Protocol):
    """Reads the GPUs of this machine."""

    def read(self, node_id: str, region: str, now: datetime) -> GpuReading:
        """Never raises: each failed call leaves None and is listed in `Gpu.denied`."""
        ...
