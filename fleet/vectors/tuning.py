"""How good an index is, and the cheapest parameters of search that are good enough.

Recall counts a found neighbour as right when it is as near as the k-th true one. So equal notes
(agents repeat themselves) are interchangeable, as they are to whoever reads the answer.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from fleet.vectors.records import RecallMeasure

TOLERANCE = 1e-5
"""Relative: two libraries add 256 products in different order and differ in the sixth digit."""

Z95 = 1.959963984540054
"""Quantile of the normal distribution for an interval of 95 %."""

Scores = npt.NDArray[np.float32]


class TuningVerdict(NamedTuple):
    """Which parameters were chosen, or why none."""

    chosen: RecallMeasure | None
    tried: tuple[RecallMeasure, ...]
    reason: str


def wilson_interval(hits: int, trials: int) -> tuple[float, float]:
    """Wilson's score interval of a share, at 95 %; (0, 1) without trials.

    Source: E. B. Wilson, 1927; it stays inside 0 to 1 and is right near both ends, where the
    normal approximation is not. Neighbours of one query are not independent, so the true interval
    is somewhat wider.

    Args:
        hits: successes, 0 to `trials`.
        trials: 0 or more.
    """
    if trials == 0:
        return 0.0, 1.0
    share, square = hits / trials, Z95 * Z95
    scale = 1.0 + square / trials
    middle = (share + square / (2 * trials)) / scale
    half = Z95 * math.sqrt(share * (1 - share) / trials + square / (4 * trials**2)) / scale
    low = 0.0 if hits == 0 else max(0.0, middle - half)
    return low, (1.0 if hits == trials else min(1.0, middle + half))


def count_right(found: Scores, truth: Scores) -> tuple[int, int]:
    """How many of the true neighbours were found, and how many there are.

    Args:
        found: (queries, k) exact scores of the rows an index returned; -inf for none. A row must
            not stand twice in one answer.
        truth: (queries, k) scores of the true neighbours, best first; -inf beyond the last one.
    """
    real = np.isfinite(truth)
    wanted = real.sum(axis=1)
    last = np.where(real, truth, np.inf).min(axis=1, initial=np.inf)
    slack = TOLERANCE * np.maximum(1.0, np.abs(np.where(np.isfinite(last), last, 0.0)))
    near = np.isfinite(found) & (found >= (last - slack)[:, None])
    right = np.minimum(near.sum(axis=1), wanted)
    return int(right.sum()), int(wanted.sum())


def measure_recall(
    found: Scores, truth: Scores, parameters: Mapping[str, int], seed: int
) -> RecallMeasure:
    """Recall@k with its interval; k is the width of `truth`.

    Args:
        found: as in `count_right`.
        truth: as in `count_right`.
        parameters: of the search that found them.
        seed: of the sample of queries.
    """
    right, wanted = count_right(found, truth)
    low, high = wilson_interval(right, wanted)
    share = right / wanted if wanted else 1.0
    return RecallMeasure(share, low, high, len(truth), truth.shape[1], seed, dict(parameters))


def tune_search(
    sweep: Iterable[Mapping[str, int]],
    measure: Callable[[Mapping[str, int]], RecallMeasure],
    target: float,
) -> TuningVerdict:
    """Find the first parameters, cheapest first, whose recall reaches the target.

    Args:
        sweep: parameters of search, cheapest first.
        measure: measures one of them.
        target: least recall, 0 to 1.

    Returns:
        `chosen` is None when none reaches it: such an index must not be published.
    """
    tried: list[RecallMeasure] = []
    for parameters in sweep:
        tried.append(measure(parameters))
        if tried[-1].recall >= target:
            return TuningVerdict(tried[-1], tuple(tried), f"{tried[-1]}; wanted {target:g}")
    if not tried:
        return TuningVerdict(None, (), "there were no parameters to try")
    best = max(tried, key=lambda one: one.recall)
    return TuningVerdict(None, tuple(tried), f"best is {best}; wanted {target:g}")
