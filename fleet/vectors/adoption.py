"""FAISS indexes that other services keep: what a look at one shows, and what has become of it.

A service builds its index anew whenever it likes: other bytes under a new time of change are a new
build. Other bytes under the same size, time and inode are a disk that rots, or somebody who hides
what they did; no service writes like that.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from fleet.vectors.declaration import AdoptedDeclaration
from fleet.vectors.records import Metric


class AdoptedIndex(NamedTuple):
    """What is known of a foreign index file."""

    name: str
    path: str
    size_bytes: int | None
    """None when there is no file."""
    sha256: str | None
    ntotal: int | None
    """None when it could not be opened."""
    dimensions: int | None
    problems: tuple[str, ...]
    """In words; empty when it is sound."""
    stamp: tuple[int, ...] = ()
    """Size, time of change, inode, time of its status's change; equal while nobody writes it."""
    kind: str = ""
    """FAISS's name of its type."""
    metric: str = ""
    search_ms: float | None = None
    """Median of single searches for ten neighbours on one thread; None: not measured."""
    recall: float | None = None
    """Recall@10 against exact search of the vectors that it gives back; None: not measured."""
    recall_note: str = ""
    """How recall was measured, or why it was not."""


class AdoptedVerdict(NamedTuple):
    """What a look says beside the one before."""

    problems: tuple[str, ...]
    news: str
    """What became of the file since the look before; empty where there was none."""


def judge_adopted(
    look: AdoptedIndex, declared: AdoptedDeclaration, before: Mapping[str, Any] | None
) -> AdoptedVerdict:
    """Everything that is wrong with an adopted index, and what is new about it.

    Args:
        look: of now.
        declared: what its owner says of it.
        before: `look_document` of the look before; None for the first.
    """
    problems = list(look.problems)
    if look.ntotal is not None:
        problems += _departures(look, declared)
    news = ""
    if before is not None and look.sha256 is not None:
        if look.sha256 == before["sha256"]:
            news = "the same bytes as before"
        elif list(look.stamp) == before["stamp"]:
            problems.append(
                f"its bytes changed although nobody has written it: SHA-256 is now {look.sha256}, "
                f"was {before['sha256']}"
            )
            news = "damaged on the disk"
        else:
            news = f"a new build: {before['ntotal']} vectors before"
    return AdoptedVerdict(tuple(problems), news)


def _departures(look: AdoptedIndex, declared: AdoptedDeclaration) -> list[str]:
    found = []
    if declared.dimensions is not None and look.dimensions != declared.dimensions:
        found.append(f"{look.dimensions} dimensions, declared {declared.dimensions}")
    if look.ntotal is not None and look.ntotal < declared.ntotal_min:
        found.append(f"{look.ntotal} vectors, at least {declared.ntotal_min} declared")
    wanted = declared.metric
    # Cosine is inner product over vectors of length one: a file cannot tell the two apart.
    if wanted is not None and look.metric:
        same = {Metric.COSINE: Metric.INNER_PRODUCT}.get(wanted, wanted)
        if look.metric != same.value:
            found.append(f"compares by {look.metric}, declared {wanted.value}")
    return found


def look_document(look: AdoptedIndex) -> dict[str, Any]:
    """A look as JSON: what the next one is held against."""
    return {**look._asdict(), "problems": list(look.problems), "stamp": list(look.stamp)}
