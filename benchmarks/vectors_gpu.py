"""Exact search and building of lists on a GPU, against FAISS on the processor and the bandwidth.

`python benchmarks/vectors_gpu.py` (`--quick`: 100,000 vectors; `--json`). A million vectors of 384
dimensions by default: searched exactly on the GPU (torch in halves with the second comparison, and
FAISS where its GPU wheel is there), against `faiss.knn` on all cores in the same run, and against
the time that reading the database once takes at the bandwidth that a copy on the device reaches.
Lists (`IVF,SQ8`) are built on both. Without a GPU it says why and ends with 0: there is nothing to
measure; `--device cpu` runs the same code of torch on the processor, to see that it runs.

On a machine with a GPU (about four minutes): `pip install -e . torch` (or `faiss-gpu`, see
docs/gpu.md), then this script, then its lines into docs/performance.md with date and hardware.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np

from fleet.gpu_memory import GIB
from fleet.vectors.choice import TRAIN_POINTS, list_count
from fleet.vectors.records import IndexKind, IndexSpec, Metric
from resources.gpu.devices import find_once
from resources.vectors.faiss_backend import FaissBackend
from resources.vectors.faiss_gpu_backend import FaissGpuBackend
from resources.vectors.torch_backend import TorchBackend, TorchExact, load_torch
from resources.vectors.unit_vectors import normalize

SEED = 20261121
K = 10
COPY_BYTES = 4 * GIB


class Line(NamedTuple):
    """One figure."""

    what: str
    seconds: float
    ratio: float | None
    of: str


def clustered(rows: int, dimensions: int, queries: int) -> tuple[np.ndarray, np.ndarray]:
    """Unit vectors around a few thousand centres, and questions drawn alike."""
    rng = np.random.default_rng(SEED)
    centres = rng.standard_normal((max(20, rows // 500), dimensions), np.float32)
    owners = rng.zipf(1.3, rows + queries) % len(centres)
    vectors = np.empty((rows + queries, dimensions), np.float32)
    for start in range(0, len(vectors), 65_536):
        block = slice(start, start + 65_536)
        noise = rng.standard_normal((len(owners[block]), dimensions), np.float32)
        vectors[block] = normalize(centres[owners[block]] + 0.7 * noise)
    return vectors[:rows], vectors[rows:]


def median_s(work: Callable[[], Any], rounds: int) -> float:
    """Median time of some rounds; one before them warms up."""
    work()
    times = []
    for _ in range(rounds):
        began = time.perf_counter()
        work()
        times.append(time.perf_counter() - began)
    return statistics.median(times)


def copy_bytes_per_s(torch: Any, device: str, rounds: int) -> float:
    """What reading and writing a block on the device reaches: bytes moved each second."""
    size = COPY_BYTES if device != "cpu" else GIB // 4
    source = torch.empty(size, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)

    def copy() -> None:
        target.copy_(source)
        if device != "cpu":
            torch.cuda.synchronize(device)

    return 2 * size / median_s(copy, rounds)


class Bench:
    """Vectors, questions, and what exact search on the processor says."""

    def __init__(self, rows: int, dimensions: int, queries: int, rounds: int) -> None:
        """Make the data and the truth."""
        self.rounds = rounds
        self.vectors, self.queries = clustered(rows, dimensions, queries)
        self.processor = FaissBackend()
        self.lines: list[Line] = []
        self.add("data: float32 of the database", 0.0, self.vectors.nbytes / GIB, "GiB")
        self.truth = self.processor.exact(self.vectors, self.queries, K, Metric.COSINE)
        self.exact_s = median_s(
            lambda: self.processor.exact(self.vectors, self.queries, K, Metric.COSINE),
            max(1, rounds // 2),
        )
        self.add(f"exact, {queries} questions: faiss on the processor", self.exact_s, None, "")

    def add(self, what: str, seconds: float, ratio: float | None, of: str) -> None:
        """One line, told at once."""
        self.lines.append(Line(what, seconds, ratio, of))
        told = "" if ratio is None else f"   {ratio:.3g} {of}"
        took = f"{seconds * 1000:12.2f} ms" if seconds else " " * 15
        print(f"{what:64} {took}{told}", flush=True)

    def agree(self, found: Any, name: str) -> None:
        """The device's answers are those of the processor."""
        near = np.isclose(found.scores, self.truth.scores, rtol=1e-5, atol=1e-5)
        self.add(f"{name}: scores equal to the processor's", 0.0, float(near.mean()), "of 1")

    def torch(self, device: str) -> None:
        """Resident and handed over, in batches and one by one."""
        torch = load_torch()
        bandwidth = copy_bytes_per_s(torch, device, self.rounds)
        self.add(f"torch on {device}: copy", 0.0, bandwidth / 1e9, "GB/s read and written")
        backend = TorchBackend(device)
        budget = backend.budget_bytes()
        began = time.perf_counter()
        database = TorchExact(self.vectors, Metric.COSINE, device, budget_bytes=budget)
        handed_s = time.perf_counter() - began
        whole_s = median_s(
            lambda: backend.exact(self.vectors, self.queries, K, Metric.COSINE), self.rounds
        )
        self.add(
            f"torch on {device}: handing the database over",
            handed_s,
            2 * self.vectors.size / handed_s / 1e9,
            "GB/s",
        )
        self.add(
            f"torch on {device}: exact, handed over for this search",
            whole_s,
            self.exact_s / whole_s,
            "x faster than faiss on the processor",
        )
        for count in (len(self.queries), 1):
            asked = self.queries[:count]
            took_s = median_s(lambda asked=asked: database.search(asked, K), self.rounds)
            floor_s = 2 * self.vectors.size / bandwidth
            self.add(
                f"torch on {device}: exact, resident, {count} questions",
                took_s,
                took_s / floor_s,
                "x reading the database once at the copy's bandwidth",
            )
            if count > 1:
                faster = self.exact_s / took_s
                self.add("  the same", took_s, faster, "x faster than faiss on the processor")
        asked_before = database.asked_again
        self.agree(database.search(self.queries, K), f"torch on {device}")
        again = database.asked_again - asked_before
        share = again / len(self.queries)
        self.add("  asked again in full precision", 0.0, share, "of the questions")

    def faiss(self) -> None:
        """Exact search and lists on the first GPU, by FAISS."""
        gpu = FaissGpuBackend(0)
        took_s = median_s(
            lambda: gpu.exact(self.vectors, self.queries, K, Metric.COSINE), self.rounds
        )
        self.add(
            "faiss on GPU 0: exact, handed over for this search",
            took_s,
            self.exact_s / took_s,
            "x faster than faiss on the processor",
        )
        self.agree(gpu.exact(self.vectors, self.queries, K, Metric.COSINE), "faiss on GPU 0")
        spec = self.lists()
        on_gpu_s = median_s(lambda: gpu.build(spec, self.vectors, Metric.COSINE, SEED), 1)
        built_s = self.build(spec)
        ratio = built_s / on_gpu_s
        self.add(f"faiss on GPU 0: build {spec.factory}", on_gpu_s, ratio, "x faster")

    def lists(self) -> IndexSpec:
        """Lists as the platform chooses them for so many vectors."""
        factory = f"IVF{list_count(len(self.vectors))},SQ8"
        build = {"train_points_per_list": TRAIN_POINTS}
        return IndexSpec(IndexKind.IVF, factory, build, (), True, "benchmark")

    def build(self, spec: IndexSpec) -> float:
        """Build them on the processor."""
        began = time.perf_counter()
        self.processor.build(spec, self.vectors, Metric.COSINE, SEED)
        took_s = time.perf_counter() - began
        self.add(f"build {spec.factory}: faiss on the processor", took_s, None, "")
        return took_s


def main() -> int:
    """Measure what this machine has."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--rows", type=int, default=0)
    parser.add_argument("--dimensions", type=int, default=384)
    parser.add_argument("--queries", type=int, default=1000)
    parser.add_argument("--device", default="", help="cpu: torch's code on the processor")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    found = find_once()
    for name, one in found.items():
        print(f"{name}: {one.detail}")
    if not options.device and not found["torch"].gpus and not found["faiss"].gpus:
        print("Nothing was measured: no library sees a GPU. `--device cpu` tries torch's code.")
        return 0
    rows = options.rows or (100_000 if options.quick else 1_000_000)
    bench = Bench(rows, options.dimensions, options.queries, 3 if options.quick else 7)
    if options.device or found["torch"].gpus:
        bench.torch(options.device or "cuda:0")
    if found["faiss"].gpus and not options.device:
        bench.faiss()
    if options.json:
        print(json.dumps([line._asdict() for line in bench.lines]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
