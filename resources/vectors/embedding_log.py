"""Embeddings of a network: data objects named by content, and a numbered log that commits them.

Creating the next log entry is the commit. Before it, a data object is garbage; after it, the batch
is there for good. Two writers cannot both be next; the one that was second is told so.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from fleet.errors import CorruptObjectError, NotFoundError, VersionConflictError
from fleet.names import validate_name
from fleet.ports.object_store import ObjectStore
from fleet.vectors.manifest_json import FORMAT
from fleet.vectors.records import EmbeddingBatch, EmbeddingModel, validate_model
from resources.vectors.embedding_rows import batch_bytes, check_batch, read_batch

ROOT = "embeddings"
_HINT = "Restore it from a backup, or embed the network's notes again."


class EmbeddingLog:
    """The part of the `VectorStore` port that keeps embeddings.

    Args:
        store: where objects lie.
    """

    def __init__(self, store: ObjectStore) -> None:
        """Nothing is read yet; entries of the log never change and are remembered."""
        self._store = store
        self._known: dict[str, EmbeddingBatch] = {}

    def append(
        self, network_id: str, model: EmbeddingModel, rows: Any, at: datetime, *, expected: int
    ) -> EmbeddingBatch:
        """See `fleet.ports.VectorStore.append`; committed by the entry of the log."""
        folder = _folder(network_id, model)
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
        if expected:
            self._demand_entry(folder, network_id, expected)
        self._store.create(_data_key(folder, batch.sha256), data)
        key = _log_key(folder, batch.sequence)
        if self._store.create(key, _entry_bytes(batch)):
            return batch
        found = self._entry(key)
        if found.sha256 == batch.sha256:
            return found  # our own earlier call, whose answer was lost
        raise VersionConflictError(
            f"embeddings of {network_id}: batch {batch.sequence} exists already, "
            f"written at {found.written_at.isoformat()}",
            hint="Read the batches since then and append what is still missing.",
        )

    def batches(
        self, network_id: str, model: EmbeddingModel, after: int = 0
    ) -> list[EmbeddingBatch]:
        """See `fleet.ports.VectorStore.batches`; an entry is read once by a process."""
        folder = _folder(network_id, model)
        last = _log_key(folder, after) if after else ""
        found = [self._entry(one.key) for one in self._store.list_objects(f"{folder}/log/", last)]
        for place, batch in enumerate(found, start=after + 1):
            if batch.sequence != place:
                raise CorruptObjectError(f"{folder}: batch {place} is missing", hint=_HINT)
        return found

    def last_sequence(self, network_id: str, model: EmbeddingModel) -> int:
        """See `fleet.ports.VectorStore.last_sequence`; one listing, nothing is read."""
        listed = self._store.list_objects(f"{_folder(network_id, model)}/log/")
        return 0 if not listed else _sequence_of(listed[-1].key)

    def read(self, batch: EmbeddingBatch, model: EmbeddingModel) -> Any:
        """See `fleet.ports.VectorStore.read`."""
        key = _data_key(_folder(batch.network_id, model), batch.sha256)
        try:
            data = self._store.get(key)
        except NotFoundError as error:
            raise CorruptObjectError(f"{key} is missing", hint=_HINT) from error
        if hashlib.sha256(data).hexdigest() != batch.sha256:
            raise CorruptObjectError(f"{key}: its bytes differ from their SHA-256", hint=_HINT)
        return read_batch(data, model, key)

    def networks(self) -> Iterator[str]:
        """Networks that have embeddings, in order."""
        seen = ""
        for one in self._store.list_objects(f"{ROOT}/"):
            network_id = one.key.split("/")[1]
            if network_id != seen:
                yield network_id
                seen = network_id

    def _demand_entry(self, folder: str, network_id: str, sequence: int) -> None:
        """A writer that expects what does not exist would leave a hole in the log."""
        try:
            self._entry(_log_key(folder, sequence))
        except NotFoundError as error:
            raise VersionConflictError(
                f"embeddings of {network_id}: batch {sequence} does not exist",
                hint="Read the batches that there are and append after the last.",
            ) from error

    def _entry(self, key: str) -> EmbeddingBatch:
        if key not in self._known:
            self._known[key] = _read_entry(self._store.get(key), key)
        return self._known[key]


def _folder(network_id: str, model: EmbeddingModel) -> str:
    validate_model(model)
    return f"{ROOT}/{validate_name('network_id', network_id)}/{model.model_id}"


def _log_key(folder: str, sequence: int) -> str:
    return f"{folder}/log/{sequence:012d}.json"


def _sequence_of(key: str) -> int:
    name = key.rpartition("/")[2].removesuffix(".json")
    if not name.isdecimal():
        raise CorruptObjectError(f"{key} is no entry of a log", hint=_HINT)
    return int(name)


def _data_key(folder: str, sha256: str) -> str:
    return f"{folder}/data/{sha256}.parquet"


def _entry_bytes(batch: EmbeddingBatch) -> bytes:
    document = {**batch._asdict(), "written_at": batch.written_at.isoformat(), "format": FORMAT}
    return json.dumps(document, sort_keys=True).encode() + b"\n"


def _read_entry(data: bytes, key: str) -> EmbeddingBatch:
    try:
        document = json.loads(data)
        if document.pop("format") != FORMAT:
            raise CorruptObjectError(f"{key} has a format that this version does not read")
        moment = datetime.fromisoformat(document["written_at"])
        batch = EmbeddingBatch(**{**document, "written_at": moment})
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CorruptObjectError(f"{key}: no entry of a log ({error})", hint=_HINT) from error
    if not key.endswith(f"/log/{batch.sequence:012d}.json"):
        raise CorruptObjectError(f"{key} says that it is batch {batch.sequence}", hint=_HINT)
    return batch
