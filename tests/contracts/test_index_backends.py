"""What every backend answers: the same as one matrix product, and the same refusals.

The GPU parts of FAISS and torch are made up where the wheels are not installed
(`tests/fakes/faiss_gpu.py`, `tests/fakes/torch_device.py`), so that our side of them runs on every
machine; with `-m gpu` the real ones run where there is a GPU.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fleet.errors import InvalidInputError
from fleet.ports.index_backend import IndexBackend
from fleet.vectors.records import NO_ROW, IndexKind, IndexSpec, Metric
from resources.gpu.devices import find_faiss, find_torch
from resources.vectors.backends import FallingBackend
from resources.vectors.faiss_backend import FaissBackend
from resources.vectors.faiss_gpu_backend import FaissGpuBackend
from resources.vectors.torch_backend import TorchBackend
from tests.fakes.faiss_gpu import FakeFaissGpu
from tests.fakes.torch_device import FakeTorch
from tests.resources.vectors.test_faiss_backend import ASKED, DATA, SPECS

PROCESSOR = FaissBackend(threads=1)


def real_torch(device: str) -> IndexBackend:
    """Torch itself, or a skip with the reason."""
    if importlib.util.find_spec("torch") is None:
        pytest.skip("torch is not installed")
    if device != "cpu" and not find_torch().gpus:
        pytest.skip(find_torch().detail)
    return TorchBackend(device, PROCESSOR)


def real_faiss_gpu() -> IndexBackend:
    """FAISS on a GPU, or a skip with the reason."""
    if not find_faiss().gpus:
        pytest.skip(find_faiss().detail)
    return FaissGpuBackend(0, PROCESSOR)


def falling() -> IndexBackend:
    """A device that every call fails on: the processor's answers."""
    always: list[Exception | None] = [RuntimeError("CUDA out of memory")] * 1000
    return FallingBackend(
        FaissGpuBackend(0, PROCESSOR, load=lambda: FakeFaissGpu(always)), PROCESSOR
    )


FAKE_FAISS = FakeFaissGpu()
BACKENDS: dict[str, Callable[[], IndexBackend]] = {
    "faiss": lambda: PROCESSOR,
    "faiss on a made-up GPU": lambda: FaissGpuBackend(0, PROCESSOR, load=lambda: FAKE_FAISS),
    "torch, made up": lambda: TorchBackend("cuda:0", PROCESSOR, torch=FakeTorch()),
    "fallen": falling,
    "torch on the processor": lambda: real_torch("cpu"),
    "torch on a GPU": lambda: real_torch("cuda:0"),
    "faiss on a GPU": real_faiss_gpu,
}


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(name, marks=[pytest.mark.gpu] if name.endswith(" a GPU") else [])
        for name in BACKENDS
    ],
)
def backend(request: pytest.FixtureRequest) -> IndexBackend:
    """Each backend in turn."""
    return BACKENDS[request.param]()


