"""What computes and why; a device that fails is taken over from, and counted."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from fleet.errors import InvalidInputError, PermanentError
from fleet.vectors.records import Metric
from resources.gpu.devices import Finding, GpuDevices
from resources.vectors import backends
from resources.vectors.backends import FallingBackend, choose_backend, classify_failure
from resources.vectors.faiss_backend import FaissBackend
from resources.vectors.torch_backend import TorchBackend, TorchExact, needed_bytes
from tests.resources.vectors.test_faiss_backend import ASKED, BACKEND, DATA

NOTHING = {name: Finding(0, "is absent") for name in ("nvml", "torch", "faiss")}
needs_torch = pytest.mark.skipif(
    importlib.util.find_spec("torch") is None, reason="torch is not installed"
)


class FailingDevice(FaissBackend):
    """A device that raises, or none, call by call; otherwise it is the processor."""

    def __init__(self, failures: Sequence[Exception | None]) -> None:
        """Remember what to raise."""
        super().__init__(threads=1)
        self.failures = list(failures)
        self.asked: list[int] = []

    def exact(self, vectors: Any, queries: Any, *given: Any) -> Any:
        """Fail when it is time."""
        self.asked.append(len(queries))
        failure = self.failures.pop(0) if self.failures else None
        if failure is not None:
            raise failure
        return super().exact(vectors, queries, *given)


FULL = RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB")
LOST = RuntimeError("CUDA error: unspecified launch failure")

CASES: dict[str, tuple[list[Exception | None], list[int], dict[str, int]]] = {
    "sound": ([], [20, 20], {}),
    "full once": ([FULL], [20, 10, 10, 20], {}),
    "full twice": ([FULL, FULL], [20, 10, 20], {"memory": 1}),
    "lost": ([LOST], [20], {"lost": 1}),
    "full, then lost": ([FULL, LOST], [20, 10], {"lost": 1}),
    "unknown": ([RuntimeError("something")], [20], {"other": 1}),
}


@pytest.mark.parametrize("case", CASES)
def test_a_failing_device_loses_no_answer(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two searches each: halves after a full memory, the processor after more, and a count."""
    failures, asked, counted = CASES[case]
    monkeypatch.setattr(backends, "GPU_ROWS_MIN", 10)
    device, freed = FailingDevice(failures), []
    falling = FallingBackend(device, BACKEND, lambda: freed.append(1))
    wanted = BACKEND.exact(DATA, ASKED, 5, Metric.L2)
    for _ in range(2):
        found = falling.exact(DATA, ASKED, 5, Metric.L2)
        assert np.array_equal(found.rows, wanted.rows)
        assert np.allclose(found.scores, wanted.scores)
    assert device.asked == asked
    assert dict(falling.fallbacks) == counted
    assert len(freed) == len(failures)
    assert bool(falling.last_failure) == bool(failures)


def test_bad_input_is_no_failure_of_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is refused as it would be by the processor, and nothing is counted."""
    monkeypatch.setattr(backends, "GPU_ROWS_MIN", 10)
    falling = FallingBackend(FailingDevice([]), BACKEND, lambda: None)
    with pytest.raises(InvalidInputError):
        falling.exact(DATA, ASKED, 0, Metric.L2)
    assert not falling.fallbacks
    assert falling.name.startswith("faiss")


def test_failures_are_told_apart() -> None:
    """By what torch, cuBLAS and the driver say."""
    assert classify_failure(FULL) == "memory"
    assert classify_failure(RuntimeError("CUBLAS_STATUS_ALLOC_FAILED")) == "memory"
    assert classify_failure(LOST) == "lost"
    assert classify_failure(ValueError("x")) == "other"


def test_the_backend_is_chosen_with_its_reason() -> None:
    """By policy and by what the libraries see; `require` without a GPU is refused."""
    processor = choose_backend(GpuDevices("auto", lambda: NOTHING))
    assert isinstance(processor.backend, FaissBackend)
    assert "torch: is absent" in processor.reason
    off = choose_backend(GpuDevices("off", lambda: NOTHING))
    assert "policy off" in off.reason
    with pytest.raises(PermanentError, match="require"):
        choose_backend(GpuDevices("require", lambda: NOTHING))
    seen = {**NOTHING, "torch": Finding(1, "1 CUDA device")}
    assert isinstance(choose_backend(GpuDevices("auto", lambda: seen)).backend, FallingBackend)
    faiss_only = {**NOTHING, "faiss": Finding(1, "1 GPU")}
    assert isinstance(choose_backend(GpuDevices("auto", lambda: faiss_only)).backend, FaissBackend)


def test_memory_is_reckoned_before_it_is_taken() -> None:
    """A million vectors of 384 dimensions: 0.77 GB, and the scores within their budget."""
    needed = needed_bytes(1_000_000, 384, 1000, 2 * 1024**3)
    assert needed["database"] == 772_000_000
    assert needed["scores"] == 2 * 1024**3
    assert needed_bytes(1000, 384, 10, 2 * 1024**3)["scores"] == 80_000


@pytest.mark.skipif(importlib.util.find_spec("torch") is not None, reason="torch is installed")
def test_without_torch_the_error_says_so() -> None:
    """Nothing falls back in silence where torch was asked for."""
    with pytest.raises(PermanentError, match="torch cannot be used"):
        TorchBackend("cpu").exact(DATA, ASKED, 3, Metric.L2)


@needs_torch
@pytest.mark.parametrize("metric", [Metric.INNER_PRODUCT, Metric.L2])
@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def test_torch_finds_what_the_processor_finds(metric: Metric, device: str) -> None:
    """Scores equal exact search's, in one block or many, with and without a mask, k above n."""
    if device == "cuda" and not __import__("torch").cuda.is_available():
        pytest.skip("torch sees no CUDA device")
    mask = np.arange(1000) % 3 == 0
    for kept in (None, mask, np.zeros(1000, bool)):
        for budget_bytes in (1, 2 * 1024**3):
            database = TorchExact(DATA, metric, device, budget_bytes=budget_bytes)
            for k in (1, 10, 1200):
                found = database.search(ASKED, k, kept)
                wanted = BACKEND.exact(DATA, ASKED, k, metric, kept)
                assert np.allclose(found.scores, wanted.scores, atol=1e-4)
