"""FAISS indexes of services: measured, held against the last look, never trusted."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fleet.vectors.adoption import AdoptedIndex, judge_adopted, look_document
from fleet.vectors.declaration import AdoptedDeclaration
from fleet.vectors.records import Metric
from resources.vectors.adopted import look_at_adopted
from resources.vectors.adopted_measure import measure_index

D = 16
DATA = np.random.default_rng(3).standard_normal((2000, D)).astype(np.float32)


def _index(factory: str, metric: str = "L2", ids: bool = False) -> Any:
    import faiss

    faiss.omp_set_num_threads(1)
    index = faiss.index_factory(D, factory, getattr(faiss, f"METRIC_{metric}"))
    index.train(DATA)
    if ids:
        index.add_with_ids(DATA, np.arange(len(DATA), dtype=np.int64) * 7 + 1)
    else:
        index.add(DATA)
    return index


def _save(index: Any, path: Path) -> Path:
    import faiss

    faiss.write_index(index, str(path))
    return path


@pytest.mark.parametrize(
    ("factory", "metric", "ids", "kind", "recall"),
    [
        ("Flat", "L2", False, "IndexFlatL2", (1.0, 1.0)),
        ("Flat", "INNER_PRODUCT", False, "IndexFlatIP", (1.0, 1.0)),
        ("IDMap,Flat", "L2", True, "IndexFlatL2", (1.0, 1.0)),
        ("IDMap2,HNSW8", "L2", True, "IndexHNSWFlat", (0.5, 1.0)),
        ("IVF32,Flat", "L2", True, "IndexIVFFlat", (0.05, 0.6)),
        ("IVF32,SQ8", "INNER_PRODUCT", True, "IndexIVFScalarQuantizer", (0.05, 0.6)),
        ("PQ4x4fs", "L2", False, "IndexPQFastScan", (0.0, 1.0)),
    ],
)
def test_speed_and_recall_are_measured_where_vectors_can_be_read_back(
    tmp_path: Path, factory: str, metric: str, ids: bool, kind: str, recall: tuple[float, float]
) -> None:
    """Exact ones find all, one list of 32 finds little: with the parameters of the file."""
    found = measure_index(_save(_index(factory, metric, ids), tmp_path / "one"))
    assert found["kind"] == kind
    assert found["metric"] == ("l2" if metric == "L2" else "inner_product")
    assert found["search_ms"] > 0
    assert recall[0] <= found["recall"] <= recall[1]
    assert "200 questions" in found["recall_note"]


def test_what_cannot_be_measured_says_why(tmp_path: Path) -> None:
    """An empty index, and one that gives no vectors back."""
    import faiss

    empty = measure_index(_save(faiss.IndexFlatL2(D), tmp_path / "empty"))
    assert empty["recall_note"] == "it holds no vector"
    hashed = faiss.IndexLSH(D, 32)
    hashed.train(DATA)
    hashed.add(DATA)
    found = measure_index(_save(hashed, tmp_path / "hashed"))
    assert found["search_ms"] > 0
    assert found.get("recall") is not None or "cannot be read back" in found["recall_note"]


def test_a_look_measures_in_a_child_and_a_file_that_is_written_meanwhile_is_only_told(
    tmp_path: Path,
) -> None:
    """Nothing is said of an index that changed under the reader's hands."""
    path = _save(_index("Flat"), tmp_path / "theirs")
    look = look_at_adopted("theirs", path)
    assert (look.ntotal, look.dimensions, look.recall, look.problems) == (2000, D, 1.0, ())
    ended = threading.Event()

    def rewrite() -> None:
        body = path.read_bytes()
        while not ended.is_set():
            path.write_bytes(body)

    writer = threading.Thread(target=rewrite)
    writer.start()
    try:
        torn = look_at_adopted("theirs", path, measure=False)
    finally:
        ended.set()
        writer.join()
    assert torn.ntotal is None
    assert torn.sha256 is None
    assert "written while it was read" in torn.problems[0]


def test_bytes_that_change_without_being_written_are_damage_and_a_new_build_is_none(
    tmp_path: Path,
) -> None:
    """A rotten byte under the old times is found; a file that was written anew is news."""
    path = _save(_index("Flat"), tmp_path / "theirs")
    declared = AdoptedDeclaration(name="theirs", path=str(path))
    before = look_at_adopted("theirs", path, measure=False)
    first = judge_adopted(before, declared, None)
    assert first == ((), "")
    known = look_document(before)
    same = look_at_adopted("theirs", path, measure=False)
    assert judge_adopted(same, declared, known).news == "the same bytes as before"
    rotten = same._replace(sha256="0" * 64)
    verdict = judge_adopted(rotten, declared, known)
    assert "although nobody has written it" in verdict.problems[0]
    body = path.read_bytes()
    path.write_bytes(body[:-4] + b"\0\0\0\0")
    os.utime(path, ns=(1, 1))
    rebuilt = judge_adopted(look_at_adopted("theirs", path, measure=False), declared, known)
    assert rebuilt == ((), "a new build: 2000 vectors before")


def test_an_index_that_departs_from_what_is_declared_is_a_problem() -> None:
    """Width, fullness and metric; cosine is inner product in a file."""
    look = AdoptedIndex("a", "/a", 10, "0" * 64, 100, 16, (), (10, 1, 1, 1), metric="inner_product")

    def problems(**declared: Any) -> tuple[str, ...]:
        return judge_adopted(look, AdoptedDeclaration(name="a", path="/a", **declared), None)[0]

    assert problems(dimensions=16, ntotal_min=100, metric=Metric.COSINE) == ()
    assert problems(dimensions=32) == ("16 dimensions, declared 32",)
    assert problems(ntotal_min=101) == ("100 vectors, at least 101 declared",)
    assert problems(metric=Metric.L2) == ("compares by inner_product, declared l2",)
