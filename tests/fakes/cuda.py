# ruff: noqa: D102, D107, N802 - methods are functions of CUDA's driver library
"""CUDA's driver library with devices of given UUIDs; a function may answer an error."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import Any


class FakeCuda:
    """Stands in for `libcuda.so.1`; pointers are those of ctypes.

    Args:
        uuids: of the devices, in CUDA's order.
        errors: function -> what it answers.
        is_old: the second form of `cuDeviceGetUuid` is missing.
    """

    def __init__(
        self, uuids: Sequence[str], errors: dict[str, int] | None = None, *, is_old: bool = False
    ) -> None:
        self.uuids = list(uuids)
        self.errors = errors or {}
        if not is_old:
            self.cuDeviceGetUuid_v2 = self.cuDeviceGetUuid

    def cuInit(self, flags: int) -> int:
        assert flags == 0
        return self.errors.get("cuInit", 0)

    def cuDeviceGetCount(self, count: Any) -> int:
        count._obj.value = len(self.uuids)
        return self.errors.get("cuDeviceGetCount", 0)

    def cuDeviceGet(self, device: Any, number: int) -> int:
        device._obj.value = 100 + number
        return self.errors.get("cuDeviceGet", 0)

    def cuDeviceGetUuid(self, digits: Any, device: Any) -> int:
        digits._obj[:] = list(uuid.UUID(self.uuids[device.value - 100]).bytes)
        return self.errors.get("cuDeviceGetUuid", 0)
