"""Turns new notes into embeddings, page by page, each page committed before the next is read.

A page is committed by `VectorStore.append`; then the standing moves on. Killed between the two, the
next run reads the same changes again, finds what is embedded already, and leaves it out: no note is
embedded twice, none is left out.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from fleet.errors import NotFoundError
from fleet.ports.clock import Clock
from fleet.ports.note_store import NoteChange, NoteIndexStore
from fleet.vectors.records import EmbeddingModel
from fleet.vectors.standing import IndexStanding

if TYPE_CHECKING:
    from fleet.ports.embedder import Embedder
    from fleet.ports.vector_store import VectorStore

PAGE_NOTES = 4096
"""Notes read, embedded and committed at a time: some 10 MB, and a quarter of a second of work."""

Known = dict[str, bytes]
"""Note -> digest of the text that its last embedding was made of; empty for a deletion."""


class EmbeddingPorts(NamedTuple):
    """What embedding touches."""

    notes: NoteIndexStore
    vectors: VectorStore
    embedder: Embedder
    clock: Clock


class EmbeddedNotes(NamedTuple):
    """What a run of embedding did."""

    embedded: int
    """Notes that got a vector."""
    deleted: int
    """Notes that were taken back."""
    repeated: int
    """Changes that an earlier run had embedded, or that a later one of the run replaces."""
    batches: int
    size_bytes: int
    standing: IndexStanding
    restarted: str
    """Why everything was read from the beginning; empty when it was not."""
    without_vector: int = 0
    """Notes of a network of given vectors that came without one of its model: words find them."""


def embed_notes(
    ports: EmbeddingPorts, network_id: str, demand_term: Callable[[], int]
) -> EmbeddedNotes:
    """Embed every note of a network that is not embedded yet.

    Args:
        ports: the world.
        network_id: the network.
        demand_term: gives the term of the lease, or refuses; asked before each commit.

    Raises:
        LeaseLostError: another builder has taken over; what was committed stays.
        VersionConflictError: another writer has appended; the next run goes on from there.
    """
    model = ports.embedder.model
    standing, restarted = _beginning(ports, network_id, model)
    known = _known_after(ports.vectors, network_id, model, standing.sequence)
    sequence = ports.vectors.last_sequence(network_id, model)
    done = EmbeddedNotes(0, 0, 0, 0, 0, standing, restarted)
    while page := ports.notes.note_changes(network_id, standing.embedded_change, PAGE_NOTES):
        changes = _unknown(page, known)
        size_bytes = missing = 0
        term = demand_term()
        if changes:
            rows, missing = _rows(changes, ports.embedder)
            now = ports.clock.now()
            batch = ports.vectors.append(network_id, model, rows, now, expected=sequence)
            sequence, size_bytes = batch.sequence, batch.size_bytes
            known |= {one.note_id: _digest(one) for one in changes if one.note_id in known}
        standing = _advance(ports, standing, page[-1].change_id, sequence, term)
        gone = sum(one.note is None for one in changes)
        done = EmbeddedNotes(
            done.embedded + len(changes) - gone,
            done.deleted + gone,
            done.repeated + len(page) - len(changes),
            done.batches + bool(changes),
            done.size_bytes + size_bytes,
            standing,
            restarted,
            done.without_vector + missing,
        )
    return done


def _beginning(
    ports: EmbeddingPorts, network_id: str, model: EmbeddingModel
) -> tuple[IndexStanding, str]:
    """Where to go on, and why from the beginning where that is so; nothing is stored yet."""
    standing = ports.notes.index_standing(network_id)
    stored = ports.vectors.last_sequence(network_id, model)
    restarted = ""
    if standing.model_id and standing.model_id != model.model_id:
        restarted = f"the model was {standing.model_id}, now it is {model.model_id}"
    elif stored < standing.sequence:
        restarted = (
            f"{standing.sequence} batches of embeddings were written, {stored} are left: the "
            "vector store was lost or brought back from a backup"
        )
    if restarted:
        standing = standing._replace(embedded_change=0, sequence=0, indexed_change=0)
    return standing._replace(model_id=model.model_id), restarted


def _known_after(
    vectors: VectorStore, network_id: str, model: EmbeddingModel, sequence: int
) -> Known:
    """What stands in batches that the standing does not know of: normally none."""
    known: Known = {}
    try:
        batches = vectors.batches(network_id, model, sequence)
    except NotFoundError:  # joined with later ones since: nothing tells them apart any more
        batches = vectors.batches(network_id, model)
    for batch in batches:
        columns: Mapping[str, Sequence[Any]] = (
            vectors.read(batch, model).select(["note_id", "text", "deleted"]).to_pydict()
        )
        for note_id, text, deleted in zip(*columns.values(), strict=True):
            known[note_id] = b"" if deleted else _text_digest(text)
    return known


def _unknown(page: Sequence[NoteChange], known: Known) -> list[NoteChange]:
    """The last change of each note of a page, without what is embedded already."""
    newest = {change.note_id: change for change in page}
    return [one for one in newest.values() if known.get(one.note_id) != _digest(one)]


def _digest(change: NoteChange) -> bytes:
    return b"" if change.note is None else _text_digest(change.note.text)


def _text_digest(text: str) -> bytes:
    return hashlib.blake2b(text.encode(), digest_size=16).digest()


def _rows(changes: Sequence[NoteChange], embedder: Embedder) -> tuple[Any, int]:
    """Changes as rows of embeddings, and how many notes have no vector that can be compared."""
    from resources.vectors.note_rows import rows_of_changes, vectors_of_changes

    vectors, missing = vectors_of_changes(changes, embedder)
    return rows_of_changes(changes, vectors), missing


def _advance(
    ports: EmbeddingPorts, standing: IndexStanding, change_id: int, sequence: int, term: int
) -> IndexStanding:
    """Record that everything up to a change is embedded."""
    now = ports.clock.now()

    def moved(stored: IndexStanding) -> IndexStanding:
        return stored._replace(
            model_id=standing.model_id,
            embedded_change=change_id,
            sequence=sequence,
            embedded_at=now,
            indexed_change=min(stored.indexed_change, standing.indexed_change),
        )

    return ports.notes.change_index_standing(standing.network_id, moved, term)
