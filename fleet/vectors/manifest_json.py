"""Manifests and pointers as JSON: sorted keys, one text for one record, unknown versions refused.

Invariant: `read_manifest(manifest_bytes(m)) == m`, and the same for pointers; anything else is a
`CorruptObjectError`, never a half-read record.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from fleet.errors import CorruptObjectError, SchemaMismatchError
from fleet.vectors.records import (
    EmbeddingModel,
    IndexDelta,
    IndexKind,
    IndexManifest,
    IndexPointer,
    Metric,
    PartFile,
    RecallMeasure,
)

FORMAT = 1
"""Of pointers and of the log of embeddings (`docs/formats/vectors.md`)."""

MANIFEST_FORMAT = 2
"""Of manifests; 1 knew neither deltas nor shared parts and is still read."""


def manifest_bytes(manifest: IndexManifest) -> bytes:
    """A manifest as it is stored."""
    document = manifest._asdict()
    document["model"] = manifest.model._asdict()
    document["recall"] = manifest.recall and manifest.recall._asdict()
    document["parts"] = [part._asdict() for part in manifest.parts]
    document["deltas"] = [delta._asdict() for delta in manifest.deltas]
    return _dump(document, MANIFEST_FORMAT)


def read_manifest(data: bytes, name: str) -> IndexManifest:
    """The inverse of `manifest_bytes`.

    Args:
        data: stored bytes.
        name: what to call the object in an error.

    Raises:
        CorruptObjectError: it is no manifest.
        SchemaMismatchError: it was written in a newer format.
    """
    document, version = _load(data, name, MANIFEST_FORMAT)
    try:
        if version == 1:
            _upgrade(document)
        document["model"] = _model(document["model"])
        document["recall"] = _recall(document["recall"])
        document["parts"] = tuple(PartFile(**part) for part in document["parts"])
        document["deltas"] = tuple(IndexDelta(**delta) for delta in document["deltas"])
        document["batches"] = tuple(document["batches"])
        document["kind"] = IndexKind(document["kind"])
        document["built_at"] = _moment(document["built_at"])
        newest = document["newest_note_at"]
        document["newest_note_at"] = None if newest is None else _moment(newest)
        manifest = IndexManifest(**document)
        _demand_sound(manifest)
    except (KeyError, TypeError, ValueError) as error:
        raise CorruptObjectError(f"{name}: no manifest ({error})", hint=_HINT) from error
    return manifest


def pointer_bytes(pointer: IndexPointer) -> bytes:
    """A pointer as it is stored."""
    return _dump(pointer._asdict(), FORMAT)


def read_pointer(data: bytes, name: str) -> IndexPointer:
    """The inverse of `pointer_bytes`; arguments and errors as of `read_manifest`."""
    document, _ = _load(data, name, FORMAT, _POINTER_HINT)
    try:
        pointer = IndexPointer(**{**document, "at": _moment(document["at"])})
        _demand_counts(pointer)
    except (KeyError, TypeError, ValueError) as error:
        raise CorruptObjectError(f"{name}: no pointer ({error})", hint=_POINTER_HINT) from error
    return pointer


_HINT = "Restore the network's vector index from a backup, or build it again."
_POINTER_HINT = (
    "Restore the network's vector index from a backup, or remove this object: the pointer before "
    "it counts again, and the next refresh adds what came since."
)


def _upgrade(document: dict[str, Any]) -> None:
    """Bring a manifest of format 1 to format 2: everything lay in its own folder."""
    document["deltas"] = []
    for part in document["parts"]:
        part["generation"] = document["generation"]


def _dump(document: Mapping[str, Any], version: int) -> bytes:
    stamped = {"format": version, **document}
    text = json.dumps(stamped, sort_keys=True, indent=1, default=_plain, allow_nan=False)
    return text.encode() + b"\n"


def _plain(value: object) -> str:
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat()
    raise TypeError(f"{type(value).__name__} has no place in a manifest")


def _load(data: bytes, name: str, newest: int, hint: str = _HINT) -> tuple[dict[str, Any], int]:
    try:
        document = json.loads(data)
        version = document.pop("format")
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise CorruptObjectError(f"{name}: not readable ({error})", hint=hint) from error
    if version not in range(1, newest + 1):
        raise SchemaMismatchError(
            f"{name} has format {version!r}; this version reads up to {newest}",
            hint="Use the Stateroom that wrote it, or a newer one.",
        )
    return dict(document), int(version)


def _model(document: Mapping[str, Any]) -> EmbeddingModel:
    return EmbeddingModel(**{**document, "metric": Metric(document["metric"])})


def _recall(document: Mapping[str, Any] | None) -> RecallMeasure | None:
    return None if document is None else RecallMeasure(**document)


def _moment(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError(f"{text} has no time zone")
    return moment


def _demand_counts(pointer: IndexPointer) -> None:
    if pointer.number < 1 or pointer.fence < 0:
        raise ValueError(f"number {pointer.number}, fence {pointer.fence}")


def _demand_sound(manifest: IndexManifest) -> None:
    """Refuse numbers that contradict each other: nothing may be loaded by them."""
    counts = (manifest.live, manifest.ntotal, manifest.rows, manifest.sequence)
    if min(counts) < 0:
        raise ValueError(f"live, ntotal, rows, sequence are {counts}")
    beside = sum(delta.rows for delta in manifest.deltas)
    if not manifest.live <= manifest.ntotal + beside <= manifest.rows:
        raise ValueError(
            f"{manifest.live} live of {manifest.ntotal} and {beside} of {manifest.rows} rows"
        )
    _demand_chain(manifest)
    if not math.isfinite(manifest.build_s + manifest.list_imbalance):
        raise ValueError("a number is not finite")


def _demand_chain(manifest: IndexManifest) -> None:
    """Refuse deltas that do not follow one another up to the last batch."""
    after = manifest.index_sequence
    for delta in manifest.deltas:
        if delta.after != after or delta.sequence <= after or min(delta.rows, delta.dead_rows) < 0:
            raise ValueError(f"delta {delta.file} cannot follow batch {after}")
        after = delta.sequence
    if after != manifest.sequence:
        raise ValueError(f"deltas end at batch {after} of {manifest.sequence}")
