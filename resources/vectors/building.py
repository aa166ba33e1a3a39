"""Brings a network's index up to date: reads what came, adds a delta, folds or rebuilds, publishes.

Nothing is visible before the last step (`VectorStore.publish`), and nothing is published whose
recall is known to be below the policy's target. Killed anywhere before, the builder leaves a folder
of its own in `work`, which another removes a day later, and perhaps a staged generation; the next
run begins anew from what is published.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import shutil
import socket
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from fleet.errors import CorruptObjectError, NotFoundError
from fleet.ports.index_backend import IndexBackend
from fleet.ports.vector_store import GenerationFiles, VectorStore
from fleet.vectors.manifest_json import manifest_bytes
from fleet.vectors.records import (
    EmbeddingBatch,
    EmbeddingModel,
    IndexManifest,
    IndexPointer,
    VectorPolicy,
)
from fleet.vectors.refresh import (
    RefreshAction,
    RefreshPlan,
    RowChanges,
    diff_rows,
    plan_refresh,
)
from fleet.vectors.tuning import TuningVerdict
from resources.vectors.delta_updates import DeltaMaker, MadeDelta
from resources.vectors.embedding_rows import deleted_of, ids_of
from resources.vectors.filling import BuiltIndex, IndexFiller
from resources.vectors.generation_rows import (
    GenerationRows,
    live_mask,
    newest_live,
    open_generation_rows,
    save_delta,
    save_rows,
)
from resources.vectors.local_copies import INDEX_FILE, ROWS_FILE
from resources.vectors.network_embeddings import Embeddings, read_embeddings, read_newest

if TYPE_CHECKING:
    import pyarrow as pa

_FOLDER = "stateroom-index-"
LEFT_AGE_S = 86_400.0
"""Files that are being made lie for minutes; a folder that was last written to a day ago is left
over."""


class RefreshOutcome(NamedTuple):
    """What a refresh did."""

    plan: RefreshPlan
    manifest: IndexManifest | None
    """Of the generation that was published; None when nothing had to be done."""
    pointer: IndexPointer | None
    tuning: TuningVerdict | None


class _Held(NamedTuple):
    """What is published now, as far as it can be read."""

    pointer: IndexPointer | None
    files: GenerationFiles | None
    """None when there is no generation, or none that can be built upon."""
    rows: GenerationRows | None
    batches: list[EmbeddingBatch]
    """Since then; all of them without a generation to build upon."""
    damage: str
    """Why there is none to build upon, where there should be; empty otherwise."""


class IndexBuilder:
    """Refreshes the index of one network after another; one builder per network at a time.

    Args:
        store: of embeddings and generations.
        backend: builds and measures.
        policy: how good, how fresh.
        now: UTC clock.
        work: folder for files that are being built; None: the system's.
        reason: why this backend, for the manifest; asked when it is written, so that it can name
            what fell back.
        check: called right before the publication; what it raises stops it. A lease is proven so.
    """

    def __init__(
        self,
        store: VectorStore,
        backend: IndexBackend,
        policy: VectorPolicy,
        now: Callable[[], datetime],
        work: Path | None = None,
        reason: str | Callable[[], str] = "",
        check: Callable[[], None] | None = None,
    ) -> None:
        """Nothing is read yet."""
        self._store = store
        self._backend = backend
        self._policy = policy
        self._now = now
        self._work = work
        self._given_reason = reason
        self._check = check
        self._filler = IndexFiller(backend, policy)
        self._deltas = DeltaMaker(backend, policy)

    def _reason(self) -> str:
        return self._given_reason if isinstance(self._given_reason, str) else self._given_reason()

    def refresh(
        self, network_id: str, model: EmbeddingModel, fence: int = 0, *, anew: str = ""
    ) -> RefreshOutcome:
        """Make the index hold all embeddings; nothing is done when it does.

        Args:
            network_id: the network.
            model: whose embeddings.
            fence: term of the lease under which this builder works.
            anew: why it is to be built from nothing, whatever has changed; empty: as planned.

        Raises:
            RecallTooLowError: even a rebuilt index stays below the recall target; nothing changed.
            FencedError: another builder has published meanwhile, or `check` found the lease lost;
                nothing changed.
            InvalidInputError: two notes of the network have one number; both are named.
            CorruptObjectError: embeddings are damaged; nothing changed. A damaged generation is a
                reason to rebuild.
        """
        held = self._held(network_id, model)
        changed = read_newest(self._store, held.batches, model)
        changes = _changes(held.rows, changed)
        plan = plan_refresh(held.files and held.files.manifest, changes, model, self._policy)
        if held.damage:
            plan = plan._replace(action=RefreshAction.REBUILD, reasons=(held.damage,))
        if anew and (held.pointer is not None or plan.new):
            plan = plan._replace(action=RefreshAction.REBUILD, reasons=(anew,))
        if plan.action is RefreshAction.NOTHING:
            return RefreshOutcome(plan, None, None, None)
        if plan.action is RefreshAction.UPDATE and held.files is not None and held.rows is not None:
            began = time.monotonic()
            sequence = held.batches[-1].sequence
            made = self._deltas.make(held.files, held.rows, changed, changes, sequence)
            if isinstance(made, MadeDelta):
                seconds = time.monotonic() - began
                return self._publish_delta(plan, held, made, fence, seconds)
            plan = plan._replace(action=RefreshAction.FOLD, reasons=(made,))
        return self._write_anew(network_id, model, fence, held, plan)

    def _held(self, network_id: str, model: EmbeddingModel) -> _Held:
        """The current generation with what came since, or all batches and why."""
        pointer = self._store.current(network_id)
        damage = ""
        if pointer is not None:
            try:
                files = self._store.open(pointer)
                if files.manifest.model == model:
                    rows = open_generation_rows(files)
                    after = files.manifest.sequence
                    batches = self._store.batches(network_id, model, after)
                    return _Held(pointer, files, rows, batches, "")
                damage = _other_model(files.manifest, model)
            except (CorruptObjectError, NotFoundError) as error:
                damage = f"the current generation is damaged, or too old to build upon: {error}"
        return _Held(pointer, None, None, self._store.batches(network_id, model), damage)

    def _write_anew(
        self, network_id: str, model: EmbeddingModel, fence: int, held: _Held, plan: RefreshPlan
    ) -> RefreshOutcome:
        """Fold or rebuild: both write whole files and are measured against all embeddings."""
        everything = read_embeddings(self._store, self._store.batches(network_id, model), model)
        count = everything.table.num_rows
        built, base, after = None, "", 0
        if plan.action is RefreshAction.FOLD and held.files is not None:
            after = held.files.manifest.index_sequence
            since = [batch for batch in everything.batches if batch.sequence > after]
            built = self._filler.fold(
                held.files, read_newest(self._store, since, model), everything
            )
            base = held.files.manifest.generation
            if built.tuning.chosen is None and count:
                reasons = (f"after the fold: {built.tuning.reason}",)
                plan = plan._replace(action=RefreshAction.REBUILD, reasons=reasons)
                built = None
        if built is None:
            churn = (plan.updated + plan.deleted) / max(1, count)
            built = self._filler.build(everything, model, churn if held.pointer else 0.0)
            base, after = "", 0
        at = self._now().astimezone(UTC)
        manifest = self._manifest(network_id, model, built, everything, at)
        manifest = manifest._replace(
            base_generation=base,
            batches=tuple(one.sha256 for one in everything.batches if one.sequence > after),
        )
        with self._folder() as folder:
            built.new_index.save(str(folder / INDEX_FILE))
            save_rows(built.rows, str(folder / ROWS_FILE))
            index, rows = str(folder / INDEX_FILE), str(folder / ROWS_FILE)
            staged = self._store.stage(manifest, index, rows)
        pointer = self._publish(staged, held.pointer, fence, at, plan.action)
        return RefreshOutcome(plan, staged, pointer, built.tuning)

    def _publish_delta(
        self, plan: RefreshPlan, held: _Held, made: MadeDelta, fence: int, seconds: float
    ) -> RefreshOutcome:
        """Store a delta and point to it."""
        at = self._now().astimezone(UTC)
        manifest = made.manifest._replace(
            generation=_new_name(at),
            batches=tuple(batch.sha256 for batch in held.batches),
            builder=_builder(),
            backend=self._backend.name,
            backend_reason=self._reason(),
            built_at=at,
            build_s=seconds,
        )
        with self._folder() as folder:
            path = str(folder / manifest.deltas[-1].file)
            save_delta(made.delta, path)
            staged = self._store.stage_delta(manifest, path)
        pointer = self._publish(staged, held.pointer, fence, at, plan.action)
        return RefreshOutcome(plan, staged, pointer, made.tuning)

    def _manifest(
        self,
        network_id: str,
        model: EmbeddingModel,
        built: BuiltIndex,
        everything: Embeddings,
        at: datetime,
    ) -> IndexManifest:
        """Of files made anew; what it was made from is still missing."""
        live = live_mask(built.rows)
        chosen = built.tuning.chosen
        return IndexManifest(
            network_id=network_id,
            generation=_new_name(at),
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
            sequence=everything.batches[-1].sequence if everything.batches else 0,
            batches=(),
            base_generation="",
            newest_note_at=newest_live(built.rows, live),
            parts=(),
            builder=_builder(),
            backend=self._backend.name,
            backend_reason=self._reason(),
            built_at=at,
            build_s=built.seconds,
        )

    def _publish(
        self,
        staged: IndexManifest,
        before: IndexPointer | None,
        fence: int,
        at: datetime,
        action: RefreshAction,
    ) -> IndexPointer:
        following = IndexPointer(
            staged.network_id,
            1 if before is None else before.number + 1,
            staged.generation,
            hashlib.sha256(manifest_bytes(staged)).hexdigest(),
            fence,
            at,
            str(action),
        )
        if self._check is not None:
            self._check()
        return self._store.publish(staged, following)

    @contextmanager
    def _folder(self) -> Iterator[Path]:
        """A folder of our own for files that are being made."""
        folder = Path(tempfile.mkdtemp(prefix=_FOLDER, dir=self._work))
        try:
            _remove_left(folder.parent)
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def _remove_left(work: Path) -> None:
    """Remove folders of builders that were killed; what another user's builder left stays."""
    for path in work.glob(f"{_FOLDER}*"):
        with suppress(FileNotFoundError):  # another builder removes it, too
            if time.time() - path.stat().st_mtime > LEFT_AGE_S:
                shutil.rmtree(path, ignore_errors=True)


def _new_name(at: datetime) -> str:
    """Of a generation: sorts by time, never used twice."""
    return f"{at:%Y%m%dT%H%M%S%f}Z-{secrets.token_hex(4)}"


def _builder() -> str:
    return f"{socket.gethostname()}/{os.getpid()}"


def _other_model(manifest: IndexManifest, model: EmbeddingModel) -> str:
    return f"made with model {manifest.model.model_id}, now {model.model_id}"


def _changes(rows: GenerationRows | None, changed: pa.Table) -> RowChanges:
    row_ids = np.zeros(0, np.int64) if rows is None else ids_of(rows.table)
    return diff_rows(row_ids, ids_of(changed), deleted_of(changed))
