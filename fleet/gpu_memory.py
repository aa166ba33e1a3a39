"""How much memory of a GPU a piece of work takes, and on which GPU it fits.

Invariant: what is admitted on a GPU, together with what is in use there, never passes its memory
less a reserve. Work that does not fit whole may fit in blocks (`least_bytes`); what fits nowhere is
told GPU by GPU.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

GIB = 1024**3
MIB = 1024**2

RESERVE_BYTES = 1 * GIB
"""Of each GPU, given to nobody: what the driver and programs that lease nothing may yet take."""

CONTEXT_BYTES = 768 * MIB
"""Of a process that computes: CUDA's context with the kernels of cuBLAS or FAISS.

Source: 300 to 500 MB for the context, up to 256 MB for the workspace of cuBLAS.
"""

SCORE_BYTES = 16
"""Of one score while the best of a block are chosen: it stands there in half precision, in full,
once more for a metric of distances, and `topk` holds a number beside it."""

SCORES_BLOCK_BYTES = 2 * GIB
"""Of a block of scores at most: larger blocks are not computed any faster."""

SCORES_LEAST_BYTES = 64 * MIB
"""Of a block of scores at least: smaller ones keep no GPU busy."""

QUERIES_AT_ONCE = 1024
"""Questions of a block."""


class MemoryNeed(NamedTuple):
    """What a piece of work takes of a GPU's memory."""

    database_bytes: int
    """The vectors, as they lie on the device."""
    queries_bytes: int
    scratch_bytes: int
    """Scores, candidates, the temporary memory of a library."""
    context_bytes: int
    """Of the process, whatever it does."""
    least_bytes: int
    """With less than this in all it does not work, even in the smallest blocks."""

    @property
    def wanted_bytes(self) -> int:
        """All of it: with so much, nothing goes to the device twice."""
        return self.database_bytes + self.queries_bytes + self.scratch_bytes + self.context_bytes


def exact_search_need(
    rows: int, dimensions: int, queries: int, *, type_bytes: int = 2, k: int = 10
) -> MemoryNeed:
    """What exact search takes: rows x dimensions x type, and scratch for scores.

    Args:
        rows: vectors of the database.
        dimensions: of each.
        queries: in all; they are asked `QUERIES_AT_ONCE` at a time.
        type_bytes: of a number on the device: 2 in half precision, 4 in full.
        k: wanted neighbours.
    """
    block = min(queries, QUERIES_AT_ONCE)
    scores = min(SCORES_BLOCK_BYTES, SCORE_BYTES * block * rows)
    candidates = 24 * queries * max(4 * k, 64)
    return MemoryNeed(
        database_bytes=rows * (type_bytes * dimensions + 4),
        queries_bytes=queries * dimensions * type_bytes,
        scratch_bytes=scores + candidates,
        context_bytes=CONTEXT_BYTES,
        least_bytes=CONTEXT_BYTES
        + 2 * SCORES_LEAST_BYTES
        + candidates
        + queries * dimensions * type_bytes,
    )


def list_build_need(
    rows: int, dimensions: int, train_rows: int, *, temp_bytes: int, code_bytes: int = 1
) -> MemoryNeed:
    """What building lists (IVF) on a GPU takes: codes, numbers, the rows trained on.

    Args:
        rows: vectors of the index.
        dimensions: of each.
        train_rows: vectors that k-means looks at, in full precision.
        temp_bytes: scratch memory that the library was given.
        code_bytes: of a stored number: 1 for 8-bit codes, 4 for plain ones.

    Source: lists grow by doubling, so half of what they hold may be empty.
    """
    need = MemoryNeed(
        database_bytes=2 * rows * (code_bytes * dimensions + 8),
        queries_bytes=0,
        scratch_bytes=temp_bytes + 4 * train_rows * dimensions,
        context_bytes=CONTEXT_BYTES,
        least_bytes=0,
    )
    return need._replace(least_bytes=need.wanted_bytes)


def larger_need(first: MemoryNeed, second: MemoryNeed) -> MemoryNeed:
    """What two pieces of work take that run one after the other."""
    return MemoryNeed(*(max(pair) for pair in zip(first, second, strict=True)))


class GpuOffer(NamedTuple):
    """A GPU that this process could compute on."""

    gpu_uuid: str
    device: int
    """Its number among those that CUDA shows this process; only here and now."""
    total_bytes: int
    used_bytes: int
    """In use now, by whomever, the driver's own part included."""
    leased_bytes: int
    """Of all live leases."""
    unfit: str = ""
    """Why it takes no new work, in words; empty when it does."""

    @property
    def available_bytes(self) -> int:
        """See `available_bytes`."""
        return available_bytes(self.total_bytes, self.used_bytes, self.leased_bytes)


class GpuChoice(NamedTuple):
    """Where a piece of work fits."""

    fitting: tuple[GpuOffer, ...]
    """Most available memory first, then by UUID; empty when it fits nowhere."""
    reason: str
    """Of the first, or of each why it is not among them."""


def available_bytes(
    total_bytes: int, used_bytes: int, leased_bytes: int, reserve_bytes: int = RESERVE_BYTES
) -> int:
    """What may still be given out; never below 0.

    What is leased and what is in use are mostly the same memory, before its holder has taken it and
    after; so the greater of them counts, not the sum. Programs that lease nothing are seen only by
    what they use: next to leases that are not yet drawn on, they can make a device fuller than was
    thought. Then an allocation fails, and the work falls back.

    Args:
        total_bytes: of the device.
        used_bytes: by whomever.
        leased_bytes: to others, live.
        reserve_bytes: given to nobody.
    """
    return max(0, total_bytes - reserve_bytes - max(used_bytes, leased_bytes))


def choose_gpu(offers: Iterable[GpuOffer], need: MemoryNeed) -> GpuChoice:
    """Say which GPUs a piece of work fits on: the one with most available memory first.

    Args:
        offers: of this machine, in any order.
        need: of the work.
    """
    seen = sorted(offers, key=lambda one: (-one.available_bytes, one.gpu_uuid))
    fitting = tuple(
        one for one in seen if not one.unfit and one.available_bytes >= need.least_bytes
    )
    if fitting:
        best = fitting[0]
        taken = granted_bytes(best.available_bytes, need)
        parts = "" if taken == need.wanted_bytes else ", in blocks"
        return GpuChoice(
            fitting,
            f"{best.gpu_uuid}: {gib(taken)} of {gib(best.available_bytes)} GiB available{parts}",
        )
    told = "; ".join(
        f"{one.gpu_uuid}: {one.unfit}"
        if one.unfit
        else f"{one.gpu_uuid}: {gib(one.available_bytes)} of {gib(one.total_bytes)} GiB available"
        for one in seen
    )
    return GpuChoice((), f"{gib(need.least_bytes)} GiB needed; {told or 'there is no GPU'}")


def granted_bytes(available: int, need: MemoryNeed) -> int:
    """What work takes of what is available: all that it wants, or what there is of it."""
    return min(available, need.wanted_bytes)


def gib(size_bytes: int) -> str:
    """A size for people, in GiB."""
    return f"{size_bytes / GIB:.2f}"
