"""Vector search against raw FAISS, usearch and hnswlib, at equal measured recall in one run.

    python benchmarks/vectors.py [--quick] [--texts FILE] [--rounds 3] [--json FILE]

FILE holds one text a line (of tab-separated lines, the last column counts). Without it sentences
are generated, which is said: they cluster more than real texts, so recall is reached sooner.
Queries are 1,000 texts that are in no index. Every figure is the median of the rounds, but builds
are timed once each. The load of the machine stands in the first line: figures of a busy machine
are ratios at best.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import random
import statistics
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
from _vector_hybrid import bench_hybrid
from _vector_refreshes import bench_increments, bench_swap, bench_whole, timed
from _vector_timing import SINGLES, K, figures, per_second, say, seconds

from fleet.vectors.choice import choose_index
from fleet.vectors.records import Metric, VectorPolicy
from fleet.vectors.tuning import measure_recall
from resources.vectors.faiss_backend import FaissBackend, load_faiss
from resources.vectors.static_embedder import StaticEmbedder

QUERIES = 1000
TARGET = 0.95
EFFORTS = (32, 48, 64, 96, 128, 192, 256, 384, 512, 768)


def read_texts(path: Path | None, count: int) -> list[str]:
    """Distinct texts, from a file or generated."""
    rng = random.Random(1)
    if path is None:
        words = [
            "disk",
            "busy",
            "swap",
            "packet",
            "agent",
            "queue",
            "slow",
            "idle",
            "restart",
            "io",
        ]
        numbered = words + [f"{word}{number}" for word in words for number in range(300)]
        print("texts: generated sentences (no --texts given): easier than real ones")
        return [" ".join(rng.choices(numbered, k=rng.randint(4, 14))) for _ in range(count)]
    with path.open(encoding="utf-8", errors="replace") as file:
        found = {line.rstrip("\n").rpartition("\t")[2] for line in file}
    texts = sorted(text for text in found if 20 <= len(text) <= 400)
    rng.shuffle(texts)
    print(f"texts: {path.name}, {len(texts)} distinct, {min(count, len(texts))} used")
    return texts[:count]


def recall_of(vectors: Any, queries: Any, rows: Any, truth: Any) -> float:
    """Recall@10 of found rows against exact scores."""
    exact = np.einsum("qd,qkd->qk", queries, vectors[np.maximum(rows, 0)])
    scores = np.where(rows < 0, -np.inf, exact).astype(np.float32)
    return measure_recall(scores, truth, {}, 0).recall


def first_good(
    efforts: tuple[int, ...], search: Callable[[int], Any], recall: Callable[[Any], float]
) -> tuple[int, float]:
    """The smallest effort whose recall reaches the target; the last when none does."""
    reached = 0.0
    for effort in efforts:
        reached = recall(search(effort))
        if reached >= TARGET:
            return effort, reached
    return efforts[-1], reached


def in_turns(
    ours: Callable[[Any], object], theirs: Callable[[Any], object], queries: Any, rounds: int
) -> tuple[float, float]:
    """Queries a second of two searches that take turns query by query: both see one machine.

    Each query's time is the median of its rounds, so that a pause of the machine counts nowhere.
    """
    singles = [np.ascontiguousarray(query[None]) for query in queries[:SINGLES]]
    times = np.empty((2, rounds, len(singles)))
    for turn in range(rounds):
        for place, query in enumerate(singles):
            order = (0, 1) if (turn + place) % 2 else (1, 0)
            for which in order:
                times[which, turn, place] = seconds(lambda: (ours, theirs)[which](query))  # noqa: B023
    each = np.median(times, axis=1).sum(axis=1)
    return len(singles) / each[0], len(singles) / each[1]


def bench_embedding(embedder: StaticEmbedder, texts: list[str], rounds: int) -> None:
    """Short notes a second, and a megabyte."""
    some = texts[:20_000]
    embedder.embed(some[:100])
    taken = statistics.median(seconds(lambda: embedder.embed(some)) for _ in range(rounds))
    say("notes_per_s", len(some) / taken, f"embedding: {len(some) / taken:,.0f} notes/s")
    long = "the disk was busy and writes were slow " * 26_000
    say(
        "megabyte_s",
        (taken := seconds(lambda: embedder.embed([long]))),
        f"1 MB text: {taken:.3f} s",
    )


def bench_graph(vectors: Any, queries: Any, truth: Any, folder: Path, rounds: int) -> None:
    """Our chosen index against the same one by raw FAISS, query by query and as a build."""
    faiss = load_faiss()
    backend = FaissBackend()
    spec = choose_index(len(vectors), vectors.shape[1], 0.0, VectorPolicy())
    print(f"ours: {spec.factory} ({spec.reason})")
    index, ours_s, ours_cpu, _ = timed(lambda: backend.build(spec, vectors, Metric.COSINE, 1))

    def raw() -> None:
        plain = faiss.index_factory(vectors.shape[1], spec.factory, faiss.METRIC_INNER_PRODUCT)
        if "efConstruction" in spec.build:
            plain.hnsw.efConstruction = spec.build["efConstruction"]
        plain.train(vectors)
        plain.add(vectors)

    _, raw_s, raw_cpu, _ = timed(raw)
    say("build_s", ours_s, f"build: {ours_s:.1f} s, raw FAISS {raw_s:.1f} s")
    say(
        "build_ratio",
        ours_s / raw_s,
        f"build: {ours_s / raw_s:.2f} x raw FAISS by the clock, {ours_cpu / raw_cpu:.2f} x by "
        f"processor ({ours_cpu:.1f} s of all threads)",
    )
    path = folder / "graph.faiss"
    index.save(str(path))
    size = path.stat().st_size / len(vectors) + 8
    say("bytes_per_vector", size, f"size: {size:.0f} B/vector, its number included")
    mapped = backend.open(str(path))

    def found(effort: int) -> Any:
        return mapped.search(queries, K, {"efSearch": effort}).rows

    effort, recall = first_good(
        EFFORTS, found, lambda rows: recall_of(vectors, queries, rows, truth)
    )
    say("recall", recall, f"held-out recall@10 {recall:.4f} at efSearch {effort}")
    faiss.omp_set_num_threads(1)
    bare = faiss.read_index(str(path), faiss.IO_FLAG_MMAP_IFC)
    parameters = faiss.SearchParametersHNSW(efSearch=effort)
    chosen = {"efSearch": effort}
    mine, raws = in_turns(
        lambda one: mapped.search(one, K, chosen),
        lambda one: bare.search(one, K, params=parameters),
        queries,
        rounds,
    )
    say("queries_per_s", mine, f"one by one, 1 thread: {mine:,.0f} q/s, raw FAISS {raws:,.0f}")
    say("query_ratio", raws / mine, f"query: {raws / mine:.3f} x the time of raw FAISS")
    faiss.omp_set_num_threads(os.cpu_count() or 1)


def bench_usearch(vectors: Any, queries: Any, truth: Any, folder: Path, rounds: int) -> None:
    """The peer usearch, half-precision, at the same recall."""
    try:
        usearch = importlib.import_module("usearch.index")
    except ImportError as error:
        print(f"usearch: skipped ({error})")
        return
    index = usearch.Index(ndim=vectors.shape[1], metric="ip", dtype="f16", connectivity=16)
    keys = np.arange(len(vectors), dtype=np.uint64)
    build_s = seconds(lambda: index.add(keys, vectors))
    index.save(str(folder / "usearch"))
    size = (folder / "usearch").stat().st_size / len(vectors)

    def found(effort: int) -> Any:
        index.expansion_search = effort
        return index.search(queries, K).keys.astype(np.int64)

    effort, recall = first_good(
        EFFORTS, found, lambda rows: recall_of(vectors, queries, rows, truth)
    )
    index.expansion_search = effort
    rate = per_second(lambda one: index.search(one[0], K, threads=1), queries, rounds)
    print(f"usearch f16 M16: build {build_s:.1f} s, {size:.0f} B/vector, recall {recall:.4f}")
    say("usearch_queries_per_s", rate, f"usearch one by one: {rate:,.0f} q/s at effort {effort}")
    ours = figures["queries_per_s"]
    say("against_usearch", ours / rate, f"ours is {ours / rate:.2f} x usearch per query")
    say(
        "usearch_build_s",
        build_s,
        f"our build takes {figures['build_s'] / build_s:.2f} x usearch's",
    )


def bench_hnswlib(vectors: Any, queries: Any, truth: Any, rounds: int) -> None:
    """The peer hnswlib, where somebody has built it."""
    try:
        hnswlib = importlib.import_module("hnswlib")
    except ImportError as error:
        print(f"hnswlib: skipped ({error}; it is only a source distribution)")
        return
    index = hnswlib.Index(space="ip", dim=vectors.shape[1])
    index.init_index(len(vectors), M=16, ef_construction=128, random_seed=1)
    build_s = seconds(lambda: index.add_items(vectors))

    def found(effort: int) -> Any:
        index.set_ef(effort)
        return index.knn_query(queries, K)[0].astype(np.int64)

    effort, recall = first_good(
        EFFORTS, found, lambda rows: recall_of(vectors, queries, rows, truth)
    )
    index.set_ef(effort)
    rate = per_second(lambda one: index.knn_query(one, K, num_threads=1), queries, rounds)
    print(f"hnswlib M16: build {build_s:.1f} s, recall {recall:.4f} at {effort}, {rate:,.0f} q/s")
    say(
        "against_hnswlib",
        figures["queries_per_s"] / rate,
        f"ours is {figures['queries_per_s'] / rate:.2f} x hnswlib",
    )


def bench_lists(vectors: Any) -> None:
    """An increment of a tenth against a rebuild, by the index alone."""
    backend = FaissBackend()
    spec = choose_index(len(vectors), vectors.shape[1], 1.0, VectorPolicy())
    base = len(vectors) * 10 // 11
    index = backend.build(spec, vectors[:base], Metric.COSINE, 1)
    rebuild_s = seconds(lambda: backend.build(spec, vectors, Metric.COSINE, 1))
    rows = np.arange(base, len(vectors), dtype=np.int64)
    add_s = seconds(lambda: index.add(vectors[base:], rows))
    remove_s = seconds(lambda: index.remove(np.arange(0, base, 10, dtype=np.int64)))
    print(
        f"lists: {spec.factory}, rebuild {rebuild_s:.2f} s, remove a tenth {remove_s * 1e3:.1f} ms"
    )
    ratio = rebuild_s / add_s
    say(
        "increment_ratio", ratio, f"add a tenth {add_s:.3f} s: {ratio:.0f} x cheaper than a rebuild"
    )


def main(arguments: Mapping[str, Any]) -> None:
    """Run all parts."""
    count = 20_000 if arguments["quick"] else 200_000
    rounds = int(arguments["rounds"])
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, {count} vectors")
    texts = read_texts(arguments["texts"], count + QUERIES)
    embedder = StaticEmbedder()
    bench_embedding(embedder, texts, rounds)
    everything = embedder.embed(texts)
    queries, vectors = everything[:QUERIES], np.ascontiguousarray(everything[QUERIES:])
    truth = FaissBackend().exact(vectors, queries, K, Metric.COSINE).scores
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        bench_graph(vectors, queries, truth, folder, rounds)
        bench_usearch(vectors, queries, truth, folder, rounds)
        bench_hnswlib(vectors, queries, truth, rounds)
        bench_lists(vectors)
        bench_hybrid(texts[QUERIES:], embedder, vectors)
        if not arguments["index_only"]:
            bench_increments(texts[QUERIES:], vectors, embedder, folder)
            bench_swap(vectors, embedder, folder)
            bench_whole(texts[QUERIES:], vectors, embedder, folder)
    print(f"load at the end {os.getloadavg()[0]:.1f}")
    if arguments["json"]:
        arguments["json"].write_text(json.dumps(figures, indent=1), encoding="utf-8")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--quick", action="store_true", help="20,000 vectors")
    parser.add_argument("--texts", type=Path, help="a text a line; of TSV the last column")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--index-only", action="store_true", help="without store and files")
    parser.add_argument("--json", type=Path, help="write the figures there too")
    main(vars(parser.parse_args()))
