"""Full-text ranking beside the vectors: BM25, and the fusion of two rankings.

Words that a model never saw as one (host names, error codes) are what static vectors miss and
BM25 finds; a paraphrase is the opposite. Fusion by rank needs no calibration of the two scores.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from fleet.ports.index_backend import Mask, Rows

K1 = 1.2
B = 0.75
"""Source: Robertson and Zaragoza, "The Probabilistic Relevance Framework", 2009; as Lucene."""

FUSION_K = 60
"""Source: Cormack, Clarke and Buettcher, "Reciprocal Rank Fusion", 2009."""

TERMS_MAX = 64
"""Distinct words of a query that count; the first ones."""

_WORD = re.compile(r"\w+(?:[-.]\w+)*")


def words(text: str) -> list[str]:
    """Words of a text in any script, case-folded; `host-7` is one, and so are its parts."""
    found: list[str] = []
    for word in _WORD.findall(text.casefold()):
        found.append(word)
        if "-" in word or "." in word:
            found.extend(part for part in re.split(r"[-.]", word) if part)
    return found


class _Read(NamedTuple):
    """Texts that were read: which word stands in which row, and how often, by word."""

    numbers: Mapping[str, int]
    """Word -> its number."""
    lengths: npt.NDArray[np.float32]
    """Words of each row."""
    terms: npt.NDArray[np.int32]
    rows: npt.NDArray[np.int32]
    times: npt.NDArray[np.float32]


_NONE = np.zeros(0, np.int32)
_NOTHING = _Read({}, np.zeros(0, np.float32), _NONE, _NONE, np.zeros(0, np.float32))


class Bm25Index:
    """An inverted index over rows; built in one pass, 12 bytes per word of a text.

    Args:
        texts: one per row; row numbers are their places.
        before: of rows before them; see `followed_by`.
    """

    def __init__(self, texts: Iterable[str], before: _Read = _NOTHING) -> None:
        """Read all texts."""
        read = _read(texts, before)
        # Nearly in order where there were rows before, which this way of sorting makes use of.
        by_term = np.argsort(read.terms, kind="stable")
        self._read = read._replace(
            terms=read.terms[by_term], rows=read.rows[by_term], times=read.times[by_term]
        )
        counts = np.bincount(read.terms, minlength=len(read.numbers))
        self._starts = np.concatenate(([0], np.cumsum(counts)))
        filled = read.lengths[read.lengths > 0]
        self._documents = len(filled)
        self._mean_length = float(filled.mean()) if len(filled) else 1.0

    def followed_by(self, texts: Iterable[str]) -> Bm25Index:
        """An index of these rows and more behind them; what is here is not read again.

        Args:
            texts: of the new rows.
        """
        return Bm25Index(texts, self._read)

    def rank(self, query: str, k: int, mask: Mask | None = None) -> Rows:
        """The k best rows for a query, best first; fewer when fewer hold one of its words.

        Args:
            query: any text.
            k: 1 or more.
            mask: rows that may be found; None: all.
        """
        scores = np.zeros(len(self._read.lengths), np.float32)
        for word in list(dict.fromkeys(words(query)))[:TERMS_MAX]:
            term = self._read.numbers.get(word)
            if term is not None:
                rows, gains = self._gains(term)
                scores[rows] += gains
        if mask is not None:
            scores[~mask] = 0.0
        return _best(scores, k)

    def _gains(self, term: int) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.float32]]:
        """Rows that hold a term, and what it adds to their scores."""
        span = slice(int(self._starts[term]), int(self._starts[term + 1]))
        rows, times = self._read.rows[span], self._read.times[span]
        holding = len(rows)
        weight = math.log(1.0 + (self._documents - holding + 0.5) / (holding + 0.5))
        norm = K1 * (1.0 - B + B * self._read.lengths[rows] / self._mean_length)
        return rows, np.asarray(weight * times * (K1 + 1.0) / (times + norm), np.float32)


def _read(texts: Iterable[str], before: _Read) -> _Read:
    """What stands in texts, behind what was read before; words as they come, new ones numbered."""
    numbers = dict(before.numbers)
    terms: list[int] = []
    rows: list[int] = []
    times: list[int] = []
    lengths: list[int] = []
    for row, text in enumerate(texts, len(before.lengths)):
        counted = Counter(words(text))
        lengths.append(counted.total())
        for word, count in counted.items():
            terms.append(numbers.setdefault(word, len(numbers)))
            rows.append(row)
            times.append(count)
    return _Read(
        numbers,
        np.concatenate((before.lengths, np.array(lengths, np.float32))),
        np.concatenate((before.terms, np.array(terms, np.int32))),
        np.concatenate((before.rows, np.array(rows, np.int32))),
        np.concatenate((before.times, np.array(times, np.float32))),
    )


def _best(scores: npt.NDArray[np.float32], k: int) -> Rows:
    """Rows of the k greatest positive scores, best first, ties by the lower row."""
    positive = np.flatnonzero(scores > 0.0)
    if len(positive) > k:
        cut = np.partition(scores[positive], len(positive) - k)[len(positive) - k]
        positive = positive[scores[positive] >= cut]
    order = np.lexsort((positive, -scores[positive]))
    return positive[order][:k].astype(np.int64)


def fuse_rankings(rankings: Sequence[Rows], k: int) -> tuple[Rows, npt.NDArray[np.float32]]:
    """Reciprocal rank fusion: each ranking gives 1 / (60 + rank) to its rows.

    Args:
        rankings: rows best first; negative ones are passed over.
        k: rows wanted.

    Returns:
        Rows best first, ties by the lower row, and their fused scores.
    """
    scores: dict[int, float] = {}
    for ranking in rankings:
        for rank, row in enumerate(ranking.tolist(), start=1):
            if row >= 0:
                scores[row] = scores.get(row, 0.0) + 1.0 / (FUSION_K + rank)
    best = sorted(scores, key=lambda row: (-scores[row], row))[:k]
    return np.array(best, np.int64), np.array([scores[row] for row in best], np.float32)
