"""Brings a network's index up to date: reads what came, updates or rebuilds, measures, publishes.

Nothing is visible before the last step (`VectorStore.publish`), and nothing is published whose
measured recall is below the policy's target. Killed anywhere before, the builder leaves a folder of
its own in `work` and perhaps a staged generation; the next run begins anew from what is published.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import shutil
import socket
import tempfile
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from fleet.errors import CorruptObjectError, NotFoundError, RecallTooLowError
from fleet.ports.embedder import Vectors
from fleet.ports.index_backend import IndexBackend, Mask, Rows, VectorIndex
from fleet.ports.vector_store import GenerationFiles, VectorStore
from fleet.vectors.choice import choose_index
from fleet.vectors.manifest_json import manifest_bytes
from fleet.vectors.records import (
    NOTE_COLUMNS,
    EmbeddingModel,
    IndexKind,
    IndexManifest,
    IndexPointer,
    IndexSpec,
    VectorPolicy,
)
from fleet.vectors.refresh import (
    RefreshAction,
    RefreshPlan,
    RowChanges,
    diff_rows,
    plan_refresh,
)
from fleet.vectors.sampling import sample_rows
from fleet.vectors.tuning import TuningVerdict
from resources.vectors.embedding_rows import (
    deleted_of,
    ids_of,
    vectors_of,
)
from resources.vectors.generation_rows import (
    live_mask,
    mark_dead,
    newest_live,
    open_rows,
    save_rows,
)
from resources.vectors.local_copies import INDEX_FILE, ROWS_FILE
from resources.vectors.measuring import MeasuredIndex, tune_index
from resources.vectors.network_embeddings import Embeddings, read_embeddings, read_newest

if TYPE_CHECKING:
    import pyarrow as pa

UPDATE_QUERIES_SHARE = 10
"""An update is measured with a tenth of the queries: measuring must not cost more than it does."""

STRANGERS_MIN = 30
"""Fewer new notes than this say little about recall; then notes of the index are asked too, and the
lower of the recall found and the one before is kept."""


class RefreshOutcome(NamedTuple):
    """What a refresh did."""

    plan: RefreshPlan
    manifest: IndexManifest | None
    """Of the generation that was published; None when nothing had to be done."""
    pointer: IndexPointer | None
    tuning: TuningVerdict | None


class _Built(NamedTuple):
    """An index that is not stored yet."""

    new_index: VectorIndex
    rows: pa.Table
    """One for each row number, `NOTE_COLUMNS`."""
    spec: IndexSpec
    tuning: TuningVerdict
    trained_imbalance: float
    trained_live: int
    base: str
    seconds: float


class IndexBuilder:
    """Refreshes the index of one network after another; one builder per network at a time.

    Args:
        store: of embeddings and generations.
        backend: builds and measures.
        policy: how good, how fresh.
        now: UTC clock.
        work: folder for files that are being built; None: the system's.
        reason: why this backend, for the manifest.
    """

    def __init__(
        self,
        store: VectorStore,
        backend: IndexBackend,
        policy: VectorPolicy,
        now: Callable[[], datetime],
        work: Path | None = None,
        reason: str = "",
    ) -> None:
        """Nothing is read yet."""
        self._store = store
        self._backend = backend
        self._policy = policy
        self._now = now
        self._work = work
        self._reason = reason

    def refresh(self, network_id: str, model: EmbeddingModel, fence: int = 0) -> RefreshOutcome:
        """Make the index hold all embeddings; nothing is done when it does.

        Args:
            network_id: the network.
            model: whose embeddings.
            fence: term of the lease under which this builder works.

        Raises:
            RecallTooLowError: even a rebuilt index stays below the recall target; nothing changed.
            FencedError: another builder has published meanwhile; nothing changed.
            InvalidInputError: two notes of the network have one number; both are named.
            CorruptObjectError: embeddings are damaged; nothing changed. A damaged generation is a
                reason to rebuild.
        """
        pointer = self._store.current(network_id)
        files, damage = self._current(pointer)
        held = files if files is not None and files.manifest.model == model else None
        rows = open_rows(held.rows_path) if held is not None else None
        after = held.manifest.sequence if held is not None else 0
        batches = self._store.batches(network_id, model)
        changed = read_newest(self._store, batches[after:], model)
        changes = _changes(rows, changed)
        plan = plan_refresh(files and files.manifest, changes, model, self._policy)
        if damage:
            plan = plan._replace(action=RefreshAction.REBUILD, reasons=(damage,))
        if plan.action is RefreshAction.NOTHING:
            return RefreshOutcome(plan, None, None, None)
        everything = read_embeddings(self._store, batches, model)
        built = None
        if plan.action is RefreshAction.UPDATE and held is not None and rows is not None:
            built = self._update(held.index_path, held.manifest, rows, changed, changes, everything)
        if built is None or (built.tuning.chosen is None and everything.table.num_rows):
            if built is not None:
                reasons = (f"after the update: {built.tuning.reason}",)
                plan = plan._replace(action=RefreshAction.REBUILD, reasons=reasons)
            churn = (plan.updated + plan.deleted) / max(1, everything.table.num_rows)
            built = self._rebuild(everything, model, churn if pointer else 0.0)
        manifest, published = self._publish(network_id, model, fence, pointer, built, everything)
        return RefreshOutcome(plan, manifest, published, built.tuning)

    def _current(self, pointer: IndexPointer | None) -> tuple[GenerationFiles | None, str]:
        """The current generation, or what is wrong with it."""
        if pointer is None:
            return None, ""
        try:
            return self._store.open(pointer), ""
        except (CorruptObjectError, NotFoundError) as error:
            return None, f"the current generation is damaged: {error}"

    def _rebuild(self, everything: Embeddings, model: EmbeddingModel, churn: float) -> _Built:
        """Choose, train, fill and tune an index of all embeddings; the questions go in last."""
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
        return _Built(index, rows, spec, tuning, index.imbalance(), live, "", seconds)

    def _update(
        self,
        index_path: str,
        manifest: IndexManifest,
        rows: pa.Table,
        changed: pa.Table,
        changes: RowChanges,
        everything: Embeddings,
    ) -> _Built:
        """Take dead rows out, or mark them; measure; add new ones behind."""
        import pyarrow as pa

        began = time.monotonic()
        index = self._backend.open(index_path, writable=True)
        can_remove = _can_remove(manifest)
        if can_remove and len(changes.dead_rows):
            index.remove(changes.dead_rows)
        seconds = time.monotonic() - began
        kept = mark_dead(rows, changes.dead_rows)
        added = changed.take(changes.added)
        sweep = _sweep_again(manifest, self._policy)
        tuning = self._retuned(index, manifest, ids_of(kept), ids_of(added), everything, sweep)
        began = time.monotonic()
        numbers = np.arange(rows.num_rows, rows.num_rows + added.num_rows, dtype=np.int64)
        index.add(vectors_of(added), numbers)
        seconds += time.monotonic() - began
        grown = pa.concat_tables([kept, added.select(list(NOTE_COLUMNS))])
        spec = IndexSpec(
            manifest.kind, manifest.factory, manifest.build, sweep, can_remove, "as it was"
        )
        return _Built(
            index,
            grown,
            spec,
            tuning,
            manifest.trained_imbalance,
            manifest.trained_live,
            manifest.generation,
            seconds,
        )

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

    def _publish(
        self,
        network_id: str,
        model: EmbeddingModel,
        fence: int,
        pointer: IndexPointer | None,
        built: _Built,
        everything: Embeddings,
    ) -> tuple[IndexManifest, IndexPointer]:
        at = self._now().astimezone(UTC)
        live = live_mask(built.rows)
        chosen = built.tuning.chosen
        after = 0 if not built.base else self._store.manifest(network_id, built.base).sequence
        manifest = IndexManifest(
            network_id=network_id,
            generation=f"{at:%Y%m%dT%H%M%S%f}Z-{secrets.token_hex(4)}",
            model=model,
            kind=built.spec.kind,
            factory=built.spec.factory,
            ntotal=built.new_index.ntotal,
            rows=built.rows.num_rows,
            live=int(live.sum()),
            search=dict(chosen.parameters) if chosen else {},
            build=dict(built.spec.build),
            seed=self._policy.seed,
            recall=chosen if chosen and chosen.queries else None,
            list_imbalance=built.new_index.imbalance(),
            trained_imbalance=built.trained_imbalance,
            trained_live=built.trained_live,
            sequence=len(everything.batches),
            batches=tuple(batch.sha256 for batch in everything.batches[after:]),
            base_generation=built.base,
            newest_note_at=newest_live(built.rows, live),
            parts=(),
            builder=f"{socket.gethostname()}/{os.getpid()}",
            backend=self._backend.name,
            backend_reason=self._reason,
            built_at=at,
            build_s=built.seconds,
        )
        staged = self._stage(manifest, built)
        following = IndexPointer(
            network_id,
            1 if pointer is None else pointer.number + 1,
            staged.generation,
            hashlib.sha256(manifest_bytes(staged)).hexdigest(),
            fence,
            at,
            "update" if built.base else "rebuild",
        )
        self._store.publish(staged, following)
        return staged, following

    def _stage(self, manifest: IndexManifest, built: _Built) -> IndexManifest:
        """Write both files in a folder of our own and store them."""
        folder = Path(tempfile.mkdtemp(prefix="stateroom-index-", dir=self._work))
        try:
            built.new_index.save(str(folder / INDEX_FILE))
            save_rows(built.rows, str(folder / ROWS_FILE))
            return self._store.stage(manifest, str(folder / INDEX_FILE), str(folder / ROWS_FILE))
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def _questions_last(everything: Embeddings, asked: Rows) -> tuple[Embeddings, Rows]:
    """The same embeddings with some of them at the end, and where these are then."""
    count = len(everything.vectors)
    order = np.concatenate((np.setdiff1d(np.arange(count), asked, assume_unique=True), asked))
    moved = everything._replace(
        table=everything.table.take(order), vectors=everything.vectors[order]
    )
    return moved, np.arange(count - len(asked), count, dtype=np.int64)


def _changes(rows: pa.Table | None, changed: pa.Table) -> RowChanges:
    row_ids = np.zeros(0, np.int64) if rows is None else ids_of(rows)
    return diff_rows(row_ids, ids_of(changed), deleted_of(changed))


def _can_remove(manifest: IndexManifest) -> bool:
    """Whether the kind that the manifest names removes rows."""
    return not manifest.factory.startswith("HNSW") and "Refine" not in manifest.factory


def _sweep_again(manifest: IndexManifest, policy: VectorPolicy) -> tuple[Mapping[str, int], ...]:
    """What was tuned before, then everything that costs more."""
    spec = choose_index(max(1, manifest.trained_live), manifest.model.dimensions, 0.0, policy)
    if manifest.factory != spec.factory:
        high = choose_index(max(1, manifest.trained_live), manifest.model.dimensions, 1.0, policy)
        spec = high if high.factory == manifest.factory else spec
    if manifest.search not in spec.sweep:
        return (dict(manifest.search),)
    return spec.sweep[spec.sweep.index(manifest.search) :]
