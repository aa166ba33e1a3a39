"""Files of vector indexes that no pointer names: builds that died, or lost to another builder."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import TYPE_CHECKING

from fleet.cleanup import LeftKind, Orphan
from fleet.errors import CorruptObjectError, NotFoundError, VersionConflictError
from fleet.ports.object_store import ListedObject, ObjectStore

if TYPE_CHECKING:
    from resources.vectors.index_store import ObjectVectorStore

ROOT = "indexes"
"""Where indexes lie in their store (docs/formats/vectors.md)."""


class IndexGenerations:
    """Compares the folders of each network's generations with its pointers.

    A build that goes on has an unpublished folder, too, whose newest object is young: the age from
    which one is proposed is far above the time that a build takes.

    Args:
        store: holds the indexes.
        vectors: the vector store on it, which knows what is published and removes.
    """

    def __init__(self, store: ObjectStore, vectors: ObjectVectorStore) -> None:
        """Remember; nothing is read yet."""
        self._store = store
        self._vectors = vectors
        self.kind = LeftKind.INDEX_GENERATION

    def orphans(self) -> Iterator[Orphan]:
        """See the port; by network and generation."""
        yield from self._below(f"{ROOT}/")

    def _below(self, prefix: str) -> Iterator[Orphan]:
        """Folders are listed before pointers, so that what is published meanwhile is known."""
        folders: dict[str, dict[str, list[ListedObject]]] = {}
        for one in self._store.list_objects(prefix):
            parts = one.key.split("/")
            if len(parts) > 4 and parts[2] == "generations":
                folders.setdefault(parts[1], {}).setdefault(parts[3], []).append(one)
        for network_id, found in sorted(folders.items()):
            for generation in sorted(found.keys() - self._needed(network_id, found)):
                objects = found[generation]
                yield Orphan(
                    self.kind.value,
                    f"{network_id}/{generation}",
                    "",
                    sum(one.size_bytes for one in objects),
                    max(one.modified_at for one in objects),
                    f"{len(objects)} objects of an index of {network_id} that nothing points at",
                )

    def _needed(self, network_id: str, there: Iterable[str]) -> set[str]:
        """Generations that a pointer names, and those whose parts such a generation shares.

        All that are there, while a pointer or a manifest is damaged: what it names is not known.
        """
        try:
            needed = {one.generation for one in self._vectors.published(network_id)}
            for generation in sorted(needed):
                with suppress(NotFoundError):  # removed by retention, and its parts with it
                    manifest = self._vectors.manifest(network_id, generation)
                    needed |= {part.generation for part in manifest.parts}
        except CorruptObjectError:
            return {*there}
        return needed

    def remove(self, orphan: Orphan) -> int:
        """See the port; what was written or published since the look stays.

        The manifest goes first, so a removal that was cut off leaves a folder that nobody lists.
        """
        network_id, _, generation = orphan.subject.partition("/")
        there = {one.subject: one for one in self._below(f"{ROOT}/{network_id}/")}
        now_there = there.get(orphan.subject)
        if now_there is None or now_there.newest_at > orphan.newest_at:
            raise VersionConflictError(
                f"index {orphan.subject} was written or published since it was looked at; it stays",
                hint="A build that goes on needs its files.",
            )
        self._vectors.remove(network_id, generation)
        return now_there.size_bytes
