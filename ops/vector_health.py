"""Looks at all indexes: what waits, which ids differ, which bytes are wrong; removes what is left.

Reading costs what there is to read, so each look says which of them it is: health is one read of
the control store, ids are all ids of both sides, a scrub is every stored byte.
"""

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import Any, NamedTuple

import dagster as dg

from fleet.errors import CorruptObjectError, LeaseLostError, NotFoundError
from fleet.inventory_checks import CheckVerdict
from fleet.ports.clock import Clock
from fleet.ports.control_store import ControlStore
from fleet.ports.note_store import NoteIndexStore
from fleet.vectors.declaration import NetworkVectors
from fleet.vectors.health import (
    COUNT_MAX,
    GenerationSize,
    IdDrift,
    IndexHealth,
    all_health,
    check_ids,
    check_sizes,
)
from fleet.vectors.records import IndexManifest
from fleet.vectors.standing import DAMAGES_MAX, IndexStanding, ScrubFacts
from ops.evidence import number_evidence
from ops.index_lease import building
from ops.outcomes import outcomes
from ops.vector_index import keep_generations
from resources.vectors.network_indexes import NetworkIndexes

HEALTH = "vector_index_health"
PAGE_IDS, PAGE_CHANGES = 50_000, 4096
"""Read at a time; a change comes with its note."""
NAMED_IDS = 5


class Removed(NamedTuple):
    """What upkeep has removed."""

    generations: int
    leftovers: int
    joined: int
    """Runs of little batches of embeddings that became one."""
    busy: tuple[str, ...]
    """Networks that were being built, and are left for the next time."""
    damaged: tuple[str, ...] = ()
    """Networks in which nobody knows what may go, with the reason."""


def look_at_health(
    notes: NoteIndexStore, indexes: NetworkIndexes, now: datetime
) -> list[IndexHealth]:
    """How all indexes stand: one read of the control store."""
    return all_health(notes.note_backlogs(COUNT_MAX), indexes.declaration, now)


def remove_old(control_store: ControlStore, indexes: NetworkIndexes, clock: Clock) -> Removed:
    """Remove generations that the policies do not keep, and what crashes have left; join batches.

    Each network under its builder's lease: a builder's unpublished files are never touched.
    """
    done = [Removed(0, 0, 0, ())]
    for declared in indexes.declaration.networks:
        network_id = declared.network_id
        try:
            if not _has_index(indexes, network_id):
                continue
            with building(control_store, network_id) as lease:
                lease.demand_term()
                done.append(_tidy(indexes, declared, clock))
        except LeaseLostError:
            done.append(Removed(0, 0, 0, (network_id,)))
        except CorruptObjectError as error:
            done.append(Removed(0, 0, 0, (), (f"{network_id}: {error}",)))
    return Removed(
        sum(one.generations for one in done),
        sum(one.leftovers for one in done),
        sum(one.joined for one in done),
        tuple(name for one in done for name in one.busy),
        tuple(told for one in done for told in one.damaged),
    )


def _has_index(indexes: NetworkIndexes, network_id: str) -> bool:
    store = indexes.store
    return store.current(network_id) is not None or bool(store.generations(network_id))


def _tidy(indexes: NetworkIndexes, declared: NetworkVectors, clock: Clock) -> Removed:
    """One network, whose builder we are for the moment."""
    network_id, policy, store = declared.network_id, declared.policy, indexes.store
    oldest = clock.now() - timedelta(seconds=policy.leftover_age_s)
    gone = keep_generations(store, network_id, policy)
    left = store.remove_leftovers(network_id, oldest.__gt__)
    model = indexes.embedder(network_id).model
    plan = store.compact(network_id, model, clock.now(), batches_min=policy.compact_batches_min)
    unnamed = store.remove_compacted(network_id, model, oldest.__gt__)
    return Removed(len(gone), len(left) + unnamed, len(plan.runs), ())


