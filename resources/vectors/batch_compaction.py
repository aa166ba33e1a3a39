"""Joins little batches of embeddings, and removes what was joined when nobody reads it any more.

The joined rows are stored first, under names made of their content; creating the next entry of the
log of compactions is the commit. It names every batch up to its end, so readers need neither the
entries nor the data of what was joined, and those that began before find both where they were.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterator
from datetime import datetime
from typing import TYPE_CHECKING

from fleet.errors import VersionConflictError
from fleet.ports.object_store import ObjectStore
from fleet.vectors.compaction import BatchRun, CompactionPlan, plan_compaction
from fleet.vectors.records import EmbeddingBatch, EmbeddingModel
from resources.vectors.embedding_log import EmbeddingLog
from resources.vectors.embedding_objects import (
    Compaction,
    compaction_bytes,
    compaction_key,
    data_key,
    embeddings_folder,
    number_of,
    read_compaction,
)
from resources.vectors.embedding_rows import batch_bytes, deleted_of
from resources.vectors.network_embeddings import newest_rows

if TYPE_CHECKING:
    import pyarrow as pa

OBJECT_ROWS = 100_000
"""Rows of a joined object: some 110 MB with 256 dimensions."""


class BatchCompactor:
    """The part of the `VectorStore` port that joins batches.

    Args:
        store: where objects lie.
        log: of batches.
        object_rows: of a joined object; another number only for tests.
    """

    def __init__(
        self, store: ObjectStore, log: EmbeddingLog, object_rows: int = OBJECT_ROWS
    ) -> None:
        """Nothing is read yet."""
        self._store = store
        self._log = log
        self._object_rows = object_rows

    def compact(
        self,
        network_id: str,
        model: EmbeddingModel,
        ends: Collection[int],
        at: datetime,
        batches_min: int,
    ) -> CompactionPlan:
        """See `fleet.ports.VectorStore.compact`; committed by the entry of the compaction.

        Args:
            network_id: the network.
            model: whose vectors.
            ends: as of `plan_compaction`.
            at: now, UTC.
            batches_min: with fewer batches nothing is done.
        """
        folder = embeddings_folder(network_id, model)
        before = self._log.compaction(folder)
        batches = self._log.batches(network_id, model)
        plan = plan_compaction(batches, ends, batches_min)
        if not plan.runs:
            return plan
        joined: list[EmbeddingBatch] = []
        again: list[tuple[str, bytes]] = []
        for run in plan.runs:
            joined.extend(_outside(batches, joined[-1].sequence if joined else 0, run.first))
            joined.extend(self._join(folder, model, batches, run, again))
        if before is not None:  # what was joined before has no entry in the log any more
            joined.extend(_outside(batches, joined[-1].sequence, before.last + 1))
        number = 1 if before is None else before.number + 1
        found = Compaction(network_id, model.model_id, number, at, tuple(joined))
        key, data = compaction_key(folder, number), compaction_bytes(found)
        if not self._store.create(key, data) and self._store.get(key) != data:
            raise VersionConflictError(
                f"embeddings of {network_id}: compaction {number} exists already",
                hint="Somebody else has joined batches up to now; there is no need to again.",
            )
        for name, rows in again:  # unnamed until now: somebody may have removed it just before
            self._store.create(name, rows)
        return plan

    def remove_compacted(
        self, network_id: str, model: EmbeddingModel, is_old: Callable[[datetime], bool]
    ) -> int:
        """See `fleet.ports.VectorStore.remove_compacted`; entries go first, then data."""
        folder = embeddings_folder(network_id, model)
        compactions = self._store.list_objects(f"{folder}/compactions/")
        old = [one.key for one in compactions if is_old(one.modified_at)]
        data = self._store.list_objects(f"{folder}/data/")  # before the names: none can be newer
        kept = [one.key for one in compactions if not old or one.key >= old[-1]]
        records = [read_compaction(self._store.get(key), key) for key in kept]
        named = {batch.sha256 for record in records for batch in record.batches}
        entries = self._store.list_objects(f"{folder}/log/")
        last = records[0].last if old else 0
        gone = [one.key for one in entries if number_of(one.key) <= last]
        gone += [one.key for one in compactions if old and one.key < old[-1]]
        named.update(one.sha256 for one in self._log.entries(folder, last))
        gone += [
            one.key for one in data if _digest_of(one.key) not in named and is_old(one.modified_at)
        ]
        self._store.delete(gone)
        return len(gone)

    def _join(
        self,
        folder: str,
        model: EmbeddingModel,
        batches: list[EmbeddingBatch],
        run: BatchRun,
        again: list[tuple[str, bytes]],
    ) -> Iterator[EmbeddingBatch]:
        """Store the rows of a run as few objects; of each note its last row.

        Args:
            folder: of the embeddings.
            model: whose vectors.
            batches: all of the network.
            run: what becomes one.
            again: takes the objects that were there already.
        """
        inside = [one for one in batches if run.first <= one.first_sequence <= run.last]
        rows = newest_rows([self._log.read(one, model) for one in inside], model)
        if run.first == 1:  # no earlier batch could have what a deletion takes back
            rows = _without_deletions(rows)
        for start in range(0, max(1, rows.num_rows), self._object_rows):
            data = batch_bytes(rows.slice(start, self._object_rows))
            digest = hashlib.sha256(data).hexdigest()
            count = min(self._object_rows, rows.num_rows - start)
            if not self._store.create(data_key(folder, digest), data):
                again.append((data_key(folder, digest), data))
            yield inside[-1]._replace(
                sequence=run.last,
                rows=count,
                size_bytes=len(data),
                sha256=digest,
                joined_from=run.first,
            )


def _outside(batches: list[EmbeddingBatch], after: int, before: int) -> list[EmbeddingBatch]:
    """Batches between two runs, as they are."""
    return [one for one in batches if after < one.first_sequence and one.sequence < before]


def _without_deletions(rows: pa.Table) -> pa.Table:
    import pyarrow as pa

    return rows.filter(pa.array(~deleted_of(rows)))


def _digest_of(key: str) -> str:
    return key.rpartition("/")[2].removesuffix(".parquet")
