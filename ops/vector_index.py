"""Brings the index of a network up to date, and says how it went, whatever way it went.

The pointer of the vector store commits a new generation; the standing tells of it. Killed between
the two, the next run finds nothing to do and makes the standing true.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

from fleet.errors import CorruptObjectError, FencedError, RecallTooLowError, StateroomError
from fleet.ports.clock import Clock
from fleet.ports.control_store import ControlStore
from fleet.ports.note_store import NoteIndexStore
from fleet.vectors.records import IndexManifest, IndexPointer, VectorPolicy
from fleet.vectors.standing import (
    IndexStanding,
    RefreshResult,
    facts_of,
    with_result,
)
from ops.index_lease import building

if TYPE_CHECKING:
    from fleet.ports.vector_store import VectorStore
    from fleet.vectors.records import EmbeddingModel
    from resources.vectors.building import IndexBuilder, RefreshOutcome


class IndexPorts(NamedTuple):
    """What a refresh touches."""

    notes: NoteIndexStore
    vectors: VectorStore
    builder: IndexBuilder
    model: EmbeddingModel
    embedder: str
    """What makes it, as the settings say."""
    policy: VectorPolicy
    clock: Clock


class Refreshed(NamedTuple):
    """What a refresh did."""

    standing: IndexStanding
    action: str
    reasons: tuple[str, ...]
    manifest: IndexManifest | None
    """Of the current generation; None where nothing was ever published."""
    removed: tuple[str, ...]
    """Generations that the policy does not keep."""
    unknown: str = ""
    """Why it is not known which these are: damage, which the scrub tells; nothing was removed."""


def refresh_index(
    ports: IndexPorts, network_id: str, demand_term: Callable[[], int], *, anew: str = ""
) -> Refreshed:
    """Make a network's index hold all its embeddings; publish it when it is good enough.

    Args:
        ports: the world.
        network_id: the network.
        demand_term: gives the term of the lease, or refuses; asked before building and after it.
        anew: why it is to be built from nothing; empty: as planned.

    Raises:
        RecallTooLowError: it finds too little; the generation before goes on serving.
        FencedError: another builder was first; nothing was changed by this one.
    """
    before = ports.notes.index_standing(network_id)
    term = demand_term()
    outcome = ports.builder.refresh(network_id, ports.model, fence=term, anew=anew)
    manifest = outcome.manifest or _current(ports.vectors, network_id)
    standing = _record(ports, before, outcome, manifest, term)
    refreshed = Refreshed(standing, outcome.plan.action.value, outcome.plan.reasons, manifest, ())
    try:
        return refreshed._replace(removed=keep_generations(ports.vectors, network_id, ports.policy))
    except CorruptObjectError as error:  # what is published is sound, and serves
        return refreshed._replace(unknown=str(error))


def keep_generations(
    vectors: VectorStore, network_id: str, policy: VectorPolicy
) -> tuple[str, ...]:
    """Remove the generations that a policy does not keep; those that were still there."""
    present = set(vectors.generations(network_id))
    gone = vectors.keep(network_id, policy.keep_generations)
    return tuple(one for one in gone if one in present)


def roll_back_index(
    store: ControlStore,
    vectors: VectorStore,
    clock: Clock,
    network_id: str,
    generation: str,
    policy: VectorPolicy,
    reason: str,
) -> IndexPointer:
    """Serve an earlier generation again, under the lease of the network's builder.

    Committed by the new pointer; the standing is made true after it. Killed between the two, the
    next refresh makes it true.

    Args:
        store: holds lease and standing.
        vectors: holds the generations.
        clock: dates the pointer.
        network_id: the network.
        generation: published before.
        policy: of the network.
        reason: for people; it stands in the pointer.

    Raises:
        NotFoundError: it was never published, or has been removed.
        CorruptObjectError: it is not whole.
        FencedError: the index is being built; nothing was changed.
    """
    with building(store, network_id) as lease:
        term = lease.demand_term()
        pointer = vectors.rollback(
            network_id, generation, fence=term, at=clock.now(), reason=reason
        )
        manifest = vectors.manifest(network_id, generation)

        def told(stored: IndexStanding) -> IndexStanding:
            # Which notes came after that generation is not known by number: all are looked at.
            is_older = manifest.sequence < stored.sequence
            return stored._replace(
                facts=facts_of(manifest, policy),
                indexed_change=0 if is_older else stored.indexed_change,
            )

        store.change_index_standing(network_id, told, term)
    return pointer


def _current(vectors: VectorStore, network_id: str) -> IndexManifest | None:
    pointer = vectors.current(network_id)
    return None if pointer is None else vectors.manifest(network_id, pointer.generation)


def _record(
    ports: IndexPorts,
    before: IndexStanding,
    outcome: RefreshOutcome,
    manifest: IndexManifest | None,
    term: int,
) -> IndexStanding:
    """Tell that the index holds everything that was embedded when the refresh began."""
    published = outcome.manifest is not None
    result = RefreshResult.PUBLISHED if published else RefreshResult.UNCHANGED
    reason = "; ".join(outcome.plan.reasons)
    now = ports.clock.now()

    def told(stored: IndexStanding) -> IndexStanding:
        moved = stored._replace(
            indexed_change=before.embedded_change,
            embedder=ports.embedder,
            facts=None if manifest is None else facts_of(manifest, ports.policy),
        )
        return with_result(moved, result, reason, now)

    return ports.notes.change_index_standing(before.network_id, told, term)


@contextmanager
def failures_told(
    notes: NoteIndexStore, clock: Clock, network_id: str, term: int
) -> Iterator[None]:
    """What fails inside the block stands in the network's standing, and goes on to whoever asked.

    A builder that was overtaken tells nothing: the other one does.

    Args:
        notes: holds the standing.
        clock: dates the failure.
        network_id: the network.
        term: of the builder.
    """
    try:
        yield
    except FencedError:
        raise
    except StateroomError as error:
        is_refused = isinstance(error, RecallTooLowError)
        result = RefreshResult.REFUSED if is_refused else RefreshResult.FAILED
        now, reason = clock.now(), str(error)
        notes.change_index_standing(
            network_id, lambda stored: with_result(stored, result, reason, now), term
        )
        raise