def ask_anew(notes: NoteIndexStore, indexes: NetworkIndexes) -> list[str]:
    """Let the sensor ask for indexes that are gone, or were made by a model that is gone; why.

    A note that waits brings a refresh anyhow; this is for networks in which none does.
    """
    reasons, declared = [], {*indexes.declaration.network_ids}
    for backlog in notes.note_backlogs(1):
        network_id, standing = backlog.network_id, backlog.standing
        if network_id not in declared or not standing.indexed_change:
            continue
        model_id = indexes.embedder(network_id).model.model_id
        if standing.model_id != model_id:
            reasons.append(f"{network_id}: made by {standing.model_id}, now it is {model_id}")
        elif standing.facts is not None and _is_gone(indexes, network_id):
            reasons.append(f"{network_id}: {standing.facts.generation} was published and is gone")
        else:
            continue
        notes.change_index_standing(network_id, _unindexed)
    return reasons


def _is_gone(indexes: NetworkIndexes, network_id: str) -> bool:
    try:
        return indexes.store.current(network_id) is None
    except CorruptObjectError:
        return False  # there, and damaged: building cannot follow what it cannot read


def _unindexed(standing: IndexStanding) -> IndexStanding:
    return standing._replace(indexed_change=0)


def scrub_indexes(control_store: ControlStore, indexes: NetworkIndexes, clock: Clock) -> None:
    """Read every stored byte of every kept generation, and tell each network's standing."""
    scrub_networks(control_store, indexes, clock, indexes.declaration.network_ids)


def scrub_networks(
    control_store: ControlStore, indexes: NetworkIndexes, clock: Clock, networks: Sequence[str]
) -> dict[str, ScrubFacts]:
    """The same for some networks; what was found, without those that have no index."""
    found = {}
    for network_id in networks:
        facts = scrub_index(indexes, network_id, clock)
        if facts is not None:
            found[network_id] = facts
            control_store.change_index_standing(network_id, partial(_scrubbed, facts))
    return found


def _scrubbed(facts: ScrubFacts, standing: IndexStanding) -> IndexStanding:
    return standing._replace(scrub=facts)


def scrub_index(indexes: NetworkIndexes, network_id: str, clock: Clock) -> ScrubFacts | None:
    """What the stored bytes of one network's generations are like; None where there is none."""
    names, damages = _kept(indexes, network_id)
    size_bytes = 0
    for name in names:
        damages += indexes.store.scrub(network_id, name)
        manifest = _manifest(indexes, network_id, name)
        size_bytes += 0 if manifest is None else manifest.size_bytes
    if not names and not damages:
        return None
    found = tuple(damages[:DAMAGES_MAX])
    return ScrubFacts(clock.now(), len(names), size_bytes, found, len(damages))


def _kept(indexes: NetworkIndexes, network_id: str) -> tuple[list[str], list[str]]:
    """Generations that are kept, oldest first, and why that is not known.

    What the policy has removed is passed over (its pointer stays a while), but never the newest.
    While a pointer is damaged, all that are there count as kept.
    """
    present = indexes.store.generations(network_id)
    try:
        published = [one.generation for one in indexes.store.published(network_id)]
    except CorruptObjectError as error:
        return present, [str(error)]
    there = {*present, *published[-1:]}
    return [name for name in dict.fromkeys(published) if name in there], []


def _manifest(indexes: NetworkIndexes, network_id: str, generation: str) -> IndexManifest | None:
    """None where it is damaged or gone, which the scrub tells."""
    try:
        return indexes.store.manifest(network_id, generation)
    except (CorruptObjectError, NotFoundError):
        return None


def judge_ids(notes: NoteIndexStore, indexes: NetworkIndexes) -> CheckVerdict:
    """Compare the ids inside each index with the notes that exist."""
    found = [_drift(notes, indexes, one) for one in indexes.declaration.network_ids]
    return check_ids([one for one in found if one is not None])


def judge_sizes(indexes: NetworkIndexes) -> CheckVerdict:
    """Compare the sizes of all kept generations."""
    return check_sizes(list(_sizes(indexes)))


def _sizes(indexes: NetworkIndexes) -> Iterator[GenerationSize]:
    for network_id in indexes.declaration.network_ids:
        for name in _kept(indexes, network_id)[0]:
            one = _manifest(indexes, network_id, name)
            if one is not None:
                yield GenerationSize(network_id, name, one.factory, one.rows, one.size_bytes)


