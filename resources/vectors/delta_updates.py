"""An update that costs what changed: a delta beside the index file, whose parts stay shared.

Notes that are added are compared one by one, so they can only raise the share of true neighbours
that is found. Rows that end can lower it, and so can notes of another sort than before: where an
update brings enough of them, they are asked as strangers, and what was measured before stands only
while it is not contradicted.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from fleet.ports.embedder import Vectors
from fleet.ports.index_backend import IndexBackend, Mask
from fleet.ports.vector_store import GenerationFiles
from fleet.vectors.records import NOTE_COLUMNS, IndexDelta, IndexKind, IndexManifest, VectorPolicy
from fleet.vectors.refresh import RowChanges, select_swallowed
from fleet.vectors.sampling import sample_rows
from fleet.vectors.tuning import TuningVerdict
from resources.vectors.delta_index import with_deltas
from resources.vectors.embedding_rows import vectors_of
from resources.vectors.filling import sweep_again
from resources.vectors.generation_rows import (
    DeltaRows,
    GenerationRows,
    join_deltas,
    live_mask,
    make_delta_rows,
    mark_dead,
    newest_live,
    open_delta,
)
from resources.vectors.measuring import STRANGERS_MIN, probe_index

if TYPE_CHECKING:
    import pyarrow as pa

QUESTIONS_MAX = 50
"""Of an update: an exact scan of 200,000 codes takes some 5 ms a question."""

NOTES_PER_QUESTION = 100
"""So that a small update asks few questions, but never fewer than say something."""

ENDED_UNMEASURED_MAX = 0.01
"""Rows of the index file that may end, as a share, before somebody must measure again."""


class MadeDelta(NamedTuple):
    """A delta that is not stored yet."""

    manifest: IndexManifest
    """Of the new generation, but for who, when and what name; parts are those it shares."""
    delta: DeltaRows
    tuning: TuningVerdict


class DeltaMaker:
    """Makes deltas of changes.

    Args:
        backend: opens indexes and compares.
        policy: how good.
    """

    def __init__(self, backend: IndexBackend, policy: VectorPolicy) -> None:
        """Nothing is computed yet."""
        self._backend = backend
        self._policy = policy

    def make(
        self,
        files: GenerationFiles,
        rows: GenerationRows,
        changed: pa.Table,
        changes: RowChanges,
        sequence: int,
    ) -> MadeDelta | str:
        """The next generation as a delta beside this one's index file.

        Args:
            files: of the current generation.
            rows: of the same.
            changed: changed notes, each once.
            changes: of rows.
            sequence: last batch inside.

        Returns:
            The delta, or why the changes must be folded into the index file instead.
        """
        manifest = files.manifest
        kept = mark_dead(rows.table, changes.dead_rows)
        added = changed.take(changes.added)
        tuning = self._measured(files, rows, live_mask(kept), vectors_of(added), changes)
        if isinstance(tuning, str):
            return tuning
        chosen = tuning.chosen
        delta = make_delta_rows(added, changes.dead_rows)
        told, delta, shared = _joined(files, delta, sequence)
        grown = _grown(kept, added)
        live = live_mask(grown)
        following = manifest._replace(
            rows=grown.num_rows,
            live=int(live.sum()),
            search=dict(chosen.parameters) if chosen else manifest.search,
            recall=chosen,
            sequence=sequence,
            base_generation=manifest.generation,
            newest_note_at=newest_live(grown, live),
            parts=tuple(part for part in manifest.parts if part.file in shared),
            deltas=told,
        )
        return MadeDelta(following, delta, tuning)

    def _measured(
        self,
        files: GenerationFiles,
        rows: GenerationRows,
        live: Mask,
        added: Vectors,
        changes: RowChanges,
    ) -> TuningVerdict | str:
        """Whether what was measured before still holds, or what does, or why nothing can be said.

        Args:
            files: of the current generation.
            rows: of the same.
            live: (rows,) those that the changes leave.
            added: vectors of new rows, which are not inside yet.
            changes: of rows.
        """
        manifest, policy = files.manifest, self._policy
        known = TuningVerdict(manifest.recall, (), "as measured before")
        if manifest.kind is IndexKind.FLAT:
            return known
        wanted = min(QUESTIONS_MAX, max(STRANGERS_MIN, len(added) // NOTES_PER_QUESTION))
        asked = sample_rows(np.asarray(added.any(axis=1)), wanted, policy.seed)
        if len(asked) < STRANGERS_MIN:
            ended = sum(delta.dead_rows for delta in manifest.deltas) + len(changes.dead_rows)
            if ended <= ENDED_UNMEASURED_MAX * manifest.index_rows:
                return known
            return f"{ended} rows of {manifest.index_rows} ended and {len(asked)} notes to ask"
        index = self._backend.open(files.index_path)
        searched = with_deltas(self._backend, index, rows.vectors, manifest)
        sweep = sweep_again(manifest, policy)
        tuning = probe_index(searched, np.ascontiguousarray(added[asked]), live, sweep, policy)
        first = tuning.tried[0]
        if first.high >= policy.recall_target:
            return known._replace(reason=f"{first} does not contradict {manifest.recall}")
        return f"after the update: {tuning.reason}" if tuning.chosen is None else tuning


def _joined(
    files: GenerationFiles, delta: DeltaRows, sequence: int
) -> tuple[tuple[IndexDelta, ...], DeltaRows, set[str]]:
    """A delta with those before it that it takes in; all deltas then, and files that stay."""
    manifest = files.manifest
    changes = delta.table.num_rows + len(delta.dead_rows)
    count = len(manifest.deltas) - select_swallowed(manifest.deltas, changes)
    before = manifest.deltas[:count]
    swallowed = [open_delta(path, manifest.model) for path in files.delta_paths[count:]]
    after = manifest.deltas[count].after if swallowed else manifest.sequence
    if swallowed:
        delta = join_deltas([*swallowed, delta])
    named = IndexDelta(
        f"delta-{sequence:012d}.arrow",
        after,
        sequence,
        delta.table.num_rows,
        len(delta.dead_rows),
    )
    gone = {one.file for one in manifest.deltas[count:]}
    shared = {part.file for part in manifest.parts} - gone
    return (*before, named), delta, shared


def _grown(kept: pa.Table, added: pa.Table) -> pa.Table:
    import pyarrow as pa

    return pa.concat_tables([kept, added.select(list(NOTE_COLUMNS))])
