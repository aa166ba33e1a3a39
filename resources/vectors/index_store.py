"""The vector store on an object store: embeddings, generations of indexes, a log of pointers.

Publication: parts of the files, then the manifest (which names every part's SHA-256), then the next
pointer. Creating the pointer is the commit; a crash before it leaves a folder that nobody reads and
`remove_leftovers` takes away. An update stores a delta only and shares all other parts with the
generation before, so a part goes when the last manifest that names it has gone. The layout is
`docs/formats/vectors.md`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

from fleet.errors import (
    CorruptObjectError,
    InvalidInputError,
    NotFoundError,
    VersionConflictError,
)
from fleet.ports.object_store import ObjectStore
from fleet.ports.vector_store import GenerationFiles
from fleet.vectors.compaction import CompactionPlan
from fleet.vectors.manifest_json import (
    manifest_bytes,
    pointer_bytes,
    read_manifest,
    read_pointer,
)
from fleet.vectors.publication import beaten, demand_next
from fleet.vectors.records import (
    EmbeddingBatch,
    EmbeddingModel,
    IndexManifest,
    IndexPointer,
    PartFile,
)
from resources.vectors.batch_compaction import BatchCompactor
from resources.vectors.embedding_log import EmbeddingLog
from resources.vectors.index_keys import (
    ROOT,
    generation_folder,
    generations_folder,
    manifest_key,
    part_key,
    pointer_key,
    pointers_folder,
)
from resources.vectors.local_copies import (
    INDEX_FILE,
    ROWS_FILE,
    SUPERSEDED_AGE_S,
    LocalCopies,
    copy_names,
    demand_part,
)

PART_BYTES = 64 * 1024 * 1024
"""Of a stored part: one PUT, and what a process holds of a file while it stores or fetches it."""
POINTERS_KEPT = 20
"""Entries of the pointer log that stay at least, so that people can look back; more of them where
a kept generation is named by none of these."""


class ObjectVectorStore:
    """The `VectorStore` port on an object store, with local copies for readers.

    Args:
        store: a directory or a bucket.
        copies: folder of this node for local copies.
        part_bytes: size of stored parts; another one only for tests.
    """

    def __init__(self, store: ObjectStore, copies: Path, part_bytes: int = PART_BYTES) -> None:
        """Nothing is read yet."""
        self._store = store
        self._embeddings = EmbeddingLog(store)
        self._compactor = BatchCompactor(store, self._embeddings)
        self._copies = LocalCopies(copies, self._read_part)
        self._part_bytes = part_bytes

    def networks(self) -> list[str]:
        """See `fleet.ports.VectorStore.networks`."""
        indexed = {one.key.split("/")[1] for one in self._store.list_objects(f"{ROOT}/")}
        return sorted(indexed.union(self._embeddings.networks()))

    def append(
        self, network_id: str, model: EmbeddingModel, rows: Any, at: datetime, *, expected: int
    ) -> EmbeddingBatch:
        """See `fleet.ports.VectorStore.append`."""
        return self._embeddings.append(network_id, model, rows, at, expected=expected)

    def batches(
        self, network_id: str, model: EmbeddingModel, after: int = 0
    ) -> list[EmbeddingBatch]:
        """See `fleet.ports.VectorStore.batches`."""
        return self._embeddings.batches(network_id, model, after)

    def last_sequence(self, network_id: str, model: EmbeddingModel) -> int:
        """See `fleet.ports.VectorStore.last_sequence`."""
        return self._embeddings.last_sequence(network_id, model)

    def read(self, batch: EmbeddingBatch, model: EmbeddingModel) -> Any:
        """See `fleet.ports.VectorStore.read`."""
        return self._embeddings.read(batch, model)

    def compact(
        self, network_id: str, model: EmbeddingModel, at: datetime, *, batches_min: int
    ) -> CompactionPlan:
        """See `fleet.ports.VectorStore.compact`; up to what the current generation holds."""
        ends: set[int] = set()
        current = self.current(network_id)
        if current is not None:
            held = [one for one in self._manifests(network_id)[0] if one.model == model]
            last = max(
                (one.sequence for one in held if one.generation == current.generation), default=0
            )
            ends = {
                end for one in held for end in (one.sequence, one.index_sequence) if end <= last
            }
        return self._compactor.compact(network_id, model, ends, at, batches_min)

    def remove_compacted(
        self, network_id: str, model: EmbeddingModel, is_old: Callable[[datetime], bool]
    ) -> int:
        """See `fleet.ports.VectorStore.remove_compacted`."""
        return self._compactor.remove_compacted(network_id, model, is_old)

    def stage(self, manifest: IndexManifest, index_path: str, rows_path: str) -> IndexManifest:
        """See `fleet.ports.VectorStore.stage`."""
        bare = manifest._replace(parts=())
        return self._stage(bare, {INDEX_FILE: index_path, ROWS_FILE: rows_path})

    def stage_delta(self, manifest: IndexManifest, delta_path: str) -> IndexManifest:
        """See `fleet.ports.VectorStore.stage_delta`."""
        return self._stage(manifest, {manifest.deltas[-1].file: delta_path})

    def publish(self, manifest: IndexManifest, pointer: IndexPointer) -> IndexPointer:
        """See `fleet.ports.VectorStore.publish`; committed by the creation of the pointer."""
        stored = self._store.get(manifest_key(manifest.network_id, manifest.generation))
        if hashlib.sha256(stored).hexdigest() != pointer.manifest_sha256:
            raise CorruptObjectError(f"manifest of {manifest.generation} is not the one staged")
        current = self.current(manifest.network_id)
        demand_next(current, pointer)
        key = pointer_key(pointer.network_id, pointer.number)
        data = pointer_bytes(pointer)
        if not self._store.create(key, data) and self._store.get(key) != data:
            raise beaten(pointer, read_pointer(self._store.get(key), key))
        return pointer

    def current(self, network_id: str) -> IndexPointer | None:
        """See `fleet.ports.VectorStore.current`."""
        listed = self._store.list_objects(pointers_folder(network_id))
        return None if not listed else self._pointer(listed[-1].key)

    def newer(self, pointer: IndexPointer) -> IndexPointer | None:
        """See `fleet.ports.VectorStore.newer`; a listing of what came after it only."""
        after = pointer_key(pointer.network_id, pointer.number)
        listed = self._store.list_objects(pointers_folder(pointer.network_id), after)
        return None if not listed else self._pointer(listed[-1].key)

    def rollback(
        self, network_id: str, generation: str, *, fence: int, at: datetime, reason: str
    ) -> IndexPointer:
        """See `fleet.ports.VectorStore.rollback`; committed by the creation of the pointer."""
        pointers = self.published(network_id)
        named = [one for one in pointers if one.generation == generation]
        if not named:
            raise NotFoundError(
                f"index of {network_id}: generation {generation} is not among the published ones",
                hint="Choose one that a pointer names; older ones have been removed.",
            )
        if pointers[-1].generation == generation:
            return pointers[-1]
        manifest = self.manifest(network_id, generation)
        self._demand_stored(manifest)
        following = named[-1]._replace(
            number=pointers[-1].number + 1, fence=fence, at=at, reason=reason
        )
        published = self.publish(manifest, following)
        try:  # a remover that saw another pointer takes the manifest first: is it still there?
            self._demand_stored(self.manifest(network_id, generation))
        except (NotFoundError, CorruptObjectError):
            self._return_to(pointers[-1], published)
            raise
        return published

    def _return_to(self, before: IndexPointer, failed: IndexPointer) -> None:
        """Point again to what was current, because what came after it is being removed."""
        reason = f"{failed.generation} was removed while it became the current one"
        following = failed._replace(
            number=failed.number + 1,
            generation=before.generation,
            manifest_sha256=before.manifest_sha256,
            reason=reason,
        )
        self.publish(self.manifest(before.network_id, before.generation), following)

    def manifest(self, network_id: str, generation: str) -> IndexManifest:
        """See `fleet.ports.VectorStore.manifest`."""
        key = manifest_key(network_id, generation)
        found = read_manifest(self._store.get(key), key)
        if (found.network_id, found.generation) != (network_id, generation):
            raise CorruptObjectError(f"{key} is that of {found.network_id}/{found.generation}")
        return found

    def open(self, pointer: IndexPointer) -> GenerationFiles:
        """See `fleet.ports.VectorStore.open`; this node's copies of what came before go in time."""
        key = manifest_key(pointer.network_id, pointer.generation)
        data = self._store.get(key)
        if hashlib.sha256(data).hexdigest() != pointer.manifest_sha256:
            raise CorruptObjectError(
                f"{key} differs from what pointer {pointer.number} was published with",
                hint="Publish an earlier generation again, restore a backup, or rebuild the index.",
            )
        manifest = read_manifest(data, key)
        index, rows, *deltas = (
            str(self._copies.open(manifest, file))
            for file in (INDEX_FILE, ROWS_FILE, *(delta.file for delta in manifest.deltas))
        )
        self._copies.trim(pointer.network_id, copy_names([manifest]), SUPERSEDED_AGE_S)
        return GenerationFiles(manifest, index, rows, tuple(deltas))

    def scrub(self, network_id: str, generation: str) -> list[str]:
        """See `fleet.ports.VectorStore.scrub`."""
        try:
            manifest = self.manifest(network_id, generation)
        except (CorruptObjectError, NotFoundError) as error:
            return [str(error)]
        wrong = []
        for part in manifest.parts:
            try:
                demand_part(self._read_part(manifest, part), manifest, part)
            except (CorruptObjectError, NotFoundError) as error:
                wrong.append(str(error))
        return wrong

    def generations(self, network_id: str) -> list[str]:
        """See `fleet.ports.VectorStore.generations`."""
        listed = self._store.list_objects(generations_folder(network_id))
        return [one.key.split("/")[3] for one in listed if one.key.endswith("/manifest.json")]

    def published(self, network_id: str) -> list[IndexPointer]:
        """See `fleet.ports.VectorStore.published`."""
        listed = self._store.list_objects(pointers_folder(network_id))
        return [self._pointer(one.key) for one in listed]

    def remove(self, network_id: str, generation: str) -> None:
        """See `fleet.ports.VectorStore.remove`; the manifest goes first, so no half is listed."""
        current = self.current(network_id)
        if current is not None and current.generation == generation:
            raise InvalidInputError("generation", generation, "one that is not the current one")
        self._remove_all(network_id, [generation])

    def keep(self, network_id: str, generations: int) -> list[str]:
        """See `fleet.ports.VectorStore.keep`."""
        pointers = self.published(network_id)
        order = list(dict.fromkeys(pointer.generation for pointer in reversed(pointers)))
        kept, gone = order[: max(1, generations)], order[max(1, generations) :]
        self._remove_all(network_id, gone)
        places = {pointer.generation: place for place, pointer in enumerate(pointers)}
        named_from = min((places[one] for one in kept), default=0)
        old = pointers[: max(0, min(named_from, len(pointers) - POINTERS_KEPT))]
        self._store.delete(pointer_key(network_id, one.number) for one in old)
        held, _ = self._manifests(network_id)
        named = [manifest for manifest in held if manifest.generation in kept]
        self._copies.trim(network_id, copy_names(named))
        return gone

    def remove_leftovers(self, network_id: str, is_old: Callable[[datetime], bool]) -> list[str]:
        """See `fleet.ports.VectorStore.remove_leftovers`."""
        newest: dict[str, datetime] = {}
        listed = self._store.list_objects(generations_folder(network_id))
        for one in listed:
            name = one.key.split("/")[3]
            newest[name] = max(one.modified_at, newest.get(name, one.modified_at))
        published = [pointer.generation for pointer in self.published(network_id)]
        whole = {one.key.split("/")[3] for one in listed if one.key.endswith("/manifest.json")}
        known = whole.intersection(published).union(published[-1:])
        old = [name for name, at in newest.items() if name not in known and is_old(at)]
        return self._remove_all(network_id, old)

    def _stage(self, manifest: IndexManifest, files: Mapping[str, str]) -> IndexManifest:
        """Store new files as parts of this generation, beside those it shares; manifest last."""
        folder = generation_folder(manifest.network_id, manifest.generation)
        parts = list(manifest.parts)
        for file, path in files.items():
            for number, data in enumerate(_parts(Path(path), self._part_bytes)):
                digest = hashlib.sha256(data).hexdigest()
                name = f"{file}.{number:04d}"
                self._create_new(f"{folder}/{name}", data)
                parts.append(PartFile(name, file, len(data), digest, manifest.generation))
        staged = manifest._replace(parts=tuple(parts))
        self._create_new(f"{folder}/manifest.json", manifest_bytes(staged))
        return staged

    def _manifests(self, network_id: str) -> tuple[list[IndexManifest], bool]:
        """Every readable manifest, oldest first, and whether that is all of them."""
        found, complete = [], True
        for generation in self.generations(network_id):
            try:
                found.append(self.manifest(network_id, generation))
            except CorruptObjectError:
                complete = False
            except NotFoundError:
                continue  # removed by somebody else meanwhile
        return found, complete

    def _remove_all(self, network_id: str, generations: list[str]) -> list[str]:
        """Remove generations, manifests first, then what no remaining manifest names.

        While a remaining manifest cannot be read, nobody knows what it names, so no part goes. A
        generation that a rollback has made the current one meanwhile gets its manifest back.

        Returns:
            Those of which something was removed.
        """
        if not generations:
            return []
        held, _ = self._manifests(network_id)
        doomed = [manifest for manifest in held if manifest.generation in generations]
        keys = {part_key(network_id, part) for manifest in doomed for part in manifest.parts}
        for generation in generations:
            folder = generation_folder(network_id, generation)
            keys.update(one.key for one in self._store.list_objects(f"{folder}/"))
        manifests = {manifest_key(network_id, generation) for generation in generations} & keys
        stored = dict(self._stored(sorted(manifests)))
        self._store.delete(stored)
        current = self.current(network_id)
        if current is not None:
            back = manifest_key(network_id, current.generation)
            if back in stored:
                self._store.create(back, stored[back])
                manifests.discard(back)
        remaining, complete = self._manifests(network_id)
        named = {part_key(network_id, part) for manifest in remaining for part in manifest.parts}
        gone = sorted(keys - stored.keys() - named) if complete else []
        self._store.delete(gone)
        touched = {key.split("/")[3] for key in (*gone, *manifests)}
        return [generation for generation in generations if generation in touched]

    def _stored(self, keys: Iterable[str]) -> Iterator[tuple[str, bytes]]:
        """Keys with their bytes, without what somebody else has removed meanwhile."""
        for key in keys:
            with suppress(NotFoundError):
                yield key, self._store.get(key)

    def _pointer(self, key: str) -> IndexPointer:
        pointer = read_pointer(self._store.get(key), key)
        if key != pointer_key(pointer.network_id, pointer.number):
            raise CorruptObjectError(f"{key} is pointer {pointer.number} of {pointer.network_id}")
        return pointer

    def _demand_stored(self, manifest: IndexManifest) -> None:
        """Refuse a generation of which a part is missing or cut, without reading it."""
        listed = self._store.list_objects(generations_folder(manifest.network_id))
        sizes = {one.key: one.size_bytes for one in listed}
        for part in manifest.parts:
            found = sizes.get(part_key(manifest.network_id, part))
            if found != part.size_bytes:
                raise CorruptObjectError(
                    f"generation {manifest.generation}: {part.name} has "
                    f"{'no' if found is None else found} bytes, not {part.size_bytes}",
                    hint="Choose another generation, or rebuild the index.",
                )

    def _read_part(self, manifest: IndexManifest, part: PartFile) -> bytes:
        return self._store.get(part_key(manifest.network_id, part))

    def _create_new(self, key: str, data: bytes) -> None:
        """Create an object of a generation whose name nobody else has."""
        if not self._store.create(key, data) and self._store.get(key) != data:
            raise VersionConflictError(
                f"{key} exists with other bytes", hint="Build again: it gets another name."
            )


def _parts(path: Path, size_bytes: int) -> Iterator[bytes]:
    with path.open("rb") as file:
        while data := file.read(size_bytes):
            yield data
