"""What computes and why; a device that fails is taken over from, and counted."""

from __future__ import annotations

import numpy as np
import pytest

from fleet.errors import InvalidInputError, PermanentError
from fleet.gpu_memory import CONTEXT_BYTES, GIB, MIB, RESERVE_BYTES
from fleet.vectors.records import Metric
from resources.gpu.devices import Finding, GpuDevices
from resources.gpu.fallbacks import classify_failure
from resources.vectors import backends
from resources.vectors.backends import (
    FallingBackend,
    choose_backend,
)
from resources.vectors.faiss_backend import FaissBackend
from resources.vectors.faiss_gpu_backend import TEMP_BYTES, FaissGpuBackend
from resources.vectors.leased_backend import memory_need
from resources.vectors.torch_backend import TorchBackend, TorchExact
from tests.fakes.faiss_gpu import FakeFaissGpu
from tests.fakes.torch_device import FakeTorch, OutOfMemoryError
from tests.resources.vectors.test_faiss_backend import ASKED, BACKEND, DATA, SPECS

NOTHING = {name: Finding(0, "is absent") for name in ("nvml", "torch", "faiss")}
FULL = OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
LOST = RuntimeError("CUDA error: unspecified launch failure")


@pytest.fixture(autouse=True)
def no_floor(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few vectors go to the device, too."""
    monkeypatch.setattr(backends, "GPU_ROWS_MIN", 10)


CASES: dict[str, tuple[list[Exception | None], int, dict[str, int], bool]] = {
    "sound": ([], 0, {}, False),
    "full once": ([FULL], 1, {}, False),
    "full twice": ([FULL, FULL], 2, {"memory": 1}, False),
    "full twice, and again": ([FULL] * 4, 4, {"memory": 2}, False),
    "lost": ([LOST], 1, {"lost": 1}, True),
    "full, then lost": ([FULL, LOST], 2, {"lost": 1}, True),
    "unknown": ([RuntimeError("something")], 1, {"other": 1}, True),
}


@pytest.mark.parametrize("case", CASES)
def test_a_failing_device_loses_no_answer(case: str) -> None:
    """Two searches each: half the memory after a full one, the processor after more, a count.

    Both with the allocator of torch and with the searches of FAISS.
    """
    failures, freed, counted, is_lost = CASES[case]
    wanted = BACKEND.exact(DATA, ASKED, 5, Metric.L2)
    torch = FakeTorch(failures=failures)
    faiss = FakeFaissGpu(failures)
    for device, name in (
        (TorchBackend("cuda:0", BACKEND, torch=torch), "torch"),
        (FaissGpuBackend(0, BACKEND, load=lambda: faiss), "on GPU 0"),
    ):
        falling = FallingBackend(device, BACKEND)
        assert name in falling.name
        for _ in range(2):
            found = falling.exact(DATA, ASKED, 5, Metric.L2)
            assert np.array_equal(found.rows, wanted.rows)
            assert np.allclose(found.scores, wanted.scores, atol=1e-5)
        assert dict(falling.guard.fallbacks) == counted
        assert bool(falling.guard.last_failure) == bool(failures)
        assert (falling.name == BACKEND.name) == is_lost
        assert bool(falling.guard.fallen) == bool(counted)
    assert torch.emptied == freed
    assert torch.taken_bytes == 0
    assert not torch.failures
    assert not faiss.failures


def test_the_second_try_takes_half_the_memory() -> None:
    """A device with too little for everything at once answers in blocks, and nothing is counted."""
    torch = FakeTorch(free_bytes=RESERVE_BYTES + 20 * MIB, failures=[FULL])
    falling = FallingBackend(TorchBackend("cuda:0", BACKEND, torch=torch), BACKEND)
    vectors = np.tile(DATA, (40, 1))
    found = falling.exact(vectors, ASKED, 5, Metric.INNER_PRODUCT)
    assert np.allclose(
        found.scores, BACKEND.exact(vectors, ASKED, 5, Metric.INNER_PRODUCT).scores, atol=1e-5
    )
    assert not falling.guard.fallbacks
    assert falling.guard.last_failure.startswith("OutOfMemoryError: CUDA out of memory")
    assert 0 < torch.peak_bytes <= 10 * MIB
    faiss = FakeFaissGpu([FULL])
    gpu = FaissGpuBackend(0, BACKEND, memory_bytes=2 * GIB, load=lambda: faiss)
    FallingBackend(gpu, BACKEND).exact(DATA, ASKED, 5, Metric.L2)
    ((vectors_limit, queries_limit),) = faiss.limits
    assert vectors_limit + queries_limit == (2 * GIB - CONTEXT_BYTES - TEMP_BYTES) // 2


def test_a_build_that_fails_is_the_processors() -> None:
    """Once: codes cannot be halved; its bytes are those that the processor builds."""
    faiss = FakeFaissGpu([FULL])
    falling = FallingBackend(FaissGpuBackend(0, BACKEND, load=lambda: faiss), BACKEND)
    index = falling.build(SPECS["lists"], DATA, Metric.L2, 7)
    assert index.ntotal == len(DATA)
    assert dict(falling.guard.fallbacks) == {"memory": 1}
    assert faiss.built == 0
    assert falling.build(SPECS["lists"], DATA, Metric.L2, 7).ntotal == len(DATA)
    assert faiss.built == 1


def test_a_gpu_that_went_away_is_not_asked() -> None:
    """FAISS would end the process at its first call of CUDA; so it is asked for its GPUs first."""
    faiss = FakeFaissGpu()
    falling = FallingBackend(FaissGpuBackend(0, BACKEND, load=lambda: faiss), BACKEND)
    falling.exact(DATA, ASKED, 5, Metric.L2)
    faiss.gpus = 0
    wanted = BACKEND.exact(DATA, ASKED, 5, Metric.L2)
    assert np.array_equal(falling.exact(DATA, ASKED, 5, Metric.L2).rows, wanted.rows)
    assert dict(falling.guard.fallbacks) == {"lost": 1}
    assert len(faiss.limits) == 1


def test_bad_input_is_no_failure_of_the_device() -> None:
    """It is refused as it would be by the processor, and nothing is counted."""
    falling = FallingBackend(TorchBackend("cuda:0", BACKEND, torch=FakeTorch()), BACKEND)
    with pytest.raises(InvalidInputError):
        falling.exact(DATA, ASKED, 0, Metric.L2)
    assert not falling.guard.fallbacks


def test_failures_are_told_apart() -> None:
    """By what torch, cuBLAS, FAISS and the driver say."""
    assert classify_failure(FULL) == "memory"
    assert classify_failure(RuntimeError("CUBLAS_STATUS_ALLOC_FAILED")) == "memory"
    faiss = (
        "StandardGpuResources: alloc fail ... Cuda error cudaErrorMemoryAllocation out of memory"
    )
    assert classify_failure(RuntimeError(faiss)) == "memory"
    assert classify_failure(MemoryError()) == "memory"
    assert classify_failure(LOST) == "lost"
    assert classify_failure(ValueError("x")) == "other"


def test_the_backend_is_chosen_with_its_reason() -> None:
    """By policy and by what the libraries see; `require` without a GPU is refused."""
    processor = choose_backend(GpuDevices("auto", lambda: NOTHING))
    assert isinstance(processor.backend, FaissBackend)
    assert "torch: is absent" in processor.reason
    assert processor.told() == processor.reason
    off = choose_backend(GpuDevices("off", lambda: NOTHING))
    assert "policy off" in off.reason
    with pytest.raises(PermanentError, match="require"):
        choose_backend(GpuDevices("require", lambda: NOTHING))
    for name in ("torch", "faiss"):
        seen = {**NOTHING, name: Finding(1, "1 device")}
        chosen = choose_backend(GpuDevices("require", lambda seen=seen: seen))
        assert isinstance(chosen.backend, FallingBackend)
        assert f"{name}: 1 device" in chosen.reason


def test_a_fallback_stands_in_the_reason() -> None:
    """What manifests and evidence tell of it."""
    device = TorchBackend("cuda:0", BACKEND, torch=FakeTorch(failures=[LOST]))
    chosen = backends.ChosenBackend(FallingBackend(device, BACKEND), "policy auto")
    assert chosen.told() == "policy auto"
    chosen.backend.exact(DATA, ASKED, 5, Metric.L2)
    assert chosen.told() == (
        "policy auto; fell back to the processor (lost 1): "
        "RuntimeError: CUDA error: unspecified launch failure"
    )


def test_memory_is_reckoned_before_it_is_taken() -> None:
    """FAISS builds and searches in full precision, torch searches in half; both go in blocks."""
    work = (1_000_000, 384, 1000, 11)
    torch, faiss = memory_need("torch", *work), memory_need("faiss", *work)
    assert torch.database_bytes == 772_000_000
    assert faiss.database_bytes == 1_000_000 * (4 * 384 + 4)
    assert faiss.wanted_bytes > torch.wanted_bytes
    assert TEMP_BYTES < faiss.least_bytes < GIB + TEMP_BYTES


@pytest.mark.parametrize("metric", [Metric.INNER_PRODUCT, Metric.L2])
def test_torch_keeps_within_its_budget(metric: Metric) -> None:
    """Resident or in blocks: the device never holds more, and the answer is the same."""
    vectors = np.tile(DATA, (20, 1)) + np.float32(0.01) * np.random.default_rng(3).standard_normal(
        (20_000, 16), np.float32
    )
    wanted = BACKEND.exact(vectors, ASKED, 10, metric)
    mask = np.arange(20_000) % 2 == 0
    for budget_mib, resident in ((100, True), (4, False), (2, False)):
        torch = FakeTorch()
        database = TorchExact(vectors, metric, "cuda:0", budget_bytes=budget_mib * MIB, torch=torch)
        assert database.is_resident == resident
        for kept in (None, mask):
            found = database.search(ASKED, 10, kept)
            if kept is None:
                assert np.allclose(found.scores, wanted.scores, atol=1e-5)
            else:
                assert kept[found.rows].all()
        assert torch.peak_bytes <= budget_mib * MIB
        del database
        assert torch.taken_bytes == 0


def test_halves_that_cannot_be_sure_are_asked_again_in_full() -> None:
    """Thousands of notes nearer to each other than halves can tell: found all the same."""
    rng = np.random.default_rng(5)
    near = np.ones((5000, 16), np.float32)
    near += np.float32(1e-3) * rng.standard_normal((5000, 16), np.float32)
    asked = near[:50] + np.float32(1e-5)
    for metric, again in ((Metric.INNER_PRODUCT, 50), (Metric.L2, 0)):
        database = TorchExact(near, metric, "cuda:0", budget_bytes=GIB, torch=FakeTorch())
        found = database.search(asked, 10)
        # Under L2 what they have in common is taken from all of them, so halves tell them apart.
        assert database.asked_again == again
        a, b = asked.astype(np.float64), near.astype(np.float64)
        truth = a @ b.T if again else -((a[:, None] - b[None]) ** 2).sum(axis=2)
        wanted = -np.sort(-truth, axis=1)[:, :10]
        assert np.allclose(np.take_along_axis(truth, found.rows, 1), wanted, rtol=1e-6, atol=1e-12)
    apart = TorchExact(DATA, Metric.L2, "cuda:0", budget_bytes=GIB, torch=FakeTorch())
    apart.search(ASKED, 10)
    assert apart.asked_again < 20


def test_without_torch_the_error_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing falls back in silence where torch was asked for."""
    monkeypatch.setitem(__import__("sys").modules, "torch", None)
    with pytest.raises(PermanentError, match="torch cannot be used"):
        TorchBackend("cpu").exact(DATA, ASKED, 3, Metric.L2)
