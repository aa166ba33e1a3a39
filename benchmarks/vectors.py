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
import functools
import importlib
import json
import os
import random
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np

from fleet.agents import Note
from fleet.vectors.bm25 import Bm25Index, fuse_rankings, words
from fleet.vectors.choice import choose_index
from fleet.vectors.records import Metric, VectorPolicy
from fleet.vectors.tuning import measure_recall
from resources.object_store.directory import DirectoryObjectStore
from resources.vectors.building import IndexBuilder
from resources.vectors.embedding_rows import make_rows
from resources.vectors.faiss_backend import FaissBackend, load_faiss
from resources.vectors.index_store import ObjectVectorStore
from resources.vectors.reading import NetworkSearcher, PointerWatch
from resources.vectors.static_embedder import StaticEmbedder

QUERIES = 1000
K = 10
TARGET = 0.95
SINGLES = 1000
EFFORTS = (32, 48, 64, 96, 128, 192, 256, 384, 512, 768)

figures: dict[str, Any] = {}


def say(name: str, value: float, text: str) -> None:
    """Print a figure and keep it."""
    figures[name] = value
    print(f"  {text}", flush=True)


def seconds(work: Callable[[], object]) -> float:
    """Wall time of one call."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


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


def per_second(search: Callable[[Any], object], queries: Any, rounds: int) -> float:
    """Queries a second, asked one by one."""
    singles = [np.ascontiguousarray(query[None]) for query in queries[:SINGLES]]
    times = []
    for _ in range(rounds):
        began = time.perf_counter()
        for query in singles:
            search(query)
        times.append(time.perf_counter() - began)
    return len(singles) / statistics.median(times)


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


def bench_whole(texts: list[str], vectors: Any, embedder: StaticEmbedder, folder: Path) -> None:
    """Notes to answers through store, files, checksums and pointer."""
    at = datetime(2026, 11, 21, tzinfo=UTC)
    notes = [
        (Note(f"n{number}", f"agent-{number % 100}", "bench", at, text), "us-west-2")
        for number, text in enumerate(texts)
    ]
    store = ObjectVectorStore(DirectoryObjectStore(folder / "store"), folder / "copies")
    policy = VectorPolicy()
    backend = FaissBackend()
    builder = IndexBuilder(store, backend, policy, lambda: datetime.now(UTC), folder)
    base = len(texts) * 10 // 11
    searcher = NetworkSearcher(store, backend, embedder, "bench", policy)
    for number, span in enumerate((slice(0, base), slice(base, None))):
        rows = make_rows(notes[span], vectors[span])
        append_s = seconds(lambda: store.append("bench", embedder.model, rows, at, expected=number))  # noqa: B023
        outcomes: list[Any] = []
        refresh_s = seconds(lambda: outcomes.append(builder.refresh("bench", embedder.model)))  # noqa: B023
        open_s = seconds(searcher.refresh)
        manifest = outcomes[0].manifest
        print(
            f"whole {outcomes[0].plan.action}: append {append_s:.1f} s, refresh {refresh_s:.1f} s "
            f"(index itself {manifest.build_s:.1f} s), open {open_s:.2f} s, {manifest.recall}"
        )
        say(f"whole_{outcomes[0].plan.action}_s", refresh_s, f"refresh: {refresh_s:.1f} s")
    load_faiss().omp_set_num_threads(1)
    began = time.perf_counter()
    for text in texts[:300]:
        searcher.search(text, K)
    taken = (time.perf_counter() - began) / 300
    say("search_ms", taken * 1e3, f"search from text to notes: {taken * 1e3:.2f} ms")
    for where in (
        "note_id like 'n1%'",
        "agent_id = 'agent-7'",
        "agent_id = 'agent-7' and text like '%a%'",
    ):
        answer = searcher.search(texts[0], K, where=where)
        ask = functools.partial(searcher.search, texts[0], K, where=where)
        once = statistics.median(seconds(ask) for _ in range(5))
        print(f"  where {where}: {answer.candidates} pass, {answer.method}, {once * 1e3:.1f} ms")


class CountingStore(DirectoryObjectStore):
    """Counts the bytes that are created."""

    written = 0

    def create(self, key: str, data: bytes) -> bool:
        """Create and count."""
        type(self).written += len(data)
        return super().create(key, data)


def timed(work: Callable[[], Any]) -> tuple[Any, float, float, int]:
    """What it returns, wall seconds, seconds of all its threads on the processor, bytes stored."""
    stored, began, busy = CountingStore.written, time.perf_counter(), time.process_time()
    found = work()
    wall, cpu = time.perf_counter() - began, time.process_time() - busy
    return found, wall, cpu, CountingStore.written - stored


def bench_increments(
    texts: list[str], vectors: Any, embedder: StaticEmbedder, folder: Path
) -> None:
    """Whole refreshes of lists, from the log of embeddings to the pointer: what changes cost.

    Everything that a refresh does is inside: reading, measuring, writing, checksums, fsync. With
    the last note there is too much beside the lists, so it pays for all before it: a fold.
    """
    at = datetime(2026, 11, 21, tzinfo=UTC)
    count = len(texts)
    store = ObjectVectorStore(CountingStore(folder / "increments"), folder / "copies-increments")
    policy = VectorPolicy(memory_max_bytes=count * 300)  # a graph does not fit: lists
    builder = IndexBuilder(store, FaissBackend(), policy, lambda: datetime.now(UTC), folder)
    searcher = NetworkSearcher(store, FaissBackend(), embedder, "steps", policy)
    base = count * 10 // 11
    spans = {
        "rebuild": slice(0, base),
        "a thousandth": slice(base, base + count // 1000),
        "a tenth": slice(base + count // 1000, base + base // 10),
        "one note more": slice(base + base // 10, base + base // 10 + 1),
    }
    whole = (0.0, 0.0, 0)
    for number, (name, span) in enumerate(spans.items()):
        rows = make_rows(
            [
                (Note(f"n{place}", f"agent-{place % 100}", "steps", at, texts[place]), "us-west-2")
                for place in range(span.start, span.stop)
            ],
            vectors[span],
        )
        store.append("steps", embedder.model, rows, at, expected=number)
        outcome, wall, cpu, stored = timed(lambda: builder.refresh("steps", embedder.model))
        open_s = seconds(searcher.refresh)
        load_faiss().omp_set_num_threads(1)
        rate = per_second(lambda one: searcher.search_vector(one[0], K), vectors[:200], 3)
        load_faiss().omp_set_num_threads(os.cpu_count() or 1)
        whole = (wall, cpu, stored) if number == 0 else whole
        print(
            f"  {outcome.plan.action} of {name} ({rows.num_rows} notes, "
            f"{outcome.manifest.factory}): {wall:.2f} s, {cpu:.2f} s of processor, "
            f"{stored / 1e6:.1f} MB stored, opened in {open_s * 1e3:.0f} ms, then {rate:,.0f} q/s"
        )
        if number:
            say(
                f"increment {name}",
                whole[0] / wall,
                f"{name}: {whole[0] / wall:.0f} x cheaper than a rebuild by the clock, "
                f"{whole[1] / cpu:.0f} x by processor, {whole[2] / max(1, stored):.1f} x by bytes",
            )


def bench_swap(vectors: Any, embedder: StaticEmbedder, folder: Path) -> None:
    """Pointers that move all the time under a searching thread: what is lost, and what it costs."""
    at = datetime(2026, 11, 21, tzinfo=UTC)
    store = ObjectVectorStore(DirectoryObjectStore(folder / "swap"), folder / "copies-swap")
    policy = VectorPolicy()
    builder = IndexBuilder(store, FaissBackend(), policy, lambda: datetime.now(UTC), folder)
    count = min(15_000, len(vectors) - 100)
    for number, span in enumerate((slice(0, count), slice(count, count + 100))):
        notes = [
            (Note(f"n{place}", "agent-1", "swap", at, f"note {place}"), None)
            for place in range(span.start, span.stop)
        ]
        rows = make_rows(notes, vectors[span])
        store.append("swap", embedder.model, rows, at, expected=number)
        builder.refresh("swap", embedder.model)
    searcher = NetworkSearcher(store, FaissBackend(1), embedder, "swap", policy)
    searcher.refresh()
    generations = [pointer.generation for pointer in store.published("swap")]
    worst: dict[str, float] = {}
    for name in ("at rest", "while pointers move"):
        watch = PointerWatch(searcher, 0.001)
        ended = time.perf_counter() + 3.0
        taken, seen, moves = [], set(), 0
        while time.perf_counter() < ended:
            if name != "at rest" and len(taken) % 50 == 0:
                target = generations[moves % 2]
                store.rollback("swap", target, fence=0, at=at, reason="bench")
                moves += 1
            began = time.perf_counter()
            answer = searcher.search_vector(vectors[len(taken) % count], K)
            taken.append(time.perf_counter() - began)
            seen.add((answer.generation, len(answer.hits)))
        watch.close()
        worst[name] = float(np.quantile(taken, 0.99))
        print(
            f"  swap, {name}: {len(taken)} questions, all answered with {K} notes: "
            f"{ {hits for _, hits in seen} == {K} }, {moves} moves, "
            f"{len({one for one, _ in seen})} generations seen, p99 {worst[name] * 1e3:.2f} ms"
        )
    ratio = worst["while pointers move"] / worst["at rest"]
    say("swap_p99_ratio", ratio, f"p99 while pointers move: {ratio:.2f} x that at rest")


def bench_hybrid(texts: list[str], embedder: StaticEmbedder, vectors: Any) -> None:
    """Known notes asked for by some of their words: who finds them among the first ten."""
    index = Bm25Index(texts)
    seen = Counter(word for text in texts for word in set(words(text)))
    rng = random.Random(2)
    known = [row for row in rng.sample(range(len(texts)), 2000) if len(words(texts[row])) >= 6][
        :500
    ]
    backend = FaissBackend()
    for name in ("half of the words", "the rarest word", "without the three rarest words"):
        questions = [_question(texts[row], seen, name, rng) for row in known]
        near = backend.exact(vectors, embedder.embed(questions), 100, Metric.COSINE).rows
        right = {"vectors": 0, "bm25": 0, "hybrid": 0}
        for place, row in enumerate(known):
            ranking = index.rank(questions[place], 100)
            right["vectors"] += row in near[place][:K]
            right["bm25"] += row in ranking[:K]
            right["hybrid"] += row in fuse_rankings([near[place], ranking], K)[0]
        told = ", ".join(f"{kind} {count / len(known):.3f}" for kind, count in right.items())
        say(f"hybrid {name}", right["hybrid"] / len(known), f"asked by {name}: {told} found in ten")


def _question(text: str, seen: Counter[str], name: str, rng: random.Random) -> str:
    """Some words of a note."""
    found = text.split()
    if name == "half of the words":
        return " ".join(rng.sample(found, max(1, len(found) // 2)))
    by_rarity = sorted(dict.fromkeys(words(text)), key=lambda word: seen[word])
    if name == "the rarest word":
        return by_rarity[0]
    return " ".join(by_rarity[3:])


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
