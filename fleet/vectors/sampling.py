"""Which rows stand in for queries when recall is measured: the same ones for the same seed."""

from __future__ import annotations

import numpy as np

from fleet.ports.index_backend import Mask, Rows


def sample_rows(live: Mask, count: int, seed: int) -> Rows:
    """Up to `count` live rows, drawn without repetition, ascending; all when there are fewer.

    Args:
        live: (rows,) which rows may be drawn.
        count: 1 or more.
        seed: of the draw.
    """
    rows = np.flatnonzero(live).astype(np.int64)
    if len(rows) <= count:
        return rows
    drawn = np.random.default_rng(seed).choice(rows, size=count, replace=False)
    drawn.sort()
    return drawn