def _drift(notes: NoteIndexStore, indexes: NetworkIndexes, network_id: str) -> IdDrift | None:
    """What differs; None where there is no index.

    Ids of the index first, then those of the store: what is written meanwhile is only a note more
    there. Notes that wait are in the log after the standing's position, and not missing.
    """
    from resources.vectors.note_rows import live_note_ids

    standing = notes.index_standing(network_id)
    try:
        pointer = indexes.store.current(network_id)
        if pointer is None:
            lost = (f"the whole index {standing.facts.generation}",) if standing.facts else ()
            return IdDrift(network_id, 0, (), 0, lost, 1) if lost else None
        inside = live_note_ids(indexes.store.open(pointer))
    except CorruptObjectError as error:
        return IdDrift(network_id, 0, (), 0, (f"the whole index: {error}",), 1)
    exist: set[str] = set()
    after = ""
    while page := notes.note_ids(network_id, after, PAGE_IDS):
        exist.update(page)
        after = page[-1]
    waiting: set[str] = set()
    change = standing.indexed_change
    while changes := notes.note_changes(network_id, change, PAGE_CHANGES):
        waiting.update(one.note_id for one in changes)
        change = changes[-1].change_id
    orphans = sorted(inside - exist - waiting)
    missing = sorted(exist - inside - waiting)
    return IdDrift(
        network_id,
        len(inside) + len(exist),
        tuple(orphans[:NAMED_IDS]),
        len(orphans),
        tuple(missing[:NAMED_IDS]),
        len(missing),
    )


@dg.op(
    ins={"after": dg.In(dg.Nothing)},
    out=dg.Out(dg.Nothing),
    description="Remove what is old, join little batches; say how all indexes stand.",
)
def measure_health_op(
    context: dg.AssetExecutionContext,
    control_store: dg.ResourceParam[ControlStore],
    network_indexes: dg.ResourceParam[NetworkIndexes],
    clock: dg.ResourceParam[Clock],
) -> None:
    """Upkeep first, so that what is told is what is left."""
    with outcomes(context.op_execution_context.retry_number):
        removed = remove_old(control_store, network_indexes, clock)
        anew = ask_anew(control_store, network_indexes)
        found = look_at_health(control_store, network_indexes, clock.now())
    context.add_asset_metadata(health_evidence(found, removed, anew))


def health_evidence(found: list[IndexHealth], removed: Removed, anew: list[str]) -> dict[str, Any]:
    """Numbers over all networks, and a row for each of the first."""
    recalls = [one.facts.recall for one in found if one.facts and one.facts.recall is not None]
    facts = [one.facts for one in found if one.facts is not None]
    numbers: dict[str, int | float] = {
        "indexes": len(facts),
        "notes_indexed": sum(one.live for one in facts),
        "notes_waiting": sum(one.waiting for one in found),
        "behind_s": max((one.behind_s for one in found), default=0.0),
        "size_bytes": sum(one.size_bytes for one in facts),
        "with_problems": sum(bool(one.problems()) for one in found),
        "generations_removed": removed.generations,
        "leftovers_removed": removed.leftovers,
        "batches_joined": removed.joined,
    }
    evidence: dict[str, Any] = number_evidence(numbers)
    if recalls:
        evidence["recall_min"] = round(min(recalls), 4)
    if removed.busy:
        evidence["left_for_the_next_time"] = ", ".join(removed.busy)
    if removed.damaged:
        evidence["left_alone_for_damage"] = "; ".join(removed.damaged)
    if anew:
        evidence["asked_for_anew"] = "; ".join(anew)
    evidence["indexes_in_detail"] = _table(found)
    return evidence


def _table(found: list[IndexHealth]) -> dg.TableMetadataValue:
    fields = ("network", "notes", "waiting", "recall", "index", "size_bytes", "problems")
    rows = [
        dg.TableRecord(
            {
                "network": one.network_id,
                "notes": str(one.facts.live) if one.facts else "",
                "waiting": str(one.waiting),
                "recall": f"{one.facts.recall:.4f}" if one.facts and one.facts.recall else "",
                "index": one.facts.factory if one.facts else "none",
                "size_bytes": str(one.facts.size_bytes) if one.facts else "",
                "problems": "; ".join(one.problems()),
            }
        )
        for one in sorted(found, key=lambda one: (not one.problems(), one.network_id))[:50]
    ]
    schema = dg.TableSchema(columns=[dg.TableColumn(field, "string") for field in fields])
    return dg.MetadataValue.table(rows, schema=schema)
