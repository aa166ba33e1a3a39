"""Index files made anew: built from all embeddings, or the old one with its changes folded in.

Both are measured with questions they do not hold, so that nothing is published whose recall was
not seen; what is returned lies in memory, and nobody else knows of it.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from fleet.errors import RecallTooLowError
from fleet.ports.embedder import Vectors
from fleet.ports.index_backend import IndexBackend, Mask, Rows, VectorIndex
from fleet.ports.vector_store import GenerationFiles
from fleet.vectors.choice import choose_index
from fleet.vectors.records import (
    NOTE_COLUMNS,
    EmbeddingModel,
    IndexKind,
    IndexManifest,
    IndexSpec,
    VectorPolicy,
)
from fleet.vectors.refresh import diff_rows
from fleet.vectors.sampling import sample_rows
from fleet.vectors.tuning import TuningVerdict
from resources.vectors.embedding_rows import deleted_of, ids_of, vectors_of
from resources.vectors.generation_rows import mark_dead, open_rows
from resources.vectors.measuring import STRANGERS_MIN, MeasuredIndex, tune_index
from resources.vectors.network_embeddings import Embeddings

if TYPE_CHECKING:
    import pyarrow as pa

UPDATE_QUERIES_SHARE = 10
"""A fold is measured with a tenth of the queries: measuring must not cost more than it does."""


class BuiltIndex(NamedTuple):
    """An index that is not stored yet."""

    new_index: VectorIndex
    rows: pa.Table
    """One for each row number, `NOTE_COLUMNS`."""
    spec: IndexSpec
    tuning: TuningVerdict
    trained_imbalance: float
    trained_live: int
    seconds: float


class IndexFiller:
    """Makes index files of embeddings.

    Args:
        backend: builds and measures.
        policy: how good.
    """

    def __init__(self, backend: IndexBackend, policy: VectorPolicy) -> None:
        """Nothing is computed yet."""
        self._backend = backend
        self._policy = policy

    def build(self, everything: Embeddings, model: EmbeddingModel, churn: float) -> BuiltIndex:
        """Choose, train, fill and tune an index of all embeddings; the questions go in last.

        Args:
            everything: all live embeddings.
            model: what made them.
            churn: share of the notes changed or deleted since the last generation.

        Raises:
            RecallTooLowError: it stays below the recall target.
        """
        live = len(everything.vectors)
        spec = choose_index(live, model.dimensions, churn, self._policy)
        asked = self._questions(everything.vectors, None)
        is_held_out = spec.kind is not IndexKind.FLAT
        if is_held_out:
            everything, asked = _questions_last(everything, asked)
        first = live - len(asked) * is_held_out
        began = time.monotonic()
        start = everything.vectors[:first]
        index = self._backend.build(spec, start, model.metric, self._policy.seed)
        seconds = time.monotonic() - began
        note_ids = ids_of(everything.table)
        inside = np.arange(live) < first
        measured = MeasuredIndex(index, note_ids[:first], everything.vectors, note_ids, inside)
        tuning = tune_index(self._backend, measured, asked, spec.sweep, model.metric, self._policy)
        if tuning.chosen is None:
            raise RecallTooLowError(
                f"index {spec.factory} of {live} notes is not good enough: {tuning.reason}",
                hint="Nothing was published. Lower vectors.recall_target, or report the data.",
            )
        began = time.monotonic()
        if first < live:
            index.add(everything.vectors[first:], np.arange(first, live, dtype=np.int64))
        seconds += time.monotonic() - began
        rows = everything.table.select(list(NOTE_COLUMNS))
        return BuiltIndex(index, rows, spec, tuning, index.imbalance(), live, seconds)

    def fold(self, files: GenerationFiles, since: pa.Table, everything: Embeddings) -> BuiltIndex:
        """Take dead rows out of an index file, or mark them; measure; add new ones behind.

        Args:
            files: of the generation; its deltas are not read.
            since: rows of all batches since its index file, each note once, deletions included.
            everything: all live embeddings.
        """
        import pyarrow as pa

        manifest = files.manifest
        rows = open_rows(files.rows_path)
        changes = diff_rows(ids_of(rows), ids_of(since), deleted_of(since))
        began = time.monotonic()
        index = self._backend.open(files.index_path, writable=True)
        can_remove = _can_remove(manifest)
        if can_remove and len(changes.dead_rows):
            index.remove(changes.dead_rows)
        seconds = time.monotonic() - began
        kept = mark_dead(rows, changes.dead_rows)
        added = since.take(changes.added)
        sweep = sweep_again(manifest, self._policy)
        tuning = self._retuned(index, manifest, ids_of(kept), ids_of(added), everything, sweep)
        began = time.monotonic()
        numbers = np.arange(rows.num_rows, rows.num_rows + added.num_rows, dtype=np.int64)
        index.add(vectors_of(added), numbers)
        seconds += time.monotonic() - began
        grown = pa.concat_tables([kept, added.select(list(NOTE_COLUMNS))])
        spec = IndexSpec(
            manifest.kind, manifest.factory, manifest.build, sweep, can_remove, "as it was"
        )
        trained = (manifest.trained_imbalance, manifest.trained_live)
        return BuiltIndex(index, grown, spec, tuning, *trained, seconds)

    def _retuned(
        self,
        index: VectorIndex,
        manifest: IndexManifest,
        row_ids: Rows,
        new_ids: Rows,
        everything: Embeddings,
        sweep: tuple[Mapping[str, int], ...],
    ) -> TuningVerdict:
        """Measure an index before new notes go in, with these as questions where they suffice."""
        vectors, note_ids = everything.vectors, ids_of(everything.table)
        is_new = np.isin(note_ids, new_ids)
        asked = self._questions(vectors, is_new)
        is_held_out = len(asked) >= STRANGERS_MIN
        if not is_held_out:
            asked = self._questions(vectors, ~is_new)
        measured = MeasuredIndex(index, row_ids, vectors, note_ids, ~is_new)
        metric = manifest.model.metric
        tuning = tune_index(self._backend, measured, asked, sweep, metric, self._policy)
        if is_held_out or tuning.chosen is None or manifest.recall is None:
            return tuning
        lower = min(tuning.chosen, manifest.recall, key=lambda one: one.recall)
        return tuning._replace(chosen=lower._replace(parameters=tuning.chosen.parameters))

    def _questions(self, vectors: Vectors, among: Mask | None) -> Rows:
        """Which notes are asked: a tenth of all at most, or fewer of an update; no zero vector."""
        wanted = min(self._policy.sample_queries, max(1, len(vectors) // 10))
        askable = np.asarray(vectors.any(axis=1))
        if among is not None:
            askable &= among
            wanted = max(1, wanted // UPDATE_QUERIES_SHARE)
        return sample_rows(askable, wanted, self._policy.seed)


def _questions_last(everything: Embeddings, asked: Rows) -> tuple[Embeddings, Rows]:
    """The same embeddings with some of them at the end, and where these are then."""
    count = len(everything.vectors)
    order = np.concatenate((np.setdiff1d(np.arange(count), asked, assume_unique=True), asked))
    moved = everything._replace(
        table=everything.table.take(order), vectors=everything.vectors[order]
    )
    return moved, np.arange(count - len(asked), count, dtype=np.int64)


def _can_remove(manifest: IndexManifest) -> bool:
    """Whether the kind that the manifest names removes rows."""
    return not manifest.factory.startswith("HNSW") and "Refine" not in manifest.factory


def sweep_again(manifest: IndexManifest, policy: VectorPolicy) -> tuple[Mapping[str, int], ...]:
    """What was tuned before, then everything that costs more."""
    spec = choose_index(max(1, manifest.trained_live), manifest.model.dimensions, 0.0, policy)
    if manifest.factory != spec.factory:
        high = choose_index(max(1, manifest.trained_live), manifest.model.dimensions, 1.0, policy)
        spec = high if high.factory == manifest.factory else spec
    if manifest.search not in spec.sweep:
        return (dict(manifest.search),)
    return spec.sweep[spec.sweep.index(manifest.search) :]
