"""What answers similarity queries: embeddings by network, generations of indexes, one pointer."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any, NamedTuple, Protocol

from fleet.vectors.compaction import CompactionPlan
from fleet.vectors.records import EmbeddingBatch, EmbeddingModel, IndexManifest, IndexPointer


class GenerationFiles(NamedTuple):
    """Verified local files of a generation; they stay until a later one is opened on this node."""

    manifest: IndexManifest
    index_path: str
    rows_path: str
    """Rows that the index file knows; those of deltas stand in their own files."""
    delta_paths: tuple[str, ...] = ()
    """Of the manifest's deltas, in their order; empty where the index file holds everything."""


class VectorStore(Protocol):
    """Immutable embeddings and index generations; the pointer alone moves, by compare-and-swap.

    Rows of embeddings travel as `pyarrow.Table` (columns `EMBEDDING_COLUMNS`), typed `Any` here.
    """

    def networks(self) -> list[str]:
        """Networks that have embeddings or an index, in order."""
        ...

    def append(
        self, network_id: str, model: EmbeddingModel, rows: Any, at: datetime, *, expected: int
    ) -> EmbeddingBatch:
        """Commit a batch of embeddings; visible as a whole or not at all.

        Args:
            network_id: the agent network: one partition.
            model: what made the vectors.
            rows: columns as `EMBEDDING_COLUMNS`; one row per note.
            at: the moment of writing.
            expected: sequence of the last batch that the writer has seen; 0 for none.

        Raises:
            InvalidInputError: a column, a vector (dimension, NaN), a note twice, or two notes with
                one external id.
            VersionConflictError: somebody else has appended meanwhile, or this very batch was
                appended and joined with others since: read again.
            StoreUnavailableError: it could not be stored, or the outcome is unknown: call again,
                the same batch is recognised.
        """
        ...

    def batches(
        self, network_id: str, model: EmbeddingModel, after: int = 0
    ) -> list[EmbeddingBatch]:
        """Committed batches with a sequence greater than `after`, in order.

        Args:
            network_id: the agent network.
            model: what made the vectors.
            after: 0 for all, or the sequence up to which a kept generation has read them.

        Raises:
            NotFoundError: `after` lies inside of what was joined, so that what came since cannot be
                told any more: read all of them and build anew.
            CorruptObjectError: a batch is missing or damaged.
        """
        ...

    def last_sequence(self, network_id: str, model: EmbeddingModel) -> int:
        """Sequence of the last committed batch, 0 for none: what `append` must expect."""
        ...

    def read(self, batch: EmbeddingBatch, model: EmbeddingModel) -> Any:
        """The rows of a batch.

        Raises:
            CorruptObjectError: the stored bytes differ from their checksum.
        """
        ...

    def stage(self, manifest: IndexManifest, index_path: str, rows_path: str) -> IndexManifest:
        """Store the files of a new generation, then its manifest; nobody reads it before `publish`.

        Returns:
            The manifest with its parts filled in.
        """
        ...

    def stage_delta(self, manifest: IndexManifest, delta_path: str) -> IndexManifest:
        """Store the last delta of a new generation, then its manifest; as `stage` otherwise.

        Args:
            manifest: its parts are those that it shares with the current generation, and no others:
                only these are sure to stay.
            delta_path: file of `manifest.deltas[-1]`.

        Returns:
            The manifest with the parts of that delta added.
        """
        ...

    def publish(self, manifest: IndexManifest, pointer: IndexPointer) -> IndexPointer:
        """Make a staged generation the current one: creating the next pointer is the commit.

        Args:
            manifest: as `stage` returned it.
            pointer: its number must be that of the current pointer plus one.

        Raises:
            VersionConflictError: another publisher was first; nothing has changed.
            LeaseLostError: the current pointer has a higher fence.
            NotFoundError: the generation was not staged, or has been removed.
        """
        ...

    def current(self, network_id: str) -> IndexPointer | None:
        """What readers use now; None when nothing was ever published."""
        ...

    def newer(self, pointer: IndexPointer) -> IndexPointer | None:
        """The current pointer when it is not `pointer`; one listing when nothing is new."""
        ...

    def published(self, network_id: str) -> list[IndexPointer]:
        """Entries of the pointer log that are kept, oldest first; the last one is current."""
        ...

    def rollback(
        self, network_id: str, generation: str, *, fence: int, at: datetime, reason: str
    ) -> IndexPointer:
        """Make an earlier generation current again: a new pointer, committed by its creation.

        Notes that came later come back with the next refresh, so stop that first where they are
        the trouble. Going back to the current generation changes nothing and returns its pointer.

        Args:
            network_id: the network.
            generation: published before and not removed yet; every part must still be there.
            fence: term of the lease under which it is done.
            at: now, UTC.
            reason: for people; it stands in the pointer log.

        Raises:
            NotFoundError: it was never published, or has been removed.
            CorruptObjectError: a part of it is missing or has another size.
            FencedError: another publisher was first, or has a higher fence; nothing has changed.
        """
        ...

    def manifest(self, network_id: str, generation: str) -> IndexManifest:
        """The manifest of a generation.

        Raises:
            NotFoundError: it does not exist.
            CorruptObjectError: it cannot be read.
        """
        ...

    def open(self, pointer: IndexPointer) -> GenerationFiles:
        """Local files of the generation that a pointer names, every byte verified.

        Raises:
            NotFoundError: it was removed meanwhile: ask for the current pointer again.
            CorruptObjectError: a byte is wrong; nothing of it is served.
        """
        ...

    def scrub(self, network_id: str, generation: str) -> list[str]:
        """Read every stored byte of a generation; what is wrong, in words, empty when nothing."""
        ...

    def generations(self, network_id: str) -> list[str]:
        """Generations with a manifest, published or not, oldest first."""
        ...

    def keep(self, network_id: str, generations: int) -> list[str]:
        """Remove what was published before the last so many generations; their names.

        The current generation stays whatever its age, and so do parts that a remaining one shares
        with those removed. A crash leaves parts that no manifest names; `remove_leftovers` takes
        them. Run it under the lease of the network's builder: a rollback at the same moment could
        go to what is being removed.

        Args:
            network_id: the network.
            generations: how many stay, 1 or more, the current one included.
        """
        ...

    def compact(
        self, network_id: str, model: EmbeddingModel, at: datetime, *, batches_min: int
    ) -> CompactionPlan:
        """Join little batches of embeddings into few; what was joined, and why or why not.

        Of each note the last row stays; deletions go where no earlier batch could have the note.
        Generations are not joined across, so each kept one still finds what came after it. Readers
        notice nothing: what was joined stays until `remove_compacted`.

        Args:
            network_id: the network.
            model: whose vectors.
            at: now, UTC.
            batches_min: with fewer batches nothing is done.

        Raises:
            VersionConflictError: somebody else has compacted meanwhile; nothing has changed.
            CorruptObjectError: a batch is damaged; nothing has changed.
        """
        ...

    def remove_compacted(
        self, network_id: str, model: EmbeddingModel, is_old: Callable[[datetime], bool]
    ) -> int:
        """Remove batches that were joined, and data that no log names; how many objects.

        Args:
            network_id: the network.
            model: whose vectors.
            is_old: judges the store's moment of a compaction or of an unnamed object: readers that
                began before it must have ended.
        """
        ...

    def remove(self, network_id: str, generation: str) -> None:
        """Remove a generation that no pointer kept by readers names; shared parts stay.

        Raises:
            InvalidInputError: it is the current one.
        """
        ...

    def remove_leftovers(self, network_id: str, is_old: Callable[[datetime], bool]) -> list[str]:
        """Remove what lies in folders without a published manifest and is old; their names.

        Left by a crash: of a stage, or of a removal. Age is by the store's clock; parts that a
        generation shares stay.

        Args:
            network_id: the network.
            is_old: judges the moment of a folder's newest object; the current one is never asked.
        """
        ...
