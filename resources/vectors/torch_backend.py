"""Exact search by torch: half-precision products on a device, the best of them again in full.

A GPU multiplies a million vectors with a thousand questions faster than an index is walked, so on a
GPU exact search is the index up to some ten million vectors. Half precision orders neighbours that
lie close together wrongly; therefore four times as many as wanted are kept and compared again in
float32 on the processor. Whether a row that was left out could have been among the wanted ones is
known from the greatest error that the halves can make (`_HALF_ERROR`); questions where it could
(many equal notes, say) are asked again in full precision. So the result is that of exact search.

What does not fit into the memory budget goes over the device in blocks. Index files are FAISS's:
what was built here is read everywhere.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator
from contextlib import suppress
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from fleet.errors import InvalidInputError, PermanentError
from fleet.gpu_memory import (
    CONTEXT_BYTES,
    QUERIES_AT_ONCE,
    RESERVE_BYTES,
    SCORE_BYTES,
    SCORES_BLOCK_BYTES,
    SCORES_LEAST_BYTES,
)
from fleet.ports.embedder import Vectors
from fleet.ports.index_backend import IndexBackend, Mask, Neighbours, Rows
from fleet.vectors.records import NO_ROW, Metric
from resources.vectors.device_backend import DeviceBackend
from resources.vectors.exact_ranking import no_neighbours, rank_exactly
from resources.vectors.half_frames import ScaledQueries, frame_of, scale_queries, squares_of
from resources.vectors.unit_vectors import check_vectors

CANDIDATES = 4
"""Times k that are compared again in float32."""
CANDIDATES_MIN = 64
"""At least so many, because equal notes crowd around small k."""
PROCESSOR_BYTES = 2 * 1024**3
"""What a search takes at most where the device is the processor."""

_HALF_ERROR = {"float16": 8 * 2.0**-11, "bfloat16": 8 * 2.0**-8}
"""Greatest error of a product in half precision, as a share of both lengths: rounding of either
vector and of the result is three units, the rest is margin; sums are kept in float32."""


def load_torch() -> Any:
    """The module `torch`, told to add up in full precision.

    Raises:
        PermanentError: it cannot be imported, whatever the reason.
    """
    try:
        import torch  # type: ignore[import-not-found,unused-ignore]
    except Exception as error:
        raise PermanentError(
            f"torch cannot be used ({type(error).__name__}: {error})",
            hint="Install torch for this machine's driver, or use the backend `faiss`.",
        ) from error
    torch.backends.cuda.matmul.allow_fp16_reduced_precision_reduction = False
    torch.backends.cuda.matmul.allow_bf16_reduced_precision_reduction = False
    torch.set_float32_matmul_precision("highest")
    return torch


class _Blocks(NamedTuple):
    """How a search is cut up."""

    rows: int
    """Of the database on the device at a time."""
    scores: int
    """Rows that a block of questions is compared with at a time."""


class TorchExact:
    """A database of vectors, searched on a device by comparing with all of them.

    It lies on the device when it fits into the budget, otherwise it goes over it in blocks. One
    search at a time: a lock stands around the device.

    Args:
        vectors: (rows, dimensions) on the processor; they stay there for the second comparison.
        metric: inner product (also of unit vectors, for cosine) or L2.
        device: `cuda:0`, `cpu`.
        budget_bytes: of everything that a search holds on the device.
        half: `float16`, or `bfloat16`, whose candidates are less certain.
        torch: the module; None: the installed one.
    """

    def __init__(
        self,
        vectors: Vectors,
        metric: Metric,
        device: str,
        *,
        budget_bytes: int,
        half: str = "float16",
        torch: Any = None,
    ) -> None:
        """Copy the vectors to the device, in half precision, when they fit."""
        self._torch = load_torch() if torch is None else torch
        self._vectors = check_vectors("vectors", vectors, vectors.shape[-1])
        self._is_l2 = metric is Metric.L2
        self._metric = metric
        self._device = device
        self._budget_bytes = budget_bytes
        self._half = half
        self._lock = threading.Lock()
        self._frame = frame_of(self._vectors, is_l2=self._is_l2)
        squares = squares_of(self._vectors, self._frame)
        self._longest = math.sqrt(squares.max(initial=0.0))
        self._squares = squares if self._is_l2 else None
        self.asked_again = 0
        """Questions that had to be asked in full precision."""
        self._held: Any = None
        if self.size_bytes + SCORES_LEAST_BYTES <= budget_bytes:
            self._held = self._put(slice(None), half)

    @property
    def size_bytes(self) -> int:
        """What the whole database takes on the device."""
        count, width = self._vectors.shape
        return int(count * (2 * width + 5))

    @property
    def is_resident(self) -> bool:
        """Whether the whole database lies on the device."""
        return self._held is not None

    def search(self, queries: Vectors, k: int, mask: Mask | None = None) -> Neighbours:
        """The true k nearest rows of each query; arguments and errors as of `IndexBackend.exact`.

        Raises:
            RuntimeError: as torch says it, of the device; `resources.vectors.backends` answers it.
        """
        asked = check_vectors("queries", queries, self._vectors.shape[1])
        if k < 1:
            raise InvalidInputError("k", k, "1 or more")
        count = len(self._vectors)
        width = min(count, max(CANDIDATES * k, CANDIDATES_MIN))
        if not count or not len(asked):
            return no_neighbours(len(asked), k)
        scaled = scale_queries(asked, self._frame)
        with self._lock, self._torch.inference_mode():
            rows, floors = self._candidates(scaled, width, mask, self._half)
            found = rank_exactly(self._vectors, asked, rows, k, self._metric)
            unsure = np.flatnonzero(~self._is_certain(scaled, found.scores[:, -1], floors))
            if len(unsure):
                self.asked_again += len(unsure)
                some = ScaledQueries(scaled.unit[unsure], scaled.lengths[unsure])
                rows, _ = self._candidates(some, width, mask, "float32")
                again = rank_exactly(self._vectors, asked[unsure], rows, k, self._metric)
                found.scores[unsure], found.rows[unsure] = again
        return found

    def _is_certain(
        self, scaled: ScaledQueries, kth: Vectors, floors: npt.NDArray[np.float64]
    ) -> npt.NDArray[np.bool_]:
        """Which answers no row could improve that was left out.

        Args:
            scaled: the questions.
            kth: score of the last wanted neighbour of each, in full precision; -inf: there are
                fewer.
            floors: lowest score in half precision that was kept; -inf: all were.
        """
        error, scale = _HALF_ERROR[self._half] * self._longest, self._frame.scale
        lengths, last = scaled.lengths, kth.astype(np.float64)
        with np.errstate(invalid="ignore"):  # a last of -inf beside a floor of -inf
            if self._is_l2:
                true = last * scale * scale + lengths * lengths
                slack = 2.0 * lengths * error + 1e-6 * (lengths + self._longest) ** 2
            else:
                some = lengths > 0.0
                true = np.where(some, last * scale * scale / np.where(some, lengths, 1.0), 0.0)
                slack = np.where(some, error, 0.0)
            return np.isneginf(floors) | (true >= floors + slack)

    def _candidates(
        self, scaled: ScaledQueries, width: int, mask: Mask | None, precision: str
    ) -> tuple[Rows, npt.NDArray[np.float64]]:
        """Rows of the best scores on the device, and the lowest score kept of each question.

        Returns:
            (queries, width) rows, -1 for none; (queries,) scores in the scale of the device, -inf
            where nothing was left out.
        """
        torch, count = self._torch, len(self._vectors)
        kind = getattr(torch, precision)
        size = 2 if precision == self._half else 4
        spans = [
            slice(start, start + QUERIES_AT_ONCE)
            for start in range(0, len(scaled.unit), QUERIES_AT_ONCE)
        ]
        asked = [torch.from_numpy(scaled.unit[span]).to(self._device, kind) for span in spans]
        reach = [self._reach(scaled.lengths[span]) for span in spans]
        best: list[tuple[Any, Any] | None] = [None] * len(spans)
        blocks = self._blocks(len(scaled.unit), width, size)
        for start, rows, squares in self._databases(blocks, precision):
            kept = None
            if mask is not None:
                kept = torch.from_numpy(mask[start : start + blocks.rows]).to(self._device)
            for place, questions in enumerate(asked):
                for first in range(0, len(rows), blocks.scores):
                    part = slice(first, first + blocks.scores)
                    scores = (questions @ rows[part].T).float()
                    if squares is not None:
                        scores.mul_(reach[place]).sub_(squares[part])
                    if kept is not None:
                        scores.masked_fill_(~kept[part], -math.inf)
                    best[place] = self._merged(best[place], scores, start + first, width)
        tops, places = zip(*(one for one in best if one is not None), strict=True)
        top = np.concatenate([one.cpu().numpy() for one in tops])
        found = np.concatenate([one.cpu().numpy() for one in places]).astype(np.int64)
        found[np.isneginf(top)] = NO_ROW
        floors = np.where(width < count, top[:, -1].astype(np.float64), -np.inf)
        return found, floors

    def _merged(
        self, best: tuple[Any, Any] | None, scores: Any, first: int, width: int
    ) -> tuple[Any, Any]:
        """The best so far with those of another block of rows."""
        top, places = scores.topk(min(width, scores.shape[1]), dim=1)
        places = places + first
        if best is None:
            return top, places
        top = self._torch.cat((best[0], top), dim=1)
        places = self._torch.cat((best[1], places), dim=1)
        top, order = top.topk(min(width, top.shape[1]), dim=1)
        return top, places.gather(1, order)

    def _databases(self, blocks: _Blocks, precision: str) -> Iterator[tuple[int, Any, Any]]:
        """First row, rows and squares of one block after another, on the device."""
        if self._held is not None and precision == self._half:
            yield 0, *self._held
            return
        for start in range(0, len(self._vectors), blocks.rows):
            yield start, *self._put(slice(start, start + blocks.rows), precision)

    def _put(self, span: slice, precision: str) -> tuple[Any, Any]:
        """Rows and their squared lengths on the device; torch converts before it copies."""
        torch, rows = self._torch, self._frame.seen(self._vectors[span])
        if not rows.flags.writeable:
            rows = rows.copy()  # torch warns of what it cannot write to, also where it only reads
        kind = getattr(torch, precision)
        squares = None
        if self._squares is not None:
            squares = torch.from_numpy(self._squares[span]).to(self._device, torch.float32)
        return torch.from_numpy(rows).to(self._device, kind), squares

    def _reach(self, lengths: npt.NDArray[np.float64]) -> Any:
        """Twice the length of each question, in the scale of the rows; for L2."""
        if not self._is_l2:
            return None
        column = (2.0 * lengths).astype(np.float32)[:, None]
        return self._torch.from_numpy(column).to(self._device, self._torch.float32)

    def _blocks(self, queries: int, width: int, size: int) -> _Blocks:
        """How much of the database and of the scores fits on the device at a time."""
        count, dimensions = self._vectors.shape
        per_row = size * dimensions + 5
        free = self._budget_bytes - queries * (dimensions * size + 24 * width)
        free -= self.size_bytes if self._held is not None else 0
        if self._held is not None and size == 2:
            rows, scores = count, min(SCORES_BLOCK_BYTES, free)
        else:
            scores = min(SCORES_BLOCK_BYTES, free // 2)
            rows = max(0, free - scores) // (2 * per_row)  # the last block is there till the next
        block = min(queries, QUERIES_AT_ONCE)
        return _Blocks(
            rows=min(count, max(width, rows)),
            scores=max(width, scores // (SCORE_BYTES * block)),
        )


class TorchBackend(DeviceBackend):
    """The `IndexBackend` port that searches exactly by torch, and leaves indexes to FAISS.

    Args:
        device: `cuda:0`, `cpu`.
        processor: builds and opens indexes.
        memory_bytes: what may be taken of the device, CUDA's context included; None: what is free
            of it, less a reserve.
        torch: the module; None: the installed one.
    """

    def __init__(
        self,
        device: str = "cuda:0",
        processor: IndexBackend | None = None,
        memory_bytes: int | None = None,
        torch: Any = None,
    ) -> None:
        """Nothing is imported yet."""
        super().__init__(processor)
        self._device = device
        self._memory_bytes = memory_bytes
        self._torch = torch

    @property
    def name(self) -> str:
        """See `fleet.ports.IndexBackend.name`."""
        version = self._loaded().__version__
        return f"{self._processor.name}, exact by torch {version} on {self._device}"

    def exact(
        self,
        vectors: Vectors,
        queries: Vectors,
        k: int,
        metric: Metric,
        mask: Mask | None = None,
        *,
        share: float = 1.0,
    ) -> Neighbours:
        """See `DeviceBackend.exact`; vectors are on the device for this call only."""
        budget_bytes = int(share * self.budget_bytes())
        database = TorchExact(
            vectors, metric, self._device, budget_bytes=budget_bytes, torch=self._loaded()
        )
        return database.search(queries, k, mask)

    def free(self) -> None:
        """Give cached blocks of the device back; a lost device cannot, which changes nothing."""
        with suppress(RuntimeError, PermanentError):
            self._loaded().cuda.empty_cache()

    def _loaded(self) -> Any:
        if self._torch is None:
            self._torch = load_torch()
        return self._torch

    def budget_bytes(self) -> int:
        """Of vectors, questions and scores together."""
        if self._device == "cpu":
            return self._memory_bytes or PROCESSOR_BYTES
        free, _ = self._loaded().cuda.mem_get_info(self._device)
        budget = int(free) - RESERVE_BYTES
        if self._memory_bytes is not None:
            budget = min(budget, self._memory_bytes - CONTEXT_BYTES)
        return max(0, budget)