@pytest.fixture(autouse=True)
def no_floor(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few vectors go to the device, too."""
    monkeypatch.setattr("resources.vectors.backends.GPU_ROWS_MIN", 0)


def product(metric: Metric, vectors: Any, queries: Any) -> Any:
    """All scores, in double precision."""
    a, b = queries.astype(np.float64), vectors.astype(np.float64)
    if metric is Metric.L2:
        return -((a[:, None, :] - b[None]) ** 2).sum(axis=2)
    return a @ b.T


STRETCHED = {
    "as they are": (DATA, ASKED),
    "large": (DATA * np.float32(3e7), ASKED * np.float32(5e6)),
    "small": (DATA * np.float32(1e-9), ASKED * np.float32(1e-7)),
    "equal": (np.repeat(DATA[:7], 200, axis=0), ASKED),
    "read-only": (DATA.copy(), ASKED),
}
STRETCHED["read-only"][0].flags.writeable = False


@pytest.mark.parametrize("metric", [Metric.COSINE, Metric.INNER_PRODUCT, Metric.L2])
@pytest.mark.parametrize("case", STRETCHED)
def test_exact_search_is_one_matrix_product(
    backend: IndexBackend, metric: Metric, case: str
) -> None:
    """Whatever the size of the numbers, for equal vectors, under masks, for k of 1 and above n."""
    vectors, queries = STRETCHED[case]
    all_scores = product(metric, vectors, queries)
    third = np.arange(len(vectors)) % 3 == 0
    for mask in (None, third, np.zeros(len(vectors), bool)):
        scores = all_scores if mask is None else np.where(mask, all_scores, -np.inf)
        for k in (1, 10, 1500):
            found = backend.exact(vectors, queries, k, metric, mask)
            wanted = -np.sort(-scores, axis=1)[:, :k]
            wanted = np.pad(wanted, ((0, 0), (0, k - wanted.shape[1])), constant_values=-np.inf)
            assert found.rows.shape == found.scores.shape == (len(queries), k)
            real = np.isfinite(wanted)
            assert ((found.rows != NO_ROW) == real).all()
            assert np.isneginf(found.scores[~real]).all()
            scale = np.abs(all_scores).max()
            assert np.allclose(found.scores[real], wanted[real], rtol=1e-5, atol=2e-6 * scale)
            for row in found.rows:
                some = row[row != NO_ROW]
                assert len(set(some.tolist())) == len(some)


def test_an_index_is_found_again_by_the_processor(backend: IndexBackend, tmp_path: Path) -> None:
    """Whoever built it: the file opens on a machine without any GPU, and finds what it should."""
    for name, spec in SPECS.items():
        built = backend.build(spec, DATA, Metric.INNER_PRODUCT, 7)
        built.save(str(tmp_path / name))
        opened = PROCESSOR.open(str(tmp_path / name))
        assert opened.ntotal == len(DATA)
        found = opened.scan(ASKED, 10, np.ones(len(DATA), bool))
        truth = product(Metric.INNER_PRODUCT, DATA, ASKED)
        last = -np.sort(-truth, axis=1)[:, 9:10]
        near = np.take_along_axis(truth, found.rows, axis=1)
        assert (near >= last - 0.01).mean() > 0.9


def test_what_is_built_twice_is_the_same(backend: IndexBackend, tmp_path: Path) -> None:
    """The seed decides, also where k-means runs on a device."""
    for file in ("one", "two"):
        backend.build(SPECS["lists"], DATA, Metric.L2, 7).save(str(tmp_path / file))
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def test_bad_questions_are_refused_by_all_alike(backend: IndexBackend) -> None:
    """Wrong width, NaN, k of 0, no factory; no vectors and no questions are answered."""
    for bad in (ASKED[:, :5], np.full((2, 16), np.nan, np.float32)):
        with pytest.raises(InvalidInputError, match="queries"):
            backend.exact(DATA, bad, 3, Metric.L2)
    with pytest.raises(InvalidInputError, match="k"):
        backend.exact(DATA, ASKED, 0, Metric.L2)
    with pytest.raises(InvalidInputError, match="vectors"):
        backend.exact(np.full((2, 16), np.inf, np.float32), ASKED, 3, Metric.L2)
    wrong = IndexSpec(IndexKind.IVF, "IVFx,SQ8", {}, (), True, "")
    with pytest.raises(InvalidInputError, match="factory"):
        backend.build(wrong, DATA, Metric.L2, 1)
    assert backend.exact(DATA, ASKED[:0], 3, Metric.L2).rows.shape == (0, 3)
    assert (backend.exact(DATA[:0], ASKED, 3, Metric.L2).rows == NO_ROW).all()


def test_lists_were_built_on_the_made_up_gpu() -> None:
    """So the tests above have tried it: graphs and codes of bits go to the processor."""
    fake = FakeFaissGpu()
    gpu = FaissGpuBackend(0, PROCESSOR, load=lambda: fake)
    for name, built in (("lists", 1), ("graph", 1), ("codes", 1), ("flat", 1)):
        gpu.build(SPECS[name], DATA, Metric.INNER_PRODUCT, 7)
        assert fake.built == built
