"""Embeddings of a network: data objects named by content, and a numbered log that commits them.

Creating the next log entry is the commit. Before it, a data object is garbage; after it, the batch
is there for good. Two writers cannot both be next; the one that was second is told so. What was
joined is read from the log of compactions, whose last entry stands for all batches up to its end.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from fleet.errors import CorruptObjectError, NotFoundError, VersionConflictError
from fleet.ports.object_store import ObjectStore
from fleet.vectors.records import EmbeddingBatch, EmbeddingModel
from resources.vectors.embedding_objects import (
    HINT,
    ROOT,
    Compaction,
    data_key,
    embeddings_folder,
    entry_bytes,
    log_key,
    number_of,
    read_compaction,
    read_entry,
)
from resources.vectors.embedding_rows import batch_bytes, check_batch, read_batch


class EmbeddingLog:
    """The part of the `VectorStore` port that keeps embeddings.

    Args:
        store: where objects lie.
    """

    def __init__(self, store: ObjectStore) -> None:
        """Nothing is read yet; the entry of a batch never changes and is remembered."""
        self._store = store
        self._known: dict[str, EmbeddingBatch] = {}
        self._compactions: dict[str, Compaction] = {}

    def append(
        self, network_id: str, model: EmbeddingModel, rows: Any, at: datetime, *, expected: int
    ) -> EmbeddingBatch:
        """See `fleet.ports.VectorStore.append`; committed by the entry of the log."""
        folder = embeddings_folder(network_id, model)
        checked = check_batch(rows, model)
        data = batch_bytes(checked)
        batch = EmbeddingBatch(
            network_id,
            model.model_id,
            expected + 1,
            checked.num_rows,
            len(data),
            hashlib.sha256(data).hexdigest(),
            at.astimezone(UTC),
        )
        self._demand_open(folder, batch)
        self._demand_last(folder, batch)
        is_new = self._store.create(data_key(folder, batch.sha256), data)
        key = log_key(folder, batch.sequence)
        if not self._store.create(key, entry_bytes(batch)):
            found = self._entry(key)
            if found.sha256 != batch.sha256:
                raise _taken(found)
            batch = found  # our own earlier call, whose answer was lost
        self._demand_open(folder, batch)
        if not is_new:  # an old unnamed object, which somebody may have removed just before
            self._store.create(data_key(folder, batch.sha256), data)
        return batch

    def batches(
        self, network_id: str, model: EmbeddingModel, after: int = 0
    ) -> list[EmbeddingBatch]:
        """See `fleet.ports.VectorStore.batches`; an entry is read once by a process."""
        folder = embeddings_folder(network_id, model)
        joined = self.compaction(folder)
        found = [] if joined is None else [one for one in joined.batches if one.sequence > after]
        if found and found[0].first_sequence <= after:
            raise NotFoundError(
                f"embeddings of {network_id}: batches {found[0].first_sequence} to "
                f"{found[0].sequence} were joined, so what came after {after} cannot be told",
                hint="Read all batches and build the index anew.",
            )
        last = max(after, 0 if joined is None else joined.last)
        return [*found, *self.entries(folder, last)]

    def entries(self, folder: str, after: int) -> list[EmbeddingBatch]:
        """Batches as they were appended, with a sequence greater than `after`, in order.

        Raises:
            CorruptObjectError: one is missing or damaged.
        """
        before = log_key(folder, after) if after else ""
        found = []
        for place, one in enumerate(self._store.list_objects(f"{folder}/log/", before), after + 1):
            batch = self._entry(one.key)
            if batch.sequence != place:
                raise CorruptObjectError(f"{folder}: batch {place} is missing", hint=HINT)
            found.append(batch)
        return found

    def last_sequence(self, network_id: str, model: EmbeddingModel) -> int:
        """See `fleet.ports.VectorStore.last_sequence`; of the log nothing is read."""
        folder = embeddings_folder(network_id, model)
        joined = self.compaction(folder)
        last = 0 if joined is None else joined.last
        before = log_key(folder, last) if last else ""
        listed = self._store.list_objects(f"{folder}/log/", before)
        return number_of(listed[-1].key) if listed else last

    def read(self, batch: EmbeddingBatch, model: EmbeddingModel) -> Any:
        """See `fleet.ports.VectorStore.read`."""
        key = data_key(embeddings_folder(batch.network_id, model), batch.sha256)
        try:
            data = self._store.get(key)
        except NotFoundError as error:
            raise CorruptObjectError(f"{key} is missing", hint=HINT) from error
        if hashlib.sha256(data).hexdigest() != batch.sha256:
            raise CorruptObjectError(f"{key}: its bytes differ from their SHA-256", hint=HINT)
        return read_batch(data, model, key)

    def networks(self) -> Iterator[str]:
        """Networks that have embeddings, in order."""
        seen = ""
        for one in self._store.list_objects(f"{ROOT}/"):
            network_id = one.key.split("/")[1]
            if network_id != seen:
                yield network_id
                seen = network_id

    def compaction(self, folder: str) -> Compaction | None:
        """The compaction that counts; None when there was none.

        Raises:
            CorruptObjectError: it is damaged.
        """
        listed = self._store.list_objects(f"{folder}/compactions/")
        if not listed:
            return None
        key = listed[-1].key
        held = self._compactions.get(folder)
        if held is None or held.number != number_of(key):
            held = read_compaction(self._store.get(key), key)
            self._compactions[folder] = held
        return held

    def _demand_last(self, folder: str, batch: EmbeddingBatch) -> None:
        """A writer that expects what does not exist would leave a hole in the log."""
        expected = batch.sequence - 1
        joined = self.compaction(folder)
        if expected == 0 or (joined is not None and expected <= joined.last):
            return
        try:
            self._entry(log_key(folder, expected))
        except NotFoundError as error:
            raise VersionConflictError(
                f"embeddings of {batch.network_id}: batch {expected} does not exist",
                hint="Read the batches that there are and append after the last.",
            ) from error

    def _demand_open(self, folder: str, batch: EmbeddingBatch) -> None:
        """Refuse a number that was joined already: its entry does not count, or is not ours.

        Asked before and after the entry is created. Entries are removed hours after they were
        joined, so whoever could create one that was removed finds the compaction here.
        """
        joined = self.compaction(folder)
        if joined is None or batch.sequence > joined.last:
            return
        mine = (batch.sequence, batch.sha256)
        if mine not in {(one.sequence, one.sha256) for one in joined.batches}:
            raise VersionConflictError(
                f"embeddings of {batch.network_id}: batches up to {joined.last} were joined, "
                f"batch {batch.sequence} among them",
                hint="Read the batches that there are and append what is still missing.",
            )

    def _entry(self, key: str) -> EmbeddingBatch:
        if key not in self._known:
            self._known[key] = read_entry(self._store.get(key), key)
        return self._known[key]


def _taken(found: EmbeddingBatch) -> VersionConflictError:
    return VersionConflictError(
        f"embeddings of {found.network_id}: batch {found.sequence} exists already, "
        f"written at {found.written_at.isoformat()}",
        hint="Read the batches since then and append what is still missing.",
    )
