"""Which index fits a network: by size, churn and memory, with the reason.

Source: measurements of FAISS 1.15.1 on 1,000 to 490,000 real text vectors of 256 dimensions
(`docs/formats/vectors.md`, "Choice"). Parameters of search are not chosen here but tuned.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from fleet.vectors.records import IndexKind, IndexSpec, VectorPolicy

FLAT_BELOW = 20_000
"""Fewer vectors are searched one by one in under 2 ms on one core: no index pays for itself."""
GRAPH_BELOW = 500_000
"""More vectors take a graph minutes to build, lists half a minute."""
LISTS_BELOW = 10_000_000
"""More vectors want codes of bits, and re-ranking."""

GRAPH_LINKS = 28
"""Neighbours of a node in upper levels, twice as many in the lowest. With 32, a vector of 256
dimensions takes 528 bytes of index, and 536 with its number."""
GRAPH_EFFORT = 100
TRAIN_POINTS = 64
"""Vectors a centroid is trained on: at 256, FAISS's default, k-means takes four times as long and
four times the memory for the same recall."""
LIST_POINTS_MIN = 39
"""Fewer vectors per list than this and FAISS warns that its centroids are noise."""

_EFFORTS = (16, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024)
_PROBES = (1, 2, 4, 8, 16, 32, 64, 96, 128, 192, 256, 384, 512, 768, 1024, 1536, 2048)
_RERANKS = (4, 8, 16, 32)


def choose_index(live: int, dimensions: int, churn: float, policy: VectorPolicy) -> IndexSpec:
    """Say which index to build.

    Args:
        live: vectors that it will hold.
        dimensions: of each.
        churn: share of the notes that are changed or deleted between two generations, 0 to 1.
        policy: memory and what counts as much churn.

    Returns:
        The spec, with its reason; never none, since a flat index always works.
    """
    if live < FLAT_BELOW:
        return _flat(f"{live} vectors: fewer than {FLAT_BELOW} are searched exactly")
    graph_bytes = live * (dimensions + 8 * GRAPH_LINKS + 40)
    if live < GRAPH_BELOW and churn <= policy.churn_max and graph_bytes <= policy.memory_max_bytes:
        return _graph(f"{live} vectors, churn {churn:.0%}: a graph answers quickest")
    list_bytes = live * (dimensions + 8)
    if live < LISTS_BELOW and list_bytes <= policy.memory_max_bytes:
        return _lists(live, _why_lists(live, churn, graph_bytes, policy))
    why = f"{live} vectors" if live >= LISTS_BELOW else f"8-bit codes take {list_bytes} bytes"
    return _codes(live, f"{why}: codes of one bit, re-ranked")


def _why_lists(live: int, churn: float, graph_bytes: int, policy: VectorPolicy) -> str:
    if live >= GRAPH_BELOW:
        return f"{live} vectors: a graph of {GRAPH_BELOW} or more takes too long to build"
    if churn > policy.churn_max:
        return f"churn {churn:.0%} is above {policy.churn_max:.0%}: lists can remove"
    return f"a graph would take {graph_bytes} of {policy.memory_max_bytes} bytes"


def _flat(reason: str) -> IndexSpec:
    return IndexSpec(IndexKind.FLAT, "Flat", {}, ({},), True, reason)


def _graph(reason: str) -> IndexSpec:
    build = {"efConstruction": GRAPH_EFFORT}
    sweep = tuple({"efSearch": effort} for effort in _EFFORTS)
    return IndexSpec(IndexKind.HNSW, f"HNSW{GRAPH_LINKS},SQ8", build, sweep, False, reason)


def _lists(live: int, reason: str) -> IndexSpec:
    lists = list_count(live)
    build = {"train_points_per_list": TRAIN_POINTS}
    sweep = tuple({"nprobe": probes} for probes in _PROBES if probes <= lists)
    return IndexSpec(IndexKind.IVF, f"IVF{lists},SQ8", build, sweep, True, reason)


def _codes(live: int, reason: str) -> IndexSpec:
    lists = list_count(live)
    build = {"train_points_per_list": TRAIN_POINTS}
    grid: list[Mapping[str, int]] = [
        {"nprobe": probes, "k_factor": factor}
        for probes in _PROBES
        if 8 <= probes <= lists
        for factor in _RERANKS
    ]
    # What a query costs is about the lists it reads and the candidates it re-ranks.
    grid.sort(key=lambda one: one["nprobe"] * live // lists // 32 + 64 * one["k_factor"])
    quantizer = "_HNSW32" if lists >= 16384 else ""
    factory = f"IVF{lists}{quantizer},RaBitQ,Refine(SQ8)"
    return IndexSpec(IndexKind.IVF, factory, build, tuple(grid), False, reason)


def list_count(live: int) -> int:
    """Lists of an IVF index: four times the square root, at least `LIST_POINTS_MIN` vectors each.

    Args:
        live: vectors, 1 or more.
    """
    return max(1, min(4 * math.isqrt(live), live // LIST_POINTS_MIN, 65536))
