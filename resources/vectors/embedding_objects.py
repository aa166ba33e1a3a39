"""Objects of a network's embeddings: their keys, and what stands in them.

A data object is named by its content; entries of the log of batches and of the log of compactions
are numbered. Each is created once and never changed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple

from fleet.errors import CorruptObjectError, SchemaMismatchError
from fleet.names import validate_name
from fleet.vectors.manifest_json import FORMAT
from fleet.vectors.records import EmbeddingBatch, EmbeddingModel, validate_model

ROOT = "embeddings"
HINT = "Restore it from a backup, or embed the network's notes again."


class Compaction(NamedTuple):
    """An entry of the log of compactions: all batches up to the last one that it names."""

    network_id: str
    model_id: str
    number: int
    """From 1; the greatest counts."""
    at: datetime
    batches: tuple[EmbeddingBatch, ...]
    """In order; together all sequences from 1 on, without a gap."""

    @property
    def last(self) -> int:
        """Sequence up to which entries of the log of batches are not needed any more."""
        return self.batches[-1].sequence


def embeddings_folder(network_id: str, model: EmbeddingModel) -> str:
    """Folder of one model's embeddings of a network."""
    validate_model(model)
    return f"{ROOT}/{validate_name('network_id', network_id)}/{model.model_id}"


def log_key(folder: str, sequence: int) -> str:
    """Entry of a batch."""
    return f"{folder}/log/{sequence:012d}.json"


def data_key(folder: str, sha256: str) -> str:
    """Rows of a batch."""
    return f"{folder}/data/{sha256}.parquet"


def compaction_key(folder: str, number: int) -> str:
    """Entry of a compaction."""
    return f"{folder}/compactions/{number:012d}.json"


def number_of(key: str) -> int:
    """Number of an entry of either log.

    Raises:
        CorruptObjectError: it has none.
    """
    name = key.rpartition("/")[2].removesuffix(".json")
    if not name.isdecimal():
        raise CorruptObjectError(f"{key} is no entry of a log", hint=HINT)
    return int(name)


def entry_bytes(batch: EmbeddingBatch) -> bytes:
    """An entry of the log of batches, as it is stored."""
    return _dump(_batch_document(batch))


def read_entry(data: bytes, key: str) -> EmbeddingBatch:
    """The inverse of `entry_bytes`.

    Raises:
        CorruptObjectError: it is no entry, or that of another key.
        SchemaMismatchError: it was written in a newer format.
    """
    try:
        batch = _read_batch(_load(data, key))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CorruptObjectError(f"{key}: no entry of a log ({error})", hint=HINT) from error
    if not key.endswith(f"/log/{batch.sequence:012d}.json"):
        raise CorruptObjectError(f"{key} says that it is batch {batch.sequence}", hint=HINT)
    return batch


def compaction_bytes(compaction: Compaction) -> bytes:
    """An entry of the log of compactions, as it is stored."""
    batches = [_batch_document(batch) for batch in compaction.batches]
    at = compaction.at.astimezone(UTC).isoformat()
    return _dump({**compaction._asdict(), "at": at, "batches": batches})


def read_compaction(data: bytes, key: str) -> Compaction:
    """The inverse of `compaction_bytes`; errors as of `read_entry`."""
    try:
        document = _load(data, key)
        batches = tuple(_read_batch(one) for one in document["batches"])
        at = datetime.fromisoformat(document["at"])
        found = Compaction(**{**document, "at": at, "batches": batches})
        _demand_whole(batches)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CorruptObjectError(f"{key}: no compaction ({error})", hint=HINT) from error
    if not key.endswith(f"/compactions/{found.number:012d}.json"):
        raise CorruptObjectError(f"{key} says that it is compaction {found.number}", hint=HINT)
    return found


def _demand_whole(batches: tuple[EmbeddingBatch, ...]) -> None:
    """Refuse batches that leave a gap, overlap, or are none."""
    if not batches:
        raise ValueError("it names no batch")
    last, before = 0, 0
    for batch in batches:
        span = (batch.first_sequence, batch.sequence)
        if span != (before, last) and (span[0] != last + 1 or span[1] < span[0]):
            raise ValueError(f"batches {span[0]} to {span[1]} cannot follow {last}")
        before, last = span


def _batch_document(batch: EmbeddingBatch) -> dict[str, Any]:
    """A batch as JSON; one that was appended says nothing of joining, as it always did."""
    document = {**batch._asdict(), "written_at": batch.written_at.isoformat()}
    if batch.joined_from is None:
        del document["joined_from"]
    return document


def _read_batch(document: Mapping[str, Any]) -> EmbeddingBatch:
    moment = datetime.fromisoformat(document["written_at"])
    return EmbeddingBatch(**{**document, "written_at": moment})


def _dump(document: Mapping[str, Any]) -> bytes:
    return json.dumps({**document, "format": FORMAT}, sort_keys=True).encode() + b"\n"


def _load(data: bytes, key: str) -> dict[str, Any]:
    document = json.loads(data)
    version = document.pop("format")
    if version != FORMAT:
        raise SchemaMismatchError(
            f"{key} has format {version!r}; this version reads {FORMAT}",
            hint="Use the Stateroom that wrote it, or a newer one.",
        )
    return dict(document)
