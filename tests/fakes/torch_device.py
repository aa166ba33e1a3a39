# ruff: noqa: D102, D107 - methods are functions of torch, named by torch
"""Enough of the module `torch` to search on: tensors of numpy on a device whose memory is bounded.

Numbers are numpy's float16 and float32, so what halves lose is really lost. Each tensor on the
device counts its bytes until it is collected; what does not fit raises `OutOfMemoryError`, named
and worded as torch's is.
"""

from __future__ import annotations

import weakref
from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import numpy as np


class OutOfMemoryError(RuntimeError):
    """What the allocator of the device raises."""


class FakeTorch:
    """Stands in for `torch`.

    Args:
        free_bytes: of the device.
        failures: what the next allocations on the device raise; None for those that succeed.
    """

    __version__ = "fake"
    float16, float32 = np.float16, np.float32

    def __init__(
        self, free_bytes: int = 1 << 40, failures: list[Exception | None] | None = None
    ) -> None:
        self.free_bytes = free_bytes
        self.taken_bytes = 0
        self.peak_bytes = 0
        self.failures = list(failures or [])
        self.emptied = 0
        self.linalg = SimpleNamespace()
        self.cuda = SimpleNamespace(
            mem_get_info=lambda _: (self.free_bytes - self.taken_bytes, 1 << 40),
            empty_cache=self._empty,
        )

    def _empty(self) -> None:
        self.emptied += 1

    def inference_mode(self) -> Any:
        return nullcontext()

    def from_numpy(self, array: np.ndarray) -> FakeTensor:
        assert array.flags.writeable, "torch warns of arrays that cannot be written to"
        return FakeTensor(self, array, on_device=False)

    def cat(self, tensors: tuple[FakeTensor, ...], dim: int) -> FakeTensor:
        return self.made(np.concatenate([one.array for one in tensors], axis=dim))

    def made(self, array: np.ndarray) -> FakeTensor:
        return FakeTensor(self, array, on_device=True)

    def take(self, size_bytes: int) -> None:
        if self.failures:
            failure = self.failures.pop(0)
            if failure is not None:
                raise failure
        if self.taken_bytes + size_bytes > self.free_bytes:
            raise OutOfMemoryError(f"CUDA out of memory. Tried to allocate {size_bytes} bytes")
        self.taken_bytes += size_bytes
        self.peak_bytes = max(self.peak_bytes, self.taken_bytes)

    def give(self, size_bytes: int) -> None:
        self.taken_bytes -= size_bytes


class FakeTensor:
    """An array, here or on the device; a view shares the memory of what it is of."""

    def __init__(
        self, torch: FakeTorch, array: np.ndarray, *, on_device: bool, of: FakeTensor | None = None
    ) -> None:
        self.torch, self.array, self.on_device = torch, array, on_device
        self.of = of
        if on_device and of is None:
            torch.take(array.nbytes)
            weakref.finalize(self, torch.give, array.nbytes)

    @property
    def shape(self) -> tuple[int, ...]:
        return self.array.shape

    @property
    def T(self) -> FakeTensor:  # noqa: N802
        return self._view(self.array.T)

    def _view(self, array: np.ndarray) -> FakeTensor:
        return FakeTensor(self.torch, array, on_device=self.on_device, of=self)

    def __len__(self) -> int:
        return len(self.array)

    def __getitem__(self, key: Any) -> FakeTensor:
        return self._view(self.array[key])

    def __matmul__(self, other: FakeTensor) -> FakeTensor:
        assert self.on_device
        assert other.on_device
        assert self.array.dtype == other.array.dtype
        # As on a GPU: products of halves are added up in float32, the sum is a half again.
        wide = self.array.astype(np.float32) @ other.array.astype(np.float32)
        return self.torch.made(wide.astype(self.array.dtype))

    def __invert__(self) -> FakeTensor:
        return self.torch.made(~self.array)

    def __add__(self, number: int) -> FakeTensor:
        return self.torch.made(self.array + number)

    def to(self, device: str, dtype: Any = None) -> FakeTensor:
        assert device.startswith(("cuda", "cpu"))
        return self.torch.made(self.array.astype(dtype or self.array.dtype))

    def float(self) -> FakeTensor:
        if self.array.dtype == np.float32:
            return self
        return self.torch.made(self.array.astype(np.float32))

    def mul_(self, other: FakeTensor) -> FakeTensor:
        self.array *= other.array
        return self

    def sub_(self, other: FakeTensor) -> FakeTensor:
        self.array -= other.array
        return self

    def masked_fill_(self, mask: FakeTensor, value: float) -> FakeTensor:
        self.array[np.broadcast_to(mask.array, self.array.shape)] = value
        return self

    def topk(self, k: int, dim: int) -> tuple[FakeTensor, FakeTensor]:
        assert k <= self.array.shape[dim], "torch refuses a k beyond the width"
        order = np.argsort(-self.array, axis=dim, kind="stable")[:, :k]
        top = np.take_along_axis(self.array, order, dim)
        return self.torch.made(top), self.torch.made(order)

    def gather(self, dim: int, index: FakeTensor) -> FakeTensor:
        return self.torch.made(np.take_along_axis(self.array, index.array, dim))

    def cpu(self) -> FakeTensor:
        return FakeTensor(self.torch, self.array, on_device=False, of=self)

    def numpy(self) -> np.ndarray:
        assert not self.on_device
        return self.array
