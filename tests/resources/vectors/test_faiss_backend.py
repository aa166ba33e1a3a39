"""Every kind of index that is built, against exact search by numpy, and with bad input."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from fleet.errors import CorruptObjectError, InvalidInputError, PermanentError
from fleet.vectors.records import NO_ROW, IndexKind, IndexSpec, Metric
from resources.vectors.faiss_backend import FaissBackend, FaissIndex
from resources.vectors.unit_vectors import check_vectors, normalize

D = 16
BACKEND = FaissBackend(threads=1)
TRAIN = {"train_points_per_list": 64}
SPECS = {
    "flat": IndexSpec(IndexKind.FLAT, "Flat", {}, ({},), True, ""),
    "graph": IndexSpec(IndexKind.HNSW, "HNSW16,SQ8", {"efConstruction": 40}, (), False, ""),
    "lists": IndexSpec(IndexKind.IVF, "IVF16,SQ8", TRAIN, (), True, ""),
    "codes": IndexSpec(IndexKind.IVF, "IVF16,RaBitQ,Refine(SQ8)", TRAIN, (), False, ""),
}
BEST = {
    "flat": {},
    "graph": {"efSearch": 200},
    "lists": {"nprobe": 16},
    "codes": {"nprobe": 16, "k_factor": 20},
}


def clustered(count: int, seed: int = 1) -> np.ndarray:
    """Unit vectors around 20 centres, which a fixed seed draws."""
    centres = np.random.default_rng(0).standard_normal((20, D))
    rng = np.random.default_rng(seed)
    rows = centres[rng.integers(0, 20, count)] + 0.5 * rng.standard_normal((count, D))
    return normalize(rows.astype(np.float32))


DATA = clustered(1000)
ASKED = clustered(20, seed=2)


def twin(vectors: np.ndarray, queries: np.ndarray, k: int, mask: np.ndarray) -> np.ndarray:
    """Scores of the true neighbours by one matrix product."""
    scores = np.where(mask, queries @ vectors.T, -np.inf)
    return -np.sort(-scores, axis=1)[:, :k]


def share_found(rows: np.ndarray, mask: np.ndarray, k: int = 10) -> float:
    """Recall of found rows; it also demands that only rows of the mask were found, once each."""
    real = rows[rows != NO_ROW]
    assert mask[real].all()
    assert all(len(set(one[one != NO_ROW])) == (one != NO_ROW).sum() for one in rows)
    exact = np.where(rows == NO_ROW, -np.inf, np.einsum("qd,qkd->qk", ASKED, DATA[rows]))
    last = twin(DATA, ASKED, k, mask)[:, -1:]
    return float((exact >= last - 1e-5).mean())


@pytest.mark.parametrize("name", SPECS)
def test_a_built_index_finds_what_exact_search_finds(name: str, tmp_path: Path) -> None:
    """In memory, mapped from its file, under a mask, and by scanning a mask."""
    built = BACKEND.build(SPECS[name], DATA, Metric.INNER_PRODUCT, 7)
    everything = np.ones(len(DATA), bool)
    some = np.arange(len(DATA)) % 3 == 0
    built.save(str(tmp_path / "index"))
    mapped = BACKEND.open(str(tmp_path / "index"))
    assert (mapped.ntotal, mapped.dimensions) == (1000, D)
    assert (mapped.metric, mapped.kind) == (Metric.INNER_PRODUCT, SPECS[name].kind)
    for index in (built, mapped):
        found = index.search(ASKED, 10, BEST[name])
        assert share_found(found.rows, everything) >= 0.95
        assert (np.diff(found.scores, axis=1) <= 0).all()
        assert share_found(index.search(ASKED, 10, BEST[name], some).rows, some) >= 0.9
        assert share_found(index.scan(ASKED, 10, some).rows, some) >= 0.95
    assert (mapped.imbalance() >= 1.0) == (SPECS[name].kind is IndexKind.IVF)


@pytest.mark.parametrize("name", SPECS)
def test_the_same_input_builds_the_same_bytes(name: str, tmp_path: Path) -> None:
    """Seed, order and threads fixed: a rebuilt index is the index."""
    for file in ("one", "two"):
        BACKEND.build(SPECS[name], DATA, Metric.L2, 7).save(str(tmp_path / file))
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


@pytest.mark.parametrize("name", SPECS)
def test_rows_are_added_and_removed_or_refused(name: str, tmp_path: Path) -> None:
    """A new row is found by its own vector, a removed one never; graphs say that they cannot."""
    BACKEND.build(SPECS[name], DATA[:900], Metric.INNER_PRODUCT, 7).save(str(tmp_path / "index"))
    index = BACKEND.open(str(tmp_path / "index"), writable=True)
    index.add(DATA[900:], np.arange(900, 1000, dtype=np.int64))
    assert index.ntotal == 1000
    firsts = index.search(DATA[900:], 1, BEST[name]).rows[:, 0]
    assert (firsts == np.arange(900, 1000)).mean() > 0.9
    with pytest.raises(InvalidInputError, match="rows"):
        index.add(DATA[:2], np.array([1, 3]))
    dead = np.arange(0, 1000, 7)
    if not SPECS[name].can_remove:
        with pytest.raises(PermanentError, match="cannot remove"):
            index.remove(dead)
        with pytest.raises(InvalidInputError, match="rows from 1000"):
            index.add(DATA[:1], np.array([5000]))
        return
    assert index.remove(dead) == len(dead)
    assert index.remove(dead) == 0
    assert index.ntotal == 1000 - len(dead)
    assert not set(index.search(DATA, 10, BEST[name]).rows.ravel().tolist()) & set(dead.tolist())


@pytest.mark.parametrize("name", SPECS)
@pytest.mark.parametrize("metric", [Metric.INNER_PRODUCT, Metric.L2])
def test_bad_questions_are_refused_and_odd_ones_answered(name: str, metric: Metric) -> None:
    """Wrong width, NaN, k of 0; k greater than n, no query, zero vectors, an empty mask."""
    index = BACKEND.build(SPECS[name], DATA, metric, 7)
    for bad in (ASKED[:, :5], np.full((2, D), np.nan, np.float32), np.full((1, D), np.inf)):
        with pytest.raises(InvalidInputError, match="queries"):
            index.search(bad, 3, BEST[name])
    with pytest.raises(InvalidInputError, match="k"):
        index.search(ASKED, 0, BEST[name])
    many = index.scan(ASKED, 1500, np.ones(1000, bool))
    assert many.rows.shape == (20, 1500)
    assert ((many.rows != NO_ROW).sum(axis=1) == 1000).all()
    assert np.isneginf(many.scores[:, 1000:]).all()
    assert index.search(ASKED[:0], 3, BEST[name]).rows.shape == (0, 3)
    assert index.search(np.zeros((1, D), np.float32), 3, BEST[name]).rows.shape == (1, 3)
    nothing = index.search(ASKED, 3, BEST[name], np.zeros(1000, bool))
    assert (nothing.rows == NO_ROW).all()
    assert np.isneginf(nothing.scores).all()
    with pytest.raises(InvalidInputError, match=r"vectors\[1\]"):
        BACKEND.build(SPECS[name], np.array([[1.0], [np.nan]], np.float32), metric, 1)


@pytest.mark.parametrize("metric", [Metric.INNER_PRODUCT, Metric.L2])
def test_exact_search_is_exact(metric: Metric) -> None:
    """Scores equal those of numpy, with and without a mask, for k above n and no rows at all."""
    mask = np.arange(1000) % 50 == 3
    for kept in (np.ones(1000, bool), mask, np.zeros(1000, bool)):
        found = BACKEND.exact(DATA, ASKED, 30, metric, kept)
        scores = ASKED @ DATA.T if metric is Metric.INNER_PRODUCT else 2 * ASKED @ DATA.T - 2
        wanted = -np.sort(-np.where(kept, scores, -np.inf), axis=1)[:, :30]
        assert np.allclose(found.scores, wanted, atol=1e-4)
        assert ((found.rows == NO_ROW) == np.isneginf(wanted)).all()
    with pytest.raises(InvalidInputError):
        BACKEND.exact(DATA, ASKED, 0, metric)


def test_what_is_no_index_is_refused(tmp_path: Path) -> None:
    """Missing, empty, text, cut short, or of a type that is not built here."""
    path = tmp_path / "index"
    with pytest.raises(CorruptObjectError):
        BACKEND.open(str(path))
    BACKEND.build(SPECS["lists"], DATA, Metric.L2, 7).save(str(path))
    whole = path.read_bytes()
    for damaged in (b"", b"no index at all", whole[:40], whole[:-5]):
        path.write_bytes(damaged)
        with pytest.raises(CorruptObjectError, match="index"):
            BACKEND.open(str(path), writable=True)
    import faiss

    with pytest.raises(CorruptObjectError, match="not built here"):
        FaissIndex(faiss.IndexFlatL2(4))
    with pytest.raises(InvalidInputError, match="factory"):
        BACKEND.build(SPECS["flat"]._replace(kind=IndexKind.IVF, factory="x"), DATA, Metric.L2, 1)


def test_a_zero_vector_stays_zero_and_others_have_length_one() -> None:
    """Also vectors whose squares overflow or vanish; a float64 overflow is named, not hidden."""
    found = normalize(np.array([[0, 0], [3, 4], [1e30, 0], [1e-30, 1e-30]], np.float32))
    assert np.allclose(np.linalg.norm(found, axis=1), [0, 1, 1, 1])
    big = np.full((1, 2), 3e38, np.float32)
    assert (check_vectors("v", big, 2) == big).all()
    for bad in ("text", [["a"]], np.ones(3), np.ones((1, 3))):
        with pytest.raises(InvalidInputError, match="v"):
            check_vectors("v", bad, 2)


def test_a_child_of_a_fork_can_search() -> None:
    """Without the guard it waits for ever: parent and child both used two threads (FAISS 5206)."""
    program = """
import os, numpy as np
from fleet.vectors.records import IndexKind, IndexSpec, Metric
from resources.vectors.faiss_backend import FaissBackend
data = np.random.default_rng(1).standard_normal((3000, 32)).astype(np.float32)
spec = IndexSpec(IndexKind.HNSW, "HNSW16,SQ8", {}, (), False, "")
index = FaissBackend(threads=2).build(spec, data, Metric.L2, 1)
index.search(data, 5, {})
child = os.fork()
if child == 0:
    os._exit(int(index.search(data, 5, {}).rows.shape != (3000, 5)))
raise SystemExit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    root = Path(__file__).parents[3]
    ended = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program], cwd=root, timeout=240, check=False
    )
    assert ended.returncode == 0
