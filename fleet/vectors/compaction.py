"""Which little batches of embeddings are joined: runs between generations, newest first.

A run never goes across the last batch of a generation: whoever continues from there asks for what
came after it, and must get that and no more. A batch joins a run when it is not greater than all
that came after it, so a row is written again only when its batch at least doubles, and a run of
many batches leaves few.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import NamedTuple

from fleet.vectors.records import EmbeddingBatch


class BatchRun(NamedTuple):
    """Batches that become one: sequences from the first to the last, both inside."""

    first: int
    last: int


class CompactionPlan(NamedTuple):
    """What to join, oldest first, and why; nothing without a run."""

    runs: tuple[BatchRun, ...]
    reason: str


def plan_compaction(
    batches: Sequence[EmbeddingBatch], ends: Collection[int], batches_min: int
) -> CompactionPlan:
    """Choose the batches to join.

    Args:
        batches: all of a network, in order; objects of one joined batch stand together.
        ends: sequences after which somebody may continue: last batches of generations and of
            their index files. Nothing after the greatest of them is joined, since a builder may be
            about to publish a generation that ends anywhere there.
        batches_min: with fewer batches up to there nothing is done.
    """
    last = max(ends, default=0)
    units: list[tuple[BatchRun, int]] = []
    for batch in batches:
        run = BatchRun(batch.first_sequence, batch.sequence)
        if batch.sequence > last:
            break
        if units and units[-1][0] == run:
            units[-1] = (run, units[-1][1] + batch.rows)
        else:
            units.append((run, batch.rows))
    if len(units) < max(2, batches_min):
        told = f"{len(units)} batches up to {last}, joined from {max(2, batches_min)} on"
        return CompactionPlan((), told)
    runs = _runs(units, set(ends))
    if not runs:
        return CompactionPlan((), f"none of {len(units)} batches is small beside those after it")
    count = sum(sum(run.first <= one.first <= run.last for one, _ in units) for run in runs)
    return CompactionPlan(tuple(runs), f"{count} of {len(units)} batches become {len(runs)}")


def _runs(units: list[tuple[BatchRun, int]], ends: set[int]) -> list[BatchRun]:
    """Runs of two and more, found from the newest to the oldest."""
    found: list[BatchRun] = []
    open_run, rows, count = units[-1][0], units[-1][1], 1
    for unit, unit_rows in reversed(units[:-1]):
        if unit.last in ends or unit_rows > rows:
            if count > 1:
                found.append(open_run)
            open_run, rows, count = unit, unit_rows, 1
        else:
            open_run, rows = BatchRun(unit.first, open_run.last), rows + unit_rows
            count += 1
    if count > 1:
        found.append(open_run)
    return found[::-1]
