"""The ops of embeddings and indexes, names of their jobs, and what a materialization shows."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import dagster as dg
from pydantic import Field

from fleet.ports.clock import Clock
from fleet.ports.control_store import ControlStore
from ops import index_lease
from ops.embeddings import EmbeddedNotes, EmbeddingPorts, embed_notes
from ops.evidence import number_evidence
from ops.index_lease import building
from ops.partitions import Recorded, record_partitions
from ops.pools import VECTOR_BUILDS
from ops.vector_index import IndexPorts, Refreshed, failures_told, refresh_index
from resources.leader_lease import LeaderLease
from resources.vectors.network_indexes import NetworkIndexes

EMBEDDINGS, INDEX = "memory_embeddings", "vector_index"
EMBED_JOB, BUILD_JOB, SCRUB_JOB, UPKEEP_JOB = (
    "embed_notes_job",
    "build_index_job",
    "scrub_indexes_job",
    "index_upkeep_job",
)
BUILD_OP = "build_index_op"
VECTOR_CLASS = {"stateroom/class": "vectors"}


@dg.op(
    ins={"after": dg.In(dg.Nothing)},
    out=dg.Out(dg.Nothing),
    description="Embed the notes of each network of the run that are not embedded yet.",
)
def embed_notes_op(
    context: dg.AssetExecutionContext,
    control_store: dg.ResourceParam[ControlStore],
    network_indexes: dg.ResourceParam[NetworkIndexes],
    clock: dg.ResourceParam[Clock],
) -> Recorded:
    """Page by page, each committed; a run that was killed is simply run again."""

    def record(network_id: str) -> dict[str, Any]:
        with (
            _builder(control_store, network_id, clock) as lease,
            network_indexes.leased_embedder(network_id, control_store) as embedder,
        ):
            ports = EmbeddingPorts(control_store, network_indexes.store, embedder, clock)
            done = embed_notes(ports, network_id, lease.demand_term)
        return _embedding_evidence(done)

    yield from record_partitions(context, EMBEDDINGS, "network", record)


class BuildIndexConfig(dg.Config):
    """How indexes are brought up to date."""

    anew: str = Field(default="", description="Why they are built from nothing; empty: as planned.")


@dg.op(
    ins={"after": dg.In(dg.Nothing)},
    out=dg.Out(dg.Nothing),
    pool=VECTOR_BUILDS,
    description="Update or rebuild the index of each network of the run, tune it, publish it.",
)
def build_index_op(
    context: dg.AssetExecutionContext,
    config: BuildIndexConfig,
    control_store: dg.ResourceParam[ControlStore],
    network_indexes: dg.ResourceParam[NetworkIndexes],
    clock: dg.ResourceParam[Clock],
) -> Recorded:
    """An index that finds too little is not published: the run fails and says by how much."""

    def record(network_id: str) -> dict[str, Any]:
        with (
            _builder(control_store, network_id, clock) as lease,
            network_indexes.leased_builder(network_id, control_store) as builder,
        ):
            ports = IndexPorts(
                control_store,
                network_indexes.store,
                builder,
                network_indexes.embedder(network_id).model,
                network_indexes.declaration.network(network_id).embedder_id,
                network_indexes.declaration.network(network_id).policy,
                clock,
            )
            refreshed = refresh_index(ports, network_id, lease.demand_term, anew=config.anew)
        return _index_evidence(refreshed, clock)

    yield from record_partitions(context, INDEX, "network", record)


@contextmanager
def _builder(control_store: ControlStore, network_id: str, clock: Clock) -> Iterator[LeaderLease]:
    """The network's lease; what fails under it is told in the network's standing."""
    with (
        building(control_store, network_id, index_lease.WAIT_S) as lease,
        failures_told(control_store, clock, network_id, lease.demand_term()),
    ):
        yield lease


def _embedding_evidence(done: EmbeddedNotes) -> dict[str, Any]:
    evidence: dict[str, Any] = number_evidence(
        {
            "notes_embedded": done.embedded,
            "notes_removed": done.deleted,
            "changes_repeated": done.repeated,
            "batches": done.batches,
            "size_bytes": done.size_bytes,
            "change": done.standing.embedded_change,
            "sequence": done.standing.sequence,
            "notes_without_vector": done.without_vector,
        }
    )
    evidence["model"] = done.standing.model_id
    if done.restarted:
        evidence["read_from_the_beginning"] = done.restarted
    return evidence


def _index_evidence(refreshed: Refreshed, clock: Clock) -> dict[str, Any]:
    """Numbers that plot, and why it was done."""
    evidence: dict[str, Any] = {
        "action": refreshed.action,
        "reasons": dg.MetadataValue.md("\n".join(f"- {one}" for one in refreshed.reasons)),
        "generations_removed": len(refreshed.removed),
    }
    if refreshed.unknown:
        evidence["nothing_removed_because"] = refreshed.unknown
    manifest = refreshed.manifest
    if manifest is None:
        return evidence
    numbers: dict[str, int | float] = {
        "dagster/row_count": manifest.live,
        "ntotal": manifest.ntotal,
        "rows_beside": manifest.rows - manifest.index_rows,
        "size_bytes": manifest.size_bytes,
        "build_s": manifest.build_s,
    }
    if manifest.newest_note_at is not None:
        numbers["age_s"] = (clock.now() - manifest.newest_note_at).total_seconds()
    recall = manifest.recall
    shares = {"dead_share": manifest.dead_share}
    if manifest.list_imbalance:
        shares["list_imbalance"] = manifest.list_imbalance
    if recall is not None:
        shares |= {"recall": recall.recall, "recall_low": recall.low, "recall_high": recall.high}
    return {
        **evidence,
        **number_evidence(numbers),
        **{name: round(value, 4) for name, value in shares.items()},
        "generation": manifest.generation,
        "index": f"{manifest.factory}, {manifest.search or 'exact'}",
        "backend": f"{manifest.backend}: {manifest.backend_reason}",
        "built_at": dg.MetadataValue.timestamp(manifest.built_at),
    }
