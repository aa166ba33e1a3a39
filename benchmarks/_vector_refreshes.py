"""Embeddings to answers through store, files and pointer: whole refreshes, increments, swaps."""

from __future__ import annotations

import functools
import os
import statistics
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from _vector_timing import K, per_second, say, seconds

from fleet.agents import Note
from fleet.vectors.records import VectorPolicy
from resources.object_store.directory import DirectoryObjectStore
from resources.vectors.building import IndexBuilder
from resources.vectors.embedding_rows import make_rows
from resources.vectors.faiss_backend import FaissBackend, load_faiss
from resources.vectors.index_store import ObjectVectorStore
from resources.vectors.reading import NetworkSearcher, PointerWatch
from resources.vectors.static_embedder import StaticEmbedder


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
