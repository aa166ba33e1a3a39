"""What to do about notes that came after an index: nothing, an update, or a rebuild; and why.

An update puts changes beside the index file and costs what they cost. When there are too many
beside it, they are folded in: the files are written anew, by adding and removing. A rebuild is for
an index that has grown bad, never for one that has grown old.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from fleet.ports.index_backend import Mask, Rows
from fleet.vectors.choice import FLAT_BELOW, choose_index
from fleet.vectors.records import (
    NO_ROW,
    EmbeddingModel,
    IndexDelta,
    IndexKind,
    IndexManifest,
    RecallMeasure,
    VectorPolicy,
)

DELTA_ROWS_MIN = 1000
"""So many rows beside an index are never too many: comparing them takes some 0.1 ms."""


class RefreshAction(StrEnum):
    """What a refresh does."""

    NOTHING = "nothing"
    UPDATE = "update"
    FOLD = "fold"
    REBUILD = "rebuild"


class RowChanges(NamedTuple):
    """What changes do to the rows of an index."""

    dead_rows: Rows
    """Rows of notes that were changed or deleted."""
    added: npt.NDArray[np.int64]
    """Positions among the changes whose vectors become new rows, in order."""
    new: int
    updated: int
    deleted: int

    @property
    def notes(self) -> int:
        """Notes that differ; a deletion of an unknown note is none."""
        return self.new + self.updated + self.deleted


class RefreshPlan(NamedTuple):
    """What to do, and every reason for it."""

    action: RefreshAction
    reasons: tuple[str, ...]
    new: int
    updated: int
    deleted: int


def newest_changes(external_ids: Rows) -> npt.NDArray[np.int64]:
    """Position of the last change of each note, ascending: earlier ones do not count.

    Args:
        external_ids: of changes, in the order in which they were committed.
    """
    last = len(external_ids) - 1
    _, first_of_reversed = np.unique(external_ids[::-1], return_index=True)
    return np.sort(last - first_of_reversed).astype(np.int64)


def diff_rows(row_ids: Rows, changed_ids: Rows, deleted: Mask) -> RowChanges:
    """Translate changes of notes into changes of rows.

    Args:
        row_ids: external id of each row of the index; `NO_ROW` for a dead one.
        changed_ids: external ids of changed notes, each once.
        deleted: (changes,) which of them are gone.
    """
    live_rows = np.flatnonzero(row_ids != NO_ROW)
    ordered = live_rows[np.argsort(row_ids[live_rows], kind="stable")]
    known = row_ids[ordered]
    places = np.searchsorted(known, changed_ids)
    held = places < len(known)
    held[held] = known[places[held]] == changed_ids[held]
    dead_rows = np.sort(ordered[places[held]]).astype(np.int64)
    added = np.flatnonzero(~deleted).astype(np.int64)
    return RowChanges(
        dead_rows,
        added,
        new=int((~held & ~deleted).sum()),
        updated=int((held & ~deleted).sum()),
        deleted=int((held & deleted).sum()),
    )


def plan_refresh(
    manifest: IndexManifest | None,
    changes: RowChanges,
    model: EmbeddingModel,
    policy: VectorPolicy,
    *,
    recall: RecallMeasure | None = None,
) -> RefreshPlan:
    """Decide how an index catches up.

    Args:
        manifest: of the current generation; None when there is none.
        changes: of rows since then; with no index, of an index without rows.
        model: what makes vectors now.
        policy: thresholds.
        recall: measured again since publication, where somebody has; None: not judged.

    Returns:
        `REBUILD` with every reason for it, `FOLD` with its reason, `UPDATE` with the numbers, or
        `NOTHING`.
    """
    counts = (changes.new, changes.updated, changes.deleted)
    told = f"{changes.new} new, {changes.updated} changed, {changes.deleted} deleted notes"
    if manifest is None:
        if not changes.new:
            return RefreshPlan(RefreshAction.NOTHING, ("there is no note yet",), *counts)
        return RefreshPlan(RefreshAction.REBUILD, (f"there is no index yet: {told}",), *counts)
    reasons = (*_wrong(manifest, model, recall, policy), *_outgrown(manifest, changes, policy))
    if reasons:
        return RefreshPlan(RefreshAction.REBUILD, reasons, *counts)
    if not changes.notes:
        return RefreshPlan(RefreshAction.NOTHING, ("no note has changed",), *counts)
    crowded = _crowded(manifest, changes, policy)
    if crowded:
        return RefreshPlan(RefreshAction.FOLD, (told, crowded), *counts)
    return RefreshPlan(RefreshAction.UPDATE, (told,), *counts)


def select_swallowed(deltas: Sequence[IndexDelta], changes: int) -> int:
    """How many of the last deltas a new one takes in: those that are not greater than it.

    As in a binary counter, a row is written once more only when its delta at least doubles. So a
    generation has few deltas, and what all updates write is their changes times a logarithm.

    Args:
        deltas: in order.
        changes: rows that the new one adds and ends.
    """
    count = 0
    for delta in reversed(deltas):
        if delta.changes > changes:
            break
        changes += delta.changes
        count += 1
    return count


def _crowded(manifest: IndexManifest, changes: RowChanges, policy: VectorPolicy) -> str:
    """Why there would be too much beside the index file; empty when there would not."""
    if manifest.recall is None:
        return "the index was empty when it was made, so nothing of it was measured"
    limit = delta_rows_max(manifest.index_rows, policy)
    beside = sum(delta.rows for delta in manifest.deltas) + len(changes.added)
    ended = sum(delta.dead_rows for delta in manifest.deltas) + len(changes.dead_rows)
    if max(beside, ended) <= limit:
        return ""
    return f"{beside} rows beside an index of {manifest.index_rows}, {ended} ended; most is {limit}"


def delta_rows_max(index_rows: int, policy: VectorPolicy) -> int:
    """Most rows beside an index file: a share of it, in the bounds of what is quickly compared.

    Args:
        index_rows: row numbers of the index file.
        policy: the share.
    """
    share = int(index_rows * policy.delta_share_max)
    return min(FLAT_BELOW, max(DELTA_ROWS_MIN, share))


def _wrong(
    manifest: IndexManifest,
    model: EmbeddingModel,
    recall: RecallMeasure | None,
    policy: VectorPolicy,
) -> tuple[str, ...]:
    """Why the index is bad whatever has changed."""
    found = []
    if manifest.model != model:
        found.append(f"made with model {manifest.model.model_id}, now {model.model_id}")
    if recall is not None and recall.recall < policy.recall_target:
        found.append(f"{recall} is below {policy.recall_target:g}")
    limit = manifest.trained_imbalance * policy.imbalance_growth_max
    if manifest.kind is IndexKind.IVF and manifest.list_imbalance > limit:
        found.append(
            f"lists have drifted: imbalance {manifest.list_imbalance:.2f}, "
            f"{manifest.trained_imbalance:.2f} when trained"
        )
    return tuple(found)


def _outgrown(
    manifest: IndexManifest, changes: RowChanges, policy: VectorPolicy
) -> tuple[str, ...]:
    """Why the changes are too much for the index."""
    found = []
    live = manifest.live - len(changes.dead_rows) + len(changes.added)
    rows = manifest.rows + len(changes.added)
    if rows - live > policy.dead_share_max * rows:
        found.append(f"{rows - live} of {rows} rows dead, at most {policy.dead_share_max:.0%}")
    outgrown = live > manifest.trained_live * policy.growth_max
    if outgrown and manifest.kind is not IndexKind.FLAT:
        found.append(f"{live} notes, {manifest.trained_live} when it was built")
    elif manifest.kind is IndexKind.FLAT:
        churn = (changes.updated + changes.deleted) / live if live else 0.0
        better = choose_index(live, manifest.model.dimensions, churn, policy)
        if better.kind is not IndexKind.FLAT:
            found.append(f"{better.kind} fits better: {better.reason}")
    return tuple(found)
