"""Kind `vectors`: embeddings and the published indexes of a vector store, one consistent cut.

Of each network: the generation that the newest pointer names, with the parts that it shares with
earlier ones, and that pointer; the log of its embeddings and their data. What is superseded or was
never published stays out.

Why the cut is consistent although builders go on. A generation is removed manifest first, and a
part only when no manifest names it, so parts whose manifest is still there after they were read
were all there; else the newest pointer is read again. The pointer comes last. The log is listed
after the pointers, so it holds every batch of the generation; the data are listed after the log, so
they hold every batch of the log. What was joined is removed hours after the entry that joins it, so
that entry stands in the listing, and what vanishes meanwhile is missed by nobody. Nothing that was
listed is ever changed: objects are created once.
Every part is compared with its manifest, and data with their name, while they are read: a damaged
index is told now, not in the hour of a restore.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from fleet.artefact_items import ROOT, ItemAttributes
from fleet.backup import ArtefactDeclaration
from fleet.errors import NotFoundError, StoreUnavailableError
from fleet.ports.object_store import ListedObject, ObjectStore
from fleet.vectors.manifest_json import read_manifest, read_pointer
from fleet.vectors.records import IndexManifest, IndexPointer
from resources.object_store.directory import DirectoryObjectStore
from resources.vault.artefacts.port import HeldBytes, Omission, SourceFile
from resources.vectors.index_keys import part_key

S3_SCHEME = "s3://"
_INDEXES, _EMBEDDINGS = "indexes/", "embeddings/"
_TRIES = 5
"""Publications that may overtake the reading of one index."""
_FILE_MODE, _FOLDER_MODE = 0o600, 0o700


def open_vectors(declared: ArtefactDeclaration, seen_ns: int) -> VectorsSource:
    """The source of a vector store in a folder or, as `s3://bucket/prefix`, in a bucket.

    Raises:
        NotFoundError: there is no such folder.
    """
    if not declared.path.startswith(S3_SCHEME):
        if not Path(declared.path).is_dir():
            raise NotFoundError(
                f"{declared.path} does not exist",
                hint="`stateroom up` makes it; is its disk mounted?",
            )
        return VectorsSource(DirectoryObjectStore(Path(declared.path)), seen_ns)
    from resources.object_store.s3 import S3ObjectStore, open_s3_client

    bucket, _, prefix = declared.path.removeprefix(S3_SCHEME).partition("/")
    client = open_s3_client(declared.aws_region or None, declared.endpoint_url or None)
    return VectorsSource(S3ObjectStore(client, bucket, prefix), seen_ns)


class VectorsSource:
    """`ArtefactSource` over the object store of embeddings and indexes.

    Args:
        store: where they lie.
        seen_ns: moment before it was looked at.
    """

    kind = "vectors"

    def __init__(self, store: ObjectStore, seen_ns: int) -> None:
        """Nothing is read yet."""
        self._store = store
        self._seen_ns = seen_ns
        self._folders: set[bytes] = set()
        self._taken: dict[str, str] = {}

    def files(self) -> Iterator[SourceFile | Omission]:
        """See `ArtefactSource.files`.

        Raises:
            StoreUnavailableError: the store cannot be read, or a network's index is published
                faster than it can be read.
        """
        yield _folder(ROOT)
        listed = {one.key: one for one in self._store.list_objects(_INDEXES)}
        for network_id in sorted({key.split("/")[1] for key in listed}):
            yield from self._index(network_id)
        yield from self._embeddings()

    def about(self) -> Mapping[str, Any]:
        """Network -> the generation that was taken."""
        return {"generations": dict(self._taken)}

    def close(self) -> None:
        """No staging copies."""

    def _index(self, network_id: str) -> Iterator[SourceFile]:
        for _ in range(_TRIES):
            pointers = self._store.list_objects(f"{_INDEXES}{network_id}/pointers/")
            if not pointers:
                return
            newest = pointers[-1]
            try:
                pointer = read_pointer(self._store.get(newest.key), newest.key)
                manifest_key = _manifest_key(pointer)
                manifest = read_manifest(self._store.get(manifest_key), manifest_key)
            except NotFoundError:
                continue  # removed since it was listed: a newer one stands in its place
            yield from self._generation(pointer, manifest)
            if self._store.list_objects(manifest_key):
                yield from self._placed(newest, "")
                self._taken[network_id] = pointer.generation
                return
        raise StoreUnavailableError(
            f"index of {network_id}: {_TRIES} times a newer generation took the place of the one "
            "that was read",
            hint="Try again, or keep more generations (`vectors.keep_generations`).",
        )

    def _generation(self, pointer: IndexPointer, manifest: IndexManifest) -> Iterator[SourceFile]:
        network_id = pointer.network_id
        digests = {part_key(network_id, part): part.sha256 for part in manifest.parts}
        digests[_manifest_key(pointer)] = pointer.manifest_sha256
        for one in self._store.list_objects(f"{_INDEXES}{network_id}/generations/"):
            if one.key in digests:
                yield from self._placed(one, digests[one.key])

    def _embeddings(self) -> Iterator[SourceFile]:
        log = [
            one
            for one in self._store.list_objects(_EMBEDDINGS)
            if "/log/" in one.key or "/compactions/" in one.key
        ]
        data = [one for one in self._store.list_objects(_EMBEDDINGS) if "/data/" in one.key]
        for one in log:
            yield from self._placed(one, "")
        for one in data:
            name = one.key.rpartition("/")[2].removesuffix(".parquet")
            yield from self._placed(one, name)

    def _placed(self, one: ListedObject, sha256: str) -> Iterator[SourceFile]:
        """An object, after the folders that it lies in."""
        parts = one.key.encode().split(b"/")
        for depth in range(1, len(parts)):
            folder = b"/".join(parts[:depth])
            if folder not in self._folders:
                self._folders.add(folder)
                yield _folder(folder)
        modified_ns = int(one.modified_at.timestamp() * 1e6) * 1000
        attributes = ItemAttributes(
            "file",
            mode=_FILE_MODE,
            mtime_ns=modified_ns,
            stamp=(one.size_bytes, modified_ns),
            changed_ns=modified_ns,
            seen_ns=self._seen_ns,
        )
        yield SourceFile(
            one.key.encode(),
            attributes,
            one.size_bytes,
            lambda: _StoredObject(self._store, one, sha256),
        )


class _StoredObject:
    """An object while it is read, piece by piece; an `OpenedFile`."""

    def __init__(self, store: ObjectStore, listed: ListedObject, sha256: str) -> None:
        self._store, self._listed, self._sha256 = store, listed, sha256
        self._read_bytes = 0
        self._digest = hashlib.sha256()

    def read(self, size: int, /) -> bytes:
        """See `OpenedFile.read`."""
        if size <= 0 or self._read_bytes >= self._listed.size_bytes:
            return b""
        try:
            data = self._store.get(self._listed.key, self._read_bytes, size)
        except NotFoundError as error:
            raise FileNotFoundError(str(error)) from error
        self._read_bytes += len(data)
        self._digest.update(data)
        return data

    def changed(self) -> str:
        """See `OpenedFile.changed`: what was read must be what its manifest or name says."""
        if self._read_bytes != self._listed.size_bytes:
            return f"{self._read_bytes} bytes read, its size is {self._listed.size_bytes}"
        if self._sha256 and self._digest.hexdigest() != self._sha256:
            return "its bytes are damaged: they differ from their SHA-256"
        return ""

    def attributes(self, listed: ItemAttributes) -> ItemAttributes:
        """As listed: objects never change."""
        return listed

    def close(self) -> None:
        """Nothing is held open."""


def _folder(path: bytes) -> SourceFile:
    attributes = ItemAttributes("folder", mode=_FOLDER_MODE)
    return SourceFile(path, attributes, 0, lambda: HeldBytes(b""), b"")


def _manifest_key(pointer: IndexPointer) -> str:
    return f"{_INDEXES}{pointer.network_id}/generations/{pointer.generation}/manifest.json"
